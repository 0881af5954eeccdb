"""Frozen parts: no gradient, no step, no average, eval mode, and checkpoints that name their file."""

import shutil

import numpy as np
import pytest
import torch
from small_models import small_model
from tiny import CONFIG, overrides
from torch import nn

import inference
from engine.config import build, load_config
from engine.training.averaging import WeightAverage
from engine.training.checkpoints import RunCheckpointer
from engine.training.freezing import freeze
from engine.training.run import evaluate, train
from modeling.weights.checkpoint_file import read_checkpoint, write_checkpoint
from modeling.weights.loading import load_model
from modeling.weights.model_config import build_model
from modeling.weights.shipped import read_shipped
from modeling.weights.shipping import write_shipped
from runtime.errors import InputError


def test_roles_parts_and_patterns_name_parameters():
    model = small_model()
    pretrained = freeze(model, ["pretrained"])
    assert "backbone.blocks.0.attn.qkv.weight" in pretrained
    assert not any(".residual." in name or name.startswith("decoder.") for name in pretrained)
    assert {name for name, p in model.named_parameters() if not p.requires_grad} == set(pretrained)
    assert freeze(small_model(), "head") == [n for n, _ in small_model().named_parameters() if n.startswith("decoder.")]
    assert freeze(small_model(), ["backbone.blocks.0"]) == [
        name for name, _ in small_model().named_parameters() if name.startswith("backbone.blocks.0.")
    ]
    assert freeze(small_model(), ["*.bn.weight"]) == [
        name for name, _ in small_model().named_parameters() if name.endswith(".bn.weight")
    ]


@pytest.mark.parametrize(("names", "match"), [(["backbnoe"], "got 'backbnoe', which fits no"), (["*"], "leaves no")])
def test_names_that_make_no_sense_are_refused(names, match):
    with pytest.raises(InputError, match=f"train.freeze: .*{match}"):
        freeze(small_model(), names)


