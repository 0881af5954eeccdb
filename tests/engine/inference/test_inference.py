"""inference.py as users call it, and the engine beneath it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from systems import Constant
from tiny import CONFIG, OVERRIDES, ROOT
from tiny import overrides as run_overrides

import inference
from engine.config import build, load_config
from engine.inference import predict_alpha
from engine.training.checkpoints import RunCheckpointer
from engine.training.run import train
from runtime import command_line as cli
from runtime.errors import InputError


def test_alpha_is_rounded_and_known_regions_are_exact():
    trimap = np.array([[0, 128, 255]], np.uint8)
    image = np.zeros((1, 3, 3), np.uint8)
    assert predict_alpha(Constant(0.998), image, trimap).tolist() == [[0, 254, 255]]  # 254.49; 0.999 is 254.7
    assert predict_alpha(Constant(0.999), image, trimap).tolist() == [[0, 255, 255]]


def test_a_trimap_without_unknown_is_its_own_matte():
    trimap = np.array([[0, 255]], np.uint8)
    assert predict_alpha(Constant(float("nan")), np.zeros((1, 2, 3), np.uint8), trimap).tolist() == [[0, 255]]


def test_a_prediction_that_is_not_finite_is_no_matte():
    with pytest.raises(InputError, match="predicts NaN"):
        predict_alpha(Constant(float("nan")), np.zeros((1, 2, 3), np.uint8), np.array([[0, 128]], np.uint8))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    RunCheckpointer(build(load_config(CONFIG, OVERRIDES).model), str(folder)).save("model")
    return str(folder / "model.pth")


@pytest.fixture
def pictures(tmp_path) -> dict[str, np.ndarray]:
    """images/ and trimaps/ of several modes and odd sizes; returns the trimaps."""
    rng = np.random.default_rng(0)
    trimaps = {}
    for folder in ("images", "trimaps"):
        (tmp_path / folder).mkdir()
    for name, (height, width) in {
        "rgb": (37, 50),
        "rgba": (64, 1),
        "palette": (1, 33),
        "gray": (16, 16),
        "deep": (40, 9),
    }.items():
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        image = {
            "rgb": lambda pixels: Image.fromarray(pixels),
            "rgba": lambda pixels: Image.fromarray(pixels).convert("RGBA"),
            "palette": lambda pixels: Image.fromarray(pixels).quantize(16),
            "gray": lambda pixels: Image.fromarray(pixels[..., 0]),
            "deep": lambda pixels: Image.fromarray(pixels[..., 0].astype(np.uint16) * 257),
        }[name](pixels)
        image.save(tmp_path / "images" / f"{name}.png")
        trimap = rng.choice(np.array([0, 128, 255], np.uint8), (height, width))
        trimaps[name] = trimap
        Image.fromarray(trimap).save(tmp_path / "trimaps" / f"{name}.png")
    return trimaps


def folder_arguments(folder: Path, checkpoint: str) -> list[str]:
    named = {"image": "images", "trimap": "trimaps", "output": "out"}
    return ["--checkpoint", checkpoint, *(part for k, v in named.items() for part in (f"--{k}", str(folder / v)))]


@pytest.fixture
def run(capsys):
    """Call the script's main as its command line would; returns (exit status, stdout, stderr)."""

    def call(*arguments: str, config: tuple[str, ...] = ("--config-file", CONFIG)) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.run(lambda: inference.main([*config, *arguments, "--device", "cpu", *OVERRIDES[:8]]))
        return ended.value.code, *capsys.readouterr()

    return call


def test_the_script_runs_as_a_command(tmp_path):
    command = [sys.executable, str(ROOT / "inference.py"), "--config-file", CONFIG, "--checkpoint", "nowhere.pth"]
    folders = ["--data-dir", str(tmp_path), "--output-dir", str(tmp_path)]
    result = subprocess.run([*command, *folders], cwd=tmp_path, capture_output=True, text=True)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)


