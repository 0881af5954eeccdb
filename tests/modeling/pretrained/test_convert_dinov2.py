"""DINOv2 against the public code's numbers: three published layouts, with and without registers."""

import functools
import json

import numpy as np
import pytest
import torch
from references import dinov2_weights as published
from safetensors.torch import save_file
from torch import Tensor
from transformers import Dinov2Config, Dinov2Model, Dinov2WithRegistersConfig, Dinov2WithRegistersModel

from modeling.backbone import DINOV3_PIXEL_STATISTICS, ViT
from modeling.pretrained import Architecture, convert, convert_file
from runtime.errors import InputError

BLOCKS = [8, 9, 10, 11]
VARIANTS = ("plain", "reg")
LAYOUTS = ("official", "huggingface", "timm")
CHANNELS = slice(None, None, 6)  # of those that the goldens keep
RAW, NORMED, POSITIONS = 2e-5, 8e-6, 1e-6


def built(conversion) -> ViT:
    vit = ViT(**Architecture.from_metadata(conversion.metadata).vit_arguments())
    vit.load_state_dict({key.removeprefix("backbone."): tensor for key, tensor in conversion.model.items()})
    return vit.eval()


@functools.cache
def vit_of(variant: str, layout: str = "official") -> ViT:
    return built(convert(published.in_layout(layout, published.state(variant))))


@functools.cache
def goldens():
    return {name: torch.from_numpy(array) for name, array in published.goldens().items()}


def normalised(image: Tensor) -> Tensor:
    mean, std = (torch.tensor(values)[:, None, None] for values in DINOV3_PIXEL_STATISTICS["lvd1689m"])
    return ((image.permute(2, 0, 1) / 255 - mean) / std)[None]


@torch.no_grad()
def features(vit: ViT, image: Tensor, norm: bool) -> Tensor:
    return torch.cat(vit.features(normalised(image), BLOCKS, norm=norm))


@pytest.mark.parametrize("variant", VARIANTS)
def test_maps_of_the_last_four_blocks_are_the_official_ones(variant):
    image = goldens()["image_98x140"]
    for norm, name, tolerance in ((False, "raw", RAW), (True, "normed", NORMED)):
        ours = features(vit_of(variant), image, norm)[:, CHANNELS]
        torch.testing.assert_close(ours, goldens()[f"{variant}_98x140_{name}"], rtol=0, atol=tolerance)


@pytest.mark.parametrize("size", ["224x224", pytest.param("518x518", marks=pytest.mark.slow)])
@pytest.mark.parametrize("variant", VARIANTS)
def test_tokens_of_larger_pictures_are_the_official_ones(variant, size):
    image = goldens()["image_224x224"]
    if size == "518x518":  # the size of the table: nothing is interpolated
        image = torch.from_numpy(np.pad(image.numpy(), ((0, 294), (0, 294), (0, 0)), mode="wrap"))
    picked = goldens()["picked_518" if size == "518x518" else "picked_square"]
    for norm, name, tolerance in ((False, "raw", RAW), (True, "normed", NORMED)):
        ours = features(vit_of(variant), image, norm)[:, CHANNELS].flatten(2)[..., picked]
        torch.testing.assert_close(ours, goldens()[f"{variant}_{size}_picked_{name}"], rtol=0, atol=tolerance)


@pytest.mark.parametrize("variant", VARIANTS)
def test_positions_are_interpolated_by_the_official_rules(variant):
    vit, golden = vit_of(variant), goldens()[f"{variant}_positions_7x10"]
    with torch.no_grad():
        ours = torch.cat([vit.pos_embed[0, :1], vit._interpolated_positions((7, 10))[0]])[:, CHANNELS]
    torch.testing.assert_close(ours, golden, rtol=0, atol=POSITIONS)
    other = ViT(depth=1, patch_size=14, use_abs_pos=True, pretrain_img_size=518, rope_base=None)  # "size"
    other.pos_embed = vit.pos_embed
    with torch.no_grad():
        wrong = other._interpolated_positions((7, 10))[0, :, CHANNELS]
    assert (wrong - golden[1:]).abs().max() > 0.1  # transformers' rule, or that of the original ViTMatte


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("layout", ["huggingface", "timm"])
def test_every_layout_gives_the_features_of_the_official_one(variant, layout):
    image = goldens()["image_98x140"]
    official, ours = (features(vit_of(variant, name), image, norm=False) for name in ("official", layout))
    torch.testing.assert_close(ours, official, rtol=0, atol=RAW)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_key_of_a_published_file_is_accounted_for(variant, layout):
    source = published.in_layout(layout, published.state(variant))
    shapes = {key: list(tensor.shape) for key, tensor in source.items()}
    assert shapes == published.read_keys()["keys"][f"{layout}_{variant}"]
    conversion = convert(source)
    report = conversion.report
    assert report.mapped.keys() | report.ignored.keys() == source.keys()
    assert {key.rpartition(".")[2] for key in report.ignored} == (set() if layout == "timm" else {"mask_token"})
    facts = conversion.metadata
    name = "dinov2_vits14" + "_reg" * (variant == "reg")
    assert (facts["arch"], facts["source_layout"], facts["dataset"]) == (name, layout, "lvd142m")
    assert (facts["num_heads"], facts["patch_size"], facts["pretrain_img_size"]) == (6, 14, 518)
    assert facts["layer_norm_eps"] == 1e-6
    parameters = sum(tensor.numel() for tensor in conversion.model.values())
    folded = layout == "timm" and variant == "reg"
    assert parameters == sum(t.numel() for key, t in source.items() if key not in report.ignored) + 384 * folded
    assert ("row of CLS" in str(report)) == folded


