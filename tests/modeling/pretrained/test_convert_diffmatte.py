"""DiffMatte files in: the published layouts, every tensor of them, and what must be refused."""

import re

import pytest
import torch
from torch import Tensor, nn

from modeling.backbone import PriorSwin, ResNet34D, ViT
from modeling.decoder.diffusion_unet import DiffusionUNet
from modeling.pretrained import convert, convert_file
from modeling.pretrained.diffmatte_architecture import DiffMatteViT, read_diffmatte_architecture
from modeling.pretrained.select import select
from modeling.weights.checkpoint_file import read_checkpoint
from runtime.errors import InputError
from tests.references.diffmatte_weights import read_keys
from tests.references.reference_vitmatte import huggingface_vitmatte, original_names

VARIANTS = ("vits", "vits_1024", "vitb", "res34", "swint")
UP = [256, 256, 128, 64, 32]  # channels of the decoder's deep maps on an encoder of features of 1/32
INDEX = "model.backbone.layers.2.blocks.5.attn.relative_position_index"


def published(encoder: nn.Module | dict[str, Tensor], decoder: nn.Module) -> dict[str, Tensor]:
    """Their tensors under the names of a published file."""
    encoder = encoder if isinstance(encoder, dict) else encoder.state_dict()
    parts = {"backbone": encoder, "decoder": decoder.state_dict()}
    return {f"model.{part}.{key}": tensor for part, tensors in parts.items() for key, tensor in tensors.items()}


@pytest.fixture(scope="module")
def small() -> dict[str, Tensor]:
    """A model like ViT-S, narrow and of 128 pixels; the backbone's tensors are transformers'."""
    backbone = original_names(huggingface_vitmatte().state_dict())
    backbone = {key.removeprefix("backbone."): value for key, value in backbone.items() if "decoder." not in key}
    return published(backbone, DiffusionUNet(8, 4, [7, 8, 12, 16], [32, 24, 16, 12, 8]))


@pytest.fixture(scope="module")
def swin() -> dict[str, Tensor]:
    return published(PriorSwin(), DiffusionUNet(downsample_in=[7, 32, 64, 128, 128], upsample_in=[768, *UP]))


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_published_layout_is_recognised_with_all_its_tensors(variant):
    """By name and shape, which is all that the architecture is read from."""
    listed = {
        key: torch.empty(shape, dtype=getattr(torch, dtype), device="meta") for key, shape, dtype in read_keys(variant)
    }
    selection = select(listed)
    architecture, _ = read_diffmatte_architecture(selection.tensors)
    assert architecture.name() == f"diffmatte_{variant}"
    shapes = {key.removeprefix("model.").removeprefix("backbone."): tuple(value.shape) for key, value in listed.items()}
    assert architecture.expected_shapes() == shapes


def test_a_file_becomes_a_model_of_this_project(tmp_path, small):
    torch.save({"model": small, "iteration": 5, "optimizer": {"state": {}}}, tmp_path / "in.pth")
    report = convert_file(tmp_path / "in.pth", tmp_path / "out.pth").report
    checkpoint = read_checkpoint(tmp_path / "out.pth")
    assert checkpoint["model"].keys() == {key.removeprefix("model.") for key in small}
    assert all(torch.equal(checkpoint["model"][key.removeprefix("model.")], value) for key, value in small.items())
    assert (len(report.mapped), report.new, report.warnings) == (len(small), {}, [])
    assert "windows         3 x 3 patches in blocks 0, 2; relative positions for 128 pixels" in str(report)
    metadata = checkpoint["metadata"]
    assert (metadata["pixel_mean"], metadata["family"]) == ([0.485, 0.456, 0.406], "diffmatte")
    architecture = DiffMatteViT.from_metadata(metadata)
    for part, module in (
        ("backbone.", ViT(**architecture.vit_arguments())),
        ("decoder.", DiffusionUNet(**architecture.decoder_arguments())),
    ):
        module.load_state_dict(
            {key.removeprefix(part): value for key, value in checkpoint["model"].items() if key.startswith(part)}
        )


def test_the_encoders_of_one_size_convert(swin):
    decoder = DiffusionUNet(downsample_in=[7, 32, 64, 128, 128], upsample_in=[512, *UP])
    for variant, tensors in (("res34", published(ResNet34D(), decoder)), ("swint", swin)):
        conversion = convert(tensors, arch=f"diffmatte_{variant}")
        assert f"architecture    diffmatte_{variant}: " in str(conversion.report)
        for key, value in tensors.items():
            found = conversion.model[key.removeprefix("model.")]
            assert found.dtype == value.dtype
            assert torch.equal(found, value)
        assert len(conversion.model) == len(tensors)


