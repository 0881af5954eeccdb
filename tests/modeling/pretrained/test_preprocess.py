"""The converter against transformers and timm, on random weights, and against files that are not what they claim."""

import argparse
import hashlib
import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from functools import partial
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from tiny import ROOT
from torch import nn
from transformers import DINOv3ViTConfig, DINOv3ViTModel

from modeling.backbone import DINOV3_PIXEL_STATISTICS, DINOV3_VARIANTS, ViT
from modeling.pretrained import Architecture, convert, convert_file, fit_input_channels
from modeling.pretrained.architecture import read_architecture
from modeling.pretrained.select import select
from modeling.weights.input_channels import PATCH_EMBED
from runtime.errors import InputError

DIM, HEADS, DEPTH = 64, 2, 2
SIZE = (96, 160)  # a grid of 6 x 10: neither square nor DINOv3's 14 x 14
TIMM_NAMES = {
    "dinov3_vits16": "vit_small_patch16_dinov3",
    "dinov3_vits16plus": "vit_small_plus_patch16_dinov3",
    "dinov3_vitb16": "vit_base_patch16_dinov3",
    "dinov3_vitl16": "vit_large_patch16_dinov3",
    "dinov3_vith16plus": "vit_huge_plus_patch16_dinov3",
}


# --- references with every tensor random -------------------------------------------------------------------------


def randomise(model: nn.Module, seed: int) -> nn.Module:
    """Fill every parameter so that each matters, with early activations around 0.03 so that LayerNorm's eps shows."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        uniform = torch.rand(parameter.shape, generator=generator)
        if re.search(r"gamma|lambda1", name):
            value = 0.1 + 0.9 * uniform
        elif re.search(r"norm\d?\.weight$", name):
            value = 0.5 + uniform
        elif "patch_embed" in name:
            value = noise * (0.001 if name.endswith("weight") else 0.02)
        elif name.endswith("token") or name.endswith("tokens") or name.endswith("pos_embed"):
            value = 0.03 * noise
        elif parameter.ndim == 2:
            value = noise / parameter.shape[1] ** 0.5
        else:
            value = 0.2 * noise
        parameter.data.copy_(value)
    return model.eval()


def make_transformers(gated: bool = False, seed: int = 0, **overrides) -> DINOv3ViTModel:
    settings = {
        "hidden_size": DIM,
        "num_hidden_layers": DEPTH,
        "num_attention_heads": HEADS,
        "intermediate_size": 3 * DIM,
        "num_register_tokens": 4,
        "use_gated_mlp": gated,
        "hidden_act": "silu" if gated else "gelu",
    }
    return randomise(DINOv3ViTModel(DINOv3ViTConfig(**settings | overrides)), seed)


def random_input(seed: int = 1, size: tuple[int, int] = SIZE) -> torch.Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(seed))


def patch_map(tokens: torch.Tensor, num_prefix: int, size: tuple[int, int] = SIZE, patch: int = 16) -> torch.Tensor:
    return tokens[:, num_prefix:].unflatten(1, (size[0] // patch, size[1] // patch)).permute(0, 3, 1, 2)


def load_vit(model: dict, metadata: dict, **changes) -> ViT:
    vit = ViT(**Architecture.from_metadata(metadata).vit_arguments() | changes)
    vit.load_state_dict({key.removeprefix("backbone."): tensor for key, tensor in model.items()}, strict=True)
    return vit.eval()


@torch.no_grad()
def difference(model: dict, metadata: dict, expected: torch.Tensor, size: tuple[int, int] = SIZE, **changes) -> float:
    return (load_vit(model, metadata, **changes)(random_input(size=size)) - expected).abs().max().item()


@torch.no_grad()
def transformers_map(model: DINOv3ViTModel) -> torch.Tensor:
    return patch_map(model(random_input()).last_hidden_state, 5)


def to_official(model: DINOv3ViTModel) -> dict[str, torch.Tensor]:
    """transformers' in-memory tensors under the official names, written out independently of the converter."""
    source = {key.removeprefix("model."): tensor.clone() for key, tensor in model.state_dict().items()}
    gated = model.config.use_gated_mlp
    out = {
        "cls_token": source["embeddings.cls_token"],
        "storage_tokens": source["embeddings.register_tokens"],
        "mask_token": source["embeddings.mask_token"][0],
        "patch_embed.proj.weight": source["embeddings.patch_embeddings.weight"],
        "patch_embed.proj.bias": source["embeddings.patch_embeddings.bias"],
        "norm.weight": source["norm.weight"],
        "norm.bias": source["norm.bias"],
    }
    frequencies = model.config.hidden_size // model.config.num_attention_heads // 4
    out["rope_embed.periods"] = 100.0 ** (torch.arange(frequencies) / frequencies)
    feed_forward = (
        {"gate_proj": "w1", "up_proj": "w2", "down_proj": "w3"} if gated else {"up_proj": "fc1", "down_proj": "fc2"}
    )
    for index in range(model.config.num_hidden_layers):
        old, new = f"layer.{index}.", f"blocks.{index}."
        attention = {part: source[f"{old}attention.{part}_proj.weight"] for part in "qkv"}
        out[f"{new}attn.qkv.weight"] = torch.cat([attention["q"], attention["k"], attention["v"]])
        garbage = torch.full((model.config.hidden_size,), 7.0)
        q_bias, v_bias = (source[f"{old}attention.{part}_proj.bias"] for part in "qv")
        out[f"{new}attn.qkv.bias"] = torch.cat([q_bias, garbage, v_bias])
        out[f"{new}attn.qkv.bias_mask"] = torch.cat([torch.ones_like(q_bias), 0 * garbage, torch.ones_like(v_bias)])
        for kind in ("weight", "bias"):
            out[f"{new}attn.proj.{kind}"] = source[f"{old}attention.o_proj.{kind}"]
            for norm in ("norm1", "norm2"):
                out[f"{new}{norm}.{kind}"] = source[f"{old}{norm}.{kind}"]
            for theirs, ours in feed_forward.items():
                out[f"{new}mlp.{ours}.{kind}"] = source[f"{old}mlp.{theirs}.{kind}"]
        for scale in "12":
            out[f"{new}ls{scale}.gamma"] = source[f"{old}layer_scale{scale}.lambda1"]
    return out


