"""A run that was stopped, however that came, ends as one that never was."""

import itertools
import json
import math
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, NamedTuple

import pytest
import torch
from detectron2.config import LazyCall
from forked_runs import ForkedRuns, forked_runs, wait_for
from tiny import CONFIG, ROOT, overrides

from data.synthetic import SyntheticMatting
from engine.config import build, load_config
from engine.inference import Predictor
from engine.training.checkpoints import RunCheckpointer
from engine.training.interruption import SAME_REQUEST, Interruption, TrainingInterrupted
from engine.training.resuming import rewind_log
from engine.training.run import train
from engine.training.trainer import SystemTrainer
from modeling.weights.checkpoint_file import read_checkpoint
from runtime.errors import InputError

# these differ from run to run
MEASURED = ("time", "eta_seconds", "data_time", "samples_per_second", "data_wait_share", "memory/", "utilisation/")
# none of these periods is a multiple of another
PERIODS = ["train.log_period=4", "train.eval_period=5", "train.checkpointer.period=3"]


def run(output_dir, max_iter: int, *more: str, resume: bool = False) -> dict:
    train(load_config(CONFIG, overrides(output_dir, max_iter, *more)), resume=resume)
    return read_checkpoint(output_dir / "model_final.pth")


def logged(output_dir: Path) -> list[dict]:
    """The lines of metrics.json without what is measured by the clock."""
    lines = map(json.loads, (output_dir / "metrics.json").read_text().splitlines())
    return [{name: value for name, value in line.items() if not name.startswith(MEASURED)} for line in lines]


def assert_same_weights(ours: dict, theirs: dict) -> None:
    assert ours["model"].keys() == theirs["model"].keys()
    for name, value in theirs["model"].items():
        assert torch.equal(ours["model"][name], value), name


def assert_same_run(output_dir: Path, whole_dir: Path) -> None:
    """Weights, optimizer, every logged number and the best checkpoint."""
    for name in ("model_final.pth", "model_best.pth"):
        assert (output_dir / name).exists() == (whole_dir / name).exists()
        if (whole_dir / name).exists():
            ours, theirs = read_checkpoint(output_dir / name), read_checkpoint(whole_dir / name)
            assert_same_weights(ours, theirs)
            assert (ours["iteration"], ours.get("best")) == (theirs["iteration"], theirs.get("best"))
            assert_same_optimizer(ours["trainer"]["optimizer"], theirs["trainer"]["optimizer"])
    assert logged(output_dir) == logged(whole_dir)


def assert_same_optimizer(ours: dict, theirs: dict) -> None:
    assert ours["param_groups"] == theirs["param_groups"]
    assert ours["state"].keys() == theirs["state"].keys()
    for index, state in theirs["state"].items():
        assert all(torch.equal(ours["state"][index][name], value) for name, value in state.items())


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory) -> tuple[Path, dict]:
    output_dir = tmp_path_factory.mktemp("whole")
    return output_dir, run(output_dir, 6)


@pytest.fixture
def stopped_run(whole_run, tmp_path) -> Path:
    """A finished run's folder, to be spoilt."""
    shutil.copytree(whole_run[0], tmp_path / "run")
    return tmp_path / "run"


# ---- where it was stopped


def test_a_resumed_run_ends_with_the_same_weights_optimizer_and_log(whole_run, stopped_run):
    for name in ("model_final.pth", "model_0000005.pth"):
        (stopped_run / name).unlink()
    (stopped_run / "last_checkpoint").write_text("model_0000003.pth")
    assert run(stopped_run, 6, resume=True)["iteration"] == 5
    assert_same_run(stopped_run, whole_run[0])


@pytest.fixture(scope="module")
def run_killed_after_each_save(tmp_path_factory) -> tuple[Path, dict[str, Path]]:
    """A run, and its folder as it was on disk right after each checkpoint was written."""
    output_dir, copies = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("killed")
    save = RunCheckpointer.save

    def save_and_copy(checkpointer, name, **extra):
        path = save(checkpointer, name, **extra)
        if name != "model_best":
            shutil.copytree(output_dir, copies / name)
        return path

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RunCheckpointer, "save", save_and_copy)
        run(output_dir, 15, *PERIODS)
    return output_dir, {path.name: path for path in copies.iterdir()}


