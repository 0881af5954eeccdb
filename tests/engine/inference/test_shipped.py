"""Models as files to be passed on: what half precision keeps, and files that are not those written."""

import pytest
import torch
from detectron2.config import LazyConfig
from safetensors.torch import load_file, save_file
from tiny import CONFIG, overrides

from engine.config import build, load_config
from engine.inference.shipped import read_shipped, write_shipped
from modeling.weights.checkpoint_file import write_checkpoint
from modeling.weights.loading import load_model
from runtime.errors import InputError


@pytest.fixture
def run(tmp_path):
    """A run folder with config.yaml and model_final.pth of a small network, and the network."""
    config = load_config(CONFIG, overrides(tmp_path, 2))
    torch.manual_seed(0)
    model = build(config.model).eval()
    model.decoder.convstream.convs[0].bn.running_var.fill_(1e-9)  # float16 has no such number
    LazyConfig.save(config, str(tmp_path / "config.yaml"))
    write_checkpoint(tmp_path / "model_final.pth", {"model": model.state_dict(), "iteration": 7})
    return tmp_path, model


def shipped(folder, **options):
    return write_shipped(folder / "model_final.pth", folder / "config.yaml", folder / "out", "m", **options)


def test_the_loaded_model_predicts_what_the_run_s_model_does(run):
    folder, model = run
    path = shipped(folder)
    config, checkpoint = read_shipped(path)
    loaded = build(config.model).eval()
    load_model(loaded, checkpoint, path)
    assert set(config) == {"model", "weights"}
    assert config.weights.iteration == 7
    assert config.weights.parameters == sum(value.numel() for value in model.state_dict().values())
    batch = {"image": torch.rand(1, 3, 64, 96), "trimap": torch.full((1, 1, 64, 96), 0.5)}
    with torch.no_grad():
        difference = (loaded(batch)["phas"] - model(batch)["phas"]).abs().max()
    assert difference < 1 / 255
    stored = load_file(path.parent / "m.safetensors")
    assert {value.dtype for value in stored.values() if value.ndim >= 2} == {torch.float16}
    assert stored["decoder.convstream.convs.0.bn.running_var"].min() > 0


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
    with pytest.raises(InputError, match="expected the name and SHA-256"):
        read_shipped(run[0] / "config.yaml")


def test_too_large_or_not_representable_is_refused_and_leaves_nothing(run):
    folder, model = run
    with pytest.raises(InputError, match="expected at most 1,000"):
        shipped(folder, size_limit=1000)
    model.backbone.patch_embed.proj.weight.data[0, 0, 0, 0] = 1e6
    write_checkpoint(folder / "model_final.pth", {"model": model.state_dict()})
    with pytest.raises(InputError, match=r"backbone\.patch_embed\.proj\.weight: holds a value that float16 cannot"):
        shipped(folder)
    assert list((folder / "out").iterdir()) == []