def make_plain(**settings) -> nn.Module:
    return randomise(timm.create_model("vit_small_patch16_224", depth=DEPTH, num_classes=0, **settings), 3)


@pytest.fixture(scope="module")
def transformers_mlp() -> DINOv3ViTModel:
    return make_transformers()


@pytest.fixture
def official(transformers_mlp) -> dict[str, torch.Tensor]:
    return to_official(transformers_mlp)


def read_back(path: Path) -> tuple[dict, dict]:
    converted = torch.load(path, weights_only=True)
    assert set(converted) == {"model", "metadata"}
    return converted["model"], converted["metadata"]


# --- parity ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gated", [False, True])
def test_huggingface_file_gives_transformers_features(tmp_path, gated):
    reference = make_transformers(gated)
    reference.save_pretrained(tmp_path / "hf")
    convert_file(tmp_path / "hf/model.safetensors", tmp_path / "out.pth")
    model, metadata = read_back(tmp_path / "out.pth")
    assert difference(model, metadata, transformers_map(reference)) < 1e-4
    assert metadata["source_layout"] == "huggingface"
    assert metadata["arch"] == "custom"
    assert metadata["num_heads"] == HEADS
    assert metadata["num_heads_from"] == "config.json"
    assert metadata["periods"] == "computed"


def test_huggingface_shards_and_state_dict_convert_like_the_file(tmp_path, transformers_mlp):
    transformers_mlp.save_pretrained(tmp_path, max_shard_size="100KB")
    index = tmp_path / "model.safetensors.index.json"
    convert_file(index, tmp_path / "out.pth")
    sharded, metadata = read_back(tmp_path / "out.pth")
    in_memory = convert(transformers_mlp.state_dict(), config=transformers_mlp.config.to_dict()).model
    assert len(metadata["source_shards"]) > 1
    assert sharded.keys() == in_memory.keys()
    assert all(torch.equal(sharded[key], in_memory[key]) for key in sharded)


def test_eps_and_rope_base_come_from_the_config():
    reference = make_transformers(layer_norm_eps=1e-3, rope_theta=50.0)
    conversion = convert(reference.state_dict(), config=reference.config.to_dict())
    assert difference(conversion.model, conversion.metadata, transformers_map(reference)) < 1e-4