@pytest.mark.parametrize("killed_after", ["model_0000005", "model_0000008", "model_0000014", "model_final"])
def test_a_run_killed_between_saving_and_logging_ends_the_same(run_killed_after_each_save, killed_after):
    whole_dir, copies = run_killed_after_each_save
    folder = copies[killed_after]
    run(folder, 15, *PERIODS, resume=True)
    assert_same_run(folder, whole_dir)


@pytest.mark.parametrize("killed_after", ["model_0000005", "model_0000008"])
def test_tensorboard_shows_each_iteration_once(run_killed_after_each_save, killed_after, tmp_path):
    """A finished run is continued from an earlier checkpoint."""
    whole_dir = run_killed_after_each_save[0]
    shutil.copytree(whole_dir, tmp_path / "run")
    (tmp_path / "run" / "last_checkpoint").write_text(f"{killed_after}.pth")
    time.sleep(1)  # files of events are named, and so sorted, by the second
    run(tmp_path / "run", 15, *PERIODS, resume=True)
    # losses are medians over 20 iterations of a start there, so only their iterations can agree
    assert [step for step, _ in events(tmp_path / "run", "total_loss")] == [3, 7, 11, 14]
    assert events(tmp_path / "run", "validation/sad") == events(whole_dir, "validation/sad")


def events(output_dir: Path, tag: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(output_dir))
    accumulator.Reload()
    return [(event.step, event.value) for event in accumulator.Scalars(tag)]


def test_each_evaluation_of_a_checkpoints_iteration_is_done_once(tmp_path, monkeypatch):
    """The log has the scores of the iteration that the run continues after: they are taken from there."""
    periods = ["train.log_period=1", "train.eval_period=2", "train.checkpointer.period=2"]
    run(tmp_path, 4, *periods)
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    whole = logged(tmp_path)
    evaluated = []
    from engine.training import run as training_run

    validate = training_run.validate
    monkeypatch.setattr(training_run, "validate", lambda *a, **k: evaluated.append(1) or validate(*a, **k))
    run(tmp_path, 4, *periods, resume=True)
    assert len(evaluated) == 1  # at the end
    assert logged(tmp_path) == whole


# ---- signals


@pytest.fixture(scope="module")
def runs() -> Iterator[ForkedRuns]:
    with forked_runs() as server:
        yield server


def main_arguments(output_dir: Path, max_iter: int, *settings: str) -> list[str]:
    return ["--config-file", CONFIG, *overrides(output_dir, max_iter, *settings)]


STARTED = re.compile(r"training from iteration (\d+) to")
STATUSES = {signal.SIGTERM: {143, -signal.SIGTERM}, signal.SIGINT: {130}, signal.SIGKILL: {-signal.SIGKILL}}


def number_of_starts(log: Path) -> int:
    return len(STARTED.findall(log.read_text()))


class Kill(NamedTuple):
    """When and how a run is ended.

    Attributes:
        signal: its number.
        seconds: after its process began, or after its first iteration did if `training`.
        everyone: all of its processes get the signal, as from a terminal, not only the first.
        workers: data-loading processes of this start.
    """

    signal: int
    seconds: float
    training: bool = True
    everyone: bool = False
    workers: int = 0


def kill_and_resume(runs: ForkedRuns, folder: Path, max_iter: int, kills: list[Kill], settings: list[str]) -> list[int]:
    """Start a run, kill it and resume it as often as told, and then let it come to its end.

    Returns:
        the first iterations of all starts.
    """
    output_dir, log = folder / "run", folder / "log"
    log.touch()
    for kill in kills:
        starts = number_of_starts(log)
        workers = f"dataloader.train.num_workers={kill.workers}"
        process = runs.start([*main_arguments(output_dir, max_iter, *settings, workers), "--resume"], log)
        if kill.training:
            wait_for(lambda before=starts: number_of_starts(log) > before)
        time.sleep(kill.seconds)
        (os.killpg if kill.everyone else os.kill)(process, kill.signal)
        status = runs.wait()
        has_ended = status == 0 and (output_dir / "model_final.pth").exists()  # before the signal, on a fast machine
        assert status in STATUSES[kill.signal] or has_ended, log.read_text()[-3000:]
    runs.start([*main_arguments(output_dir, max_iter, *settings), "--resume"], log)
    assert runs.wait() == 0, log.read_text()[-3000:]
    assert "Traceback" not in log.read_text()
    return [int(iteration) for iteration in STARTED.findall(log.read_text())]


