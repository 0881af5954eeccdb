"""Videos through inference.py: frames, times and sound kept, failures counted, nothing half-written."""

import re

import cv2
import numpy as np
import pytest
import torch
from clips import UNEVEN, picture, sound_of, write_clip
from PIL import Image
from systems import Pointwise, TrimapFree, TwoClasses
from tiny import ROOT

import inference
from data.images.classes import Classes
from data.images.foreground_colours import estimate_foreground
from data.video import open_clip
from engine.inference import ClipJobs, Outcome, Predictor, clip_jobs, fit_to, plan_files, run_jobs
from engine.inference.pipeline import read_ahead
from engine.training.checkpoints import RunCheckpointer
from runtime import command_line
from runtime.errors import InputError

SYSTEMS = {"trimap_free": TrimapFree, "two_classes": TwoClasses}


@pytest.fixture
def run(tmp_path, capsys):
    """Call the script on a clip with a system of random weights; returns (exit status, stdout, stderr, the model)."""

    def call(name: str, *arguments: str):
        torch.manual_seed(0)
        model = SYSTEMS[name]()
        RunCheckpointer(model, str(tmp_path / "run")).save("model")
        config = str(ROOT / "tests" / "configs" / f"{name}.py")
        fixed = ["--config-file", config, "--checkpoint", str(tmp_path / "run" / "model.pth"), "--device", "cpu"]
        with pytest.raises(SystemExit) as ended:
            command_line.run(lambda: inference.main([*fixed, *map(str, arguments)]))
        return ended.value.code, *capsys.readouterr(), model.eval()

    return call


def frames_of(path) -> list[np.ndarray]:
    with open_clip(path) as clip:
        return [frame.image for frame in clip]


@pytest.mark.parametrize(("batch_size", "num_speeds"), [(1, 4), (3, 4), (5, 0)])
def test_a_trimap_free_system_writes_a_video_of_alpha(tmp_path, run, batch_size, num_speeds):
    write_clip(tmp_path / "clip.mp4", pts=UNEVEN)
    arguments = ("--image", tmp_path / "clip.mp4", "--output", tmp_path / "out", "--batch-size", batch_size)
    status, out, err, model = run("trimap_free", *arguments)
    assert status == 0, err
    assert "12 frames written, 0 failed" in out
    speeds = [float(number) for number in re.findall(r"(\d+\.\d+) \((?:median|mean)\)", out)]
    assert len(speeds) == num_speeds
    assert min(speeds, default=1) > 0
    assert ("s to predict; frames/s are reported" in out) == (num_speeds == 0)
    with open_clip(tmp_path / "out" / "clip.mp4") as clip:
        written = list(clip)
    assert tuple(frame.pts for frame in written) == UNEVEN
    assert sound_of(tmp_path / "out" / "clip.mp4") == sound_of(tmp_path / "clip.mp4")
    predictor = Predictor(model)
    for image, frame in zip(frames_of(tmp_path / "clip.mp4"), written, strict=True):
        expected = predictor.one({"image": image})["alpha"]
        assert np.abs(frame.image.astype(int) - expected[..., None]).max() <= 6  # H.264 at crf 14


def test_numbered_frames_hold_what_the_predictor_gives(tmp_path, run):
    write_clip(tmp_path / "clip.mp4", [picture(index, 47, 65) for index in range(12)])
    arguments = ("--image", tmp_path / "clip.mp4", "--output", tmp_path / "f" / "%03d.png", "--save", "rgba,alpha")
    status, _, err, model = run("trimap_free", *arguments)
    assert status == 0, err
    for number, image in enumerate(frames_of(tmp_path / "clip.mp4"), start=1):
        alpha = Predictor(model).one({"image": image})["alpha"]
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "f_alpha" / f"{number:03d}.png")), alpha)
        cutout = np.asarray(Image.open(tmp_path / "f" / f"{number:03d}.png"))
        np.testing.assert_array_equal(cutout, np.dstack([estimate_foreground(image, alpha), alpha]))