def test_a_folder_of_every_kind_of_image(tmp_path, pictures, checkpoint, run):
    status, _, err = run(*folder_arguments(tmp_path, checkpoint))
    assert status == 0, err
    assert sorted(os.listdir(tmp_path / "out")) == sorted([*(f"{name}.png" for name in pictures), "manifest.json"])
    for name, trimap in pictures.items():
        matte = Image.open(tmp_path / "out" / f"{name}.png")
        assert matte.mode == "L"
        alpha = np.asarray(matte)
        assert alpha.shape == trimap.shape
        np.testing.assert_array_equal(alpha[trimap != 128], trimap[trimap != 128])


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="PyTorch compiles with g++")
def test_compiled_mattes_are_the_same_and_nothing_more_is_said(tmp_path, pictures, checkpoint):
    """In processes of their own: what is compiled stays for the whole of one."""
    mattes = {}
    for name, options in {"plain": [], "compiled": ["--compile"]}.items():
        arguments = [*folder_arguments(tmp_path, checkpoint)[:-1], str(tmp_path / name)]
        command = [sys.executable, str(ROOT / "inference.py"), "--config-file", CONFIG, *arguments, *options]
        result = subprocess.run(
            [*command, "--device", "cpu", *OVERRIDES[:8]], cwd=ROOT, capture_output=True, text=True, timeout=600
        )
        assert result.returncode == 0, result.stderr
        assert "orch" not in "".join(line for line in result.stderr.splitlines() if not line.startswith("/"))
        mattes[name] = [np.array(Image.open(tmp_path / name / f"{each}.png")).astype(int) for each in pictures]
    for plain, compiled in zip(mattes["plain"], mattes["compiled"], strict=True):
        assert np.abs(plain - compiled).max() <= 1


def test_composition1k_layout_with_vitmattes_option_names(tmp_path, pictures, checkpoint, run):
    os.rename(tmp_path / "images", tmp_path / "merged")
    arguments = ("--checkpoint-dir", checkpoint, "--data-dir", str(tmp_path), "--inference-dir", str(tmp_path / "out"))
    status, _, err = run(*arguments, config=("--config-dir", CONFIG))
    assert status == 0, err
    stamps = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.png")}
    assert len(stamps) == len(pictures)
    (tmp_path / "out" / "rgb.png").unlink()
    _, out, _ = run(*arguments, "--skip-existing", config=("--config-dir", CONFIG))
    assert "1 written, 4 skipped, 0 failed" in out
    assert {name for name, stamp in stamps.items() if (tmp_path / "out" / name).stat().st_mtime_ns != stamp} == {
        "rgb.png"
    }