def random_kills(seed: int, count: int) -> list[Kill]:
    rng = random.Random(seed)
    kills = [
        Kill(number, rng.uniform(0, 1.5), rng.random() < 0.8, rng.random() < 0.5, int(rng.random() < 0.3))
        for number, _ in zip(itertools.cycle([signal.SIGTERM, signal.SIGINT, signal.SIGKILL]), range(count))
    ]
    rng.shuffle(kills)
    return kills


def test_kills_by_each_signal_change_no_bit(runs, tmp_path):
    """The middle one comes to all processes of a run that has one to load data."""
    kills = [Kill(signal.SIGTERM, 0.2), Kill(signal.SIGINT, 0.2, everyone=True, workers=1), Kill(signal.SIGKILL, 0.1)]
    runs.start(main_arguments(tmp_path / "whole", 13, *PERIODS), tmp_path / "whole.log")
    assert runs.wait() == 0
    kill_and_resume(runs, tmp_path, 13, kills, PERIODS)
    assert_same_run(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_twenty_kills_at_random_moments_change_no_bit(runs, tmp_path):
    settings = [*PERIODS, "train.ema_decay=0.9", "train.checkpointer.max_to_keep=3"]
    runs.start(main_arguments(tmp_path / "whole", 500, *settings), tmp_path / "whole.log")
    assert runs.wait() == 0
    starts = kill_and_resume(runs, tmp_path, 500, random_kills(0, 20), settings)
    assert len(set(starts)) > 10, starts  # the kills did come at different iterations
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_sigterm_to_all_processes_saves_and_leaves_with_one_line(runs, tmp_path):
    """One of them loads data, and must outlast it."""
    log = tmp_path / "log"
    process = runs.start(main_arguments(tmp_path / "run", 10_000, "dataloader.train.num_workers=1"), log)
    wait_for(lambda: (tmp_path / "run" / "metrics.json").exists())
    os.killpg(process, signal.SIGTERM)
    assert runs.wait() == 143
    text = log.read_text()
    announced, *_, last = [line for line in text.splitlines() if not line.startswith("[")]
    assert announced == "SIGTERM: finishing the iteration and saving; send it again to end at once"
    said = re.fullmatch(r"terminated at iteration (\d+), saved (.*\.pth); continue with --resume", last)
    assert read_checkpoint(said[2])["iteration"] == int(said[1])
    assert "Traceback" not in text


def test_a_second_signal_leaves_at_once_and_an_ignored_one_is_ignored(tmp_path):
    """The script is in an iteration that never ends, half-way through writing a file."""
    process = subprocess.Popen(
        [sys.executable, "-c", STUCK, str(tmp_path / "file")], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    wait_for(lambda: any(path.stat().st_size for path in tmp_path.iterdir()))
    process.send_signal(signal.SIGINT)  # ignored there, as under nohup
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    process.send_signal(signal.SIGTERM)  # still the same request
    time.sleep(SAME_REQUEST)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) == 143
    assert process.stderr.read() == "SIGTERM: finishing the iteration and saving; send it again to end at once\n"
    assert list(tmp_path.iterdir()) == []


STUCK = """
import signal, sys, time
from runtime.files import replacing
from engine.training.interruption import Interruption

signal.signal(signal.SIGINT, signal.SIG_IGN)
with Interruption(), replacing(sys.argv[1]) as temporary:
    temporary.write_text("half")
    while True:
        time.sleep(0.01)
"""


def test_many_signals_of_other_kinds_do_no_harm():
    """As when many loading processes end: each sends SIGCHLD."""
    usual = signal.signal(signal.SIGUSR1, lambda number, frame: None)
    fallback = signal.getsignal(signal.SIGTERM)
    try:
        with Interruption() as interruption:
            for _ in range(1000):
                signal.raise_signal(signal.SIGUSR1)
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)  # an echo: the process goes on
            assert interruption.signal == signal.SIGTERM
    finally:
        signal.signal(signal.SIGUSR1, usual)
    assert signal.getsignal(signal.SIGTERM) == fallback
    assert signal.set_wakeup_fd(-1) == -1