def test_what_is_frozen_as_a_whole_stays_in_eval_mode():
    model = small_model()
    freeze(model, ["decoder.convstream"])
    model.train()
    norms = {name: module for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    assert {name for name, norm in norms.items() if not norm.training} == {
        f"decoder.convstream.convs.{index}.bn" for index in range(3)
    }
    assert model.training
    assert model.backbone.training


def test_a_frozen_norm_stays_in_eval_mode_where_processes_share_statistics():
    """convert_sync_batchnorm puts other modules in the place of those that were frozen."""
    model = small_model()
    freeze(model, ["*.bn.*"])
    nn.SyncBatchNorm.convert_sync_batchnorm(model).train()
    norms = [m for name, m in model.named_modules() if name.endswith(".bn") and any(True for _ in m.parameters())]
    assert norms
    assert not any(norm.training for norm in norms)


def test_a_frozen_run_ships_whole(tmp_path, frozen_run):
    path = write_shipped(frozen_run / "model_final.pth", tmp_path, "frozen")
    checkpoint = read_shipped(path)
    assert set(read_checkpoint(frozen_run / "model_final.pth")["frozen"]["keys"]) <= set(checkpoint["model"])
    load_model(build_model(checkpoint, path), checkpoint, path)


def test_the_average_shares_frozen_weights():
    model = small_model()
    freeze(model, ["backbone"])
    average = WeightAverage(model, 0.9)
    assert average.model.backbone.patch_embed.proj.weight is model.backbone.patch_embed.proj.weight
    assert average.model.decoder.convstream.convs[0].conv.weight is not model.decoder.convstream.convs[0].conv.weight


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    """A file as preprocess.py writes one: the backbone alone."""
    path = tmp_path_factory.mktemp("encoder") / "encoder.pth"
    torch.manual_seed(5)
    model = build(load_config(CONFIG, overrides("unused", 1)).model)
    backbone = {key: value for key, value in model.state_dict().items() if key.startswith("backbone.")}
    write_checkpoint(path, {"model": backbone, "metadata": model.metadata()})
    return str(path)


FROZEN = ["train.freeze=[pretrained]", "train.ema_decay=0.5", "train.checkpointer.period=3"]


@pytest.fixture(scope="module")
def frozen_run(tmp_path_factory, encoder):
    folder = tmp_path_factory.mktemp("frozen")
    train(load_config(CONFIG, overrides(folder, 6, *FROZEN, f"train.init_checkpoint={encoder}")))
    return folder


def test_frozen_weights_are_named_by_file_and_hash_instead_of_stored(frozen_run, encoder):
    checkpoint = read_checkpoint(frozen_run / "model_final.pth")
    entry = checkpoint["frozen"]
    assert (entry["file"], len(entry["sha256"])) == (encoder, 64)
    assert "backbone.blocks.0.attn.qkv.weight" in entry["keys"]
    for stored in (checkpoint["model"], checkpoint["trainer"]["weights"]):
        assert not set(entry["keys"]) & set(stored)
    config = load_config(CONFIG, overrides(frozen_run, 6))
    scores, _ = evaluate(config)
    assert np.isfinite(scores["sad"])


def test_frozen_weights_do_not_move_and_others_do(frozen_run, encoder):
    config = load_config(CONFIG, overrides(frozen_run, 6, *FROZEN, f"train.init_checkpoint={encoder}"))
    model = train(config, resume=True)  # nothing is left to do: it is loaded
    source = read_checkpoint(encoder)["model"]
    keys = read_checkpoint(frozen_run / "model_final.pth")["frozen"]["keys"]
    assert all(torch.equal(model.state_dict()[key], source[key]) for key in keys)
    assert not torch.equal(model.state_dict()["backbone.blocks.1.residual.conv1.weight"],
                           source["backbone.blocks.1.residual.conv1.weight"])  # fmt: skip


def test_a_frozen_run_resumes_to_the_bit(tmp_path, frozen_run, encoder):
    settings = [*FROZEN, f"train.init_checkpoint={encoder}"]
    train(load_config(CONFIG, overrides(tmp_path, 6, *settings)))
    for name in ("model_final.pth", "model_0000005.pth"):
        (tmp_path / name).unlink()
    (tmp_path / "last_checkpoint").write_text("model_0000002.pth")
    train(load_config(CONFIG, overrides(tmp_path, 6, *settings)), resume=True)
    whole, resumed = (read_checkpoint(folder / "model_final.pth") for folder in (frozen_run, tmp_path))
    assert whole["model"].keys() == resumed["model"].keys()
    assert all(torch.equal(resumed["model"][key], value) for key, value in whole["model"].items())
    assert resumed["frozen"] == whole["frozen"]


def test_another_or_a_missing_file_of_frozen_weights_is_refused(tmp_path, frozen_run, encoder):
    checkpoint = read_checkpoint(frozen_run / "model_final.pth")
    moved = tmp_path / "model_final.pth"

    def error(**entry) -> str:
        write_checkpoint(moved, {**checkpoint, "frozen": {**checkpoint["frozen"], **entry}})
        arguments = inference.parse_arguments(["--checkpoint", str(moved), "--device", "cpu"])
        with pytest.raises(InputError) as refused:
            inference.model_of_checkpoint(arguments)
        return str(refused.value)

    assert "which does not exist; put that file into the folder of the checkpoint" in error(file="gone/encoder.pth")
    assert "not those of" in error(sha256="0" * 64)
    assert "not one that training writes" in error(keys=None)
    shutil.copyfile(encoder, tmp_path / "encoder.pth")
    write_checkpoint(moved, {**checkpoint, "frozen": {**checkpoint["frozen"], "file": "gone/encoder.pth"}})
    inference.model_of_checkpoint(inference.parse_arguments(["--checkpoint", str(moved), "--device", "cpu"]))


def test_frozen_weights_that_come_from_no_file_are_a_warning(caplog):
    model = small_model()
    frozen = freeze(model, ["backbone"])
    RunCheckpointer(model).load_initial("", frozen=frozen)
    assert f"no train.init_checkpoint is given; {len(frozen)} frozen parameters keep random" in caplog.text
