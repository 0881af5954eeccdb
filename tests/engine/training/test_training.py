"""Training runs: precision, several processes, and losses that go wrong."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall as L
from PIL import Image
from tiny import CONFIG, ROOT, overrides

import main
from data.synthetic import write_dim_layout
from data.training.dim_dataset import CompositionDataset
from engine.config import load_config
from engine.training.run import evaluate, train
from engine.training.run_folder import claimed
from engine.training.trainer import NonFiniteLossError
from modeling.weights.checkpoint_file import read_checkpoint
from runtime import command_line as cli
from runtime.errors import InputError
from runtime.precision import Precision


def run(output_dir, max_iter: int, *more: str) -> dict:
    train(load_config(CONFIG, overrides(output_dir, max_iter, *more)))
    return read_checkpoint(output_dir / "model_final.pth")


def logged_losses(output_dir) -> dict[int, float]:
    lines = (output_dir / "metrics.json").read_text().splitlines()
    return {entry["iteration"]: entry["total_loss"] for entry in map(json.loads, lines) if "total_loss" in entry}


def main_py(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "main.py"), "--config-file", CONFIG, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"} | environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    output_dir = tmp_path_factory.mktemp("whole")
    return output_dir, run(output_dir, 6)


def test_seeds_decide_the_run(whole_run, tmp_path):
    whole_dir, _ = whole_run
    run(tmp_path / "same", 2, "lr_multiplier.warmup_length=0.6")
    run(tmp_path / "other", 2, "train.seed=1", "lr_multiplier.warmup_length=0.6")
    assert logged_losses(tmp_path / "same")[0] == logged_losses(whole_dir)[0]
    assert logged_losses(tmp_path / "other")[0] != logged_losses(whole_dir)[0]


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_mixed_precision_follows_the_config(whole_run, tmp_path, dtype):
    whole_dir, _ = whole_run
    checkpoint = run(
        tmp_path, 2, "train.amp.enabled=True", f"train.amp.dtype={dtype}", "lr_multiplier.warmup_length=0.6"
    )
    full, mixed = logged_losses(whole_dir)[0], logged_losses(tmp_path)[0]
    assert mixed != full
    assert mixed == pytest.approx(full, rel=0.05)
    assert bool(checkpoint["trainer"]["scaler"]) == (dtype == "fp16")
    assert all(value.dtype == torch.float32 for value in checkpoint["model"].values() if value.is_floating_point())


def test_precision_off_is_float32():
    with Precision(False, "fp16", torch.device("cpu")).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.float32
    with Precision(True, "bf16", torch.device("cpu")).autocast():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == torch.bfloat16
    with pytest.raises(InputError, match="fp16 or bf16"):
        Precision(True, "fp8", torch.device("cpu"))


def test_a_non_finite_loss_stops_the_run_and_names_iteration_and_losses(tmp_path):
    with pytest.raises(NonFiniteLossError, match=r"iteration [1-5] .*unknown_l1_loss=nan.*loss_gradient_penalty=nan"):
        run(tmp_path, 6, "optimizer.lr=1e38")
    assert not (tmp_path / "model_final.pth").exists()


def test_validation_scores_and_pictures_are_logged(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(tmp_path, 4, "train.eval_period=2", "train.num_panels=1")
    events = EventAccumulator(str(tmp_path), size_guidance={"images": 0})
    events.Reload()
    for metric in ("sad", "mse", "grad", "conn"):
        assert len(events.Scalars(f"validation/{metric}")) == 2
    assert {"total_loss", "lr", "unknown_l1_loss"} <= set(events.Tags()["scalars"])
    (panel,) = [name for name in events.Tags()["images"] if "prediction" in name]
    assert (events.Images(panel)[0].width, events.Images(panel)[0].height) == (4 * 64, 64)


def test_evaluate_scores_the_runs_last_checkpoint(whole_run):
    output_dir, _ = whole_run
    scores, _ = evaluate(load_config(CONFIG, overrides(output_dir, 6)))
    assert 0 < scores["mse"] < 1


def test_two_cpu_processes_train_and_evaluate(tmp_path):
    result = main_py(
        "--num-gpus", "2", *overrides(tmp_path, 2, "train.eval_period=2", "lr_multiplier.warmup_length=0.6")
    )
    assert result.returncode == 0, result.stderr
    assert read_checkpoint(tmp_path / "model_final.pth")["iteration"] == 1
    assert "validation: SAD" in result.stderr + result.stdout


@pytest.mark.slow
def test_torchrun_starts_the_same_script(tmp_path):
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(ROOT / "main.py"),
    ]
    arguments = ["--config-file", CONFIG, *overrides(tmp_path, 2, "lr_multiplier.warmup_length=0.6")]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run([*command, *arguments], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert read_checkpoint(tmp_path / "model_final.pth")["iteration"] == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train.device=tpu"], "expected cpu, cuda, cuda:N, mps or auto"),
        (["train.max_itre=3"], "no key 'train.max_itre'"),
        (["model.backbone.use_rel_pos=True", "train.device=cpu"], "use_rel_pos"),
        (["model.backbone.ffn=glu", "train.device=cpu"], "ViT: ffn: expected one of mlp, swiglu, got 'glu'"),
        (["train.init_checkpoint=nowhere.pth", "train.device=cpu"], "nowhere.pth: expected a checkpoint"),
        (["dataloader"], "expected key=value"),
        (["train.max_iter=abc"], "train.max_iter must be a whole number of at least 1, got 'abc'"),
        (["train.max_iter=0", "train.device=cpu"], "train.max_iter must be a whole number of at least 1, got 0"),
        (["train.accumulate=0"], "train.accumulate must be a whole number of at least 1, got 0"),
        (["train.log_period=0"], "train.log_period must be a whole number of at least 1, got 0"),
        (["train.checkpointer.max_to_keep=two"], "max_to_keep must be a whole number of at least 1 or null, got 'two'"),
        (["train.clip_grad_norm=-1"], "train.clip_grad_norm must be a positive number or null, got -1"),
        (["train.clip_grad_norm=nan"], "train.clip_grad_norm must be a positive number or null, got nan"),
        (["train.eval_period=-3"], "train.eval_period must be a whole number of at least 0, got -3"),
        (["dataloader.train.batch_size=0", "train.device=cpu"], "batch_size: expected a whole number of at least 1"),
        (["dataloader.train.num_workers=-1", "train.device=cpu"], "num_workers: expected a whole number of at least 0"),
        (
            ["dataloader.train.late_start=2", "dataloader.train.late_crop_size=128", "train.device=cpu"],
            "late_crop_size: a SyntheticMatting has crops of one size only",
        ),
        (
            ["optimizer.params.muon_for_new=True", "train.device=cpu"],
            "expected both or neither of optimizer.params.muon_for_new=True",
        ),
        (["--num-gpus", "0"], "--num-gpus and --num-machines: expected 1 or more"),
        (["optimizer.lr=abc"], "optimizer.lr must be a number of at least 0, got 'abc'"),
        (["train.amp=False"], "train.amp.enabled must be true or false"),
        (["model.backbone.num_heads=5", "train.device=cpu"], "num_heads 5 must divide embed_dim 96"),
        (["model.decoder.img_chans=4", "train.device=cpu"], "decoder.img_chans must be 16"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        cli.run(lambda: main.main(["--config-file", CONFIG, *arguments, f"train.output_dir={tmp_path}"]))
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    error = err.strip().splitlines()
    assert error[-1].startswith("error: ")
    assert message in error[-1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [([], "no training data: set dataloader.train.dataset.root"), (["train.eval_period=1"], "no test data")],
    ids=["train", "test"],
)
def test_missing_data_is_one_line_before_the_first_iteration(tmp_path, capsys, monkeypatch, settings, message):
    monkeypatch.delenv("DINOMATTE_DIM_ROOT", raising=False)
    monkeypatch.delenv("DINOMATTE_COMPOSITION1K_ROOT", raising=False)
    config = str(ROOT / "configs" / "ViTMatte_S_10ep.py")
    with pytest.raises(SystemExit) as ended:
        cli.run(
            lambda: main.main(["--config-file", config, "train.device=cpu", f"train.output_dir={tmp_path}", *settings])
        )
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    assert "Traceback" not in out + err
    assert message in err.strip().splitlines()[-1]


def test_a_missing_config_is_one_line_and_exit_2():
    command = [sys.executable, str(ROOT / "main.py"), "--config-file", "configs/nothing.py"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "configs/nothing.py: expected a config file" in result.stderr


def test_training_on_files_scans_them_first_and_names_the_bad_ones(tmp_path):
    write_dim_layout(tmp_path / "dim", 3, size=64)
    settings = [*overrides(tmp_path / "run", 2, "lr_multiplier.warmup_length=0.6"), "train.seed=0"]
    config = load_config(CONFIG, [o for o in settings if "dataloader.train.dataset" not in o])
    config.dataloader.train.dataset = L(CompositionDataset)(root=str(tmp_path / "dim"), crop_size=64)
    train(config)
    assert read_checkpoint(tmp_path / "run" / "model_final.pth")["iteration"] == 1
    (tmp_path / "dim" / "bg" / "broken.jpg").write_text("<html>")
    config.train.output_dir = str(tmp_path / "other")
    with pytest.raises(InputError, match=r"broken\.jpg: not a readable image.*on_bad=skip"):
        train(config)
    (tmp_path / "dim" / "bg" / "broken.jpg").unlink()
    matte = min((tmp_path / "dim" / "alpha").iterdir())
    Image.fromarray((np.asarray(Image.open(matte)) > 127).astype(np.uint8)).save(matte)
    with pytest.raises(
        InputError, match=rf"{matte.name}: expected an alpha of 0..255, found only 0 and 1.*on_bad=skip"
    ):
        train(config)


def test_an_empty_run_folder_setting_is_refused():
    with pytest.raises(InputError, match=r"train\.output_dir must be a folder, got ''"):
        load_config(CONFIG, ["train.output_dir="])


def test_two_runs_do_not_share_a_folder(tmp_path):
    with claimed(tmp_path / "run", resume=False):
        second = main_py(*overrides(tmp_path / "run", 2, "lr_multiplier.warmup_length=0.6"))
    assert second.returncode == 2
    assert "another run is writing into it" in second.stderr
    assert run(tmp_path / "run", 2, "lr_multiplier.warmup_length=0.6")["iteration"] == 1


def test_a_file_in_the_place_of_the_run_folder_is_named(tmp_path):
    (tmp_path / "run").write_text("notes")
    with pytest.raises(InputError, match=r"run: expected a folder, found a file"):
        run(tmp_path / "run", 2)


def on_files(tmp_path, max_iter: int):
    settings = [o for o in overrides(tmp_path / "run", max_iter) if "dataloader.train.dataset" not in o]
    config = load_config(CONFIG, settings)
    config.dataloader.train.dataset = L(CompositionDataset)(root=str(tmp_path / "dim"), crop_size=64)
    return config


def test_a_file_that_breaks_in_the_middle_of_a_run_costs_no_iteration(tmp_path, monkeypatch):
    write_dim_layout(tmp_path / "dim", 3, size=64)
    breaks = iter(range(100))
    sample = CompositionDataset._sample

    def broken_later(self, *arguments, **named):
        if next(breaks) == 2 * 3:  # batches of two: the first sample of iteration 3
            raise InputError("hair_1.png: not a readable image")
        return sample(self, *arguments, **named)

    monkeypatch.setattr(CompositionDataset, "_sample", broken_later)
    with pytest.raises(InputError, match=r"hair_1\.png.*\(iteration 3\); what was done is saved in .*model_0000002"):
        train(on_files(tmp_path, 6))
    assert "hair_1.png: not a readable image" in (tmp_path / "run" / "log.txt").read_text()
    train(on_files(tmp_path, 6), resume=True)
    resumed = read_checkpoint(tmp_path / "run" / "model_final.pth")
    shutil.rmtree(tmp_path / "run")
    train(on_files(tmp_path, 6))
    whole = read_checkpoint(tmp_path / "run" / "model_final.pth")
    assert all(torch.equal(resumed["model"][key], value) for key, value in whole["model"].items())


def test_empty_data_folders_are_told_before_the_first_iteration(tmp_path):
    for name in ("fg", "alpha", "bg"):
        (tmp_path / "dim" / name).mkdir(parents=True)
    with pytest.raises(InputError, match="expected foregrounds and alphas of the same names, found none"):
        train(on_files(tmp_path, 2))
    assert "lr" not in (tmp_path / "run" / "log.txt").read_text()