def test_handlers_are_restored_and_signals_noted():
    usual = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with Interruption() as interruption:
        assert interruption.signal == 0
        signal.raise_signal(signal.SIGINT)
        assert interruption.signal == signal.SIGINT
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == usual


@pytest.mark.parametrize("evaluation", [1, 2, 3], ids=["during", "before a checkpoint", "at the end"])
def test_a_signal_during_evaluation_does_not_wait_for_its_end(tmp_path, monkeypatch, evaluation):
    settings = ["train.eval_period=2", "train.checkpointer.period=4", "dataloader.test.dataset.samples_per_epoch=3"]
    whole = tmp_path / "whole"
    run(whole, 6, *settings)
    predictions = []
    predict = Predictor.one

    def signalled(*arguments):
        predictions.append(1)
        if len(predictions) == 3 * evaluation - 2:  # the first image of that evaluation
            signal.raise_signal(signal.SIGTERM)
        return predict(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "one", signalled)
        with pytest.raises(TrainingInterrupted, match=f"terminated at iteration {2 * evaluation - 1}, saved") as ended:
            run(tmp_path / "run", 6, *settings)
    assert len(predictions) == 3 * evaluation - 2
    assert (ended.value.signal, ended.value.path.exists()) == (signal.SIGTERM, True)
    run(tmp_path / "run", 6, *settings, resume=True)
    assert_same_run(tmp_path / "run", whole)


@pytest.mark.slow
def test_two_processes_stop_together_and_resume_to_the_same_bits(tmp_path):
    command = [sys.executable, str(ROOT / "main.py"), "--num-gpus", "2"]

    def start(name: str, *more: str) -> subprocess.Popen:
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        settings = ["train.checkpointer.period=7", "train.eval_period=5", "train.ema_decay=0.5"]
        arguments = main_arguments(tmp_path / name, 30, *settings, *more)
        return subprocess.Popen([*command, *arguments], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)

    assert start("whole").wait() == 0
    stopped = start("run")
    wait_for(lambda: (tmp_path / "run" / "metrics.json").exists())
    stopped.send_signal(signal.SIGTERM)
    _, errors = stopped.communicate()
    assert stopped.returncode == 143, errors
    assert "terminated at iteration" in errors
    assert "Traceback" not in errors
    assert start("run", "--resume").wait() == 0
    assert_same_run(tmp_path / "run", tmp_path / "whole")


def test_a_run_killed_before_its_first_checkpoint_begins_its_log_anew(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").write_text('{"iteration": 0, "total_loss": 9}\n{"iteration": 1, "tot')
    run(tmp_path / "run", 2, resume=True)
    run(tmp_path / "whole", 2)
    assert logged(tmp_path / "run") == logged(tmp_path / "whole")


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("optimizer.lr=1e-5", None),
        ("train.seed=7", "train.seed 0 -> 7"),
        ("dataloader.train.dataset.size=96", "dataloader.train.dataset.size 64 -> 96"),
        ("model.criterion.losses=[unknown_l1_loss]", "model.criterion.losses[1] known_l1_loss -> None"),
        ("model.criterion.fuse_trimap=True", "model.criterion.fuse_trimap False -> True"),
        ("model.backbone.drop_path_rate=0.1", "model.backbone.drop_path_rate 0.3 -> 0.1"),
    ],
)
def test_continuing_with_other_settings_is_refused_or_told(tmp_path, caplog, setting, told):
    run(tmp_path, 2)
    if told is None:
        with pytest.raises(InputError, match=r"optimizer\.lr 0\.003 -> 1e-05.*start a new run from the checkpoint"):
            run(tmp_path, 3, setting, resume=True)
        return
    caplog.set_level("WARNING")
    run(tmp_path, 3, setting, resume=True)
    assert told in caplog.text
    assert "train.max_iter 2 -> 3" in caplog.text


