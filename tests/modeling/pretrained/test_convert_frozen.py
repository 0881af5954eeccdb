"""nikhiliit/Dinov3_matting's checkpoints in: both writers, every key accounted for, and what must be refused."""

import re

import numpy as np
import pytest
import torch
from tiny import ROOT

from engine.config import build, load_config
from modeling.backbone import DINOV3_VARIANTS, ViT
from modeling.pretrained import convert, convert_file
from modeling.pretrained.frozen_architecture import read_frozen_architecture
from modeling.pretrained.select import select
from modeling.weights.checkpoint_file import read_checkpoint
from modeling.weights.loading import load_model
from runtime.errors import InputError
from tests.references.frozen_weights import ARRAYS, state

SETTINGS = ["model.backbone.depth=1", "model.decoder.boundary_refinement=True"]


def encoder(width: int = 384, heads: int = 6, depth: int = 1, **settings) -> dict[str, torch.Tensor]:
    """Under DINOv3's own names, with what its files have and the network has no use for."""
    torch.manual_seed(0)
    vit = ViT(in_chans=3, embed_dim=width, num_heads=heads, depth=depth, **settings)
    tensors = {f"encoder.dinov3.{key}": value for key, value in vit.state_dict().items()}
    tensors["encoder.dinov3.mask_token"] = torch.zeros(1, width, device=vit.cls_token.device)
    for index in range(depth):
        mask = torch.ones(3 * width, device=vit.cls_token.device)
        mask[width : 2 * width] = 0
        tensors[f"encoder.dinov3.blocks.{index}.attn.qkv.bias_mask"] = mask
    return tensors


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    return {**encoder(), **state("decoder_384"), **state("boundary_refiner")}


def written(writer: str, tensors: dict[str, torch.Tensor]) -> dict:
    if writer == "trainer":
        optimizer = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 1e-4}]}
        return {"epoch": 4, "model_state_dict": tensors, "optimizer_state_dict": optimizer,
                "scheduler_state_dict": {"T_max": 50}, "loss": 0.5, "config": {"size": "vits16"}}  # fmt: skip
    return {"model_state_dict": tensors, "model_size": "vits16", "decoder_dims": [256, 128, 64],
            "use_boundary_refinement": True, "epoch": 4, "loss": 0.5}  # fmt: skip


@pytest.mark.parametrize("writer", ["trainer", "model"])
def test_a_file_of_either_writer_becomes_the_published_config_s_model(tmp_path, tensors, writer):
    content = written(writer, tensors)
    torch.save(content, tmp_path / "in.pth")
    report = convert_file(tmp_path / "in.pth", tmp_path / "out.pth").report
    assert set(report.mapped) | set(report.ignored) == set(tensors) | content.keys() - {"model_state_dict"}
    assert set(report.ignored) == content.keys() - {"model_state_dict"} | {"encoder.dinov3.mask_token"}
    assert not report.new
    assert re.search(r"decoder +59 +59 +0", str(report))
    checkpoint = read_checkpoint(tmp_path / "out.pth")
    model = build(load_config(str(ROOT / "configs" / "FrozenDINOv3_S_published.py"), SETTINGS).model)
    load_model(model, checkpoint, "out.pth")
    ours = model.eval().state_dict()
    for key, tensor in tensors.items():
        name = key.replace("encoder.dinov3", "backbone").replace("boundary_refiner", "decoder.boundary_refiner")
        assert name not in ours or torch.equal(ours[name], tensor) or name.endswith("qkv.bias"), name
    tokens = torch.from_numpy(ARRAYS["tokens_384_8x8_to_128x128"]).float().transpose(1, 2).unflatten(2, (8, 8))
    with torch.inference_mode():
        alpha = model.decoder(tokens, torch.zeros(2, 3, 128, 128))
    np.testing.assert_allclose(alpha[:, 0], ARRAYS["alpha_384_8x8_to_128x128_refined"], rtol=0, atol=3e-6)
    assert (checkpoint["metadata"]["dims"], checkpoint["metadata"]["boundary_refinement"]) == ([256, 128, 64], True)


@pytest.mark.parametrize("name", ["vits16", "vitb16", "vitl16"])
def test_every_size_is_recognised_with_all_its_tensors(name):
    variant = DINOV3_VARIANTS[f"dinov3_{name}"]
    with torch.device("meta"):
        listed = encoder(variant.embed_dim, variant.num_heads, variant.depth)
        listed |= {key: value.to("meta") for key, value in state(f"decoder_{variant.embed_dim}").items()}
    architecture, heads_from = read_frozen_architecture(select(listed).tensors)
    assert architecture.name() == f"frozen_dinov3_{name}"
    assert heads_from == "rotary periods"
    ignored = ("mask_token", "bias_mask")
    assert len(architecture.expected_shapes()) == sum(not key.endswith(ignored) for key in listed)


def test_files_that_are_not_whole_are_refused_in_one_line(tensors):
    def error(content) -> str:
        with pytest.raises(InputError) as refused:
            convert(content)
        assert "\n" not in str(refused.value)
        return str(refused.value)

    decoder_alone = {key: value for key, value in tensors.items() if not key.startswith("encoder.")}
    assert "the decoder alone, without encoder.dinov3.*" in error(decoder_alone)
    lacking = {key: value for key, value in tensors.items() if key != "decoder.final_conv.2.bias"}
    assert "1 missing tensor (decoder.final_conv.2.bias)" in error(lacking)
    assert "1 unknown tensor (decoder_extra)" in error({**tensors, "decoder_extra": torch.zeros(1)})
    assert "1 unexpected tensor" in error({**tensors, "decoder.extra.weight": torch.zeros(1)})
    misshapen = {**tensors, "decoder.final_conv.0.weight": torch.zeros(16, 64, 3, 3)}
    assert "decoder.final_conv.0.weight: expected shape (32, 64, 3, 3), found (16, 64, 3, 3)" in error(misshapen)
    infinite = {**tensors, "boundary_refiner.sharpening_weight": torch.tensor(float("inf"))}
    assert "decoder.boundary_refiner.sharpening_weight: NaN or infinite" in error(infinite)