@pytest.mark.parametrize(
    "name", ["vit_small_patch16_dinov3", "vit_small_patch16_dinov3_qkvb", "vit_small_plus_patch16_dinov3_qkvb"]
)
@torch.no_grad()
def test_timm_file_gives_timm_features(tmp_path, name):
    reference = randomise(timm.create_model(name, depth=DEPTH), 2)
    save_file(reference.state_dict(), tmp_path / "model.safetensors")
    convert_file(tmp_path / "model.safetensors", tmp_path / "out.pth")
    model, metadata = read_back(tmp_path / "out.pth")
    expected = patch_map(reference.forward_features(random_input()), 5)
    assert difference(model, metadata, expected) < 1e-4
    assert all((model[f"backbone.blocks.{index}.attn.qkv.bias"][384:768] == 0).all() for index in range(DEPTH))
    assert metadata["source_layout"] == "timm"
    assert metadata["num_heads"] == 6


@pytest.mark.parametrize("gated", [False, True])
def test_official_file_gives_transformers_features_with_the_key_bias_masked(tmp_path, gated):
    reference = make_transformers(gated, seed=4)
    torch.save(to_official(reference), tmp_path / "in.pth")
    conversion = convert_file(tmp_path / "in.pth", tmp_path / "out.pth")
    model, metadata = read_back(tmp_path / "out.pth")
    assert difference(model, metadata, transformers_map(reference)) < 1e-4
    assert metadata["num_heads_from"] == "rotary periods"
    assert metadata["bias_mask"] == "folded as stored (2 blocks)"
    assert ["no sign of the data set" in warning for warning in conversion.report.warnings] == [True]
    assert set(conversion.report.ignored) == {"mask_token"}


@torch.no_grad()
def test_plain_vit_gives_timm_features_on_its_own_grid():
    reference = make_plain()
    conversion = convert(reference.state_dict())
    expected = patch_map(reference.forward_features(random_input(size=(224, 224))), 1, (224, 224))
    assert difference(conversion.model, conversion.metadata, expected, (224, 224)) < 1e-4
    assert conversion.metadata["layer_norm_eps"] == 1e-6
    assert conversion.model["backbone.pos_embed"].shape == (1, 197, 384)


def test_parity_would_notice_a_wrong_eps(transformers_mlp):
    conversion = convert(transformers_mlp.state_dict(), config=transformers_mlp.config.to_dict())
    wrong = partial(nn.LayerNorm, eps=1e-6)
    expected = transformers_map(transformers_mlp)
    assert difference(conversion.model, conversion.metadata, expected, norm_layer=wrong) > 1e-3


@torch.no_grad()
def test_trimap_changes_nothing_at_the_start(official):
    """The encoder stays RGB; the trimap's channel comes when it is loaded."""
    conversion = convert(official)
    assert torch.equal(conversion.model[PATCH_EMBED], official["patch_embed.proj.weight"])
    architecture = Architecture.from_metadata(conversion.metadata)
    vit = ViT(**architecture.vit_arguments() | {"in_chans": 4}).eval()
    state = fit_input_channels(conversion.model, vit.state_dict(prefix="backbone."))
    vit.load_state_dict({key.removeprefix("backbone."): tensor for key, tensor in state.items()})
    image, trimaps = random_input(5), torch.randn(2, 2, 1, *SIZE, generator=torch.Generator().manual_seed(6))
    first, second = (vit(torch.cat([image, trimap], dim=1)) for trimap in trimaps)
    assert torch.equal(first, second)
    torch.testing.assert_close(first, load_vit(conversion.model, conversion.metadata)(image), atol=1e-5, rtol=0)


# --- patch sizes -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arch", "name"),
    [
        ("dino_vits8", "vit_small_patch8_224"),
        pytest.param("dino_vitb8", "vit_base_patch8_224", marks=pytest.mark.slow),
    ],
)
@torch.no_grad()
def test_dino_of_patch_8_gives_timm_features_under_its_published_name(tmp_path, arch, name):
    reference = randomise(timm.create_model(name, num_classes=0), 3)
    torch.save(reference.state_dict(), tmp_path / "in.pth")
    report = convert_file(tmp_path / "in.pth", tmp_path / "out.pth", arch=arch).report
    model, metadata = read_back(tmp_path / "out.pth")
    image = random_input(size=(224, 224))[:1]
    expected = patch_map(reference.forward_features(image), 1, (224, 224), patch=8)
    assert (load_vit(model, metadata)(image) - expected).abs().max() < 1e-4
    assert (metadata["arch"], metadata["patch_size"], metadata["pretrain_img_size"]) == (arch, 8, 224)
    assert re.search(rf"{arch}: width .*, 0 registers, patch 8\n", str(report))


