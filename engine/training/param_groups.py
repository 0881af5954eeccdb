"""Parameter groups: the learning rate and weight decay of each parameter."""

from torch import nn

from modeling.meta_arch import System


def param_groups(
    model: nn.Module,
    base_lr: float,
    weight_decay: float,
    layer_decay: float = 1.0,
    head_lr_mult: float = 1.0,
    pretrained_lr_mult: float = 1.0,
    muon_for_new: bool = False,
    all_new: bool = False,
) -> list[dict]:
    """Group parameters for the optimizer: layer-wise learning-rate decay, a head multiplier, selective decay.

    With L backbone blocks, the patch embedding and tokens learn at `base_lr * layer_decay ** (L + 1)`, block i
    (from 0) at `base_lr * layer_decay ** (L - i)`, both times `pretrained_lr_mult`; residual convolutions, the final
    norm and all else at `base_lr`, the decoder at `base_lr * head_lr_mult`. The scheme of BEiT and ViTDet, with
    ViTMatte's treatment of what is new.
    The roles of parameters are those that the system states (`System.parameter_roles`), so wrappers like DDP change
    nothing. Frozen parameters are left out.

    Weight decay is 0 for norms, biases, LayerScale, tokens and position embeddings.

    Args:
        muon_for_new: mark for `engine.training.muon.MuonAdamW` the matrices and kernels that do not come from
            pretrained weights: the decoder's and what is new in a backbone. Not those of a single row, such as the
            decoder's last convolution, which Muon would reduce to the direction of their gradient.
        all_new: no weights are pretrained, so the backbone's matrices count as new too; tokens do not.

    Returns:
        One dict for each distinct (lr, weight_decay), as torch optimizers take them, in order of first use; with
        `muon_for_new` for each distinct (lr, weight_decay, muon), "muon" being in the dict.
    """
    lr_factors: dict[nn.Parameter, float] = {}
    undecayed: set[nn.Parameter] = set()
    new: set[nn.Parameter] = set(model.parameters()) if all_new else set()
    tokens: set[nn.Parameter] = set()
    for module in model.modules():
        if isinstance(module, System):
            roles = module.parameter_roles()
            top = max(roles.layers.values(), default=0) + 1
            for parameter, layer in roles.layers.items():
                lr_factors[parameter] = pretrained_lr_mult * layer_decay ** (top - layer)
            lr_factors.update(dict.fromkeys(roles.head, head_lr_mult))
            tokens.update(roles.tokens)
            new.update(roles.new)
        if isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.modules.batchnorm._BatchNorm):
            undecayed.update(module.parameters(recurse=False))
        undecayed.update(parameter for name, parameter in module.named_parameters(recurse=False) if name == "bias")
    undecayed |= tokens
    new -= tokens
    groups: dict[tuple[float, float, bool], dict] = {}
    for parameter in model.parameters():
        if not parameter.requires_grad:
            continue
        lr = base_lr * lr_factors.get(parameter, 1.0)
        decay = 0.0 if parameter in undecayed else weight_decay
        muon = muon_for_new and parameter in new and _is_matrix(parameter)
        mark = {"muon": muon} if muon_for_new else {}
        group = groups.setdefault((lr, decay, muon), {"params": [], "lr": lr, "weight_decay": decay, **mark})
        group["params"].append(parameter)
    return list(groups.values())


def _is_matrix(parameter: nn.Parameter) -> bool:
    return parameter.ndim >= 2 and len(parameter) > 1
