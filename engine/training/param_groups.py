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

    With L backbone blocks, the patch embedding and tokens have the rate `base_lr * layer_decay ** (L + 1)` and block i
    (from 0) has `base_lr * layer_decay ** (L - i)`, both times `pretrained_lr_mult`. Residual convolutions, the final
    norm and other parameters have `base_lr`, and the decoder has `base_lr * head_lr_mult`. This is the scheme of BEiT
    and ViTDet, with ViTMatte's treatment of new parameters. The system declares the roles of parameters
    (`System.parameter_roles`), so wrappers such as DDP have no effect. Frozen parameters are excluded.

    Weight decay is 0 for norms, biases, LayerScale, tokens and position embeddings.

    Args:
        muon_for_new: whether the matrices and kernels without pretrained weights, those of the decoder and new ones in
            a backbone, are marked for `engine.training.muon.MuonAdamW`. Matrices of a single row, such as the decoder's
            last convolution, are not marked, because Muon would reduce them to the direction of their gradient.
        all_new: whether no weights are pretrained, so that the backbone's matrices are new too; tokens are not.

    Returns:
        One dict for each distinct (lr, weight_decay), as for torch optimizers, in order of first use. With
        `muon_for_new`, one for each distinct (lr, weight_decay, muon), with the key "muon".
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
