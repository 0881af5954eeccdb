"""ViTMatte files in, ViTMatte files out: the original's layout, Hugging Face's, and what must be refused."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tiny import CONFIG, OVERRIDES, ROOT
from transformers import VitMatteConfig, VitMatteForImageMatting, VitMatteImageProcessor

import inference
from engine.config import build, load_config
from engine.training.checkpoints import RunCheckpointer
from modeling.pretrained import convert, convert_file
from modeling.pretrained import huggingface_writer as hub
from modeling.weights.checkpoint_file import read_checkpoint
from modeling.weights.loading import load_model
from runtime.errors import InputError
from tests.references.reference_vitmatte import (
    MEAN,
    PUBLISHED_DECODER,
    PUBLISHED_S,
    SMALL,
    STD,
    huggingface_vitmatte,
    original_names,
    our_vitmatte,
    random_batch,
    unknown_alphas,
)
from tools import export_huggingface

SMALL_CONFIG = [
    "model.backbone.embed_dim=32", "model.backbone.num_heads=2", "model.backbone.depth=4",
    "model.backbone.img_size=128", "model.backbone.pretrain_img_size=64", "model.backbone.window_size=3",
    "model.backbone.window_block_indexes=[0,2]", "model.backbone.residual_block_indexes=[1,3]",
    "model.decoder.convstream_out=[8,12,16]", "model.decoder.fusion_out=[24,16,12,8]",
]  # fmt: skip
CONFIG_FILE = str(ROOT / "configs/ViTMatte_S_dino.py")
SIZE = (70, 130)


@pytest.fixture(scope="module")
def theirs() -> VitMatteForImageMatting:
    return huggingface_vitmatte()


@pytest.fixture
def folder(tmp_path, theirs) -> Path:
    """What save_pretrained writes: model.safetensors and config.json."""
    theirs.save_pretrained(tmp_path / "huggingface")
    return tmp_path / "huggingface"


@pytest.fixture
def original(theirs) -> dict[str, torch.Tensor]:
    return original_names(theirs.state_dict())


def assert_equals(checkpoint: dict, theirs: VitMatteForImageMatting) -> None:
    """It loads strictly into the config, and predicts what transformers predicts."""
    model = build(load_config(CONFIG_FILE, SMALL_CONFIG).model).eval()
    load_model(model, checkpoint, "converted.pth")
    for ours in (model, our_vitmatte(checkpoint["metadata"], checkpoint["model"])):
        got, expected = unknown_alphas(ours, theirs, random_batch(SIZE))
        assert expected.std() > 0.01
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


# --- in ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_config", [True, False])
def test_a_hugging_face_folder_converts(tmp_path, folder, theirs, with_config):
    if not with_config:  # everything is in the tensors
        (folder / "config.json").unlink()
    conversion = convert_file(folder / "model.safetensors", tmp_path / "out.pth")
    checkpoint = read_checkpoint(tmp_path / "out.pth")
    assert_equals(checkpoint, theirs)
    assert checkpoint["metadata"]["source_layout"] == "huggingface"
    assert (conversion.report.ignored, conversion.report.new, conversion.report.warnings) == ({}, {}, [])
    assert len(conversion.report.mapped) == len(checkpoint["model"]) == len(load_file(folder / "model.safetensors"))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: tensors,
        lambda tensors: {"model": tensors, "iteration": 3, "optimizer": {"state": {}}},
        lambda tensors: {"model": {f"module.{key}": tensor for key, tensor in tensors.items()}},
    ],
    ids=["bare", "training checkpoint", "DDP"],
)
def test_a_file_of_the_original_project_converts(tmp_path, original, theirs, wrap):
    torch.save(wrap(original), tmp_path / "ViTMatte_S_Com.pth")
    conversion = convert_file(tmp_path / "ViTMatte_S_Com.pth", tmp_path / "out.pth")
    assert_equals(read_checkpoint(tmp_path / "out.pth"), theirs)
    assert len(conversion.report.mapped) == len(original)
    for line in ("windows         3 x 3 patches in blocks 0, 2; relative positions for 128 pixels", "decoder "):
        assert line in str(conversion.report)


def test_half_precision_converts_to_float32_and_counters_stay_integers(original):
    model = convert({k: t.half() if t.is_floating_point() else t for k, t in original.items()}).model
    counters = {key for key, tensor in model.items() if tensor.dtype == torch.int64}
    assert counters == {key for key in model if key.endswith("num_batches_tracked")}
    assert {model[key].item() for key in counters} == {7}
    assert all(tensor.dtype == torch.float32 for key, tensor in model.items() if key not in counters)


def test_statistics_of_the_processor_that_are_not_imagenets_are_reported(tmp_path, folder):
    """As in the released Hugging Face repositories, whose processors say 0.5."""
    processor = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    conversion = convert_file(folder / "model.safetensors", tmp_path / "out.pth")
    assert (conversion.metadata["pixel_mean"], conversion.metadata["pixel_std"]) == (MEAN, STD)
    (warning,) = conversion.report.warnings
    assert "image_mean [0.5, 0.5, 0.5]" in warning


def drop(key):
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if name != key}


def put(key, value):
    return lambda tensors: tensors | {key: value}


BAD_TENSORS = {
    "missing": (drop("backbone.blocks.1.residual.norm2.bias"), "1 missing tensor (blocks.1.residual.norm2.bias)"),
    "no statistics": (drop("decoder.convstream.convs.1.bn.running_var"), "decoder.convstream.convs.1.bn.running_var"),
    "no positions": (drop("backbone.pos_embed"), "pos_embed is missing"),
    "no table": (drop("backbone.blocks.2.attn.rel_pos_h"), "blocks.2.attn.rel_pos_h is missing"),
    "no last fusion": (drop("decoder.fusion_blks.3.conv.conv.weight"), "one fusion more"),
    "extra": (put("backbone.blocks.0.ls1.gamma", torch.ones(32)), "1 unknown tensor (backbone.blocks.0.ls1.gamma)"),
    "shape": (put("decoder.matting_head.matting_convs.3.weight", torch.ones(1, 8, 1, 1)), "expected shape (1, 16, 1,"),
    "other table": (put("backbone.blocks.3.attn.rel_pos_w", torch.ones(5, 16)), "expected shape (15, 16), found (5,"),
    "three sizes": (put("backbone.blocks.3.attn.rel_pos_h", torch.ones(9, 16)), "sizes [3, 5, 8]"),
    "rgb": (put("backbone.patch_embed.proj.weight", torch.ones(32, 3, 16, 16)), "4 input channels (RGB and trimap)"),
    "nan": (put("decoder.matting_head.matting_convs.3.bias", torch.tensor([float("nan")])), "NaN"),
    "integers": (put("backbone.pos_embed", torch.ones(1, 17, 32, dtype=torch.int64)), "torch.int64"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_TENSORS)
def test_tensors_that_do_not_make_a_vitmatte_are_refused_in_one_line(tmp_path, original, kind):
    edit, expected = BAD_TENSORS[kind]
    torch.save(edit(original), tmp_path / "in.pth")
    with pytest.raises(InputError, match=re.escape(expected)) as caught:
        convert_file(tmp_path / "in.pth", tmp_path / "out.pth")
    assert str(tmp_path / "in.pth") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.pth").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"fusion_hidden_sizes": [1, 2, 3, 4]},
        {"batch_norm_eps": 1e-3},
        {"backbone_config": {"hidden_act": "relu"}},
        {"backbone_config": {"num_attention_heads": 4}},
        {"backbone_config": {"window_size": 14, "window_block_indices": [0, 9], "image_size": 128}},
        {"backbone_config": {"window_block_indices": [[0], "1"]}},
        {"backbone_config": {"window_size": "14"}},
        {"backbone_config": {"out_features": ["stage3"]}},
        {"backbone_config": [3]},
    ],
)
def test_the_config_of_another_model_is_refused(theirs, change):
    config = theirs.config.to_dict()
    if isinstance(change.get("backbone_config"), dict):
        change = {"backbone_config": config["backbone_config"] | change["backbone_config"]}
    with pytest.raises(InputError, match=r"config\.json"):
        convert(theirs.state_dict(), config=config | change)


def test_one_size_of_tables_needs_the_config():
    """Windows as large as the image: the tensors do not tell which blocks have them."""
    theirs = huggingface_vitmatte(SMALL | {"window_size": 8})
    with pytest.raises(InputError, match=r"config\.json beside"):
        convert(theirs.state_dict())
    conversion = convert(theirs.state_dict(), config=theirs.config.to_dict())
    assert_equals_at(our_vitmatte(conversion.metadata, conversion.model), theirs)


def test_another_patch_size_converts_both_ways(tmp_path):
    """transformers builds ViTMatte for patches of 8 pixels with three fusions."""
    decoder = {"convstream_hidden_sizes": [8, 12], "fusion_hidden_sizes": [24, 16, 12], "hidden_size": 32}
    theirs = huggingface_vitmatte(SMALL | {"patch_size": 8}, decoder)
    theirs.save_pretrained(tmp_path / "in")
    conversion = convert_file(tmp_path / "in/model.safetensors", tmp_path / "out.pth")
    assert (conversion.metadata["patch_size"], conversion.metadata["img_size"]) == (8, 128)
    assert conversion.metadata["pretrain_img_size"] == 64
    ours = our_vitmatte(conversion.metadata, conversion.model)
    assert_equals_at(ours, theirs)
    hub.export_huggingface(ours, tmp_path / "back")
    assert_equals_at(ours, VitMatteForImageMatting.from_pretrained(tmp_path / "back").eval())
    from_tensors = convert(original_names(theirs.state_dict())).metadata  # without config.json
    assert all(from_tensors[key] == conversion.metadata[key] for key in ("patch_size", "img_size", "window_size"))


def test_relative_positions_of_another_crop_size_are_interpolated_as_transformers_does(original, theirs, caplog):
    """On an image of the new size transformers interpolates its tables of 128 pixels to the same rows."""
    conversion = convert(original, img_size=64)
    assert "interpolated from 128 to 64 pixels: 4 from 15 to 7 rows" in conversion.report.warnings[0]
    assert_equals_at(our_vitmatte(conversion.metadata, conversion.model), theirs, size=(64, 64))
    model = build(load_config(CONFIG_FILE, [*SMALL_CONFIG, "model.backbone.img_size=64"]).model).eval()
    checkpoint = {"model": convert(original).model}
    with pytest.raises(InputError, match=r"crops of another size; set model\.backbone\.img_size"):
        load_model(model, checkpoint, "vitmatte.pth")
    with caplog.at_level("INFO", logger="dinomatte"):
        load_model(model, checkpoint, "vitmatte.pth", pretrained=True)
    assert "tables of relative positions interpolated: 4 from 15 to 7 rows" in caplog.text
    assert_equals_at(model, theirs, size=(64, 64))


def test_a_patch_size_that_does_not_fit_the_decoder_is_refused():
    with pytest.raises(InputError, match="patch size 8 needs 3 fusion blocks"):
        convert(huggingface_vitmatte(SMALL | {"patch_size": 8}).state_dict())


def assert_equals_at(ours, theirs, size=(160, 200)) -> None:
    torch.testing.assert_close(*unknown_alphas(ours, theirs, random_batch(size)), atol=1e-4, rtol=0)


def test_a_requested_architecture_must_be_the_one_found(original):
    with pytest.raises(InputError, match="expected vitmatte_b, found custom"):
        convert(original, arch="vitmatte_b")
    with pytest.raises(InputError, match="--dataset sat493m is for DINOv3"):
        convert(original, dataset="sat493m")


def test_what_is_converted_already_is_refused(tmp_path, original):
    """Its metadata would be lost."""
    conversion = convert(original)
    with pytest.raises(InputError, match="use it as it is"):
        convert({"model": conversion.model, "metadata": conversion.metadata})


def test_a_backbone_given_where_a_model_is_expected_is_named(tmp_path, original):
    timm = pytest.importorskip("timm")
    dino = convert(timm.create_model("vit_small_patch16_224", depth=4, num_classes=0).state_dict())
    assert not any(key.startswith("decoder.") for key in dino.model)
    model = build(load_config(CONFIG_FILE, SMALL_CONFIG).model)
    with pytest.raises(
        InputError, match=r"not a checkpoint of this config's model; missing: backbone\.blocks\.0\.attn"
    ):
        load_model(model, {"model": dino.model, "metadata": dino.metadata}, "dino.pth")


# --- through the scripts -------------------------------------------------------------------------------------------


def test_from_a_published_file_to_a_matte(tmp_path, folder, theirs, monkeypatch, capsys):
    import preprocess

    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*SIZE, 3), np.uint8)
    trimap = rng.choice(np.array([0, 128, 255], np.uint8), SIZE)
    Image.fromarray(image).save(tmp_path / "image.png")
    Image.fromarray(trimap).save(tmp_path / "trimap.png")
    converted = str(tmp_path / "vitmatte.pth")
    command = ["preprocess.py", "--weights", str(folder / "model.safetensors"), "--output", converted]
    monkeypatch.setattr(sys, "argv", command)
    preprocess.main()
    assert "custom: width 32" in capsys.readouterr().out
    files = {name: str(tmp_path / f"{name}.png") for name in ("image", "trimap", "output")}
    arguments = [part for name, path in files.items() for part in (f"--{name}", path)]
    status = inference.main(
        ["--config-file", CONFIG_FILE, "--checkpoint", converted, *arguments, "--device", "cpu", *SMALL_CONFIG]
    )
    assert status == 0
    processor = VitMatteImageProcessor(image_mean=MEAN, image_std=STD)
    levels = np.where(trimap == 128, 127.5, trimap).astype(np.float32)  # 0, 0.5, 1
    inputs = processor(images=image, trimaps=levels, return_tensors="pt")
    with torch.inference_mode():
        alpha = theirs(**inputs).alphas[0, 0, : SIZE[0], : SIZE[1]].numpy()
    matte = np.asarray(Image.open(files["output"]))
    unknown = trimap == 128
    assert np.abs(matte[unknown] - 255 * alpha[unknown]).max() <= 0.5 + 255e-4
    np.testing.assert_array_equal(matte[~unknown], trimap[~unknown])


@pytest.fixture
def exported(tmp_path, original) -> Path:
    """Out of the original's layout and back, through the tool."""
    torch.save(original, tmp_path / "in.pth")
    convert_file(tmp_path / "in.pth", tmp_path / "ours.pth")
    command = ["--config-file", CONFIG_FILE, "--checkpoint", str(tmp_path / "ours.pth")]
    export_huggingface.main([*command, "--output", str(tmp_path / "deep" / "exported"), *SMALL_CONFIG])
    return tmp_path / "deep" / "exported"