@pytest.mark.parametrize("patch", [1, 14, 64])
@torch.no_grad()
def test_any_square_patch_is_read_off_the_weights(patch):
    reference = make_transformers(patch_size=patch)
    conversion = convert(reference.state_dict(), config=reference.config.to_dict())
    size = (2 * patch, 5 * patch)
    expected = patch_map(reference(random_input(size=size)).last_hidden_state, 5, size, patch)
    assert (conversion.metadata["patch_size"], conversion.metadata["arch"]) == (patch, "custom")
    assert difference(conversion.model, conversion.metadata, expected, size) < 1e-4


def test_a_published_width_with_another_patch_has_no_published_name():
    with torch.device("meta"):
        reference = timm.create_model("vit_large_patch16_224", num_classes=0, patch_size=14)
        dinov3 = timm.create_model("vit_small_patch16_dinov3", patch_size=8)
    for model, patch in ((reference, 14), (dinov3, 8)):
        selection = select(model.state_dict())
        architecture, _ = read_architecture(selection.tensors, selection.layout.family)
        assert (architecture.name(), architecture.patch_size) == ("custom", patch)


def test_metadata_without_a_patch_size_means_16(official):
    metadata = convert(official).metadata
    before = {key: value for key, value in metadata.items() if key != "patch_size"}
    assert Architecture.from_metadata(before) == Architecture.from_metadata(metadata)
    assert Architecture.from_metadata(metadata | {"patch_size": 8}).vit_arguments()["patch_size"] == 8


# --- bias mask, periods, precision ---------------------------------------------------------------------------------


def test_what_lies_under_a_zero_of_the_mask_is_dropped_even_if_nan(official):
    official["blocks.0.attn.qkv.bias"][DIM : 2 * DIM] = float("nan")
    official["blocks.1.attn.qkv.bias_mask"][:] = 0
    official["blocks.1.attn.qkv.bias"][:] = float("nan")
    model = convert(official).model
    bias = model["backbone.blocks.0.attn.qkv.bias"]
    assert (bias[DIM : 2 * DIM] == 0).all()
    assert torch.equal(bias[:DIM], official["blocks.0.attn.qkv.bias"][:DIM])
    assert torch.equal(bias[2 * DIM :], official["blocks.0.attn.qkv.bias"][2 * DIM :])
    assert (model["backbone.blocks.1.attn.qkv.bias"] == 0).all()


@pytest.mark.parametrize("flaw", ["nan", "missing", "key"])
def test_key_bias_is_zero_whatever_the_mask_says(official, transformers_mlp, flaw):
    for index in range(DEPTH):
        if flaw == "missing":
            del official[f"blocks.{index}.attn.qkv.bias_mask"]
        else:
            official[f"blocks.{index}.attn.qkv.bias_mask"][:] = {"nan": float("nan"), "key": 1.0}[flaw]
    conversion = convert(official)
    for index in range(DEPTH):  # looked at itself: the model would hide a key bias
        assert (conversion.model[f"backbone.blocks.{index}.attn.qkv.bias"][DIM : 2 * DIM] == 0).all()
    assert difference(conversion.model, conversion.metadata, transformers_map(transformers_mlp)) < 1e-4
    expected = {"nan": "contains NaN", "missing": "missing", "key": "non-zero key bias"}[flaw]
    assert any(expected in warning for warning in conversion.report.warnings)


def test_stored_periods_are_kept_to_the_bit(official):
    rounded = official["rope_embed.periods"].bfloat16()
    official["rope_embed.periods"] = rounded
    conversion = convert(official)
    kept = conversion.model["backbone.rope_embed.periods"]
    assert kept.dtype == torch.float32
    assert torch.equal(kept, rounded.float())
    assert conversion.metadata["periods"] == "stored (rounded to bfloat16)"
    assert "backbone.rope_embed.periods" not in conversion.report.new


def test_every_output_tensor_is_float32_and_the_source_stays_as_it_was(official):
    half = {key: tensor.half() for key, tensor in official.items()}
    before = {key: tensor.clone() for key, tensor in half.items()}
    model = convert(half).model
    assert {tensor.dtype for tensor in model.values()} == {torch.float32}
    assert all(torch.equal(half[key], before[key]) for key in before)
    assert torch.equal(model["backbone.norm.weight"], half["norm.weight"].float())


