"""Converted models describe themselves: inference without a config gives what their config gives."""

from collections.abc import Callable

import pytest
import torch
from tiny import ROOT

from engine.config import build, load_config
from modeling.pretrained import convert_file
from modeling.pretrained.description import ENCODERS, describe
from modeling.pretrained.diffmatte_architecture import read_diffmatte_architecture
from modeling.pretrained.select import select
from modeling.weights.model_config import _Builder
from modeling.weights.system_file import read_system
from tests.references.diffmatte_weights import read_keys

STATISTICS = {"pixel_mean": [0.485, 0.456, 0.406], "pixel_std": [0.229, 0.224, 0.225]}
VIT = ["model.backbone.embed_dim=48", "model.backbone.num_heads=3", "model.backbone.depth=2"]
WINDOWS = [
    *("model.backbone.img_size=128", "model.backbone.window_size=3"),
    *("model.backbone.window_block_indexes=[0]", "model.backbone.residual_block_indexes=[1]"),
]
UNET = [
    *("model.decoder.model_channels=8", "model.decoder.downsample_in=[7,8,8,12]"),
    "model.decoder.upsample_in=[48,16,12,8,8]",
]
DIM = ["model.backbone.widths=[8,8,16,16,16]"]
CASES = {  # config, overrides, our name -> the publisher's
    "dim stage 1": ("DIM_stage1", DIM, lambda key: key if key.startswith("refiner.") else _mmagic(key)),
    "dim stage 3": (
        *("DIM_stage3", [*DIM, "model.refiner.width=8"]),
        lambda key: key if key.startswith("refiner.") else _mmagic(key),
    ),
    "dim batch norm": ("DIM_stage1", [*DIM, "model.backbone.batch_norm=True"], lambda key: _mmagic(key)),
    "frozen": (
        *("FrozenDINOv3_S_published", [*VIT, "model.decoder.boundary_refinement=True", "model.decoder.dims=[16,8,8]"]),
        lambda key: key.replace("backbone.", "encoder.dinov3.").replace("decoder.boundary_refiner", "boundary_refiner"),
    ),
    "vitmatte": ("ViTMatte_S_dino", [*VIT, *WINDOWS, "model.decoder.fusion_out=[16,16,8,8]"], lambda key: key),
    "diffmatte": ("DiffMatte_ViTS", [*VIT, *WINDOWS, *UNET], lambda key: f"model.{key}"),
}


def _mmagic(key: str) -> str:
    return key.replace("backbone.", "backbone.encoder.") if key.startswith("backbone.") else f"backbone.{key}"


@pytest.mark.parametrize(("config", "overrides", "published"), CASES.values(), ids=CASES)
@torch.inference_mode()
def test_the_described_model_predicts_what_the_configs_predicts(
    tmp_path, config: str, overrides: list[str], published: Callable[[str], str]
):
    torch.manual_seed(0)
    expected = build(load_config(str(ROOT / "configs" / f"{config}.py"), overrides).model).eval()
    for parameter in expected.parameters():
        if parameter.ndim == 1:  # so that each counts
            parameter.add_(0.1 * torch.rand_like(parameter))
    torch.save({published(key): value for key, value in expected.state_dict().items()}, tmp_path / "in.pth")
    convert_file(tmp_path / "in.pth", tmp_path / "out.pth")
    described = read_system(tmp_path / "out.pth")
    assert type(described) is type(expected)
    image, trimap = torch.rand(1, 3, 40, 32), torch.full((1, 1, 40, 32), 0.5)
    given = (image, trimap) if "trimap" in expected.inputs else (image,)
    alpha = expected.predict(*given)
    assert torch.equal(described.predict(*given), alpha)
    assert alpha.std() > 1e-4


@pytest.mark.parametrize("variant", ["vits", "vits_1024", "vitb", "res34", "swint"])
def test_each_published_diffmatte_is_described_with_all_its_tensors(variant):
    listed = {
        key: torch.empty(shape, dtype=getattr(torch, dtype), device="meta") for key, shape, dtype in read_keys(variant)
    }
    architecture, _ = read_diffmatte_architecture(select(listed).tensors)
    node = describe(architecture, STATISTICS)
    assert node["trimap_input"] == ("one_hot" if variant in ENCODERS else "value")
    with torch.device("meta"):
        model = _Builder().build(node)
    assert {f"model.{key}": value.shape for key, value in model.state_dict().items()} == {
        key: value.shape for key, value in listed.items()
    }


def test_an_encoder_alone_is_no_model(tmp_path):
    torch.manual_seed(0)
    vit = build(
        load_config(str(ROOT / "configs/FrozenDINOv3_S.py"), [*VIT, "model.out_blocks=[0,1,0,1]"]).model.backbone
    )
    torch.save(vit.state_dict(), tmp_path / "in.pth")
    assert convert_file(tmp_path / "in.pth", tmp_path / "out.pth").description is None
    assert set(torch.load(tmp_path / "out.pth", weights_only=True)) == {"model", "metadata"}