def test_an_exported_folder_is_the_same_model_to_transformers(exported, theirs):
    again, loading = VitMatteForImageMatting.from_pretrained(exported, output_loading_info=True)
    assert {name: list(keys) for name, keys in loading.items() if keys} == {}
    expected = theirs.state_dict()
    assert again.state_dict().keys() == expected.keys()
    for key, tensor in again.state_dict().items():
        torch.testing.assert_close(tensor, expected[key], atol=0, rtol=0)
    pixel_values = torch.randn(1, 4, 96, 160)
    with torch.inference_mode():
        torch.testing.assert_close(again(pixel_values).alphas, theirs(pixel_values).alphas, atol=0, rtol=0)
    processor = VitMatteImageProcessor.from_pretrained(exported)
    assert (list(processor.image_mean), list(processor.image_std)) == (MEAN, STD)
    assert processor.size_divisor == 32


def test_an_exported_folder_converts_back(tmp_path, exported, theirs):
    conversion = convert_file(exported / "model.safetensors", tmp_path / "again.pth")
    assert conversion.report.warnings == []
    assert_equals(read_checkpoint(tmp_path / "again.pth"), theirs)


def test_the_published_size_has_the_published_config(tmp_path):
    from modeling.pretrained import export_huggingface as export

    export(build(load_config(CONFIG_FILE).model), tmp_path)
    written = VitMatteConfig.from_pretrained(tmp_path)
    expected = huggingface_vitmatte(PUBLISHED_S, PUBLISHED_DECODER).config
    for field in PUBLISHED_S | dict.fromkeys(("mlp_ratio", "layer_norm_eps", "patch_size", "qkv_bias", "hidden_act")):
        assert getattr(written.backbone_config, field) == getattr(expected.backbone_config, field), field
    assert written.hidden_size == expected.hidden_size == 384
    assert len(load_file(tmp_path / "model.safetensors")) == 258


