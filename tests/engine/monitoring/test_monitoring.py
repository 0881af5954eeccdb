"""Seeing a run: what is logged, where it is written, and that no trouble with the log ends a run."""

import errno
import json
import math
import os
import shutil
import subprocess
import sys
import time
import types

import numpy as np
import pytest
import torch
from detectron2.utils.events import EventStorage, EventWriter
from PIL import Image
from small_models import small_model
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny import CONFIG, ROOT, overrides

from engine.config import build, load_config
from engine.monitoring import (
    ErrorByUnknownShare,
    FirstBatchPanel,
    ObservedBatches,
    RunScalars,
    TrainingPictures,
    curves,
    environment,
)
from engine.monitoring.error_by_share import errors_by_share
from engine.monitoring.metrics_file import MetricsFile, read_metrics
from engine.monitoring.panels import batch_panel
from engine.monitoring.run_scalars import learning_rates
from engine.monitoring.writers import TensorBoardWriter, Tolerant
from engine.training.param_groups import param_groups
from engine.training.run import train
from engine.training.trainer import TrainerBase
from modeling.criterion import MattingCriterion
from runtime.errors import InputError
from runtime.memory import peak_gib


class StepwiseTrainer(TrainerBase):
    """A trainer whose step is a given function of (trainer, batch)."""

    def __init__(self, batches, step=lambda trainer, batch: None, model=None, optimizer=None) -> None:
        super().__init__()
        self.batches, self.step, self.unwrapped, self.optimizer = batches, step, model, optimizer

    def before_train(self) -> None:
        self._iterator = iter(self.batches)
        super().before_train()

    def run_step(self) -> None:
        self.step(self, next(self._iterator))


def run(output_dir, max_iter: int, *more: str, resume: bool = False) -> None:
    train(load_config(CONFIG, overrides(output_dir, max_iter, *more)), resume=resume)


def metrics_lines(output_dir) -> list[dict]:
    return [json.loads(line) for line in (output_dir / "metrics.json").read_text().splitlines()]


def events_of(output_dir) -> EventAccumulator:
    events = EventAccumulator(str(output_dir), size_guidance={"images": 0, "scalars": 0, "histograms": 0})
    events.Reload()
    return events


@pytest.fixture(scope="module")
def resumed_run(tmp_path_factory):
    """A run of six iterations, restarted after the fourth: iterations 4 and 5 were done twice."""
    output_dir = tmp_path_factory.mktemp("run")
    run(output_dir, 6, "train.eval_period=2", "train.num_panels=1", "train.curves=True")
    for name in ("model_final.pth", "model_0000005.pth"):
        (output_dir / name).unlink()
    (output_dir / "last_checkpoint").write_text("model_0000003.pth")
    run(output_dir, 6, "train.eval_period=2", "train.num_panels=1", "train.curves=True", resume=True)
    return output_dir


def test_the_run_folder_holds_what_tells_of_the_run(resumed_run):
    names = {path.name for path in resumed_run.iterdir()}
    assert {"config.yaml", "environment.json", "metrics.json", "curves.png", "log.txt"} <= names
    assert not [name for name in names if name.endswith(".part")]
    with Image.open(resumed_run / "curves.png") as picture:
        assert picture.format == "PNG"
        assert picture.width > 1000


def test_every_start_is_in_the_environment_file(resumed_run):
    first, second = (json.loads(line) for line in (resumed_run / "environment.json").read_text().splitlines())
    assert (first["start_iteration"], second["start_iteration"]) == (0, 4)
    assert first["torch"] == torch.__version__
    assert first["python"] == ".".join(map(str, sys.version_info[:3]))
    assert first["processes"] == 1


def test_tensorboard_shows_iterations_done_twice_once(resumed_run):
    events = events_of(resumed_run)
    for name in ("total_loss", "grad_norm", "samples_per_second", "data_wait_share", "memory/process_gib", "lr"):
        assert [event.step for event in events.Scalars(name)] == [0, 1, 2, 3, 4, 5], name
    assert [event.step for event in events.Scalars("validation/sad")] == [1, 3, 6]