# --- layouts and wrappers --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", list(TIMM_NAMES))
@pytest.mark.parametrize("bias", ["", "_qkvb"])
def test_every_published_size_is_told_from_timm_shapes(arch, bias):
    with torch.device("meta"):
        reference = timm.create_model(TIMM_NAMES[arch] + bias)
    selection = select(reference.state_dict())
    architecture, _ = read_architecture(selection.tensors, selection.layout.family)
    assert architecture.name() == arch
    assert architecture.num_heads == reference.blocks[0].attn.num_heads
    parts = {name for name in selection.tensors if ".attn." not in name}
    expected = {name for name in architecture.expected_shapes() if ".attn." not in name} - {"rope_embed.periods"}
    assert parts == expected


@pytest.mark.parametrize("arch", list(DINOV3_VARIANTS))
def test_every_published_size_is_told_from_transformers_shapes(arch):
    variant = DINOV3_VARIANTS[arch]
    with torch.device("meta"):
        reference = DINOv3ViTModel(
            DINOv3ViTConfig(
                hidden_size=variant.embed_dim,
                num_hidden_layers=variant.depth,
                num_attention_heads=variant.num_heads,
                intermediate_size=variant.ffn_hidden_dim,
                num_register_tokens=4,
                use_gated_mlp=variant.ffn == "swiglu",
                hidden_act="silu" if variant.ffn == "swiglu" else "gelu",
            )
        )
    selection = select(reference.state_dict())
    architecture, _ = read_architecture(selection.tensors, selection.layout.family, reference.config.to_dict())
    assert architecture.name() == arch


@pytest.mark.parametrize(
    "wrap",
    [
        lambda d: {"model": d, "epoch": 3, "args": argparse.Namespace(lr=0.1)},
        lambda d: {"teacher": {f"backbone.{k}": v for k, v in d.items()} | {"dino_head.mlp.0.weight": torch.ones(2)}},
        lambda d: {"student": {"head.x": torch.ones(1)}, "teacher": {f"module.backbone.{k}": v for k, v in d.items()}},
        lambda d: {
            "model": {f"teacher.backbone.{k}": v for k, v in d.items()}
            | {f"student.backbone.{k}": v + 1 for k, v in d.items()}
        },
        lambda d: {f"module.{k}": v for k, v in d.items()},
    ],
)
def test_wrapped_checkpoints_convert_like_the_bare_one(tmp_path, official, wrap):
    torch.save(wrap(official), tmp_path / "in.pth")
    conversion = convert_file(tmp_path / "in.pth", tmp_path / "out.pth")
    bare = convert(official).model
    assert all(torch.equal(bare[key], conversion.model[key]) for key in bare)


@pytest.mark.parametrize("legacy", [False, True])
def test_dino_checkpoint_keeps_every_backbone_tensor(tmp_path, legacy):
    plain = make_plain().state_dict()
    student = {f"module.backbone.{key}": tensor for key, tensor in plain.items()} | {
        "module.head.mlp.0.weight": torch.ones(2)
    }
    torch.save({"student": student, "epoch": 1}, tmp_path / "dino.pth", _use_new_zipfile_serialization=not legacy)
    conversion = convert_file(tmp_path / "dino.pth", tmp_path / "out.pth")
    assert conversion.report.ignored.keys() == {"epoch", "module.head.mlp.0.weight"}
    assert conversion.model.keys() == {f"backbone.{key}" for key in plain}
    for key, tensor in plain.items():
        assert torch.equal(conversion.model[f"backbone.{key}"], tensor)


def test_mae_decoder_is_named_as_ignored():
    plain = make_plain().state_dict()
    decoder = {f"decoder_blocks.{i}.norm1.weight": torch.ones(8) for i in range(8)} | {
        "decoder_pos_embed": torch.ones(1)
    }
    conversion = convert({"model": plain | decoder | {"mask_token": torch.ones(1, 1, 8)}})
    assert conversion.report.ignored.keys() == decoder.keys() | {"mask_token"}
    assert "decoder_blocks.*.norm1.weight x8" in str(conversion.report)


# --- metadata and report ---------------------------------------------------------------------------------------------


