"""The commands of the quick starts, as they are written, run on small data and give what the pages promise."""

import math
import re
import runpy
import shlex
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from documented_commands import Command, commands
from PIL import Image
from tiny import OVERRIDES, ROOT

NOT_RUN = {
    "make set-up": "the set-up that the tests run in",
    "source .venv/bin/activate": "of a shell",
    "pip install -r requirements/web.txt": "part of the set-up",
    "python tools/web_demo.py": "serves until it is ended; tests/tools/test_web_page.py",
}
PACKAGES = ".venv/lib/python3*/site-packages"  # as a shell expands it in a clone
SIDE, RADIUS = 256, 80
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def disc() -> np.ndarray:
    """Alpha of a disc with a soft edge, which every picture of these tests shows: (H, W) in [0, 1]."""
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    return np.clip((RADIUS - np.hypot(x, y)) / 4 + 0.5, 0, 1)


def prepare(folder, alpha) -> None:
    """Write what the pages take as given: the project's files, a photo, a mask of it, and folders of both."""
    for path in ROOT.iterdir():
        if path.suffix == ".py" or (path.name in {"configs", "tools"}):
            (folder / path.name).symlink_to(path)
    noise = np.random.default_rng(0).normal(0, 6, (SIDE, SIDE, 3))
    colours = alpha[..., None] * [220, 60, 40] + (1 - alpha[..., None]) * [40, 110, 160] + noise
    for name in ("photos", "trimaps"):
        (folder / name).mkdir()
    photo = Image.fromarray(colours.clip(0, 255).astype(np.uint8))
    photo.save(folder / "photo.jpg", quality=95)
    photo.save(folder / "photos" / "first.jpg", quality=95)
    Image.fromarray(((alpha > 0.5) * 255).astype(np.uint8)).save(folder / "mask.png")
    trimap = np.select([alpha == 0, alpha == 1], [0, 255], 128).astype(np.uint8)
    Image.fromarray(trimap).save(folder / "trimaps" / "first.png")


def run_all(listed: list[Command], monkeypatch, extra=lambda command: []) -> None:
    """Run commands in order, in the current folder; each must end with status 0.

    Args:
        listed: from a page.
        monkeypatch: pytest's.
        extra: further arguments of a command.
    """
    for command in listed:
        if command.text in NOT_RUN:
            continue
        assert command.program, f"{command.page}:{command.line}: neither run nor listed: {command.text}"
        words = shlex.split(command.text.replace(PACKAGES, sysconfig.get_path("purelib")))
        assert words[:2] == ["python", command.program]
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", [*words[1:], *extra(command)])
            patch.setattr(sys, "path", [str((ROOT / command.program).parent), *sys.path])
            with pytest.raises(SystemExit) as ended:
                runpy.run_path(str(ROOT / command.program), run_name="__main__")
        assert not ended.value.code, f"{command.page}:{command.line}: {command.text}"


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path))


def check_cat(path) -> None:
    """The picture shows the cat of the first command, unchanged, over plain blue."""
    photo = pixels(Path(sysconfig.get_path("purelib"), "skimage", "data", "chelsea.png"))
    cat = pixels(path)
    np.testing.assert_array_equal(cat[60:180, 180:260], photo[60:180, 180:260])  # between the eyes
    assert (cat[:200, 430:] == [0x1E, 0x90, 0xFF]).all()


def test_the_quick_start_cuts_the_subject_out(tmp_path, monkeypatch, disc):
    prepare(tmp_path, disc)
    monkeypatch.chdir(tmp_path)
    run_all(commands(ROOT / "docs" / "quick_start.md"), monkeypatch)

    check_cat(tmp_path / "cat.png")
    matte, cutout, blue = (pixels(tmp_path / name) for name in ("matte.png", "cutout.png", "blue.png"))
    assert matte.shape == (SIDE, SIDE)
    assert cutout.shape == (SIDE, SIDE, 4)
    np.testing.assert_array_equal(cutout[..., 3], matte)  # the last of both commands, with one trimap
    assert np.abs(matte / 255 - disc).mean() < 0.01
    assert np.abs(cutout[disc == 1][:, :3] - [220, 60, 40.0]).mean() < 12  # the noise of the photo and of JPEG
    outside = disc == 0
    far = outside & (np.hypot(*(np.mgrid[:SIDE, :SIDE] - SIDE / 2)) > RADIUS + 20)
    assert (blue[far] == [0x1E, 0x90, 0xFF]).all()
    assert np.abs(pixels(tmp_path / "mattes" / "first.png") / 255 - disc).mean() < 0.01
    assert len(list((tmp_path / "mattes_synthetic").glob("*.png"))) == 4


def test_the_first_commands_of_the_readme_run(tmp_path, monkeypatch, disc):
    section = re.search(r"## Your first cut-out\n(.*?)\n## ", (ROOT / "README.md").read_text(), re.DOTALL).group(1)
    section = re.sub(r"\s*\\\n\s*", " ", section)  # continued lines joined
    prepare(tmp_path, disc)
    (tmp_path / "trimap.png").write_bytes((tmp_path / "trimaps" / "first.png").read_bytes())
    monkeypatch.chdir(tmp_path)
    shown = [command for command in commands(ROOT / "README.md") if command.text in section]
    # the box of the README's photograph is larger than this picture
    smaller = [command._replace(text=command.text.replace("120 40 780 990", "20 20 230 230")) for command in shown]
    run = [command for command in smaller if command.text.startswith("python")]
    assert [command.program for command in run] == [
        *("tools/auto_matte.py", "tools/auto_matte.py", "inference.py", "tools/make_synthetic.py", "inference.py")
    ]
    run_all(run, monkeypatch)
    check_cat(tmp_path / "cat.png")
    assert pixels(tmp_path / "cutout.png").shape == (SIDE, SIDE, 4)
    assert np.abs(pixels(tmp_path / "matte.png") / 255 - disc).mean() < 0.01
    assert len(list((tmp_path / "mattes").glob("*.png"))) == 4


def test_the_quick_start_for_researchers_trains_predicts_and_scores(tmp_path, monkeypatch, disc, capsys):
    prepare(tmp_path, disc)
    monkeypatch.chdir(tmp_path)

    def shrunk(command: Command) -> list[str]:
        run = ["train.curves=True", "train.max_iter=2", "train.eval_period=0", "lr_multiplier.warmup_length=0.2"]
        small = [*OVERRIDES, *run]
        return small if command.program == "main.py" else []

    run_all(commands(ROOT / "docs" / "researchers.md"), monkeypatch, shrunk)
    for name in ("log.txt", "metrics.json", "curves.png"):
        assert (tmp_path / "output" / "first" / name).is_file()
    assert (tmp_path / "first.html").is_file()
    printed = capsys.readouterr().out
    assert re.search(r"8 images, region unknown", printed)
    # the model in the box against two iterations from random weights
    change = float(re.search(r"SAD \(10\^3\)\s+([+-][\d.]+) ", printed).group(1))
    assert math.isfinite(change)
    assert change < 0