def test_tensorboard_has_pictures_and_histograms(resumed_run):
    events = events_of(resumed_run)
    (panel,) = [name for name in events.Tags()["images"] if name.startswith("image | trimap | alpha")]
    pictures = events.Images(panel)
    assert [picture.step for picture in pictures] == [0, 4]  # at every start
    assert (pictures[0].width, pictures[0].height) == (3 * 64, 2 * 64)  # the batch of two
    assert [name for name in events.Tags()["histograms"] if name.startswith("unknown_error/share_")]


def test_metrics_lines_have_the_run_s_own_scalars(resumed_run):
    lines = {line["iteration"]: line for line in metrics_lines(resumed_run)}
    for iteration in range(6):
        line = lines[iteration]
        assert line["lr/backbone+decoder"] == line["lr"]
        assert 0 < line["data_wait_share"] < 1
        assert line["samples_per_second"] > 0
        assert 0.1 < line["memory/process_gib"] < 10
        assert line["grad_norm"] > 0


def test_each_learning_rate_is_named_by_what_has_it():
    config = load_config(CONFIG, overrides("unused", 1))
    model = build(config.model)
    groups = param_groups(model, base_lr=1.0, weight_decay=0.1, layer_decay=0.5, head_lr_mult=3.0)
    optimizer = torch.optim.AdamW(groups)
    # depth 2: the embedding three layers below the top, the blocks two and one
    assert dict(learning_rates(optimizer, model)) == {
        "backbone.embeddings": 0.125,
        "backbone.block_00": 0.25,
        "backbone.block_01": 0.5,
        "backbone.norm+backbone.residual": 1.0,
        "decoder": 3.0,
    }
    flat = torch.optim.AdamW(param_groups(model, base_lr=1.0, weight_decay=0.1))
    assert learning_rates(flat, model) == [("backbone+decoder", 1.0)]


def test_learning_rates_that_a_schedule_made_zero_stay_apart():
    model = torch.nn.ModuleDict({"decoder": torch.nn.Linear(2, 2), "backbone": torch.nn.Linear(2, 2)})
    groups = [{"params": part.parameters(), "lr": lr} for part, lr in ((model["decoder"], 3.0), (model["backbone"], 1))]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.0)
    assert [lr for _, lr in learning_rates(optimizer, model)] == [0.0, 0.0]


def test_speed_and_waiting_are_measured_over_the_steps():
    def slow_batches():
        while True:
            time.sleep(0.06)
            yield {"image": torch.zeros(3, 3, 4, 4)}

    model = torch.nn.ModuleDict({"decoder": torch.nn.Linear(2, 2)})
    trainer = StepwiseTrainer(
        ObservedBatches(slow_batches()),
        step=lambda trainer, batch: time.sleep(0.04),
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
    )
    trainer.register_hooks([RunScalars(period=4)])
    trainer.train(0, 8)
    scalars = {name: value for name, (value, _) in trainer.storage.latest().items()}
    assert scalars["data_wait_share"] == pytest.approx(0.6, abs=0.1)
    assert scalars["samples_per_second"] == pytest.approx(30, rel=0.2)  # three in 0.1 s
    assert scalars["lr/decoder"] == 0.1
    assert trainer.batches.num_samples == 24


def test_peak_memory_is_that_of_this_process():
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from runtime.memory import peak_gib\n"
        "before = peak_gib(); held = bytearray(2**29); after = peak_gib()\n"
        "print(after - before)"
    )
    folder = ROOT
    ballast = bytearray(2**30)  # of this process: a child's own peak must not begin with it
    ballast[::4096] = b"x" * len(ballast[::4096])
    grown = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True).stdout
    assert float(grown) == pytest.approx(0.5, abs=0.02)
    assert peak_gib() > 1


def test_the_criterion_keeps_share_and_error_of_each_sample():
    generator = torch.Generator().manual_seed(0)
    pred_alpha, alpha = torch.rand(2, 3, 1, 8, 12, generator=generator)
    trimap = torch.randint(0, 3, (3, 1, 8, 12), generator=generator) / 2
    trimap[2] = 1.0  # nothing unknown
    criterion = MattingCriterion()
    criterion(pred_alpha.requires_grad_(), alpha, trimap)
    shares, errors = criterion.last_per_sample
    assert not errors.requires_grad
    difference = (pred_alpha.detach() - alpha).abs().double().numpy()
    unknown = trimap.numpy() == 0.5
    for sample in (0, 1):
        assert shares[sample].item() == pytest.approx(unknown[sample].mean())
        assert errors[sample].item() == pytest.approx(difference[sample][unknown[sample]].mean())
    assert (shares[2], errors[2]) == (0, 0)


