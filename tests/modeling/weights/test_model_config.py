"""A checkpoint describes its model; a stranger's cannot make the program do anything but build a network."""

from functools import partial

import pytest
import torch
from small_models import small_model
from tiny import CONFIG, OVERRIDES
from torch import nn

from engine.config import build, describe_model, load_config
from modeling.weights.model_config import build_model
from modeling.weights.plain_config import plain_config
from runtime.errors import InputError


@pytest.fixture(scope="module")
def checkpoint() -> dict:
    config = load_config(CONFIG, OVERRIDES)
    torch.manual_seed(0)
    return {"model": build(config.model).state_dict(), **describe_model(config.model)}


def changed(checkpoint: dict, **settings) -> dict:
    return {**checkpoint, "config": {**checkpoint["config"], **settings}}


def test_the_described_model_predicts_what_the_configs_model_predicts(checkpoint):
    expected = build(load_config(CONFIG, OVERRIDES).model).eval()
    described = build_model(checkpoint, "m.pth").eval()
    for model in (expected, described):
        model.load_state_dict(checkpoint["model"])
    batch = {"image": torch.rand(1, 3, 50, 70), "trimap": torch.full((1, 1, 50, 70), 0.5)}
    with torch.inference_mode():
        torch.testing.assert_close(described(batch), expected(batch), atol=0, rtol=0)
    assert described.metadata() == expected.metadata()


def test_a_description_is_plain(checkpoint, tmp_path):
    torch.save(checkpoint, tmp_path / "m.pth")
    loaded = torch.load(tmp_path / "m.pth", weights_only=True)
    assert loaded["config"] == checkpoint["config"]
    assert loaded["config"]["backbone"]["norm_layer"] == {
        "_partial_": "torch.nn.modules.normalization.LayerNorm", "eps": 1e-5,
    }  # fmt: skip


def test_an_object_without_a_plain_form_is_named():
    with pytest.raises(ValueError, match="a Linear has no plain form"):
        plain_config({"norm": nn.Linear(1, 1)})
    with pytest.raises(ValueError, match="is not a class"):
        plain_config({"norm": partial(print, end="")})


@pytest.mark.parametrize(
    "target",
    [
        "os.system", "builtins.eval", "subprocess.Popen", "torch.load", "torch.hub.load", "torch.nn.init.constant_",
        "torch.nn.Linear",
        "modeling.pretrained.convert_file.convert_file", "modeling.weights.checkpoint_file.write_checkpoint",
        "modeling.weights.checkpoint_file.Path", "modeling.weights.checkpoint_file.torch.load",
        "modeling.meta_arch.vitmatte.torch.nn.Linear", "engine.training.run.train", "modeling..x", "modeling.no.Such",
        "modeling.backbone.vit.__builtins__", "torch.nn.modules.module._addindent", "", 7, None, ["os.system"],
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["top", "nested", "partial"])
def test_only_networks_of_this_project_are_built(checkpoint, target, where, tmp_path):
    loot = {"_target_": target, "command": f"touch {tmp_path}/owned", "path": str(tmp_path / "owned")}
    hostile = {
        "top": changed(checkpoint, **loot),
        "nested": changed(checkpoint, decoder=loot),
        "partial": changed(checkpoint, criterion={"_partial_": target, **loot}),
    }[where]
    with pytest.raises(InputError, match="its config describes no usable model") as refused:
        build_model(hostile, "stranger.pth")
    assert str(refused.value).startswith("stranger.pth: ")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    "settings",
    [
        {"size_divisibility": 10**12},
        {"size_divisibility": 65_536},
        {"pixel_mean": [0.5] * 10_000},
        {"input_format": "R" * 10_000},
        {"pixel_mean": float("inf")},
        {"decoder": [[[[[[[[[[1]]]]]]]]]]},
        {"surprise": 1},
    ],
    ids=["number", "padding", "list", "text", "infinity", "depth", "keyword"],
)
def test_a_description_beyond_its_limits_is_refused(checkpoint, settings):
    with pytest.raises(InputError, match="its config describes no usable model"):
        build_model(changed(checkpoint, **settings), "m.pth")


def test_a_large_network_is_refused_before_it_takes_memory(checkpoint):
    """A hundred gigabytes of weights that the file does not hold are outlined without memory, and refused."""
    wide = {**checkpoint["config"]["decoder"], "fusion_out": [60_000, 60_000, 8, 8]}
    with pytest.raises(InputError, match="the file holds decoder"):
        build_model(changed(checkpoint, decoder=wide), "m.pth")


def test_a_file_without_the_models_tensors_builds_nothing(checkpoint):
    with pytest.raises(InputError, match=r"the file holds .* None, the model has"):
        build_model({**checkpoint, "model": {}}, "m.pth")


def test_tensors_that_repeat_one_number_are_refused(checkpoint):
    """A few bytes can have the shape of gigabytes."""
    key = "backbone.patch_embed.proj.weight"
    hollow = torch.zeros(1).expand(checkpoint["model"][key].numel()).view(checkpoint["model"][key].shape)
    with pytest.raises(InputError, match=f"{key} contains fewer numbers than its shape requires"):
        build_model({**checkpoint, "model": {**checkpoint["model"], key: hollow}}, "m.pth")


@pytest.mark.parametrize("setting", [{"device": "cpu"}, {"dtype": "float64"}])
def test_a_part_cannot_leave_the_outline(checkpoint, setting):
    linear = {"_target_": "torch.nn.modules.linear.Linear", "in_features": 9, "out_features": 9, **setting}
    with pytest.raises(InputError, match="none of device, dtype"):
        build_model(changed(checkpoint, decoder=linear), "m.pth")


def test_a_part_that_is_repeated_without_end_is_refused(checkpoint):
    """References, which a file keeps: some kilobytes say a billion lists."""
    part: list = [0]
    for _ in range(6):
        part = [part] * 1000
    with pytest.raises(InputError, match="too many settings"):
        build_model(changed(checkpoint, pixel_mean=part), "m.pth")


def test_a_network_of_countless_blocks_is_refused(checkpoint):
    deep = {**checkpoint["config"]["backbone"], "depth": 60_000}
    with pytest.raises(InputError, match="more than 5000 modules"):
        build_model(changed(checkpoint, backbone=deep), "m.pth")


def test_a_module_that_is_no_system_is_refused(checkpoint):
    with pytest.raises(InputError, match="expected a system of this project, got a Identity"):
        build_model({**checkpoint, "config": {"_target_": "torch.nn.modules.linear.Identity"}}, "m.pth")


def test_a_checkpoint_without_a_description_asks_for_the_config():
    with pytest.raises(InputError, match=r"old\.pth: does not describe its model; give --config-file too"):
        build_model({"model": small_model().state_dict()}, "old.pth")