def drop(key):
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if name != f"model.{key}"}


def put(key, value):
    return lambda tensors: tensors | {f"model.{key}": value}


BAD_TENSORS = {
    "missing": (drop("backbone.blocks.1.norm2.bias"), "1 missing tensor (blocks.1.norm2.bias)"),
    "first": (drop("backbone.blocks.0.norm1.weight"), "1 missing tensor (blocks.0.norm1.weight)"),
    "no time": (drop("decoder.time_embed.2.bias"), "1 missing tensor (decoder.time_embed.2.bias)"),
    "no statistics": (drop("decoder.up_blks.1.bn2.running_var"), "(decoder.up_blks.1.bn2.running_var)"),
    "no block": (drop("decoder.up_blks.2.conv1.weight"), "found 2 and 3; the file is incomplete"),
    "no middle": (drop("decoder.mid_blk.conv1.weight"), "decoder.mid_blk.conv1.weight is missing"),
    "extra": (put("backbone.head.weight", torch.ones(3)), "1 unexpected tensor (head.weight)"),
    "apart": (put("backbone.blocks.0.attn.q.weight", torch.ones(3)), "1 unexpected tensor (blocks.0.attn.q.weight)"),
    "outside": (put("refiner.weight", torch.ones(3)), "1 unknown tensor (model.refiner.weight)"),
    "two encoders": (put("backbone.layers.0.weight", torch.ones(3)), "found vit and swint"),
    "shape": (put("decoder.up_blks.0.conv2.weight", torch.ones(2, 2, 3, 3)), "expected shape (16, 16, 3, 3), found"),
    "table": (put("backbone.blocks.0.attn.rel_pos_w", torch.ones(7, 16)), "expected shape (5, 16), found (7, 16)"),
    "channels": (put("backbone.patch_embed.proj.weight", torch.ones(32, 3, 16, 16)), "4 input channels"),
    "nan": (put("decoder.time_embed.0.bias", torch.full((4,), float("nan"))), "decoder.time_embed.0.bias: NaN"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_TENSORS)
def test_tensors_that_do_not_make_a_diffmatte_are_refused_in_one_line(tmp_path, small, kind):
    edit, expected = BAD_TENSORS[kind]
    torch.save(edit(small), tmp_path / "in.pth")
    with pytest.raises(InputError, match=re.escape(expected)) as caught:
        convert_file(tmp_path / "in.pth", tmp_path / "out.pth")
    assert str(caught.value).startswith(f"{tmp_path / 'in.pth'}: ")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.pth").exists()


def test_no_encoder_and_another_variant_are_refused(small, swin):
    decoder_alone = {key: value for key, value in small.items() if ".decoder." in key}
    with pytest.raises(InputError, match=r"expected one of DiffMatte's encoders.* found none"):
        convert(decoder_alone)
    with pytest.raises(InputError, match="expected diffmatte_vits, found diffmatte_swint"):
        convert(swin, arch="diffmatte_vits")


def test_a_damaged_index_of_positions_is_refused(swin):
    """It would read other rows of the table, or none."""
    index = swin[INDEX].clone()
    index[0, 0] += 1
    with pytest.raises(InputError, match=r"layers\.2\.blocks\.5\.attn\.relative_position_index: not the places"):
        convert(swin | {INDEX: index})


def test_relative_positions_are_interpolated_where_asked_for(small):
    conversion = convert(small, img_size=64)
    (warning,) = conversion.report.warnings
    assert warning == "tables of relative positions interpolated from 128 to 64 pixels: 4 from 15 to 7 rows"
    assert conversion.metadata["img_size"] == 64
    expected = DiffMatteViT.from_metadata(conversion.metadata).expected_shapes()
    assert {key.removeprefix("backbone."): tuple(value.shape) for key, value in conversion.model.items()} == expected
    assert convert(small, img_size=128).report.warnings == []


def test_a_size_that_cannot_be_is_refused(small, swin):
    for tensors, size, message in (
        (small, 72, "expected a multiple of the patch size 16, got 72"),
        (small, 0, "expected a multiple of the patch size 16, got 0"),
        (swin, 512, "--img-size is for ViTMatte and DiffMatte on a ViT"),
    ):
        with pytest.raises(InputError, match=message):
            convert(tensors, img_size=size)