def test_errors_are_sorted_by_share():
    shares = np.array([0.0, 0.05, 0.12, 0.17, 0.999, 1.0], np.float32)
    errors = np.array([0.9, 0.1, 0.2, 0.4, 0.5, 0.7], np.float32)
    by_share = errors_by_share(shares, errors)
    assert list(by_share) == ["share_00-10", "share_10-20", "share_90-100"]
    np.testing.assert_array_equal(by_share["share_10-20"], errors[2:4])
    np.testing.assert_array_equal(by_share["share_90-100"], errors[4:])


def test_error_by_share_covers_all_iterations_since_the_last_time():
    batches = ObservedBatches([{"image": torch.zeros(2, 3, 4, 4)}] * 5)
    seen = [([0.15, 0.55], [0.1, 0.2]), ([0.11, 0.95], [0.3, 0.4]), ([0.15, 0.0], [0.8, 0.0]), ([0.2, 0.2], [1, 1])]
    model = small_model()

    def step(trainer, batch):
        model.criterion.last_per_sample = tuple(map(torch.tensor, seen[trainer.iter]))

    trainer = StepwiseTrainer(batches, step, model=model)
    trainer.register_hooks([ErrorByUnknownShare(period=3)])
    trainer.train(0, 4)
    logged = {name.rpartition("_")[2]: value for name, value in trainer.storage.latest().items()}
    assert logged["10-20"] == (pytest.approx(0.4), 2)  # of 0.1, 0.3 and 0.8, at iteration 2
    assert logged["50-60"] == (pytest.approx(0.2), 2)
    assert logged["90-100"] == (pytest.approx(0.4), 2)
    assert logged["20-30"] == (pytest.approx(1.0), 3)  # the last iteration is written whatever the period
    (histogram,) = trainer.storage._histograms  # of one sample, or of equal ones, there is none
    assert (histogram["num"], histogram["global_step"]) == (3, 2)
    assert sum(histogram["bucket_counts"]) == 3


def test_the_first_batch_is_shown_and_let_go():
    image = torch.zeros(3, 3, 4, 6)
    image[1, 0] = 1.0
    trimap = torch.tensor([0, 128, 255])[:, None, None, None].expand(3, 1, 4, 6)
    batch = {"image": image, "trimap": trimap, "alpha": torch.full((3, 1, 4, 6), 0.2)}
    trainer = StepwiseTrainer(ObservedBatches([batch] * 3), model=small_model())
    trainer.register_hooks([FirstBatchPanel(2)])
    trainer.train(0, 3)
    ((name, picture, iteration),) = trainer.storage._vis_data
    assert (name, iteration) == ("image | trimap | alpha/first batch", 0)
    assert picture.shape == (3, 2 * 4, 3 * 6)
    assert trainer.batches.first is None
    np.testing.assert_array_equal(picture[:, 0, 0], [0, 0, 0])
    np.testing.assert_array_equal(picture[:, 4, 0], [255, 0, 0])
    np.testing.assert_array_equal(picture[:, [0, 4], 6], [[0, 128]] * 3)  # the trimaps
    np.testing.assert_array_equal(picture[:, :, 12:], np.full((3, 8, 6), 51))


def test_what_a_system_shows_of_its_training_is_logged_every_period():
    model = small_model()
    model.training_pictures = lambda: {"estimate": torch.full((3, 1, 4, 6), 0.2), "alpha": torch.ones(3, 1, 4, 6)}
    trainer = StepwiseTrainer([{}] * 5, model=model)
    trainer.register_hooks([TrainingPictures(2, num_samples=1)])
    trainer.train(0, 5)
    assert [iteration for _, _, iteration in trainer.storage._vis_data] == [0, 2, 4]
    name, picture, _ = trainer.storage._vis_data[0]
    assert name == "estimate | alpha/training"
    np.testing.assert_array_equal(picture, np.repeat([[[51] * 6 + [255] * 6] * 4], 3, axis=0))


def test_large_crops_are_shown_smaller():
    crops = {"image": torch.rand(1, 3, 1024, 768), "trimap": torch.ones(1, 1, 1024, 768)}
    assert batch_panel({**crops, "alpha": crops["trimap"]}, ["image", "trimap", "alpha"], 4).shape == (3, 512, 3 * 384)