def test_metadata_and_report_of_a_published_model(tmp_path):
    name = "dinov3_vits16_pretrain_lvd1689m-08c60483.pth"
    reference = make_transformers(hidden_size=384, num_hidden_layers=12, num_attention_heads=6, intermediate_size=1536)
    torch.save(to_official(reference), tmp_path / name)
    report = str(convert_file(tmp_path / name, tmp_path / "out.pth", arch="dinov3_vits16").report)
    _, metadata = read_back(tmp_path / "out.pth")
    digest = hashlib.sha256((tmp_path / name).read_bytes()).hexdigest()
    assert metadata["arch"] == "dinov3_vits16"
    assert metadata["source_sha256"] == digest
    assert metadata["source_file"] == name
    assert metadata["layer_norm_eps"] == 1e-5
    assert metadata["dataset"] == "lvd1689m"
    assert metadata["pixel_mean"] == [0.485, 0.456, 0.406]
    assert f"promises a SHA-256 of 08c60483..., it is {digest[:8]}" in report
    assert re.search(r"mask_token x1: ", report)
    assert re.search(r"attention +60 +48 +0\n", report)  # weight, bias, mask, proj weight and bias -> four of them
    assert re.search(r"total +187 +175 +0\n", report)


def test_satellite_weights_carry_their_statistics(tmp_path, official, transformers_mlp):
    local_norm = {"local_cls_norm.weight": torch.ones(DIM), "local_cls_norm.bias": torch.ones(DIM)}
    by_tensor = convert(official | local_norm).metadata
    by_name = convert(official, source="weights/dinov3_vitl16_pretrain_sat493m-eadcf0ff.pth").metadata
    by_request = convert(official, dataset="sat493m").metadata
    transformers_mlp.save_pretrained(tmp_path)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.43, 0.411, 0.296]}))
    by_preprocessor = convert_file(tmp_path / "model.safetensors", tmp_path / "out.pth").metadata
    for metadata in (by_tensor, by_name, by_request, by_preprocessor):
        assert metadata["dataset"] == "sat493m"
        assert metadata["pixel_mean"] == list(DINOV3_PIXEL_STATISTICS["sat493m"][0])
        assert metadata["pixel_std"] == list(DINOV3_PIXEL_STATISTICS["sat493m"][1])


def test_contradicting_signs_of_the_data_set_are_reported(official):
    official |= {"local_cls_norm.weight": torch.ones(DIM), "local_cls_norm.bias": torch.ones(DIM)}
    conversion = convert(official, source="dinov3_vitl16_pretrain_lvd1689m.pth")
    assert conversion.metadata["dataset"] == "sat493m"
    assert any("lvd1689m" in warning for warning in conversion.report.warnings)


def test_conversion_is_reproducible_to_the_byte(tmp_path, official):
    torch.save(official, tmp_path / "in.pth")
    convert_file(tmp_path / "in.pth", tmp_path / "a.pth")
    convert_file(tmp_path / "in.pth", tmp_path / "b.pth")
    assert (tmp_path / "a.pth").read_bytes() == (tmp_path / "b.pth").read_bytes()


# --- what must be refused --------------------------------------------------------------------------------------------


class _Payload:
    """Unpickling this makes a folder named "ran" in the working directory."""

    def __reduce__(self):
        return os.mkdir, ("ran",)


def write_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "not weights")