def test_the_run_folders_own_config_stands_for_config_and_overrides(tmp_path, caplog):
    run(tmp_path / "run", 4, "train.eval_period=0")
    whole = (tmp_path / "run" / "metrics.json").read_text()
    for name in ("model_final.pth", "model_0000003.pth"):
        (tmp_path / "run" / name).unlink()
    (tmp_path / "run" / "last_checkpoint").write_text("model_0000001.pth")
    train(load_config(str(tmp_path / "run" / "config.yaml")), resume=True)
    assert "other settings" not in caplog.text
    ours, theirs = ([json.loads(line)["total_loss"] for line in text.splitlines()] for text in
                    ((tmp_path / "run" / "metrics.json").read_text(), whole))  # fmt: skip
    assert ours == theirs


def test_another_batch_size_goes_on_with_the_samples_not_seen_yet(tmp_path):
    run(tmp_path, 3)  # batches of 2
    assert read_checkpoint(tmp_path / "model_final.pth")["trainer"]["num_samples"] == 6
    whole = iter(build(load_config(CONFIG, overrides(tmp_path, 3)).dataloader.train))
    expected = [name for _ in range(6) for name in next(whole)["name"]][6:]
    config = load_config(CONFIG, overrides(tmp_path, 5, "dataloader.train.batch_size=3"))
    seen = []
    config.dataloader.train.dataset = LazyCall(Recording)(size=64, samples_per_epoch=100_000, seed=0)
    Recording.seen = seen
    train(config, resume=True)
    assert seen == expected


class Recording(SyntheticMatting):
    """Notes the names of its samples in order."""

    seen: ClassVar[list[str]] = []

    def __getitem__(self, key):
        sample = super().__getitem__(key)
        self.seen.append(sample["name"])
        return sample


# ---- damage


