"""The detail capture decoder against transformers' port of ViTMatte."""

from functools import reduce

import pytest
import torch
from transformers import VitMatteConfig
from transformers.models.vitmatte.modeling_vitmatte import VitMatteDetailCaptureModule

from modeling.decoder import DetailCapture

RENAMED = [
    ("fusion_blocks", "fusion_blks"),
    ("batch_norm", "bn"),
]


def randomise(module: torch.nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    for name, value in module.state_dict().items():
        if value.is_floating_point():
            low = 0.5 if "running_var" in name else -0.2
            value.copy_(low + 0.7 * torch.rand(value.shape, generator=generator))


def renamed(keys: list[str]) -> list[str]:
    return [reduce(lambda key, names: key.replace(*names), RENAMED, key) for key in keys]


@pytest.fixture
def pair() -> tuple[DetailCapture, VitMatteDetailCaptureModule]:
    """Ours and transformers' with the same weights."""
    config = VitMatteConfig(
        backbone_config={"model_type": "vitdet", "hidden_size": 48, "num_channels": 4},
        hidden_size=48,
        convstream_hidden_sizes=[8, 12, 20],
        fusion_hidden_sizes=[32, 16, 12, 8],
    )
    theirs = VitMatteDetailCaptureModule(config)
    randomise(theirs)
    ours = DetailCapture(in_chans=48, convstream_out=[8, 12, 20], fusion_out=[32, 16, 12, 8])
    weights = theirs.state_dict()
    ours.load_state_dict(dict(zip(renamed(weights), weights.values(), strict=True)), strict=True)
    return ours, theirs


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(2, 48, 4, 6, generator=generator), torch.randn(2, 4, 64, 96, generator=generator)


def test_equals_transformers_vitmatte_decoder(pair, inputs):
    ours, theirs = (decoder.eval() for decoder in pair)
    with torch.inference_mode():
        torch.testing.assert_close(ours(*inputs), theirs(*inputs), atol=1e-5, rtol=0)


def test_a_training_step_equals_transformers(pair, inputs):
    features, images = inputs
    alphas, gradients = [], []
    for decoder in pair:
        decoder.train().double()
        leaf = features.double().requires_grad_()
        alphas.append(decoder(leaf, images.double()))
        (alphas[-1] * images[:, :1]).sum().backward()
        names = renamed([name for name, _ in decoder.named_parameters()])
        own = dict(zip(names, (parameter.grad for parameter in decoder.parameters()), strict=True))
        gradients.append(own | {"features": leaf.grad})
    torch.testing.assert_close(*alphas, atol=1e-6, rtol=0, check_dtype=False)  # ours ends in float32
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-5)
    theirs = pair[1].state_dict()
    statistics = dict(zip(renamed(theirs), theirs.values(), strict=True))
    torch.testing.assert_close(dict(pair[0].state_dict()), statistics)


def test_keys_are_those_of_published_checkpoints():
    keys = DetailCapture().state_dict().keys()
    for n in range(3):
        assert f"convstream.convs.{n}.conv.weight" in keys
        assert f"convstream.convs.{n}.bn.running_mean" in keys
    for n in range(4):
        assert f"fusion_blks.{n}.conv.conv.weight" in keys
        assert f"fusion_blks.{n}.conv.bn.weight" in keys
    for n, name in ((0, "weight"), (0, "bias"), (1, "running_var"), (3, "weight"), (3, "bias")):
        assert f"matting_head.matting_convs.{n}.{name}" in keys


def test_widths_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="fusion_out"):
        DetailCapture(convstream_out=[8, 16], fusion_out=[32, 16])


def test_checkpointing_changes_neither_gradients_nor_running_statistics():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(2, 12, 4, 4, generator=generator, requires_grad=True)
    images = torch.rand(2, 4, 64, 64, generator=generator)
    sizes = {"in_chans": 12, "convstream_out": [8, 8, 8], "fusion_out": [8, 8, 8, 8]}
    plain, checkpointed = DetailCapture(**sizes), DetailCapture(**sizes, use_act_checkpoint=True)
    randomise(plain)
    checkpointed.load_state_dict(plain.state_dict())
    gradients = []
    for decoder in (plain.train(), checkpointed.train()):
        for _ in range(2):  # running statistics move at each step
            features.grad = None
            decoder.zero_grad()
            (decoder(features, images) * images[:, :1]).sum().backward()
        gradients.append([features.grad, *(parameter.grad for parameter in decoder.parameters())])
    torch.testing.assert_close(*gradients, rtol=0, atol=0)
    torch.testing.assert_close(checkpointed.state_dict(), plain.state_dict(), rtol=0, atol=0)


def test_checkpointing_keeps_less_for_the_backward_pass():
    sizes = {"in_chans": 12, "convstream_out": [8, 8, 8], "fusion_out": [8, 8, 8, 8]}
    features, images = torch.rand(1, 12, 4, 4), torch.rand(1, 4, 64, 64)
    kept = {}
    for use in (False, True):
        held: dict[int, int] = {}

        def pack(tensor, held=held):
            held[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            DetailCapture(**sizes, use_act_checkpoint=use).train()(features, images)
        kept[use] = sum(held.values())
    assert kept[True] < 0.5 * kept[False]
