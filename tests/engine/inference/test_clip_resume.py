"""Numbered frames of a run that was stopped: kept, gone on with, and the same to the byte as without the stop."""

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from clips import picture, write_clip
from PIL import Image
from systems import Pointwise, Red
from tiny import ROOT

from data.synthetic.clips import SyntheticClip
from engine.inference import Predictor, fit_to, plan_files, predict_clip, settings_of
from engine.inference.clip_matte import ClipMatte
from engine.inference.subjects import Subject
from runtime.errors import InputError

FRAMES = 12


class Stopped(Pointwise):
    """Alpha is the red channel; Ctrl-C comes at one frame, others fail."""

    inputs = ("image",)

    def __init__(self, stop_at: int | None = None, fails: tuple[int, ...] = (), first: int = 0) -> None:
        super().__init__()
        self.stop_at, self.fails, self.number = stop_at, fails, first - 1

    def decode(self, state):
        self.number += 1
        if self.number == self.stop_at:
            raise KeyboardInterrupt
        return {"alpha": state["image"][:, :1] * (float("nan") if self.number in self.fails else 0.5)}


@pytest.fixture
def clip(tmp_path):
    write_clip(tmp_path / "clip.mp4", FRAMES)
    return tmp_path / "clip.mp4"


def run(predictor, clip, output, *, resume=False, kinds=("alpha", "rgba"), settings=None) -> int:
    model = getattr(predictor, "model", predictor)
    jobs = plan_files(str(clip), None, str(output / "%03d.png"))
    (job,) = fit_to(jobs, model, kinds)
    return predict_clip(predictor, job, settings=settings or {"a": "1"}, skip_existing=resume)


