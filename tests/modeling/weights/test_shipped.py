"""Models as files to be passed on: what half precision keeps, and files that are not those written."""

import json

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file, save_file
from tiny import CONFIG, overrides

from engine.config import build, load_config
from engine.training.run import train
from modeling.weights.checkpoint_file import write_checkpoint
from modeling.weights.loading import load_model
from modeling.weights.model_config import build_model
from modeling.weights.plain_config import plain_config
from modeling.weights.shipped import read_shipped
from modeling.weights.shipping import write_shipped
from modeling.weights.system_file import read_system
from runtime.errors import InputError


@pytest.fixture
def run(tmp_path):
    """A run folder with model_final.pth of a small network, and the network."""
    config = load_config(CONFIG, overrides(tmp_path, 2)).model
    torch.manual_seed(0)
    model = build(config).eval()
    model.decoder.convstream.convs[0].bn.running_var.fill_(1e-9)  # float16 has no such number
    save(tmp_path, model)
    return tmp_path, model


def save(folder, model) -> None:
    config = plain_config(OmegaConf.to_container(load_config(CONFIG, overrides(folder, 2)).model, resolve=True))
    content = {"model": model.state_dict(), "config": config, "metadata": model.metadata(), "iteration": 7}
    write_checkpoint(folder / "model_final.pth", content)


def shipped(folder, **options):
    return write_shipped(folder / "model_final.pth", folder / "out", "m", **options)


def test_the_loaded_model_predicts_what_the_run_s_model_does(run):
    folder, model = run
    path = shipped(folder)
    checkpoint = read_shipped(path)
    loaded = build_model(checkpoint, path).eval()
    load_model(loaded, checkpoint, path)
    described = json.loads(path.read_text())
    assert described["iteration"] == 7
    assert described["parameters"] == sum(value.numel() for value in model.state_dict().values())
    batch = {"image": torch.rand(1, 3, 64, 96), "trimap": torch.full((1, 1, 64, 96), 0.5)}
    with torch.no_grad():
        difference = (loaded(batch)["phas"] - model(batch)["phas"]).abs().max()
    assert difference < 1 / 255
    stored = load_file(path.parent / "m.safetensors")
    assert {value.dtype for value in stored.values() if value.ndim >= 2} == {torch.float16}
    assert stored["decoder.convstream.convs.0.bn.running_var"].min() > 0


def test_a_run_starts_from_a_shipped_model(run, tmp_path):
    folder, model = run
    description = shipped(folder)
    config = load_config(CONFIG, [*overrides(tmp_path / "next", 1), f"train.init_checkpoint={description}"])
    config.optimizer.lr = 0.0
    config.optimizer.params.head_lr_mult = 0.0
    started = train(config)
    for name, value in model.named_parameters():
        assert torch.equal(started.get_parameter(name), value.half().float() if value.ndim > 1 else value), name


def test_exchanged_damaged_and_missing_weights_are_refused(run):
    path = shipped(run[0])
    weights = path.parent / "m.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(InputError, match=r"m\.safetensors: expected SHA-256 [0-9a-f]{64}, got"):
        read_shipped(path)
    save_file({"other": torch.zeros(3)}, weights)
    with pytest.raises(InputError, match="damaged or of another model"):
        read_shipped(path)
    weights.unlink()
    with pytest.raises(InputError, match="found no such file"):
        read_shipped(path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"weights": 3, "sha256": "0"}', '{"weights": "m", "sha256": "0"}'])
def test_a_description_that_is_none_is_one_line(tmp_path, text):
    (tmp_path / "m.json").write_text(text)
    with pytest.raises(InputError, match=r"m\.json: expected"):
        read_shipped(tmp_path / "m.json")
    with pytest.raises(InputError, match=r"other\.json: expected the description"):
        read_shipped(tmp_path / "other.json")


def test_a_name_of_weights_leads_nowhere_else(run):
    path = shipped(run[0])
    described = json.loads(path.read_text())
    path.write_text(json.dumps({**described, "weights": "../../m.safetensors"}))
    assert read_shipped(path)["model"]  # the file beside the description


def test_too_large_not_representable_or_without_description_is_refused_and_leaves_nothing(run):
    folder, model = run
    with pytest.raises(InputError, match="expected at most 1,000"):
        shipped(folder, size_limit=1000)
    model.backbone.patch_embed.proj.weight.data[0, 0, 0, 0] = 1e6
    save(folder, model)
    with pytest.raises(InputError, match=r"backbone\.patch_embed\.proj\.weight: contains a value that float16 cannot"):
        shipped(folder)
    write_checkpoint(folder / "model_final.pth", {"model": model.state_dict()})
    with pytest.raises(InputError, match="expected a checkpoint that describes its network"):
        shipped(folder)
    assert list((folder / "out").iterdir()) == []


def test_the_model_in_the_box_is_refused_for_onnx_in_one_line():
    with pytest.raises(InputError, match="closed-form prior") as caught:
        read_system().traceable()
    assert "\n" not in str(caught.value)
