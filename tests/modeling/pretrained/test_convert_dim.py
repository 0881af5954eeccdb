"""Deep Image Matting files in: MMagic's layout and torchvision's VGG-16, every tensor of them, and what is refused."""

import functools
import logging
import re

import pytest
import torch
import torchvision
from torch import Tensor

from engine.config import build, load_config
from modeling.backbone import VGG16
from modeling.decoder.unpooling import RefinementNetwork, UnpoolingDecoder
from modeling.pretrained import convert, convert_file
from modeling.weights.checkpoint_file import read_checkpoint
from modeling.weights.loading import load_model
from runtime.errors import InputError
from tests.references.dim_weights import our_name, published
from tests.tiny import ROOT

published = functools.cache(published)
WIDTHS = [8, 8, 16, 16, 16]


def without_refiner(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in tensors.items() if not key.startswith("refiner.")}


def dim(stage: int, *overrides: str):
    return build(load_config(str(ROOT / f"configs/DIM_stage{stage}.py"), list(overrides)).model)


@pytest.mark.parametrize(("variant", "stage"), [("vgg16", 1), ("vgg16", 2), ("vgg16_bn", 3)])
def test_a_published_checkpoint_becomes_a_model_of_its_stage(tmp_path, variant, stage):
    source = published(variant) if stage > 1 else without_refiner(published(variant))
    torch.save({"meta": {"iter": 5}, "state_dict": source, "optimizer": {"state": {}}}, tmp_path / "in.pth")
    report = convert_file(tmp_path / "in.pth", tmp_path / "out.pth").report
    assert (len(report.mapped), report.new, report.warnings) == (len(source), {}, [])
    assert set(report.ignored) == {"meta", "optimizer"}
    arch = ("dim_stage1" if stage == 1 else "dim_refined") + "_bn" * (variant == "vgg16_bn")
    assert f"architecture    {arch}: VGG-16 of widths 64, 128, 256, 512, 512" in str(report)
    checkpoint = read_checkpoint(tmp_path / "out.pth")
    assert checkpoint["model"].keys() == {our_name(key) for key in source}
    model = dim(stage, f"model.backbone.batch_norm={variant == 'vgg16_bn'}")
    load_model(model, checkpoint, tmp_path / "out.pth")  # exactly these tensors
    assert all(torch.equal(model.state_dict()[our_name(key)], value) for key, value in source.items())


@pytest.mark.parametrize("variant", ["vgg16", "vgg16_bn"])
def test_torchvision_s_vgg16_becomes_stage_1_s_encoder_with_a_zero_fourth_channel(tmp_path, caplog, variant):
    torch.manual_seed(0)
    source = getattr(torchvision.models, variant)(weights=None, num_classes=2)
    torch.save(source.state_dict(), tmp_path / "in.pth")
    conversion = convert_file(tmp_path / "in.pth", tmp_path / "out.pth")
    assert conversion.metadata["arch"] == variant
    assert len(conversion.report.ignored) == 6  # the classifier's
    model = dim(1, f"model.backbone.batch_norm={variant == 'vgg16_bn'}")
    with caplog.at_level(logging.INFO, logger="dinomatte"):
        load_model(model, read_checkpoint(tmp_path / "out.pth"), tmp_path / "out.pth", pretrained=True)
    kernel = model.backbone.layer1[0].weight
    assert torch.equal(kernel[:, :3], source.features[0].weight)
    assert not kernel[:, 3].any()
    convs = [module for module in model.backbone.modules() if isinstance(module, torch.nn.Conv2d)][:13]
    theirs = [module for module in source.features if isinstance(module, torch.nn.Conv2d)]
    assert all(torch.equal(ours.weight, other.weight) for ours, other in zip(convs[1:], theirs[1:], strict=True))
    assert "backbone.layer1.0.weight: 3 input channels changed to 4, zeros for the trimap" in caplog.text
    fresh = re.search("newly initialised: (.*)", caplog.text)[1]
    assert fresh.startswith("backbone.conv6.weight x1, backbone.conv6.bias x1")
    assert "layer" not in fresh
    assert ("backbone.bn.weight" in fresh) == (variant == "vgg16_bn")


