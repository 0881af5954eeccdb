"""The detail capture decoder against transformers' port of ViTMatte."""

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


def test_equals_transformers_vitmatte_decoder():
    config = VitMatteConfig(
        backbone_config={"model_type": "vitdet", "hidden_size": 48, "num_channels": 4},
        hidden_size=48,
        convstream_hidden_sizes=[8, 12, 20],
        fusion_hidden_sizes=[32, 16, 12, 8],
    )
    theirs = VitMatteDetailCaptureModule(config).eval()
    randomise(theirs)
    ours = DetailCapture(in_chans=48, convstream_out=[8, 12, 20], fusion_out=[32, 16, 12, 8]).eval()
    renamed = {}
    for key, value in theirs.state_dict().items():
        for old, new in RENAMED:
            key = key.replace(old, new)
        renamed[key] = value
    ours.load_state_dict(renamed, strict=True)
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, 48, 4, 6, generator=generator)
    images = torch.randn(2, 4, 64, 96, generator=generator)
    with torch.inference_mode():
        torch.testing.assert_close(ours(features, images), theirs(features, images), atol=1e-5, rtol=0)


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