def content(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def assert_same(tmp_path, one: str, other: str) -> None:
    for suffix in ("", "_rgba"):
        assert content(tmp_path / f"{one}{suffix}") == content(tmp_path / f"{other}{suffix}")
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("stop_at", [0, 3, 7])
def test_a_run_goes_on_where_ctrl_c_stopped_it_and_does_nothing_twice(tmp_path, clip, capsys, stop_at):
    assert run(Predictor(Stopped()), clip, tmp_path / "whole") == 0
    with pytest.raises(KeyboardInterrupt):
        run(Predictor(Stopped(stop_at)), clip, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    done = len(list((tmp_path / "out.part").glob("*.png")))
    assert max(0, stop_at - 2) <= done <= stop_at
    advised = "--skip-existing continues" in capsys.readouterr().err
    assert advised == (done > 0)
    model = Stopped()
    assert run(Predictor(model), clip, tmp_path / "out", resume=True) == 0
    assert model.number + 1 == FRAMES - done
    assert f"{FRAMES} frames written, 0 failed" in capsys.readouterr().out
    assert_same(tmp_path, "whole", "out")


def test_failures_of_the_stopped_run_count_and_the_frame_before_is_shown(tmp_path, clip, capsys):
    assert run(Predictor(Stopped(fails=(3, 6))), clip, tmp_path / "whole") == 2
    with pytest.raises(KeyboardInterrupt):
        run(Predictor(Stopped(6, fails=(3,))), clip, tmp_path / "out")
    done = len(list((tmp_path / "out.part").glob("*.png")))
    capsys.readouterr()
    assert run(Predictor(Stopped(fails=(3, 6), first=done)), clip, tmp_path / "out", resume=True) == 2
    assert f"{FRAMES - 2} frames written, 2 failed" in capsys.readouterr().out
    assert_same(tmp_path, "whole", "out")


def test_what_a_killed_process_leaves_torn_is_made_again(tmp_path, clip):
    """One kind is further than the other, a line is half written, and a temporary file is left."""
    run(Predictor(Stopped()), clip, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(Predictor(Stopped(8)), clip, tmp_path / "out")
    part, other = tmp_path / "out.part", tmp_path / "out_rgba.part"
    lines = (part / "timestamps.txt").read_text().splitlines(keepends=True)
    (part / "timestamps.txt").write_text("".join(lines[:4]) + lines[4][:3])
    (other / "006.png").unlink()
    (other / ".006.png.x.part").write_bytes(b"half")
    model = Stopped()
    assert run(Predictor(model), clip, tmp_path / "out", resume=True) == 0
    assert model.number + 1 == FRAMES - 3
    assert_same(tmp_path, "whole", "out")


def test_a_chain_that_looks_at_neighbours_goes_on_with_the_same_bytes(tmp_path):
    frames = list(SyntheticClip((64, 96), FRAMES, seed=3, family="solid", motion=1, noise=0.02))
    write_clip(tmp_path / "clip.mp4", [frame.image for frame in frames])

    class Chain(ClipMatte):
        matted = 0
        stop_at: int | None = None

        def alpha_of(self, image, trimap):
            self.matted += 1
            if self.matted == self.stop_at:
                raise KeyboardInterrupt
            return super().alpha_of(image, trimap)

    def subject(sample) -> Subject:
        return Subject((sample["image"][..., 1] / 255).astype(np.float32), 1.0, is_sharp=False)

    for every in (1, 4):
        chains = [Chain(subject, Predictor(Red()), 3.0, segment_every=every) for _ in range(3)]
        kinds = ("alpha", "trimap")
        run(chains[0], tmp_path / "clip.mp4", tmp_path / f"whole{every}", kinds=kinds)
        chains[1].stop_at = 10
        with pytest.raises(KeyboardInterrupt):
            run(chains[1], tmp_path / "clip.mp4", tmp_path / f"out{every}", kinds=kinds)
        done = len(list((tmp_path / f"out{every}.part").glob("*.png")))
        assert done >= 5
        run(chains[2], tmp_path / "clip.mp4", tmp_path / f"out{every}", kinds=kinds, resume=True)
        assert chains[2].matted == FRAMES - done + 2  # the two before are needed, but not written
        for suffix in ("", "_trimap"):
            assert content(tmp_path / f"whole{every}{suffix}") == content(tmp_path / f"out{every}{suffix}")


def test_frames_of_other_settings_are_not_mixed(tmp_path, clip):
    with pytest.raises(KeyboardInterrupt):
        run(Predictor(Stopped(6)), clip, tmp_path / "out")
    with pytest.raises(InputError, match=r"out\.part: contains frames of a run that was stopped; continue with --skip"):
        run(Predictor(Stopped()), clip, tmp_path / "out")
    with pytest.raises(InputError, match=r"out\.part: its frames were made with a 1, this run has 2"):
        run(Predictor(Stopped()), clip, tmp_path / "out", resume=True, settings={"a": "2"})
    assert len(list((tmp_path / "out.part").glob("*.png"))) >= 4
    (tmp_path / "mine.part").mkdir()
    with pytest.raises(InputError, match=r"mine\.part: expected nothing or frames of a run that was stopped"):
        run(Predictor(Stopped()), clip, tmp_path / "mine", resume=True)


def test_settings_are_told_apart_by_the_content_of_files(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"1")
    first = settings_of({"seg": tmp_path / "a.pth", "width": 3, "output": "x"}, without=("output",))
    assert sorted(first) == ["seg", "width"]
    (tmp_path / "a.pth").write_bytes(b"2")
    assert settings_of({"seg": tmp_path / "a.pth", "width": 3})["seg"] != first["seg"]


def test_a_video_file_says_that_it_begins_again(tmp_path, clip, capsys):
    (job,) = fit_to(plan_files(str(clip), None, str(tmp_path / "out.mp4")), Stopped(), ["alpha"])
    with pytest.raises(KeyboardInterrupt):
        predict_clip(Predictor(Stopped(6)), job, settings={})
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
    assert predict_clip(Predictor(Stopped()), job, settings={}, skip_existing=True) == 0
    assert "out.mp4: a video file starts from the beginning after a stop" in capsys.readouterr().err


@pytest.fixture(scope="module")
def without_display():
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DISPLAY", "WAYLAND_DISPLAY"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="module")
def chain_command(tmp_path_factory, without_display):
    """tools/auto_matte.py on a clip in a folder, whose frames without a stop are in "whole"; where no display is."""
    folder = tmp_path_factory.mktemp("chain")
    frames = list(SyntheticClip((64, 96), 12, seed=3, family="solid", motion=1, noise=0.01))
    write_clip(folder / "clip.mp4", [frame.image for frame in frames])
    Image.fromarray((frames[0].alpha >= 128).astype(np.uint8) * 255).save(folder / "mask.png")

    def command(output: str) -> list[str]:
        named = [folder / "clip.mp4", "--mask", folder / "mask.png", "--output", folder / output / "%03d.png"]
        fixed = ["--save", "alpha,rgba", "--device", "cpu", "--skip-existing"]
        return [sys.executable, "tools/auto_matte.py", *map(str, named), *fixed]

    subprocess.run(command("whole"), cwd=ROOT, check=True, capture_output=True)
    return folder, command


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_is_killed_is_gone_on_with(chain_command, number):
    folder, command = chain_command
    output = f"out{number}"
    process = subprocess.Popen(command(output), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    while not (folder / f"{output}_rgba.part" / "003.png").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert (b"--skip-existing continues" in errors) == (number == signal.SIGINT)
    assert not (folder / output).exists()
    result = subprocess.run(command(output), cwd=ROOT, check=True, capture_output=True, text=True)
    assert "frames of an earlier run" in result.stderr
    assert "12 frames written, 0 failed" in result.stdout
    assert_same(folder, "whole", output)


def test_a_picture_of_the_stopped_run_is_repeated_for_a_frame_that_fails_first(tmp_path, clip):
    """The first frame of the second run fails: it shows the last picture of the first run."""
    with pytest.raises(KeyboardInterrupt):
        run(Predictor(Stopped(6)), clip, tmp_path / "out")
    done = len(list((tmp_path / "out.part").glob("*.png")))
    run(Predictor(Stopped(fails=(0,))), clip, tmp_path / "out", resume=True)
    for suffix in ("", "_rgba"):
        pictures = content(tmp_path / f"out{suffix}")
        assert pictures[f"{done + 1:03d}.png"] == pictures[f"{done:03d}.png"]
    assert picture(done)[-1, -1].tolist() != picture(done - 1)[-1, -1].tolist()