def test_a_folded_class_position_is_written_as_zero():
    ours = convert(published.in_layout("timm", published.state("reg"))).model
    official = convert(published.state("reg")).model
    assert not ours["backbone.pos_embed"][0, 0].any()
    assert torch.equal(ours["backbone.pos_embed"][:, 1:], official["backbone.pos_embed"][:, 1:])
    sums = [model["backbone.cls_token"][0, 0] + model["backbone.pos_embed"][0, 0] for model in (ours, official)]
    assert torch.equal(*sums)


def test_blocks_in_chunks_have_the_numbers_that_count():
    official = published.state("plain")
    chunked = {}
    for key, tensor in official.items():
        index = key.split(".")[1] if key.startswith("blocks.") else None
        name = key if index is None else key.replace("blocks.", f"blocks.{int(index) // 3}.", 1)
        chunked[f"teacher.backbone.{name}"] = tensor
    converted, expected = convert({"model": chunked}).model, convert(official).model
    assert converted.keys() == expected.keys()
    assert all(torch.equal(converted[key], tensor) for key, tensor in expected.items())


def test_files_convert_and_config_json_is_checked(tmp_path):
    source = published.in_layout("huggingface", published.state("plain"))
    save_file({key: tensor.contiguous() for key, tensor in source.items()}, tmp_path / "model.safetensors")
    config = Dinov2Config(hidden_size=384, num_attention_heads=6, image_size=518, patch_size=14).to_dict()
    (tmp_path / "config.json").write_text(json.dumps(config))
    conversion = convert_file(tmp_path / "model.safetensors", tmp_path / "out.pth", arch="dinov2_vits14")
    assert conversion.metadata["num_heads_from"] == "config.json"
    (tmp_path / "config.json").write_text(json.dumps(config | {"patch_size": 16}))
    with pytest.raises(InputError, match=r"config\.json says patch_size 16, the tensors say 14"):
        convert_file(tmp_path / "model.safetensors", tmp_path / "out2.pth")
    with pytest.raises(InputError, match="expected dinov2_vits14_reg, found dinov2_vits14 "):
        convert(published.state("plain"), arch="dinov2_vits14_reg")
    with pytest.raises(InputError, match="--dataset lvd1689m is for DINOv3; DINOv2's ViTs were trained on LVD-142M"):
        convert(published.state("plain"), dataset="lvd1689m")


@pytest.mark.parametrize("registers", [0, 4])
def test_a_small_model_of_transformers_converts_from_memory_and_agrees(registers):
    """At the size of its own table, where all rules of interpolation are the identity; as its file would be, also."""
    torch.manual_seed(0)
    settings = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3, "image_size": 56, "patch_size": 14}
    if registers:
        reference = Dinov2WithRegistersModel(Dinov2WithRegistersConfig(**settings, num_register_tokens=registers))
    else:
        reference = Dinov2Model(Dinov2Config(**settings))
    with torch.no_grad():
        for parameter in reference.eval().parameters():
            parameter.normal_(0, 0.3)
    vit = built(convert(reference.state_dict(), config=reference.config.to_dict()))
    x = torch.randn(2, 3, 56, 56)
    with torch.no_grad():
        ours = vit.features(x, [0, 2], norm=False)
        theirs = reference(x, output_hidden_states=True).hidden_states
    for block, ours_of_block in zip((0, 2), ours, strict=True):
        expected = theirs[block + 1][:, 1 + registers :].unflatten(1, (4, 4)).permute(0, 3, 1, 2)
        torch.testing.assert_close(ours_of_block, expected, rtol=1e-5, atol=1e-4)


def test_damaged_and_unsupported_files_are_refused():
    official = published.state("plain")
    with pytest.raises(InputError, match=r"1 unknown tensor \(blocks.0.extra\)"):
        convert(official | {"blocks.0.extra": torch.zeros(1)})
    with pytest.raises(InputError, match=r"blocks.3.ls1.gamma"):
        convert({key: tensor for key, tensor in official.items() if key != "blocks.3.ls1.gamma"})
    giant = {"cls_token": torch.zeros(1, 1, 8), "pos_embed": torch.zeros(1, 5, 8)}
    giant |= {"blocks.0.ls1.gamma": torch.zeros(8), "blocks.0.mlp.w12.weight": torch.zeros(8, 8)}
    with pytest.raises(InputError, match="ViT-g/14 is not supported"):
        convert(giant)
    huggingface = published.in_layout("huggingface", official)
    del huggingface["encoder.layer.5.attention.attention.key.bias"]
    with pytest.raises(InputError, match=r"blocks.5.attn.k.bias is missing"):
        convert(huggingface)