def flip_a_bit(path: Path) -> None:
    """In the middle of the file, which is in a tensor."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0x10
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size * 2 // 3)


@pytest.mark.parametrize("damage", [flip_a_bit, cut_short, Path.unlink])
def test_an_earlier_checkpoint_serves_for_a_damaged_one(whole_run, stopped_run, caplog, damage):
    damage(stopped_run / "model_final.pth")
    damage(stopped_run / "model_0000005.pth")
    if damage is Path.unlink:
        (stopped_run / "last_checkpoint").write_text("model_0000005.pth")
    with caplog.at_level("WARNING"):
        run(stopped_run, 6, resume=True)
    (warning,) = [record.getMessage() for record in caplog.records if "continuing from" in record.getMessage()]
    assert "model_0000005.pth: " in warning
    assert f"continuing from {stopped_run / 'model_0000003.pth'} instead" in warning
    assert_same_run(stopped_run, whole_run[0])


def test_only_a_checkpoint_before_a_damaged_one_serves_for_it(stopped_run, caplog):
    (stopped_run / "last_checkpoint").write_text("model_0000003.pth")
    cut_short(stopped_run / "model_0000003.pth")
    run(stopped_run, 6, resume=True)
    assert f"continuing from {stopped_run / 'model_0000001.pth'} instead" in caplog.text


@pytest.mark.parametrize("mark", [None, b"\xff\xfe\x00", b"nonsense", b"a" * 5000], ids=lambda mark: str(mark)[:9])
def test_without_a_last_checkpoint_the_newest_is_taken(whole_run, stopped_run, caplog, mark):
    (stopped_run / "model_final.pth").unlink()
    (stopped_run / "last_checkpoint").unlink() if mark is None else (stopped_run / "last_checkpoint").write_bytes(mark)
    run(stopped_run, 6, resume=True)
    assert f"continuing from {stopped_run / 'model_0000005.pth'} instead" in caplog.text
    assert "last_checkpoint" in caplog.text
    assert_same_run(stopped_run, whole_run[0])


def test_when_no_checkpoint_is_whole_that_is_an_error(stopped_run):
    for path in stopped_run.glob("*.pth"):
        cut_short(path)
    with pytest.raises(InputError, match=r"model_0000001\.pth: not a readable.*no checkpoint of .* can be resumed"):
        run(stopped_run, 6, resume=True)


def test_a_checkpoint_of_another_model_is_no_damage(stopped_run):
    other = read_checkpoint(stopped_run / "model_0000003.pth")
    del other["model"]["backbone.cls_token"]
    torch.save(other, stopped_run / "model_final.pth")
    with pytest.raises(InputError, match=r"model_final\.pth: .*missing: backbone\.cls_token"):
        run(stopped_run, 6, resume=True)


@pytest.mark.parametrize(
    "changed", ["train.amp.enabled=True", "optimizer.params.layer_decay=0.5"], ids=["precision", "groups"]
)
def test_resuming_with_other_settings_is_refused(whole_run, changed):
    with pytest.raises(InputError, match="cannot resume from it with these settings"):
        run(whole_run[0], 8, changed, resume=True)


def test_a_final_checkpoint_that_was_not_written_is(whole_run, stopped_run):
    """The process was killed when the last periodic one was there."""
    (stopped_run / "model_final.pth").unlink()
    (stopped_run / "last_checkpoint").write_text("model_0000005.pth")
    run(stopped_run, 6, resume=True)
    assert (stopped_run / "last_checkpoint").read_text() == "model_final.pth"
    assert_same_run(stopped_run, whole_run[0])


def test_a_finished_run_has_nothing_to_resume(whole_run, stopped_run):
    before = {path.name: path.read_bytes() for path in stopped_run.iterdir() if path.suffix in (".pth", ".json")}
    run(stopped_run, 6, resume=True)
    for name in ("model_final.pth", "metrics.json"):
        assert (stopped_run / name).read_bytes() == before[name]


@pytest.mark.parametrize("left", ["last_checkpoint", "model_0000003.pth"])
def test_a_folder_that_holds_a_run_is_not_overwritten(stopped_run, left):
    for path in stopped_run.iterdir():
        if path.name != left:
            path.unlink()
    with pytest.raises(InputError, match="already contains a run; continue it with --resume"):
        run(stopped_run, 6)


def test_what_a_killed_run_was_writing_is_removed(stopped_run):
    for name in (".model_0000003.pth.abc.part", ".last_checkpoint.abc.part", ".metrics.json.abc.part"):
        (stopped_run / name).write_text("half")
    run(stopped_run, 6, resume=True)
    assert not list(stopped_run.glob(".*.part"))


def test_a_torn_line_of_the_log_is_dropped(tmp_path):
    lines = [json.dumps({"iteration": iteration, "total_loss": iteration / 8}) for iteration in (1, 3, 5, 7)]
    log = tmp_path / "metrics.json"
    log.write_text("\n".join([*lines[:2], lines[2][:-9]]))
    assert rewind_log(log, start=5, log_period=2) == {}
    assert log.read_text() == f"{lines[0]}\n{lines[1]}\n"  # iteration 4 is done: it is 5 that logs next
    log.write_text("\n".join([*lines, json.dumps({"iteration": 3, "validation/sad": 2.5, "validation/mse": None})]))
    scores = rewind_log(log, start=4, log_period=2)
    assert log.read_text() == f"{lines[0]}\n"  # the line of iteration 3 is written again, as it may have been cut off
    assert scores["validation/sad"] == 2.5
    assert math.isnan(scores["validation/mse"])


# ---- disk


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(disk)], capture_output=True).returncode:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_disk_that_fills_up_keeps_the_last_checkpoint_and_the_run_goes_on_when_there_is_room(
    runs, whole_run, small_disk, tmp_path
):
    output_dir, log = small_disk / "run", tmp_path / "log"
    checkpoint = (whole_run[0] / "model_final.pth").stat().st_size
    filler = small_disk / "filler"
    filler.write_bytes(bytes(8 * 2**20 - 2**20 - 5 * checkpoint // 2))  # a run begins with 1 MiB to spare
    runs.start(main_arguments(output_dir, 9, "train.checkpointer.period=1"), log)
    assert runs.wait() == 2
    lines = log.read_text().splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert "cannot write" in errors[0]
    assert len(errors) == 1
    assert "Traceback" not in log.read_text()
    assert not list(output_dir.glob(".*.part"))
    last = output_dir / (output_dir / "last_checkpoint").read_text()
    assert read_checkpoint(last)["iteration"] == max(int(path.stem[-7:]) for path in output_dir.glob("model_0*.pth"))
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True)
    runs.start([*main_arguments(output_dir, 9, "train.checkpointer.period=1"), "--resume"], log)
    assert runs.wait() == 0, log.read_text()[-3000:]
    runs.start(main_arguments(tmp_path / "whole", 9, "train.checkpointer.period=10"), log)
    assert runs.wait() == 0
    assert_same_run(output_dir, tmp_path / "whole")


# ---- what is kept


def test_only_the_newest_checkpoints_are_kept_also_of_earlier_starts(tmp_path):
    kept = ["train.checkpointer.max_to_keep=2", "train.eval_period=4"]
    run(tmp_path, 6, *kept)
    assert {path.name for path in tmp_path.glob("*.pth")} == {
        "model_0000003.pth", "model_0000005.pth", "model_best.pth", "model_final.pth",
    }  # fmt: skip
    run(tmp_path, 10, *kept, resume=True)
    assert {path.name for path in tmp_path.glob("*.pth")} == {
        "model_0000007.pth", "model_0000009.pth", "model_best.pth", "model_final.pth",
    }  # fmt: skip


def test_the_checkpoint_that_is_continued_from_is_never_removed(tmp_path):
    """One that was marked by hand stays until a newer one is marked."""
    run(tmp_path, 6)
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    run(tmp_path, 6, "train.checkpointer.max_to_keep=1", resume=True)
    assert {path.name for path in tmp_path.glob("model_0*")} == {"model_0000005.pth"}


SCORES = [0.5, 0.3, 0.4, float("nan"), 0.35]


def test_the_best_checkpoint_is_that_of_the_smallest_score_over_all_starts(tmp_path, monkeypatch):
    """Evaluations after iterations 1, 3, 5, 7 and 9 are given scores; the run is stopped after the third."""
    scores = iter(SCORES)

    def validate(model, dataset, evaluator, num_panels, interruption):
        return {"mse": 0.0, "grad": 0.0, "conn": 0.0, "sad": next(scores)}, []

    monkeypatch.setattr("engine.training.run.validate", validate)
    settings = ["train.eval_period=2", "train.checkpointer.period=2"]
    with monkeypatch.context() as patch:
        patch.setattr("engine.training.trainer.SystemTrainer.run_step", stop_at(6))
        with pytest.raises(TrainingInterrupted):
            run(tmp_path, 10, *settings)
    best = read_checkpoint(tmp_path / "model_best.pth")
    assert (best["iteration"], best["best"]) == (3, {"metric": "sad", "score": 0.3})
    assert_same_weights(best, read_checkpoint(tmp_path / "model_0000003.pth"))
    run(tmp_path, 10, *settings, resume=True)
    assert read_checkpoint(tmp_path / "model_best.pth")["best"]["score"] == 0.3
    assert next(scores, None) is None


def stop_at(iteration: int):
    run_step = SystemTrainer.run_step

    def run_step_and_stop(trainer):
        run_step(trainer)
        trainer.stop_signal = signal.SIGTERM if trainer.iter == iteration else 0

    return run_step_and_stop


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("best_metric=psnr", "best_metric: expected one of sad, mse, grad, conn, or null, got 'psnr'"),
        ("period=0", "period must be a whole number of at least 1, got 0"),
        ("max_to_keep=0", "max_to_keep must be a whole number of at least 1 or null, got 0"),
    ],
)
def test_settings_that_make_no_sense_are_named(tmp_path, setting, message):
    with pytest.raises(InputError, match=re.escape(message)):
        run(tmp_path, 2, f"train.checkpointer.{setting}", "train.eval_period=1")


def test_a_due_checkpoint_is_saved_before_evaluation_fails(tmp_path, monkeypatch):
    def fail(*arguments, **settings):
        raise RuntimeError("evaluation failed")

    monkeypatch.setattr("engine.training.run.validate", fail)
    with pytest.raises(RuntimeError, match="evaluation failed"):
        run(tmp_path, 4, "train.eval_period=2")
    assert (tmp_path / "model_0000001.pth").is_file()
