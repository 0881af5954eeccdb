"""ViTs that were trained on labels, of the architecture of DINO's and MAE's: their pixel statistics are timm's."""

import json
import re

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from modeling.pretrained import convert_file
from modeling.pretrained.architecture import read_architecture
from modeling.pretrained.pixel_statistics import read_pixel_statistics
from modeling.pretrained.select import select
from runtime.errors import InputError

MODULES = ("vision_transformer", "deit")
PUBLISHED = [name for module in MODULES for name in timm.list_models(pretrained=True, module=module)]


def layout_of(name: str, shapes: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
    """Names and shapes of a published file of one block, its classifier as it was published."""
    config = timm.get_pretrained_cfg(name)
    key = f"{name.partition('.')[0]} {config.num_classes}"
    if key not in shapes:
        with torch.device("meta"):
            model = timm.create_model(name, pretrained=False, depth=1, num_classes=config.num_classes)
            shapes[key] = model.state_dict()
    return shapes[key]


def test_every_plain_vit_that_timm_publishes_gets_the_statistics_that_timm_gives_it():
    wrong, right, shapes = [], 0, {}
    for name in PUBLISHED:
        if re.search(r"clip|siglip|gap|flexi|aimv2|dinov[23]|radio|huge|giant|eva|beit|test_|tips|rpn|distilled", name):
            continue  # other layouts, refused below or elsewhere; or widths without published heads
        config, tensors = timm.get_pretrained_cfg(name), layout_of(name, shapes)
        try:
            selection = select(tensors)
            architecture, _ = read_architecture(selection.tensors, selection.layout.family)
        except InputError:
            continue  # another width, or positions without a row for CLS
        found, warnings = read_pixel_statistics(architecture, "auto", f"{name}.pth", list(tensors), None)
        if (tuple(found["pixel_mean"]), tuple(found["pixel_std"])) != (config.mean, config.std):
            wrong.append((name, found["pixel_mean"], config.mean))
        right += 1
        assert len(warnings) == (config.num_classes > 0), name
    assert wrong == []
    assert right > 40


@pytest.mark.parametrize("name", ["vit_base_patch16_clip_224.openai", "deit3_small_patch16_224.fb_in1k"])
def test_other_layouts_are_refused_not_taken_for_plain(name):
    def read() -> None:
        selection = select(layout_of(name, {}))
        read_architecture(selection.tensors, selection.layout.family)

    with pytest.raises(InputError):
        read()


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return timm.create_model("vit_small_patch16_224", pretrained=False, depth=1).state_dict()


def test_a_classifier_means_timms_statistics_and_a_warning(tmp_path, weights):
    torch.save(weights, tmp_path / "weights.pth")
    torch.save({key: value for key, value in weights.items() if not key.startswith("head.")}, tmp_path / "encoder.pth")
    supervised = convert_file(tmp_path / "weights.pth", tmp_path / "a.pth")
    encoder = convert_file(tmp_path / "encoder.pth", tmp_path / "b.pth")
    assert supervised.metadata["pixel_mean"] == list(timm.get_pretrained_cfg("vit_small_patch16_224").mean)
    assert "trained on labels" in supervised.report.warnings[0]
    assert "[0.5, 0.5, 0.5]" in str(supervised.report)
    assert encoder.metadata["pixel_mean"] == [0.485, 0.456, 0.406]
    assert encoder.report.warnings == []
    assert all(torch.equal(encoder.model[key], supervised.model[key]) for key in encoder.model)


@pytest.mark.parametrize(
    ("name", "mean"),
    [
        ("dino_deitsmall16_pretrain.pth", 0.485),
        ("deit_small_patch16_224-cd65a155.pth", 0.485),
        ("vit_base_patch16_224_miil.in21k.pth", 0.0),
        ("dinomatte_vit_small.pth", 0.5),  # the word is not in it
    ],
)
def test_a_name_that_tells_the_statistics_decides(tmp_path, weights, name, mean):
    torch.save(weights, tmp_path / name)
    assert convert_file(tmp_path / name, tmp_path / "out.pth").metadata["pixel_mean"][0] == mean


def test_timms_config_beside_the_file_decides(tmp_path, weights):
    folder = tmp_path / "vit_small_patch16_224.augreg_in1k"
    folder.mkdir()
    save_file(weights, folder / "model.safetensors")
    by_folder = convert_file(folder, tmp_path / "out.pth").metadata
    config = {
        "architecture": "vit_small_patch16_224",
        "pretrained_cfg": {"mean": [0.1, 0.2, 0.3], "std": [0.4, 0.5, 1]},
    }
    (folder / "config.json").write_text(json.dumps(config))
    stated = convert_file(folder, tmp_path / "out.pth").metadata
    assert (by_folder["pixel_mean"], by_folder["dataset_from"]) == ([0.5, 0.5, 0.5], "'augreg' in the name")
    assert (stated["pixel_mean"], stated["pixel_std"]) == ([0.1, 0.2, 0.3], [0.4, 0.5, 1.0])
    config["pretrained_cfg"]["std"] = [0, "x", float("nan")]
    (folder / "config.json").write_text(json.dumps(config))
    assert convert_file(folder, tmp_path / "out.pth").metadata["dataset_from"] == "'augreg' in the name"