def test_numbered_frames_that_are_there_are_skipped_or_refused(tmp_path, run):
    write_clip(tmp_path / "clip.mp4", 3)
    arguments = ("--image", tmp_path / "clip.mp4", "--output", tmp_path / "f" / "%03d.png", "--save")
    assert run("trimap_free", *arguments, "alpha", "--skip-existing")[0] == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "f").iterdir()}
    assert len(before) == 4
    status, out, err, _ = run("trimap_free", *arguments, "alpha", "--skip-existing")
    assert (status, "exists, skipped" in out) == (0, True), err
    for more in (["alpha"], ["alpha,rgba", "--skip-existing"]):  # of two kinds one is missing
        status, _, err, _ = run("trimap_free", *arguments, *more)
        assert (status, "f: expected a new or empty folder for the frames" in err) == (2, True)
    (tmp_path / "f" / "timestamps.txt").unlink()
    assert run("trimap_free", *arguments, "alpha", "--skip-existing")[0] == 2
    before.pop(tmp_path / "f" / "timestamps.txt")
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "f").iterdir()} == before


def test_a_segmentation_writes_an_overlay_its_colours_and_exact_masks(tmp_path, run):
    write_clip(tmp_path / "clip.mp4")
    image = ("--image", tmp_path / "clip.mp4", "--output")
    status, _, err, model = run("two_classes", *image, tmp_path / "out.mp4", "--save", "overlay,colours")
    assert status == 0, err
    masks = [Predictor(model).one({"image": frame})["mask"] for frame in frames_of(tmp_path / "clip.mp4")]
    for image_rgb, mask, shown in zip(
        frames_of(tmp_path / "clip.mp4"), masks, frames_of(tmp_path / "out.mp4"), strict=True
    ):
        expected = model.classes.overlay(image_rgb, mask)
        assert np.abs(cv2.blur(expected, (5, 5)).astype(int) - cv2.blur(shown, (5, 5))).mean() < 3
    assert len(frames_of(tmp_path / "out_colours.mp4")) == 12
    assert run("two_classes", *image, tmp_path / "m" / "%d.png")[0] == 0
    for number, mask in enumerate(masks, start=1):
        np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "m" / f"{number}.png")), 255 * mask)
    assert run("two_classes", *image, tmp_path / "m.mp4")[0] == 0
    for mask, shown in zip(masks, frames_of(tmp_path / "m.mp4"), strict=True):
        assert ((shown[..., 0] > 127) == mask).mean() > 0.99


def test_label_values_that_compression_would_change_go_to_numbered_frames(tmp_path):
    class Labels(TwoClasses):
        classes = Classes(
            [
                {"name": "background", "colour": [0, 0, 0], "value": 0},
                {"name": "person", "colour": [0, 255, 0], "value": 1},
            ]
        )

    write_clip(tmp_path / "clip.mp4", 2)
    jobs = plan_files(str(tmp_path / "clip.mp4"), None, str(tmp_path / "out.mp4"))
    assert list(fit_to(jobs, Labels())[0].outputs) == ["colours"]
    with pytest.raises(InputError, match="compression would change the label values"):
        fit_to(jobs, Labels(), ["mask"])
    jobs = plan_files(str(tmp_path / "clip.mp4"), None, str(tmp_path / "out" / "%d.png"))
    assert list(fit_to(jobs, Labels())[0].outputs) == ["mask"]


@pytest.mark.parametrize(
    ("output", "more", "message"),
    [
        ("out.mp4", ["--save", "rgba"], ".mp4 does not support transparency"),
        ("out.gif", [], "expected a name that ends in .mp4, .mov, .webm"),
        ("clip.mp4", [], "is the input"),
        ("out.mp4", ["--trimap", "t"], "tools/auto_matte.py"),
    ],
)
def test_what_cannot_be_written_is_refused_before_the_first_frame(tmp_path, run, output, more, message):
    write_clip(tmp_path / "clip.mp4")
    before = (tmp_path / "clip.mp4").read_bytes()
    arguments = ("--image", tmp_path / "clip.mp4", "--output", tmp_path / output, *more)
    status, _, err, _ = run("trimap_free", *arguments)
    assert (status, err.count("\n")) == (2, 1)
    assert message in err
    assert (tmp_path / "clip.mp4").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4", "run"]


