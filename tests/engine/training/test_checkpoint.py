"""Checkpoints: what is refused, what may be missing, and that nothing half-written survives."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import small_model
from tiny import ROOT

from engine.training.checkpoints import RunCheckpointer
from modeling.weights.checkpoint_file import DamagedCheckpointError, read_checkpoint
from modeling.weights.loading import load_model
from runtime.errors import InputError


@pytest.fixture
def checkpoint() -> dict:
    model = small_model(seed=1)
    return {"model": model.state_dict(), "metadata": model.metadata()}


def without(checkpoint: dict, *pieces: str) -> dict:
    kept = {key: value for key, value in checkpoint["model"].items() if not any(piece in key for piece in pieces)}
    return checkpoint | {"model": kept}


def test_a_round_trip_restores_every_tensor(tmp_path):
    source, target = small_model(seed=1), small_model(seed=2)
    RunCheckpointer(source, str(tmp_path)).save("model")
    RunCheckpointer(target).load(str(tmp_path / "model.pth"))
    for (name, ours), theirs in zip(target.state_dict().items(), source.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name


def test_a_backbone_leaves_decoder_and_neck_fresh(checkpoint):
    model = small_model(seed=2)
    decoder = {key: value.clone() for key, value in model.decoder.state_dict().items()}
    load_model(model, without(checkpoint, "decoder.", ".residual."), "b.pth", pretrained=True)
    assert torch.equal(model.backbone.cls_token, checkpoint["model"]["backbone.cls_token"])
    assert all(torch.equal(value, decoder[key]) for key, value in model.decoder.state_dict().items())


@pytest.mark.parametrize("piece", ["ls1.gamma", "cls_token", "rope_embed.periods", "blocks.0.attn.qkv.bias"])
def test_a_backbone_with_a_missing_tensor_is_refused_and_nothing_is_loaded(checkpoint, piece):
    model = small_model(seed=2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(InputError, match=rf"b\.pth: .*missing: .*{piece}"):
        load_model(model, without(checkpoint, "decoder.", ".residual.", piece), "b.pth", pretrained=True)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_trained_checkpoint_must_be_complete(checkpoint):
    with pytest.raises(InputError, match=r"missing: .*decoder"):
        load_model(small_model(), without(checkpoint, "matting_head"), "t.pth")
    checkpoint["model"]["decoder.surplus"] = torch.zeros(1)
    with pytest.raises(InputError, match=r"not in the model: decoder\.surplus"):
        load_model(small_model(), checkpoint, "t.pth")


def test_other_shapes_are_named(checkpoint):
    checkpoint["model"]["backbone.cls_token"] = torch.zeros(1, 1, 99)
    with pytest.raises(InputError, match=r"other shape: backbone\.cls_token \(1, 1, 99\) in the file, \(1, 1, 32\)"):
        load_model(small_model(), checkpoint, "t.pth")


def test_tokens_a_config_leaves_out_may_stay_in_the_file(checkpoint, caplog):
    model = small_model()
    model.backbone.storage_tokens = None
    with caplog.at_level("INFO"):
        load_model(model, checkpoint, "b.pth", pretrained=True)
    assert "not used by the config: backbone.storage_tokens" in caplog.text


@pytest.mark.parametrize(
    ("name", "value", "advice"),
    [
        ("pixel_mean", [0.430, 0.411, 0.296], r"model\.pixel_mean=\[0\.43,0\.411,0\.296\]"),
        ("pixel_std", "gray", r"need pixel_std gray"),
        ("layer_norm_eps", 1e-6, r"norm_layer=partial\(nn\.LayerNorm, eps=1e-06\)"),
    ],
)
def test_weights_for_other_preprocessing_are_refused(checkpoint, name, value, advice):
    checkpoint["metadata"][name] = value
    with pytest.raises(InputError, match=advice):
        load_model(small_model(), checkpoint, "b.pth")


def test_files_that_are_no_checkpoints_are_named(tmp_path):
    class Surprise:
        def __reduce__(self):
            return (print, ("executed",))

    (tmp_path / "html.pth").write_text("<html>Access denied</html>")
    (tmp_path / "empty.pth").touch()
    (tmp_path / "code.pth").write_bytes(pickle.dumps(Surprise()))
    torch.save({"model": small_model().state_dict()}, tmp_path / "whole.pth")
    whole = (tmp_path / "whole.pth").read_bytes()
    (tmp_path / "truncated.pth").write_bytes(whole[: len(whole) // 2])
    torch.save({"weights": torch.zeros(1)}, tmp_path / "foreign.pth")
    torch.save([1, 2], tmp_path / "list.pth")
    for name in ("html", "empty", "code", "truncated", "foreign", "list", "missing"):
        with pytest.raises(InputError, match=f"{name}.pth"):
            read_checkpoint(tmp_path / f"{name}.pth")


def test_a_bit_that_is_not_as_written_is_noticed_wherever_it_is(tmp_path):
    path = tmp_path / "c.pth"
    RunCheckpointer(small_model(), str(tmp_path)).save("c", best={"score": 0.5})
    whole, expected = path.read_bytes(), read_checkpoint(path)
    rng = np.random.default_rng(0)
    noticed = 0
    for position in rng.choice(len(whole), 150, replace=False):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << rng.integers(8)
        path.write_bytes(damaged)
        try:
            found = read_checkpoint(path)
        except DamagedCheckpointError:
            noticed += 1
            continue
        # it was in the padding between the tensors
        assert found["best"] == expected["best"]
        assert found["model"].keys() == expected["model"].keys()
        assert all(torch.equal(found["model"][key], value) for key, value in expected["model"].items())
    assert noticed > 75


def test_the_file_then_its_name_then_the_mark_are_on_disk_before_the_next_step(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace

    def noted_fsync(descriptor):
        name = Path(os.readlink(f"/proc/self/fd/{descriptor}")).name
        done.append("folder" if name == tmp_path.name else name.split(".")[1])
        fsync(descriptor)

    def noted_replace(source, target):
        done.append(f"{Path(target).name} named")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_replace)
    RunCheckpointer(small_model(), str(tmp_path)).save("model_final")
    assert done == [
        "model_final", "model_final.pth named", "folder", "last_checkpoint", "last_checkpoint named", "folder"
    ]  # fmt: skip


FULL_DISK = """
import resource, signal, sys
sys.path[:0] = ["tests", "."]
from runtime import command_line as cli
from engine.training.checkpoints import RunCheckpointer
from small_models import small_model
from tiny import ROOT

def save():
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
    RunCheckpointer(small_model(), sys.argv[1]).save("model")

cli.run(save)
"""


def test_a_full_disk_is_one_line_and_keeps_the_previous_checkpoint(tmp_path):
    RunCheckpointer(small_model(seed=1), str(tmp_path)).save("model")
    before = (tmp_path / "model.pth").read_bytes()
    assert len(before) > 20_000
    result = subprocess.run([sys.executable, "-c", FULL_DISK, str(tmp_path)], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {tmp_path / 'model.pth'}: cannot write, the disk has")
    assert result.stderr.count("\n") == 1
    assert (tmp_path / "model.pth").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last_checkpoint", "model.pth"]