@pytest.mark.parametrize(
    ("config", "overrides", "message"),
    [
        (CONFIG, OVERRIDES[:8], "original backbone only"),
        (CONFIG_FILE, [*SMALL_CONFIG, "model.backbone.window_padding=masked"], "window_padding other than 'zeros'"),
        (CONFIG_FILE, [*SMALL_CONFIG, "model.backbone.final_norm=True"], "a final norm"),
        (CONFIG_FILE, [*SMALL_CONFIG, "model.backbone.mlp_ratio=2.5"], "multiple of the width"),
    ],
)
def test_a_model_that_transformers_does_not_have_is_refused(tmp_path, config, overrides, message):
    RunCheckpointer(build(load_config(config, overrides).model), str(tmp_path)).save("model")
    command = ["--config-file", config, "--checkpoint", str(tmp_path / "model.pth"), "--output", str(tmp_path / "out")]
    with pytest.raises(InputError, match=message):
        export_huggingface.main([*command, *overrides])
    assert not (tmp_path / "out").exists()


def test_the_config_of_another_kind_of_model_is_not_consulted(tmp_path, theirs):
    save_file(theirs.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "dinov3_vit", "hidden_size": 1}))
    assert convert_file(tmp_path / "model.safetensors", tmp_path / "out.pth").metadata["embed_dim"] == 32
