"""A checkpoint with another config than its own: the message names what it belongs to."""

import pytest
import torch

from engine.config import build, describe_model, load_config
from engine.trained import trained_model
from runtime.errors import InputError

DEMO = "configs/ViTMatte_demo.py"


def checkpoint_of(config, path, described: bool = True) -> str:
    torch.manual_seed(0)
    torch.save({"model": build(config.model).state_dict(), **(describe_model(config.model) if described else {})}, path)
    return str(path)


def refusal(checkpoint: str, config_file: str, *overrides: str) -> str:
    with pytest.raises(InputError) as caught:
        trained_model(load_config(config_file, overrides), checkpoint, config_file)
    message = str(caught.value)
    assert message.startswith(f"{checkpoint}: does not fit the model of {config_file}; ")
    assert len(message) - len(checkpoint) < 400
    return message


@pytest.mark.parametrize(
    ("own", "described", "other"),
    [(DEMO, True, "configs/ViTMatte_S_10ep.py"), ("configs/DIM_demo_stage2.py", False, "configs/FrozenDINOv3_demo.py")],
)
def test_the_projects_config_is_named(tmp_path, own, described, other):
    message = refusal(checkpoint_of(load_config(own), tmp_path / "m.pth", described), other)
    assert f"its tensors are those of {own}" in message
    assert ("omit --config-file" in message) == described


def test_a_model_of_no_config_is_told_by_the_settings_that_differ(tmp_path):
    config = load_config(DEMO, ["model.backbone.embed_dim=48", "model.backbone.depth=5"])
    message = refusal(checkpoint_of(config, tmp_path / "m.pth"), DEMO)
    ours = load_config(DEMO).model.backbone
    assert f"backbone.embed_dim 48 (the config: {ours.embed_dim})" in message
    assert f"backbone.depth 5 (the config: {ours.depth})" in message
    assert "omit --config-file" in message


def test_a_checkpoint_that_says_nothing_and_fits_nothing_lists_a_few_tensors(tmp_path):
    torch.save({"model": {"a.b": torch.zeros(1)}}, tmp_path / "m.pth")
    with pytest.raises(
        InputError, match=r"not a checkpoint of this config's model; missing: .* more; not in the model: a\.b"
    ):
        trained_model(load_config(DEMO), tmp_path / "m.pth", DEMO)


def test_the_right_config_loads_the_weights(tmp_path):
    config = load_config(DEMO)
    checkpoint = checkpoint_of(config, tmp_path / "m.pth")
    loaded = trained_model(config, checkpoint, DEMO).state_dict()
    saved = torch.load(checkpoint, weights_only=True)["model"]
    assert all(torch.equal(loaded[key], saved[key]) for key in saved)