def test_bad_files_are_named_and_the_rest_is_done(tmp_path, pictures, checkpoint, run):
    (tmp_path / "images" / "rgb.png").write_text("not an image")
    Image.new("L", (5, 5)).save(tmp_path / "trimaps" / "gray.png")
    Image.new("L", (9, 40)).save(tmp_path / "trimaps" / "deep.png")
    status, out, err = run(*folder_arguments(tmp_path, checkpoint))
    assert status == 2
    assert "rgb.png: not a readable image" in err
    assert "the trimap is 5 x 5, its image" in err
    assert "no unknown pixel" in err
    assert "Traceback" not in err
    assert "3 written, 0 skipped, 2 failed" in out
    assert sorted(os.listdir(tmp_path / "out")) == ["deep.png", "manifest.json", "palette.png", "rgba.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image", "{images}", "--trimap", "{trimaps}"], "give either --image"),
        (["--image", "{images}", "--trimap", "{nowhere}", "--output", "{out}"], "nowhere: expected a folder of images"),
        (
            ["--image", "{images}/rgb.png", "--trimap", "{trimaps}", "--output", "{out}"],
            "expected an image file (or two folders), found a folder",
        ),
        (
            ["--image", "{images}/rgb.png", "--trimap", "{trimaps}/rgb.png", "--output", "{out}/a.jpg"],
            "JPEG changes",
        ),
        (["--image", "{images}", "--trimap", "{trimaps}", "--output", "{images}"], "is an input folder"),
        (["--data-dir", "{images}", "--output-dir", "{out}"], "expected folders merged and trimaps"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(tmp_path, pictures, checkpoint, run, arguments, message):
    folders = {name: str(tmp_path / name) for name in ("images", "trimaps", "nowhere", "out")}
    status, _, err = run("--checkpoint", checkpoint, *(argument.format(**folders) for argument in arguments))
    assert status == 2
    assert message in err
    assert err.count("\n") == 1


def test_a_matte_that_cannot_be_written_ends_the_run_in_one_line(tmp_path, pictures, checkpoint, run):
    (tmp_path / "out").write_text("a file where the folder should be")
    status, _, err = run(*folder_arguments(tmp_path, checkpoint))
    assert (status, err.count("\n")) == (2, 1)
    assert "expected a folder for the mattes" in err


def test_unpaired_names_are_listed(tmp_path, pictures, checkpoint, run):
    (tmp_path / "trimaps" / "rgb.png").unlink()
    status, _, err = run(*folder_arguments(tmp_path, checkpoint))
    assert status == 2
    assert "rgb.png: no image of that name" in err


def test_a_runs_checkpoint_needs_no_config(tmp_path, capsys):
    """The matte is that of the config; a checkpoint from before says that it needs one."""
    train(load_config(CONFIG, run_overrides(tmp_path / "run", 2)))
    checkpoint = tmp_path / "run" / "model_final.pth"
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 50, 3), np.uint8)).save(tmp_path / "image.png")
    Image.fromarray(rng.choice(np.array([0, 128, 255], np.uint8), (40, 50))).save(tmp_path / "trimap.png")
    files = ["--image", str(tmp_path / "image.png"), "--trimap", str(tmp_path / "trimap.png"), "--device", "cpu"]
    alone = [*files, "--checkpoint", str(checkpoint), "--output", str(tmp_path / "alone.png")]
    assert inference.main(alone) == 0
    config = [*run_overrides(tmp_path / "run", 2), "--config-file", CONFIG]
    together = [*files, *config, "--checkpoint", str(checkpoint), "--output", str(tmp_path / "config.png")]
    assert inference.main(together) == 0
    assert (tmp_path / "alone.png").read_bytes() == (tmp_path / "config.png").read_bytes()

    without = "import sys; sys.modules.update(detectron2=None, fvcore=None, omegaconf=None); import inference"
    bare = [*files, "--checkpoint", str(checkpoint), "--output", str(tmp_path / "bare.png")]
    script = f"{without}; sys.exit(inference.main({bare!r}))"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT)  # needs torch and what reads images
    assert (tmp_path / "bare.png").read_bytes() == (tmp_path / "alone.png").read_bytes()

    old = torch.load(checkpoint, weights_only=True)
    del old["config"]
    torch.save(old, tmp_path / "old.pth")
    with pytest.raises(InputError, match=r"old\.pth: does not describe its model; give --config-file too"):
        inference.main([*files, "--checkpoint", str(tmp_path / "old.pth"), "--output", str(tmp_path / "old.png")])
    assert inference.main([*together[:-3], str(tmp_path / "old.pth"), "--output", str(tmp_path / "old.png")]) == 0
    assert (tmp_path / "old.png").read_bytes() == (tmp_path / "config.png").read_bytes()


def test_trimaps_of_another_coding_are_read_and_counted_in_one_line(tmp_path, pictures, checkpoint, run):
    for name, trimap in pictures.items():
        if name != "rgb":
            Image.fromarray(trimap // 127).save(tmp_path / "trimaps" / f"{name}.png")  # 0, 1, 2
    (tmp_path / "images" / "notes.psd").touch()
    status, _, err = run(*folder_arguments(tmp_path, checkpoint))
    assert status == 0, err
    (line,) = [line for line in err.splitlines() if "background, unknown, foreground" in line]
    assert line.startswith("warning: 4 trimaps: values 0, 1, 2 read as background, unknown, foreground (the first is ")
    assert f"warning: {tmp_path / 'images'}: ignored 1 .psd (notes.psd)" in err
    for name, trimap in pictures.items():
        alpha = np.asarray(Image.open(tmp_path / "out" / f"{name}.png"))
        np.testing.assert_array_equal(alpha[trimap != 128], trimap[trimap != 128])


def test_a_photograph_without_its_orientation_on_the_trimap_is_warned_of(tmp_path, pictures, checkpoint, run):
    exif = Image.Exif()
    exif[0x0112] = 3
    Image.open(tmp_path / "images" / "rgb.png").save(tmp_path / "images" / "rgb.png", exif=exif)
    status, _, err = run(*folder_arguments(tmp_path, checkpoint))
    assert status == 0
    assert "warning: 1 trimap: EXIF orientation other than that of the file it belongs to" in err