def write_compressed(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x00" * 100_000)


BAD_FILES = {
    "empty": (lambda p: p.write_bytes(b""), "empty"),
    "text": (lambda p: p.write_text("these are not weights\n"), "a text file"),
    "html": (lambda p: p.write_text("<!DOCTYPE html><html>Access denied</html>"), "HTML"),
    "xml": (lambda p: p.write_text('<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>'), "HTML or XML"),
    "lfs": (lambda p: p.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\n"), "Git LFS"),
    "json": (lambda p: p.write_text('{"error": "gated"}'), "weight_map"),
    "noise": (lambda p: p.write_bytes(bytes(range(256))), "something else"),
    "zip": (write_zip, "zip archive of other files"),
    "bomb": (write_compressed, "compressed"),
    "pickle": (lambda p: p.write_bytes(pickle.dumps({"a": 1})), "not a readable PyTorch file"),
    "code": (lambda p: torch.save({"cls_token": _Payload()}, p), "could run code"),
    "code_legacy": (lambda p: torch.save([_Payload()], p, _use_new_zipfile_serialization=False), "could run code"),
    "list": (lambda p: torch.save([torch.ones(2)], p), "found list"),
    "no_tensor": (lambda p: torch.save({"model": {"a": 1}}, p), "no tensor"),
    "resnet": (
        lambda p: torch.save({"conv1.weight": torch.ones(64, 3, 7, 7), "layer1.0.conv1.weight": torch.ones(2)}, p),
        "no cls_token",
    ),
    "escape": (lambda p: p.write_text('{"weight_map": {"a": "../x.safetensors"}}'), "same folder"),
    "missing_shard": (lambda p: p.write_text('{"weight_map": {"a": "x.safetensors"}}'), "x.safetensors"),
    "safetensors": (lambda p: p.write_bytes((500).to_bytes(8, "little") + b'{"a": 1'), "safetensors"),
}


def assert_refused(source: Path, output: Path, expected: str, **options) -> None:
    with pytest.raises(InputError, match=re.escape(expected)) as caught:
        convert_file(source, output, **options)
    assert str(source.parent) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not output.exists()
    assert not list(output.parent.glob(".*.part"))


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_file_that_holds_no_weights_is_refused_in_one_line(tmp_path, monkeypatch, recwarn, kind):
    monkeypatch.chdir(tmp_path)
    write, expected = BAD_FILES[kind]
    write(tmp_path / "in.pth")
    assert_refused(tmp_path / "in.pth", tmp_path / "out.pth", expected)
    assert not (tmp_path / "ran").exists()
    assert not recwarn.list


@pytest.mark.parametrize("keep", [0.2, 0.9, 0.999])
@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_a_truncated_file_is_refused(tmp_path, official, kind, keep):
    path = tmp_path / "in.pth"
    if kind == "safetensors":
        save_file(official, path)
    else:
        torch.save(official, path, _use_new_zipfile_serialization=kind == "zip")
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    assert_refused(path, tmp_path / "out.pth", "truncated")


def drop(pattern):
    def edit(tensors):
        return {key: tensor for key, tensor in tensors.items() if not re.search(pattern, key)}

    return edit


def put(**changes):
    return lambda tensors: tensors | {key.replace("__", "."): value for key, value in changes.items()}


def spoil(key, value):
    def edit(tensors):
        tensors[key].view(-1)[3] = value
        return tensors

    return edit


def claim_more(tensors):
    tensors["blocks.0.mlp.fc1.weight"] = torch.ones(1).expand(3 * DIM, DIM)
    return tensors


BAD_TENSORS = {
    "layer_scale": (drop(r"blocks\.1\.ls1"), "1 missing tensor (blocks.1.ls1.gamma)"),
    "all_layer_scale": (drop(r"\.ls[12]\."), "4 missing tensors"),
    "registers": (drop("storage_tokens"), "storage_tokens is missing"),
    "block": (drop(r"blocks\.0\."), "block 0 of 2 is missing"),
    "norm": (drop(r"^norm\."), "2 missing tensors"),
    "half_a_bias": (drop(r"blocks\.0\.attn\.qkv\.bias"), "blocks.0.attn.qkv.bias"),
    "mask_without_bias": (drop(r"qkv\.bias$"), "attn.qkv.bias is missing"),
    "shape": (
        put(blocks__1__norm2__weight=torch.ones(DIM + 1)),
        "blocks.1.norm2.weight: expected shape (64,), found (65,)",
    ),
    "mask_shape": (put(blocks__1__attn__qkv__bias_mask=torch.ones(DIM)), "bias_mask: expected shape (192,)"),
    "rank": (put(storage_tokens=torch.ones(4, DIM)), "storage_tokens: expected a tensor of 3 dimensions"),
    "oblong_patch": (put(patch_embed__proj__weight=torch.ones(DIM, 3, 14, 16)), "square patches of 1 to 64 pixels"),
    "large_patch": (put(patch_embed__proj__weight=torch.ones(DIM, 3, 65, 65)), "found 65 x 65"),
    "converted": (put(patch_embed__proj__weight=torch.ones(DIM, 4, 16, 16)), "4 input channels already"),
    "gray": (put(patch_embed__proj__weight=torch.ones(DIM, 1, 16, 16)), "3 input channels"),
    "nan": (spoil("blocks.0.mlp.fc1.weight", float("nan")), "blocks.0.mlp.fc1.weight: NaN"),
    "infinite": (spoil("norm.bias", float("inf")), "norm.bias: NaN or infinite"),
    "periods": (spoil("rope_embed.periods", float("nan")), "rope_embed.periods: expected positive"),
    "unknown": (put(blocks__0__attn__gate__weight=torch.ones(2)), "1 unknown tensor (blocks.0.attn.gate.weight)"),
    "mixed_ffn": (put(blocks__1__mlp__w1__weight=torch.ones(2)), "1 unexpected tensor"),
    "integers": (put(norm__weight=torch.ones(DIM, dtype=torch.int8)), "torch.int8"),
    "huge_index": (put(blocks__9000__norm1__weight=torch.ones(DIM)), "transformer blocks"),
    "claims": (claim_more, "the file contains fewer"),
    "both positions": (put(pos_embed=torch.ones(1, 1370, DIM)), "not a dinov2 model in the official layout"),
    "7b": (put(patch_embed__proj__weight=torch.ones(4096, 3, 16, 16)), "ViT-7B"),
    "vitmatte": (put(blocks__0__attn__rel_pos_h=torch.ones(27, 64)), "ViTMatte"),
    "two_backbones": (put(a__cls_token=torch.ones(1)), "one backbone"),
}


@pytest.mark.parametrize("kind", BAD_TENSORS)
def test_tensors_that_do_not_make_a_published_vit_are_refused(tmp_path, official, kind):
    edit, expected = BAD_TENSORS[kind]
    torch.save(edit(official), tmp_path / "in.pth")
    assert_refused(tmp_path / "in.pth", tmp_path / "out.pth", expected)


def test_a_requested_architecture_must_be_the_one_found(tmp_path, official):
    torch.save(official, tmp_path / "in.pth")
    assert_refused(
        tmp_path / "in.pth", tmp_path / "out.pth", "expected dinov3_vitb16, found custom", arch="dinov3_vitb16"
    )


def test_unknown_heads_are_not_guessed(transformers_mlp):
    with pytest.raises(InputError, match="number of attention heads"):
        convert(transformers_mlp.state_dict())


def test_heads_given_by_the_user_give_the_features_of_the_config(transformers_mlp, official):
    converted = convert(transformers_mlp.state_dict(), num_heads=HEADS)
    assert converted.metadata["num_heads_from"] == "--num-heads"
    assert difference(converted.model, converted.metadata, transformers_map(transformers_mlp)) < 1e-4
    with pytest.raises(InputError, match=r"--num-heads: expected 2, given by rotary periods, got 4; leave it out"):
        convert(official, num_heads=4)
    with pytest.raises(InputError, match="5 attention heads do not fit a width of 64"):
        convert(transformers_mlp.state_dict(), num_heads=5)


def test_what_is_converted_already_is_refused(tmp_path, official):
    """Its metadata, such as the pixel statistics, would be lost."""
    torch.save(official, tmp_path / "in.pth")
    convert_file(tmp_path / "in.pth", tmp_path / "once.pth", dataset="sat493m")
    assert_refused(tmp_path / "once.pth", tmp_path / "twice.pth", "use it as it is")


@pytest.mark.parametrize(
    "change", [{"hidden_size": 128}, {"hidden_act": "silu"}, {"num_attention_heads": "2"}, {"patch_size": 14}]
)
def test_the_config_of_another_model_is_refused(transformers_mlp, change):
    with pytest.raises(InputError, match=r"config\.json"):
        convert(transformers_mlp.state_dict(), config=transformers_mlp.config.to_dict() | change)


def test_output_over_the_input_is_refused_and_leaves_it(tmp_path, official):
    path = tmp_path / "in.pth"
    torch.save(official, path)
    os.link(path, tmp_path / "link.pth")
    before = path.read_bytes()
    for output in (path, tmp_path / "link.pth", tmp_path / "." / "in.pth"):
        with pytest.raises(InputError, match="the output is the input"):
            convert_file(path, output)
    assert path.read_bytes() == before


def test_a_failed_conversion_keeps_an_earlier_output(tmp_path):
    (tmp_path / "in.pth").write_text("text")
    (tmp_path / "out.pth").write_text("earlier")
    with pytest.raises(InputError):
        convert_file(tmp_path / "in.pth", tmp_path / "out.pth")
    assert (tmp_path / "out.pth").read_text() == "earlier"


def test_the_script_exits_2_with_one_line_for_a_bad_file_and_0_with_a_report_for_a_good_one(tmp_path, official):
    torch.save(official, tmp_path / "good.pth")
    (tmp_path / "bad.pth").write_text("<html>")

    def preprocess(weights):
        command = [sys.executable, ROOT / "preprocess.py", "--weights", weights, "--output", tmp_path / "out.pth"]
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)

    bad = preprocess(tmp_path / "bad.pth")
    assert bad.returncode == 2
    assert len(bad.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out.pth").exists()
    good = preprocess(tmp_path / "good.pth")
    assert good.returncode == 0, good.stderr
    assert "mask_token x1" in good.stdout
    assert (tmp_path / "out.pth").exists()