def test_a_truncated_clip_is_written_as_far_as_it_goes_and_the_status_says_so(tmp_path, run):
    write_clip(tmp_path / "clip.mkv", 120)
    content = (tmp_path / "clip.mkv").read_bytes()
    (tmp_path / "clip.mkv").write_bytes(content[: len(content) // 2])
    status, out, err, _ = run("trimap_free", "--image", tmp_path / "clip.mkv", "--output", tmp_path / "out.mp4")
    assert status == 2
    assert "the file is truncated; the available frames were written" in err
    written = len(frames_of(tmp_path / "out.mp4"))
    assert f"{written} frames written, 0 failed" in out
    assert 40 < written < 80


class Fails(Pointwise):
    """Alpha is the red channel; some frames, counted from 0, are not finite."""

    inputs = ("image",)

    def __init__(self, *frames: int) -> None:
        super().__init__()
        self.frames, self.number = frames, -1

    def decode(self, state):
        self.number += 1
        return {"alpha": state["image"][:, :1] * (float("nan") if self.number in self.frames else 1.0)}


def alphas_with(model, tmp_path, frames: int = 12):
    """Predict a clip whose frames get lighter; returns how it went, and the numbers of the frames that were written."""
    step = 240 // frames
    write_clip(tmp_path / "clip.mp4", [np.full((32, 32, 3), step * index, np.uint8) for index in range(frames)])
    jobs = fit_to(plan_files(str(tmp_path / "clip.mp4"), None, str(tmp_path / "out" / "%d.png")), model)
    with clip_jobs(jobs[0]) as clip:
        for outcome in run_jobs(Predictor(model), clip):
            clip.count(outcome)
    files = [tmp_path / "out" / f"{number}.png" for number in range(1, frames + 1)]
    return clip, [round(float(np.asarray(Image.open(file)).mean()) / step) for file in files]


def test_a_frame_that_fails_shows_the_one_before_and_moves_no_other(tmp_path):
    clip, shown = alphas_with(Fails(0, 5), tmp_path)
    assert shown == [0, 1, 2, 3, 4, 4, 6, 7, 8, 9, 10, 11]
    assert (clip.written, clip.failed, clip.is_done()) == (10, 2, False)


def test_one_failure_in_a_hundred_is_forgiven(tmp_path):
    clip, _ = alphas_with(Fails(50), tmp_path, 100)
    assert (clip.written, clip.failed, clip.is_done()) == (99, 1, True)


def speed_of(monkeypatch, batches, closed_at: float, look_ahead: int = 0) -> str:
    """The line for batches of (frames, seconds of the batch in the predictor, when it is written)."""
    clip = ClipJobs(None, None, {}, (), look_ahead=look_ahead)
    for frames, seconds, done_at in batches:
        monkeypatch.setattr("time.perf_counter", lambda done_at=done_at: done_at)
        for _ in range(frames):
            clip.count(Outcome(None, "written", seconds=seconds / frames, batch=frames))
    monkeypatch.setattr("time.perf_counter", lambda: closed_at)
    return clip.speed()


def test_speeds_are_of_known_times(monkeypatch):
    """Seven frames of a second each in the predictor, one written every two seconds, and one second to close."""
    batches = list(zip([1] * 7, [9, 9, 9, 1, 1, 1, 2], [9, 18, 27, 29, 31, 33, 35], strict=True))
    assert speed_of(monkeypatch, batches, 36.0) == (
        "frames/s without the first 3: predicting 1.00 (median), 0.80 (mean); with reading and writing 0.50 "
        "(median), 0.44 (mean)"
    )


def test_speeds_of_batches_leave_out_whole_batches(monkeypatch):
    """A batch of 4 in 30 s; then three times 4 frames in 2 s of predicting and 4 in all, and 2 in 1 s and 3 s."""
    batches = [(4, 20, 30), (4, 2, 34), (4, 2, 38), (4, 2, 42), (2, 1, 45)]
    assert speed_of(monkeypatch, batches, 46.0) == (
        "frames/s without the first 4: predicting 2.00 (median), 2.00 (mean); with reading and writing 1.00 "
        f"(median), {14 / 16:.2f} (mean)"
    )
    assert "without the first 4: predicting 0.50" in speed_of(
        monkeypatch, [(2, 90, 90), (2, 90, 180), *((2, 4, 180 + 4 * n) for n in (1, 2, 3))], 192.0
    )


def test_frames_that_were_done_ahead_count_in_no_mean(monkeypatch):
    """The work of two frames of seven was done with the first three: five frames in 7 s of predicting, 10 s in all."""
    batches = list(zip([1] * 10, [9, 9, 9, *[1] * 7], [9, 18, 27, *range(28, 35)], strict=True))
    assert speed_of(monkeypatch, batches, 37.0, look_ahead=2) == (
        f"frames/s without the first 3: predicting 1.00 (median), {5 / 7:.2f} (mean); with reading and writing 1.00 "
        "(median), 0.50 (mean)"
    )
    assert "7 frames took 31.00 s to predict" in speed_of(monkeypatch, batches[:7], 31.0, look_ahead=2)


def test_of_a_few_batches_the_time_of_all_frames_is_given(monkeypatch):
    batches = [(5, 1, 1), (5, 1, 2), (2, 1, 3)]
    assert speed_of(monkeypatch, batches, 4.0) == (
        "speed: 12 frames took 3.00 s to predict; frames/s are reported for clips with at least 3 batches after the "
        "first 3 frames, which take longer"
    )
    assert speed_of(monkeypatch, [(1, 1.5, 2)], 4.0).startswith("speed: 1 frame took 1.50 s to predict;")
    assert speed_of(monkeypatch, batches[:0], 4.0) == "speed: no frame was predicted"
    assert "frames/s without" in speed_of(monkeypatch, [*batches, (1, 1, 4)], 5.0)


def test_ctrl_c_leaves_nothing_under_the_name(tmp_path):
    class Interrupted(Fails):
        def decode(self, state):
            if self.number == 4:
                raise KeyboardInterrupt
            return super().decode(state)

    write_clip(tmp_path / "clip.mp4")
    for output in ("out.mp4", "out/%d.png"):
        model = Interrupted()
        jobs = fit_to(plan_files(str(tmp_path / "clip.mp4"), None, str(tmp_path / output)), model)
        with pytest.raises(KeyboardInterrupt), clip_jobs(jobs[0]) as clip:
            list(run_jobs(Predictor(model), clip))
        assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_clip_whose_size_changes_ends_there(tmp_path):
    for name, size in (("a", 32), ("b", 48)):
        write_clip(tmp_path / f"{name}.ts", [np.zeros((size, size, 3), np.uint8)] * 30, sound=None)
    (tmp_path / "clip.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    with open_clip(tmp_path / "clip.ts") as clip:
        assert {frame.image.shape for frame in clip} == {(32, 32, 3)}
    assert "48 x 48" in clip.ends_early


def test_a_system_that_needs_trimaps_names_the_tool(tmp_path):
    from small_models import small_model

    write_clip(tmp_path / "clip.mp4", 2)
    jobs = plan_files(str(tmp_path / "clip.mp4"), None, str(tmp_path / "out.mp4"))
    with pytest.raises(InputError, match=r"needs a trimap for each frame: tools/auto_matte\.py"):
        fit_to(jobs, small_model())


def test_a_clip_that_is_closed_ends_what_reads_ahead(tmp_path):
    write_clip(tmp_path / "clip.mp4", 60)
    with open_clip(tmp_path / "clip.mp4") as clip:
        frames = read_ahead(clip, 2)
        next(frames)
    assert len(list(frames)) <= 4