def write(writer: EventWriter, **scalars: dict[int, float]) -> None:
    """Write once after logging name -> {iteration: value}."""
    with EventStorage() as storage:
        for name, values in scalars.items():
            for iteration, value in values.items():
                storage.iter = iteration
                storage.put_scalar(name, value)
        writer.write()


def test_metrics_file_writes_the_latest_values_a_line_each_iteration(tmp_path):
    writer = MetricsFile(tmp_path / "metrics.json")
    write(writer, loss={0: 1.0, 1: 3.0}, sad={0: 7.0}, norm={1: math.inf})
    write(writer, loss={1: 3.0, 2: 4.0})
    assert metrics_lines(tmp_path) == [
        {"iteration": 0, "sad": 7.0},
        {"iteration": 1, "loss": 3.0, "norm": None},
        {"iteration": 2, "loss": 4.0},
    ]


def test_metrics_file_survives_a_torn_line_and_being_replaced(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_text('{"iteration": 0, "lo')
    writer = MetricsFile(path)
    write(writer, loss={1: 1.0})
    (tmp_path / "other").write_text('{"iteration": 0, "loss": 9.0}\n')
    os.replace(tmp_path / "other", path)
    write(writer, loss={2: 2.0})
    assert [line["iteration"] for line in metrics_lines(tmp_path)] == [0, 2]
    path.write_text('{"iteration": 0, "lo')
    write(writer, loss={3: 3.0})
    assert read_metrics(path) == {3: {"loss": 3.0}}


def test_metrics_are_read_whatever_the_lines(tmp_path):
    path = tmp_path / "metrics.json"
    path.write_bytes(
        b'{"iteration": 0, "a": 1, "b": null, "c": "text", "d": true}\n'
        b'{"iteration": 5, "a": 2}\n\n[1]\n{"a": 3}\n\xff\xfe\n'
        b'{"iteration": 7, "a": 99}\n'
        b'{"iteration": 5, "a": 4}\n{"iteration": 5, "sad": 6}\n{"iteration": 6, "a": NaN, "e": 1}\n{"iteration": 8'
    )
    # 5 and 7 were done again from 5 on
    assert read_metrics(path) == {0: {"a": 1}, 5: {"a": 4, "sad": 6}, 6: {"e": 1}}


def test_long_metrics_are_thinned_but_for_validations(tmp_path):
    path = tmp_path / "metrics.json"
    with open(path, "w") as file:
        for iteration in range(1000):
            file.write(json.dumps({"iteration": iteration, "loss": iteration}) + "\n")
            if iteration in (100, 777):
                file.write(json.dumps({"iteration": iteration, "validation/sad": 1.0}) + "\n")
    entries = read_metrics(path, max_lines=100)
    assert 90 <= len(entries) <= 102
    assert [iteration for iteration, values in entries.items() if "validation/sad" in values] == [100, 777]
    assert max(entries) == 999  # the last line is always there


def test_a_running_mean_stays_where_the_values_are():
    ramp = np.arange(500.0)
    np.testing.assert_allclose(curves._running_mean(ramp), ramp[curves._middle(500)])


def test_curves_are_drawn_from_few_or_strange_values(tmp_path):
    curves.draw_curves(tmp_path)  # nothing to draw
    assert not (tmp_path / "curves.png").exists()
    (tmp_path / "metrics.json").write_text('{"iteration": 0, "total_loss": 0, "grad_norm": -1, "lr/decoder": 0}\n')
    curves.draw_curves(tmp_path)
    (tmp_path / "metrics.json").write_text('{"iteration": 0, "validation/sad": 3}\n{"iteration')
    curves.draw_curves(tmp_path)
    with Image.open(tmp_path / "curves.png") as picture:
        assert len(set(picture.convert("L").tobytes())) > 10


def test_a_picture_that_cannot_be_drawn_ends_no_run(tmp_path, caplog, monkeypatch):
    def fail(*arguments):
        raise ValueError("no fonts")

    monkeypatch.setattr(curves, "draw_curves", fail)
    trainer = StepwiseTrainer([{}])
    trainer.register_hooks([curves.DrawCurves(tmp_path, 1)])
    trainer.train(0, 1)
    assert "curves.png is not drawn: no fonts" in caplog.text


def test_curves_are_drawn_once_a_minute_and_at_the_end(tmp_path, monkeypatch):
    drawn, now = [], [0.0]
    monkeypatch.setattr(curves, "draw_curves", lambda output_dir, metrics: drawn.append(now[0]))
    monkeypatch.setattr(curves.time, "perf_counter", lambda: now[0])

    def step(trainer, batch):
        now[0] += 25

    trainer = StepwiseTrainer([{}] * 7, step)
    trainer.register_hooks([curves.DrawCurves(tmp_path, 1)])
    trainer.train(0, 7)
    assert drawn == [75, 150, 175]


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_git_state_is_that_of_the_checkout(tmp_path):
    def git(*arguments: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
        command = ["git", "-C", str(tmp_path), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    unknown = {"git_revision": None, "git_dirty": None}
    (tmp_path / "environment.py").write_text("")
    assert environment.git_state(tmp_path) == unknown
    git("init")
    assert environment.git_state(tmp_path) == unknown  # inside a repository, but no part of it
    git("add", "environment.py")
    git("commit", "-m", "first")
    revision = git("rev-parse", "HEAD")
    assert environment.git_state(tmp_path) == {"git_revision": revision, "git_dirty": False}
    (tmp_path / "environment.py").write_text("changed")
    assert environment.git_state(tmp_path) == {"git_revision": revision, "git_dirty": True}


def test_a_machine_without_git_is_no_error(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    state = environment.environment()
    assert (state["git_revision"], state["git_dirty"]) == (None, None)
    environment.record_environment(tmp_path / "missing folder", 0)  # a warning


class FailingWriter(EventWriter):
    """Meets a full disk as often as it is told."""

    def __init__(self, failures: int) -> None:
        self.failures = failures

    def write(self) -> None:
        self.failures -= 1
        if self.failures >= 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_told_once_and_when_it_is_over(caplog):
    caplog.set_level("INFO", logger="dinomatte")
    writer = Tolerant(FailingWriter(3), "metrics.json")
    for _ in range(5):
        writer.write()
    assert [record.message for record in caplog.records] == [
        "metrics.json cannot be written (No space left on device); the run goes on",
        "metrics.json can be written again",
    ]


def test_tensorboard_begins_a_new_file_after_a_failure(tmp_path, capfd, monkeypatch):
    writer = Tolerant(TensorBoardWriter(tmp_path), "events")
    writer.start(0, 0)
    write(writer, loss={0: 1.0})
    writer.writer._writer._writer.flush()
    record_writer = writer.writer._writer._writer.file_writer.event_writer._async_writer._writer
    monkeypatch.setattr(record_writer, "write", lambda data: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with EventStorage(1) as storage:
        storage.put_image("picture", np.zeros((3, 2, 2), np.uint8))
        for _ in range(50):  # the error comes from a thread
            storage.iter += 1
            storage.put_scalar("loss", 2.0)
            writer.write()
            if writer.writer._writer is None:
                break
            time.sleep(0.02)
        assert storage._vis_data == []
    assert writer.writer._writer is None
    write(writer, loss={100: 3.0})
    writer.close()
    steps = [event.step for event in events_of(tmp_path).Scalars("loss")]
    assert (steps[0], steps[-1]) == (0, 100)
    assert "Traceback" not in capfd.readouterr().err


@pytest.fixture
def small_disk(tmp_path):
    """A folder with room for 3 MiB."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs to mount a small disk")
    mount = ["mount", "-t", "tmpfs", "-o", "size=3m", "none", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_a_run_on_a_full_disk_ends_in_a_line(small_disk):
    main_py = [str(ROOT / "main.py"), "--config-file", CONFIG]
    arguments = overrides(small_disk / "run", 40, "train.checkpointer.period=12")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "BALLAST": str(small_disk / "ballast"), "PYTHONPATH": str(ROOT)}
    # main.py, with the disk filled once training has begun, when its first picture is made
    program = (
        "import os, runpy, sys\n"
        "sys.argv = sys.argv[1:]\n"
        "from engine.monitoring import panels\n"
        "drawn = panels.batch_panel\n"
        "def fill(*a):\n"
        "    with open(os.environ['BALLAST'], 'wb', buffering=0) as file:\n"
        "        try:\n"
        "            while file.write(bytes(4096)): pass\n"
        "        except OSError: pass\n"
        "    return drawn(*a)\n"
        "panels.batch_panel = fill\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, *main_py, *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 2, result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert "metrics.json cannot be written (No space left on device)" in result.stdout
    error = result.stderr.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert "No space left" in error
    assert "iter: 11" in result.stdout  # training went on until a checkpoint could not be saved


class FakeWandb(types.ModuleType):
    """As much of the package as is used, keeping what it was given, and the files of events at start and end."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.begun: list[dict] = []
        self.events: list[int] = []
        self.finished: list[list[int]] = []
        self.run = types.SimpleNamespace(finish=self._end)
        self.folder = None

    def init(self, **settings):
        self.begun.append(settings)
        self.events.append(len(list(self.folder.glob("events.*"))))
        return self.run

    def _end(self) -> None:
        self.finished.append([event.step for event in events_of(self.folder).Scalars("total_loss")])


@pytest.fixture
def wandb(monkeypatch, tmp_path):
    fake = FakeWandb()
    fake.folder = tmp_path
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def test_wandb_follows_the_events_of_a_run_and_of_its_continuation(tmp_path, wandb):
    settings = ["train.wandb.enabled=True", "train.wandb.name=trial"]
    run(tmp_path, 4, *settings)
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    run(tmp_path, 4, *settings, resume=True)
    first, second = wandb.begun
    assert first["id"] == second["id"] == (tmp_path / "wandb_id").read_text()
    assert (first["project"], first["name"], first["resume"]) == ("dinomatte", "trial", "allow")
    assert first["sync_tensorboard"] is True
    assert first["config"]["train"]["max_iter"] == 4
    json.dumps(first["config"])
    assert wandb.events == [0, 1]  # it observes what is made later
    assert wandb.finished == [[0, 1, 2, 3]] * 2  # all events are in the files


def test_wandbs_own_files_may_not_be_in_the_run_folder(tmp_path, wandb, monkeypatch):
    monkeypatch.setenv("WANDB_DIR", str(tmp_path / "run" / "wandb"))
    with pytest.raises(InputError, match=r"expected W&B's files outside the run folder .*set WANDB_DIR"):
        run(tmp_path / "run", 1, "train.wandb.enabled=True")


def test_a_new_run_in_a_folder_is_a_new_wandb_run(tmp_path, wandb):
    (tmp_path / "wandb_id").write_text("earlier")
    run(tmp_path, 1, "train.wandb.enabled=True", "lr_multiplier.warmup_length=0.5")
    assert wandb.begun[0]["id"] != "earlier"


def test_trouble_with_wandb_at_the_end_is_a_warning(tmp_path, wandb, capfd):
    def fail():
        raise RuntimeError("connection lost")

    wandb.run.finish = fail
    run(tmp_path, 3, "train.wandb.enabled=True")
    assert capfd.readouterr().out.count("W&B may lack the end of this run: connection lost") == 1
    assert len(metrics_lines(tmp_path)) == 3


def test_wandb_that_is_missing_or_refuses_is_one_line(tmp_path, wandb, monkeypatch):
    wandb.init = lambda **settings: (_ for _ in ()).throw(RuntimeError("no\nAPI key"))
    with pytest.raises(InputError, match=r"W&B does not start \(no API key\); run `wandb login`"):
        run(tmp_path / "refused", 1, "train.wandb.enabled=True")
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match=r"pip install -r requirements/wandb\.txt"):
        run(tmp_path / "missing", 1, "train.wandb.enabled=True")


@pytest.mark.slow
def test_only_the_main_process_writes_and_speaks_for_all(tmp_path):
    arguments = overrides(tmp_path, 3, "lr_multiplier.warmup_length=0.4", "train.curves=True")
    command = [sys.executable, str(ROOT / "main.py"), "--config-file", CONFIG, "--num-gpus", "2", *arguments]
    subprocess.run(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True, capture_output=True)
    assert len(list(tmp_path.glob("events.*"))) == 1
    assert [line["iteration"] for line in metrics_lines(tmp_path)] == [0, 1, 2]
    (start,) = (tmp_path / "environment.json").read_text().splitlines()
    assert json.loads(start)["processes"] == 2
    assert (tmp_path / "curves.png").is_file()