@pytest.mark.parametrize(
    ("start", "stage", "message"),
    [
        (
            "encoder",
            2,
            "missing: backbone.conv6.weight, .*; stage 2 trains the refinement of a trained encoder-decoder",
        ),
        ("stage 1", 3, "missing: refiner.refine_conv1.weight, .*; stage 3 trains all that stages 1 and 2 made: set"),
        ("encoder", 3, "set train.init_checkpoint to stage 2's checkpoint"),
        ("stage 2", 1, "not in the model: refiner.refine_conv1.weight"),
        ("other", 2, "contains no tensor of this config's model"),
    ],
)
def test_a_stage_that_starts_from_the_wrong_file_is_one_line(start, stage, message):
    narrow = f"model.backbone.widths={WIDTHS}".replace(" ", "")
    model = {
        "encoder": lambda: {f"backbone.{k}": v for k, v in VGG16(3, WIDTHS).state_dict().items() if k[:5] == "layer"},
        "stage 1": lambda: dim(1, narrow).state_dict(),
        "stage 2": lambda: dim(2, narrow).state_dict(),
        "other": lambda: {"decoder.weight": torch.ones(3)},
    }[start]()
    with pytest.raises(InputError, match=f"^f.pth: .*{message}"):
        load_model(dim(stage, narrow), {"model": model}, "f.pth", pretrained=True)


def test_stage_2_starts_from_stage_1_and_from_stage_2():
    narrow = f"model.backbone.widths={WIDTHS}".replace(" ", "")
    for stage in (1, 2):
        source = dim(stage, narrow).state_dict()
        model = dim(2, narrow)
        load_model(model, {"model": source}, "f.pth", pretrained=True)
        assert all(torch.equal(model.state_dict()[key], value) for key, value in source.items())


def drop(key):
    return lambda tensors: {name: tensor for name, tensor in tensors.items() if name != key}


def put(key, *shape, value=1.0):
    return lambda tensors: tensors | {key: torch.full(shape, value)}


BAD_TENSORS = {
    "missing": (drop("backbone.encoder.layer4.2.bias"), "1 missing tensor (layer4.2.bias)"),
    "first": (drop("backbone.encoder.layer3.0.weight"), "layer3.0.weight is missing"),
    "conv6": (drop("backbone.encoder.conv6.bias"), "1 missing tensor (conv6.bias)"),
    "refiner": (drop("refiner.refine_conv1.weight"), "refiner.refine_conv1.weight is missing"),
    "prediction": (drop("refiner.refine_pred.bias"), "1 missing tensor (refiner.refine_pred.bias)"),
    "extra": (put("backbone.decoder.aspp.weight", 3), "1 unexpected tensor (decoder.aspp.weight)"),
    "outside": (put("loss.weight", 3), "1 unknown tensor (loss.weight)"),
    "rgb": (put("backbone.encoder.layer1.0.weight", 8, 3, 3, 3), "layer1.0.weight: expected shape (8, 4, 3, 3), found"),
    "shape": (put("backbone.decoder.deconv3_1.weight", 8, 8, 5, 5), "expected shape (8, 16, 5, 5), found (8, 8, 5, 5)"),
    "statistics": (put("backbone.encoder.layer1.1.running_mean", 8), "missing tensor"),
    "nan": (put("refiner.refine_pred.bias", 1, value=float("nan")), "refiner.refine_pred.bias: NaN"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_TENSORS)
def test_tensors_that_do_not_make_a_dim_are_refused_in_one_line(tmp_path, kind):
    parts = {"backbone.encoder": VGG16(widths=WIDTHS), "backbone.decoder": UnpoolingDecoder(WIDTHS),
             "refiner": RefinementNetwork(8)}  # fmt: skip
    tensors = {f"{name}.{key}": value for name, part in parts.items() for key, value in part.state_dict().items()}
    edit, expected = BAD_TENSORS[kind]
    torch.save({"state_dict": edit(tensors)}, tmp_path / "in.pth")
    with pytest.raises(InputError, match=re.escape(expected)) as caught:
        convert_file(tmp_path / "in.pth", tmp_path / "out.pth")
    assert str(caught.value).startswith(f"{tmp_path / 'in.pth'}: ")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.pth").exists()


def test_other_networks_with_torchvision_s_names_are_refused():
    with torch.device("meta"):
        others = [torchvision.models.alexnet(), torchvision.models.vgg19(), torchvision.models.vgg11()]
    for other in others:
        with pytest.raises(InputError, match=r"unknown tensors|missing|expected shape"):
            convert(other.state_dict())


def test_arch_is_checked():
    with pytest.raises(InputError, match="expected dim_refined, found dim_stage1"):
        convert(without_refiner(published("vgg16")), arch="dim_refined")
    with pytest.raises(InputError, match="--dataset lvd1689m is for DINOv3; Deep Image Matting's encoders"):
        convert(published("vgg16"), dataset="lvd1689m")
    with pytest.raises(InputError, match="--img-size is for"):
        convert(published("vgg16"), img_size=64)
