"""inference.py against bad input: sizes at the limits, files that are not what they claim, full disks, signals."""

import errno
import io
import os
import re
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from systems import Red
from tiny import CONFIG, OVERRIDES, ROOT
from torch import nn

import inference
from data.images import files, inputs
from data.images.files import read_rgb, read_size
from engine.config import build, load_config
from engine.inference import Job, Predictor, run_jobs
from engine.inference.manifest import MANIFEST
from runtime import command_line as cli
from runtime.command_line import SAME_REQUEST
from runtime.errors import InputError

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """On images as small as these, threads would only wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def models() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    without_prior = [*OVERRIDES, "model.colour_prior=null", "model.decoder.img_chans=4"]
    return {
        "prior": build(load_config(CONFIG, OVERRIDES).model).eval(),
        "no prior": build(load_config(CONFIG, without_prior).model).eval(),
        "red": Red(),
    }


@pytest.fixture
def run(tmp_path, models, monkeypatch, capsys) -> Callable:
    """Run the script on images/, trimaps/ and out/; returns (exit status, stdout, stderr)."""

    def call(*options: str, model: str = "red", **places: str | Path) -> tuple[int, str, str]:
        monkeypatch.setattr(inference, "model_of_checkpoint", lambda arguments: (models[model], "cpu"))
        places = {"image": tmp_path / "images", "trimap": tmp_path / "trimaps", "output": tmp_path / "out"} | places
        named = [f"--{name}={path}" for name, path in places.items()]
        with pytest.raises(SystemExit) as ended:
            cli.run(lambda: inference.main(["--config-file=-", "--checkpoint=-", *named, *options]))
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return ended.value.code, out, err

    return call


@pytest.fixture
def add(tmp_path) -> Callable:
    """Put an image of noise and its trimap, of all three kinds, into images/ and trimaps/; returns the trimap."""
    for folder in ("images", "trimaps"):
        (tmp_path / folder).mkdir()

    def call(name: str, height: int = 6, width: int = 7, suffix: str = ".png") -> np.ndarray:
        rng = np.random.default_rng(height * 1000 + width)
        pixels = rng.integers(0, 256, (height, width, 3), np.uint8)
        trimap = rng.choice(np.array([0, 128, 255], np.uint8), (height, width))
        trimap[0, 0] = 128
        Image.fromarray(pixels).save(tmp_path / "images" / f"{name}{suffix}")
        Image.fromarray(trimap).save(tmp_path / "trimaps" / f"{name}.png")
        return trimap

    return call


def assert_mattes(folder: Path, trimaps: dict[str, np.ndarray], others: tuple[str, ...] = (MANIFEST,)) -> None:
    """Only these mattes and the others are in the folder, of their trimaps' sizes and true to what they know."""
    assert sorted(os.listdir(folder)) == sorted([*(f"{name}.png" for name in trimaps), *others])
    for name, trimap in trimaps.items():
        with Image.open(folder / f"{name}.png") as matte:
            alpha = np.asarray(matte)
        assert (alpha.dtype, alpha.shape) == (np.uint8, trimap.shape), name
        np.testing.assert_array_equal(alpha[trimap != 128], trimap[trimap != 128], err_msg=name)


# ---- sizes

THIN = [(1, 1), (1, 2), (1, 17), (1, 300), (257, 1), (3, 1), (2, 129), (1, 2100)]  # the last in two tiles


@pytest.mark.parametrize("views", ["none", "flip+scale"])
@pytest.mark.parametrize("mode", ["whole", "reduced", "tiles"])
@pytest.mark.parametrize("model", ["prior", "no prior"])
def test_images_one_pixel_thin_come_out_in_every_mode(tmp_path, add, run, model, mode, views):
    trimaps = {f"{height}_{width}": add(f"{height}_{width}", height, width) for height, width in THIN}
    status, _, err = run("--mode", mode, "--views", views, model=model)
    assert status == 0, err
    assert_mattes(tmp_path / "out", trimaps)


@pytest.mark.parametrize("model", ["prior", "no prior"])
def test_thin_images_share_a_batch(tmp_path, add, run, model):
    trimaps = {f"{height}_{width}": add(f"{height}_{width}", height, width) for height, width in THIN}
    status, _, err = run("--batch-size", "4", "--views", "flip", model=model)
    assert status == 0, err
    assert_mattes(tmp_path / "out", trimaps)


@pytest.mark.parametrize(("height", "width"), [(40, 30000), (30000, 40)])
def test_a_side_of_30000_pixels_keeps_to_its_memory(tmp_path, add, run, height, width):
    trimap = add("strip", height, width)
    trimap[:, : width // 3] = trimap[: height // 3] = 0
    Image.fromarray(trimap).save(tmp_path / "trimaps" / "strip.png")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status, _, err = run("--max-memory", "250MiB", model="no prior")
    assert status == 0, err
    assert_mattes(tmp_path / "out", {"strip": trimap})
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300 * 1024  # KiB


# ---- kinds of file


def cmyk_jpeg(pixels: np.ndarray, path: Path) -> None:
    Image.fromarray(pixels).convert("CMYK").save(path, format="JPEG", quality=100, subsampling=0)


def turned_jpeg(pixels: np.ndarray, path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned clockwise, so stored turned the other way
    Image.fromarray(np.rot90(pixels)).save(path, format="JPEG", quality=100, subsampling=0, exif=exif)


KINDS = {
    "rgba": lambda pixels, path: Image.fromarray(np.dstack([pixels, pixels[..., :1] // 2])).save(path, format="PNG"),
    "palette": lambda pixels, path: Image.fromarray(pixels).quantize(16).save(path, format="PNG"),
    "transparent palette": lambda pixels, path: (
        Image.fromarray(pixels).quantize(16).save(path, format="PNG", transparency=b"\0\x40\xff")
    ),
    "gray": lambda pixels, path: Image.fromarray(pixels[..., 0]).save(path, format="PNG"),
    "gray and alpha": lambda pixels, path: Image.merge(
        "LA", [Image.fromarray(channel) for channel in (pixels[..., 0], pixels[..., 1])]
    ).save(path, "PNG"),
    "bilevel": lambda pixels, path: Image.fromarray(pixels[..., 0] > 127).save(path, format="PNG"),
    "deep": lambda pixels, path: Image.fromarray(pixels[..., 0].astype(np.uint16) * 257).save(path, format="PNG"),
    "float": lambda pixels, path: Image.fromarray(pixels[..., 0].astype(np.float32) / 255).save(path, format="TIFF"),
    "cmyk": cmyk_jpeg,
    "turned": turned_jpeg,
    "webp": lambda pixels, path: Image.fromarray(pixels).save(path, format="WEBP", lossless=True),
    "still gif": lambda pixels, path: Image.fromarray(pixels).quantize(16).save(path, format="GIF"),
}


@pytest.mark.parametrize("batch_size", ["1", "4"])
def test_every_kind_of_image_comes_out_upright_and_in_its_colours(tmp_path, run, batch_size):
    across, down = np.meshgrid(np.linspace(0, 255, 33), np.linspace(0, 255, 20))
    pixels = np.dstack([across, across, down]).astype(np.uint8)  # red, the answer, rises to the right
    for folder in ("images", "trimaps"):
        (tmp_path / folder).mkdir()
    for name, save in KINDS.items():
        save(pixels, tmp_path / "images" / f"{name}.png")  # what a file holds counts, not what it is called
        Image.new("L", (33, 20), 128).save(tmp_path / "trimaps" / f"{name}.png")
    status, _, err = run("--batch-size", batch_size)
    assert status == 0, err
    assert sorted(os.listdir(tmp_path / "out")) == sorted([*(f"{name}.png" for name in KINDS), MANIFEST])
    for name in KINDS:
        with Image.open(tmp_path / "out" / f"{name}.png") as matte:
            alpha = np.asarray(matte).astype(int)
        expected = np.where(pixels[..., 0] > 127, 255, 0) if name == "bilevel" else pixels[..., 0]
        assert alpha.shape == expected.shape, name
        assert np.abs(alpha - expected).mean() < 12, name  # 16 colours and JPEG; turned the wrong way it is 80


def test_trimaps_of_every_kind_mean_the_same(tmp_path, run):
    trimap = np.repeat(np.array([[0, 128, 255]], np.uint8), 5, axis=0)
    for folder in ("images", "trimaps"):
        (tmp_path / folder).mkdir()
    saved = {
        "gray": Image.fromarray(trimap),
        "rgb": Image.fromarray(np.repeat(trimap[..., None], 3, axis=2)),
        "rgba": Image.fromarray(np.repeat(trimap[..., None], 4, axis=2)),
        "soft": Image.fromarray(np.where(trimap == 128, 100, np.where(trimap == 255, 200, 60)).astype(np.uint8)),
        "deep": Image.fromarray(trimap.astype(np.uint16) * 257),
        "cmyk": Image.fromarray(np.repeat(trimap[..., None], 3, axis=2)).convert("CMYK"),
    }
    for name, image in saved.items():
        Image.new("RGB", (3, 5), (77, 0, 0)).save(tmp_path / "images" / f"{name}.png")
        image.save(tmp_path / "trimaps" / f"{name}.tif")
    status, _, err = run()
    assert status == 0, err
    for name in saved:
        np.testing.assert_array_equal(
            np.asarray(Image.open(tmp_path / "out" / f"{name}.png")), [[0, 77, 255]] * 5, name
        )


# ---- files that are not what they claim


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int, bits: int = 8, colours: int = 2) -> bytes:
    return PNG + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colours, 0, 0, 0))


def whole_png(*extra: bytes) -> bytes:
    """A sound PNG with further chunks before its pixels."""
    buffer = io.BytesIO()
    Image.new("RGB", (7, 6)).save(buffer, format="PNG")
    end_of_header = len(PNG) + 25
    return buffer.getvalue()[:end_of_header] + b"".join(extra) + buffer.getvalue()[end_of_header:]


def saved(image: Image.Image, **settings) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, **settings)
    return buffer.getvalue()


def noise(mode: str = "RGB") -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 70, 3), np.uint8)).convert(mode)


def truncated(whole: bytes) -> bytes:
    return whole[: len(whole) // 2]


def frames(**settings) -> bytes:
    return saved(noise(), save_all=True, append_images=[Image.new("RGB", (70, 60))], **settings)


def tiff_without_dimensions() -> bytes:
    whole = saved(noise(), format="TIFF")
    return whole.replace(struct.pack("<HHI", 256, 4, 1), struct.pack("<HHI", 999, 4, 1))


MEBIBYTES_OF_ZEROS = zlib.compress(bytes(64 * 2**20), 9)
BAD_FILES = {
    "empty": (b"", "not a readable image (the file is empty)"),
    "text": (b"<html>404 not found</html>", "not a readable image (unknown or damaged format)"),
    "signature only": (PNG, "not a readable image"),
    "truncated png": (truncated(saved(noise(), format="PNG")), "not a readable image"),
    "truncated jpeg": (truncated(saved(noise(), format="JPEG")), "not a readable image"),
    "truncated progressive jpeg": (
        truncated(saved(noise(), format="JPEG", progressive=True)),
        "not a readable image",
    ),
    "truncated tiff": (truncated(saved(noise(), format="TIFF")), "not a readable image"),
    "truncated webp": (truncated(saved(noise(), format="WEBP")), "not a readable image"),
    "truncated gif": (truncated(saved(noise("P"), format="GIF")), "not a readable image"),
    "tiff without dimensions": (tiff_without_dimensions(), "not a readable image"),
    "no pixels": (png_header(0, 5) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""), "not a readable image"),
    "moving gif": (frames(format="GIF"), "found several frames"),
    "moving webp": (frames(format="WEBP"), "found several frames"),
    "moving png": (frames(format="PNG"), "found several frames"),
    "claims 60000 x 60000": (png_header(60000, 60000) + chunk(b"IDAT", b""), "over the limit of 400,000,000 pixels"),
    "claims 4294967295 x 1": (png_header(2**32 - 1, 1) + chunk(b"IDAT", b""), ""),
    "claims 30000 x 20000": (png_header(30000, 20000, 1, 0) + chunk(b"IDAT", b""), "30000 x 20000 pixels is over"),
    "inflates": (
        png_header(60000, 60000, 1, 0) + chunk(b"IDAT", zlib.compress(bytes(7501 * 60000), 1)) + chunk(b"IEND", b""),
        "over the limit",
    ),
    "huge text": (whole_png(chunk(b"zTXt", b"Comment\0\0" + MEBIBYTES_OF_ZEROS)), "not a readable image"),
    "huge international text": (
        whole_png(chunk(b"iTXt", b"Comment\0\1\0\0\0" + MEBIBYTES_OF_ZEROS)),
        "not a readable image",
    ),
    "huge profile": (whole_png(chunk(b"iCCP", b"profile\0\0" + MEBIBYTES_OF_ZEROS)), "not a readable image"),
}


@pytest.mark.parametrize("batch_size", ["1", "4"])
@pytest.mark.parametrize("kind", ["image", "trimap"])
def test_bad_files_amid_a_folder_are_named_and_the_rest_is_done(tmp_path, add, run, kind, batch_size):
    good = {name: add(name) for name in ("a first", "m middle", "z last")}
    for name, (content, _) in BAD_FILES.items():
        add(f"bad {name}")
        (tmp_path / f"{kind}s" / f"bad {name}.png").write_bytes(content)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    started = time.monotonic()
    status, out, err = run("--batch-size", batch_size)
    assert status == 2
    assert_mattes(tmp_path / "out", good)
    assert f"{len(good)} written, 0 skipped, {len(BAD_FILES)} failed" in out
    told = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(told) == len(BAD_FILES)
    for name, (_, message) in BAD_FILES.items():
        (line,) = (line for line in told if str(tmp_path / f"{kind}s" / f"bad {name}.png:") in line)
        assert message in line
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # KiB: no bomb went off
    assert time.monotonic() - started < 10


def exif_orientation(kind: int, value: bytes) -> bytes:
    """EXIF of one entry, the orientation, as a TIFF type that need not be the right one."""
    entry = struct.pack("<HHI", 0x0112, kind, 1) + value.ljust(4, b"\0")
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + struct.pack("<I", 0)


@pytest.mark.parametrize(
    ("kind", "value"),
    [(2, b"6"), (3, b"\0"), (3, b"\x09"), (3, b"\xff\xff"), (7, b"\6"), (5, b"\xff"), (12, b"")],
    ids=["text", "0", "9", "65535", "bytes", "offset beyond the end", "empty double"],
)
def test_an_orientation_that_is_none_leaves_the_image_as_it_lies(tmp_path, kind, value):
    Image.new("RGB", (7, 6)).save(tmp_path / "a.png", exif=exif_orientation(kind, value))
    assert read_size(tmp_path / "a.png") == read_rgb(tmp_path / "a.png").shape[:2] == (6, 7)


def test_images_up_to_our_own_limit_are_not_refused_by_pillow(tmp_path):
    (tmp_path / "large.png").write_bytes(png_header(20000, 20000, 1, 0) + chunk(b"IDAT", b""))
    (tmp_path / "larger.png").write_bytes(png_header(20000, 20001, 1, 0) + chunk(b"IDAT", b""))
    assert read_size(tmp_path / "large.png") == (20000, 20000)
    with pytest.raises(InputError, match="over the limit"):
        read_size(tmp_path / "larger.png")


def test_an_image_that_memory_cannot_hold_costs_only_itself(tmp_path, add, run, monkeypatch):
    add("a")
    good = {"b": add("b")}

    def read_or_run_out(path, transfer=None):
        if path.stem == "a":
            raise MemoryError
        return read_rgb(path), ""

    monkeypatch.setattr(inputs, "read_photograph", read_or_run_out)
    status, _, err = run()
    assert (status, err.count("error: ")) == (2, 1)
    assert f"{tmp_path / 'images' / 'a.png'}: reading it takes more memory than is available" in err
    assert_mattes(tmp_path / "out", good)


# ---- things that are no files


def test_a_folder_named_like_an_image_is_no_image(tmp_path, add, run):
    good = {"a": add("a")}
    for folder in ("images", "trimaps"):
        (tmp_path / folder / "folder.png").mkdir()
    status, _, err = run()
    assert status == 0, err
    assert_mattes(tmp_path / "out", good)


def put_broken_link(path: Path) -> None:
    path.symlink_to("nowhere.png")


def put_loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize(
    ("put", "found"),
    [
        (put_broken_link, "a broken link"),
        (put_loop, "a broken link"),
        (os.mkfifo, "a pipe"),
        (lambda path: None, "nothing"),
    ],
)
@pytest.mark.parametrize("kind", ["image", "trimap"])
def test_what_is_no_file_is_refused_at_once_and_called_what_it_is(tmp_path, add, run, put, found, kind):
    add("a")
    put(tmp_path / "odd.png")
    named = {"image": tmp_path / "images" / "a.png", "trimap": tmp_path / "trimaps" / "a.png"}
    status, _, err = run(**named | {kind: tmp_path / "odd.png"})
    assert (status, err.count("\n")) == (2, 1)
    assert found in err
    assert str(tmp_path / "odd.png") in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("batch_size", ["1", "2"])
@pytest.mark.parametrize(
    ("put", "found"),
    [(put_broken_link, "a broken link"), (put_loop, "a broken link"), (os.mkfifo, "a pipe, a device or a socket")],
)
@pytest.mark.parametrize("folder", ["images", "trimaps"])
def test_what_is_no_file_in_a_folder_costs_only_itself(tmp_path, add, run, put, found, folder, batch_size):
    good = {name: add(name) for name in ("a", "c")}
    add("b")
    odd = tmp_path / folder / "b.png"
    odd.unlink()
    put(odd)
    status, out, err = run("--batch-size", batch_size)
    assert (status, err.count("error: ")) == (2, 1)
    assert f"error: {odd}: expected an image file, found {found}\n" in err
    assert "2 written, 0 skipped, 1 failed" in out
    assert_mattes(tmp_path / "out", good)


def test_files_that_go_after_the_listing_cost_only_themselves(tmp_path, add, models):
    good = {name: add(name) for name in ("a", "d")}
    for name in ("b", "c"):
        add(name)
        (tmp_path / "images" / f"{name}.png").unlink()
    os.mkfifo(tmp_path / "images" / "c.png")
    files = [[tmp_path / folder / f"{name}.png" for folder in ("images", "trimaps", "out")] for name in "abcd"]
    jobs = [Job({"image": image, "trimap": trimap}, {"alpha": output}) for image, trimap, output in files]
    outcomes = list(run_jobs(Predictor(models["red"]), jobs))
    assert [outcome.status for outcome in outcomes] == ["written", "failed", "failed", "written"]
    assert "found nothing" in outcomes[1].remark
    assert "found a pipe" in outcomes[2].remark
    assert_mattes(tmp_path / "out", good, others=())


@pytest.fixture
def tmp_path(tmp_path, request) -> Path:
    return request.getfixturevalue("open_tmp_path") if "ordinary_user" in request.fixturenames else tmp_path


def test_a_file_without_permission_is_named_and_the_rest_is_done(tmp_path, add, run, ordinary_user):
    good = {name: add(name) for name in ("a", "c")}
    add("b")
    ordinary_user(tmp_path)
    (tmp_path / "images" / "b.png").chmod(0)
    status, _, err = run()
    assert (status, err.count("error: ")) == (2, 1)
    assert f"{tmp_path / 'images' / 'b.png'}: cannot be read: Permission denied" in err
    assert_mattes(tmp_path / "out", good)


@pytest.mark.parametrize("folder", ["images", "trimaps"])
@pytest.mark.parametrize("mode", [0o000, 0o400, 0o100])
def test_a_folder_without_permission_is_one_line(tmp_path, add, run, ordinary_user, folder, mode):
    add("a")
    ordinary_user(tmp_path)
    (tmp_path / folder).chmod(mode)
    status, _, err = run()
    (tmp_path / folder).chmod(0o755)
    assert (status, err.count("\n")) == (2, 1)
    assert f"{tmp_path / folder}" in err
    assert "ermission" in err


# ---- where mattes cannot go


def test_a_folder_that_cannot_be_written_to_is_told_before_the_model_is_built(
    tmp_path, add, run, ordinary_user, monkeypatch
):
    add("a")
    (tmp_path / "locked").mkdir()
    ordinary_user(tmp_path)
    (tmp_path / "locked").chmod(0o555)
    monkeypatch.setattr("engine.inference.Predictor", None)
    named = {"image": tmp_path / "images" / "a.png", "trimap": tmp_path / "trimaps" / "a.png"}
    for places in (
        {"output": tmp_path / "locked"},
        {"output": tmp_path / "locked" / "new" / "folder"},
        named | {"output": tmp_path / "locked" / "matte.png"},
    ):
        status, _, err = run(**places)
        assert (status, err.count("\n")) == (2, 1)
        assert "locked" in err
        assert "no permission to write" in err
    assert os.listdir(tmp_path / "locked") == []


def test_a_missing_folder_for_the_matte_is_made(tmp_path, add, run):
    trimap = add("a")
    image, trimap_file = tmp_path / "images" / "a.png", tmp_path / "trimaps" / "a.png"
    status, _, err = run(image=image, trimap=trimap_file, output=tmp_path / "new" / "deep" / "matte.png")
    assert status == 0, err
    assert_mattes(tmp_path / "new" / "deep", {"matte": trimap}, others=())


@pytest.mark.parametrize("output", ["blocked", "blocked/out", "blocked/out/deep"])
def test_a_file_where_the_folder_should_be_is_one_line_and_stays(tmp_path, add, run, output):
    add("a")
    (tmp_path / "blocked").write_text("mine")
    status, _, err = run(output=tmp_path / output)
    assert (status, err.count("\n")) == (2, 1)
    assert str(tmp_path / "blocked") in err
    assert "expected a folder" in err
    assert (tmp_path / "blocked").read_text() == "mine"


def test_a_folder_where_a_matte_should_go_is_told_before_the_work(tmp_path, add, run):
    add("a")
    add("b")
    (tmp_path / "out" / "b.png").mkdir(parents=True)
    status, _, err = run()
    assert (status, err.count("\n")) == (2, 1)
    assert f"{tmp_path / 'out' / 'b.png'}: expected a file or nothing at the path of the matte, found a folder" in err
    assert os.listdir(tmp_path / "out") == ["b.png"]


def test_a_matte_that_links_to_its_input_does_not_replace_it(tmp_path, add, run):
    add("a")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").symlink_to(tmp_path / "images" / "a.png")
    before = (tmp_path / "images" / "a.png").read_bytes()
    status, _, err = run()
    assert (status, err.count("\n")) == (2, 1)
    assert "is an input file" in err
    assert (tmp_path / "images" / "a.png").read_bytes() == before


def test_a_loop_of_links_as_output_is_one_line(tmp_path, add, run):
    add("a")
    put_loop(tmp_path / "out")
    status, _, err = run()
    told = [line for line in err.splitlines() if ": predicting as a whole" not in line]
    assert (status, len(told)) == (2, 1)
    assert str(tmp_path / "out") in err


# ---- names


def test_names_of_every_kind_come_out_as_they_are_and_on_one_line(tmp_path, add, run):
    names = [
        "with space", " ", "new\nline", "-rf", "--", "a.b.c", "%s {0}", "\x1b[2J", "\u56fe\u50cf", "e\u0301", "*", "'",
        os.fsdecode(b"latin \xe9"),
    ]  # fmt: skip
    trimaps = {name: add(name) for name in names}
    for name in names:
        add(f"bad {name}")
        (tmp_path / "images" / f"bad {name}.png").write_bytes(b"")
    status, _, err = run("--batch-size", "2")
    assert status == 2
    assert_mattes(tmp_path / "out", trimaps)
    told = [line for line in err.split("\n") if line and ": predicting as a whole" not in line]
    assert [line.split(":")[0] for line in told] == ["error"] * len(names)
    assert "\x1b" not in err
    assert "bad new\\nline.png: not a readable image" in err
    assert "bad latin \\udce9.png: not a readable image" in err


def test_a_mistake_about_a_file_with_a_line_end_in_its_name_is_one_line(tmp_path, add, run):
    add("a")
    (tmp_path / "images" / "two\nlines.png").touch()
    status, _, err = run()
    assert (status, err.count("\n")) == (2, 1)
    assert "two\\nlines.png: no image of that name" in err


def test_a_name_that_is_no_utf8_can_be_told_on_stdout(tmp_path, add, run, monkeypatch):
    add("a")
    odd = tmp_path / os.fsdecode(b"\xe9")
    told = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="strict")  # as stdout is in a UTF-8 locale
    monkeypatch.setattr(sys, "stdout", told)
    status, _, err = run(output=odd)
    assert status == 0, err
    assert sorted(os.listdir(odd)) == ["a.png", MANIFEST]
    told.seek(0)
    assert "\\udce9/a.png: 1 written" in told.read()


@pytest.mark.parametrize("letter", ["a", "\u00e9", "\u56fe"])
def test_the_longest_names_there_are_can_be_written(tmp_path, add, run, letter):
    name = letter * ((255 - len(".png")) // len(letter.encode()))
    trimap = add(name)
    status, _, err = run()
    assert status == 0, err
    assert_mattes(tmp_path / "out", {name: trimap})


@pytest.mark.parametrize("option", ["image", "trimap", "output"])
def test_a_name_that_is_too_long_is_one_line(tmp_path, add, run, option):
    add("a")
    status, _, err = run(**{option: tmp_path / ("a" * 300)})
    assert (status, err.count("\n")) == (2, 1)
    assert f"{'a' * 300}: File name too long" in err


@pytest.mark.parametrize(("one", "other"), [("a.jpg", "a.png"), ("A.png", "a.png"), ("a.PNG", "a.webp")])
def test_two_images_of_one_matte_are_refused_before_the_work(tmp_path, add, run, one, other):
    add("a")
    (tmp_path / "images" / "a.png").unlink()
    for name in (one, other):
        Image.new("RGB", (7, 6)).save(tmp_path / "images" / name)
    status, _, err = run()
    assert (status, err.count("\n")) == (2, 1)
    assert one in err
    assert other in err
    assert "share a name" in err
    assert not (tmp_path / "out").exists()


# ---- full disks


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A folder on a disk of its own, of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("mounting takes the rights of root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def assert_only_whole_mattes(folder: Path, before: dict[str, bytes]) -> None:
    """The mattes written before are what they were, the others are whole, and nothing else is there."""
    for path in folder.iterdir():
        if path.name == MANIFEST:
            continue
        assert path.suffix == ".png"
        assert not path.name.startswith(".")
        with Image.open(path) as matte:
            matte.load()
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_a_full_disk_ends_the_run_in_one_line_without_half_a_file(tmp_path, add, run, small_disk):
    add("a", 20, 20)
    assert run(output=small_disk)[0] == 0
    before = {"a.png": (small_disk / "a.png").read_bytes()}
    for name in ("b", "c", "d", "e", "f"):
        add(name, 150, 150)  # of noise: 22 KiB
    status, _, err = run("--skip-existing", output=small_disk)
    assert (status, err.count("error: ")) == (2, 1)
    (line,) = (line for line in err.splitlines() if line.startswith("error: "))
    name = Path(line.removeprefix("error: ").split(":")[0]).name
    assert line == f"error: {small_disk / name}: cannot write: No space left on device"
    assert not (small_disk / name).exists()
    assert_only_whole_mattes(small_disk, before)
    assert len(list(small_disk.glob("*.png"))) >= 2  # some of the rest had room
    (small_disk / "a.png").unlink()
    status, _, err = run(output=small_disk, image=tmp_path / "images" / "a.png", trimap=tmp_path / "trimaps" / "a.png")
    assert status == 0, err


def test_a_matte_that_does_not_fit_leaves_the_old_one(tmp_path, add, run):
    """No file may grow beyond 8 KiB: the nearest to a full disk that every user can have."""
    for name, side in (("a", 20), ("b", 150)):
        add(name, side, side)
    (tmp_path / "out").mkdir()
    shutil.copy(tmp_path / "trimaps" / "a.png", tmp_path / "out" / "b.png")
    before = {"b.png": (tmp_path / "out" / "b.png").read_bytes()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 * 1024, limits[1]))
    try:
        status, _, err = run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert status == 2
    assert f"error: {tmp_path / 'out' / 'b.png'}: cannot write: File too large" in err.splitlines()
    assert_only_whole_mattes(tmp_path / "out", before)
    assert len(list((tmp_path / "out").glob("*.png"))) == 2


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("after", [0, 500])
def test_a_disk_that_fails_at_any_moment_leaves_no_half_file(tmp_path, add, run, monkeypatch, number, after):
    """The disk takes so many bytes; with 0 it fails where the file is to be made safe, at the sync."""
    add("a", 40, 40)

    def fail(*_):
        raise OSError(number, os.strerror(number))

    def save(image, path, **settings):
        Path(path).write_bytes(bytes(after))
        fail()

    if after:
        monkeypatch.setattr(Image.Image, "save", save)
    else:
        monkeypatch.setattr(files.os, "fsync", fail)
    status, _, err = run()
    assert status == 2
    assert f"error: {tmp_path / 'out' / 'a.png'}: cannot write: {os.strerror(number)}" in err.splitlines()
    assert os.listdir(tmp_path / "out") == []


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_matte_sent_to_a_full_device_is_one_line(tmp_path, add, run):
    add("a")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").symlink_to("/dev/full")
    status, _, err = run()
    assert status == 2
    assert f"error: {tmp_path / 'out' / 'a.png'}: cannot write: No space left on device" in err.splitlines()
    assert os.listdir(tmp_path / "out") == ["a.png"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_log_on_a_full_disk_is_one_line_after_the_mattes_are_written(tmp_path, add, run, monkeypatch):
    trimap = add("a")
    with open("/dev/full", "w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        status, _, err = run()
        monkeypatch.undo()
        with pytest.raises(OSError, match="No space left"):
            full.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    assert status == 2
    assert "error: output: No space left on device" in err
    assert_mattes(tmp_path / "out", {"a": trimap})


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_messages_on_a_full_disk_do_not_stop_the_work(tmp_path, add, run, monkeypatch):
    good = {"a": add("a"), "c": add("c")}
    add("b")
    (tmp_path / "images" / "b.png").write_bytes(b"")
    with open("/dev/full", "w", buffering=1) as full:
        monkeypatch.setattr(sys, "stderr", full)
        status, out, _ = run()
        monkeypatch.undo()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
    assert status == 2
    assert "2 written, 0 skipped, 1 failed" in out
    assert_mattes(tmp_path / "out", good)


# ---- signals

SCRIPT = """
import runpy, sys, time
from types import SimpleNamespace
sys.path.insert(0, {root!r})
sys.path.insert(1, {root!r} + "/tests")
from PIL import Image
from systems import Red

class Slow(Red):
    runs_on = "cpu"

    def decode(self, state):
        time.sleep(0.15)
        return super().decode(state)

def hang(image, path, **settings):
    with open(path, "wb") as opened:
        opened.write(b"half a matte")
    while True:
        time.sleep(60)

if {hanging!r}:
    Image.Image.save = hang
sys.modules["engine.onnx.model"] = SimpleNamespace(OnnxModel=lambda path, **settings: Slow())
runpy.run_path({root!r} + "/inference.py", run_name="__main__")
"""


@pytest.fixture
def start(tmp_path) -> Iterator[Callable]:
    """Start the script, with a slow model, as a process; it is killed where a test leaves it running."""
    processes = []

    def call(hanging: bool = False) -> subprocess.Popen:
        places = {"image": "images", "trimap": "trimaps", "output": "out"}
        arguments = ["--onnx=-", *(f"--{name}={tmp_path / folder}" for name, folder in places.items())]
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", SCRIPT.format(root=str(ROOT), hanging=hanging), *arguments],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                # Ctrl-C must reach it even if these tests run in the background of a shell, which ignores it there.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        )  # fmt: skip
        return processes[-1]

    yield call
    for process in processes:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_for(folder: Path, pattern: str, process: subprocess.Popen, count: int = 1) -> None:
    deadline = time.monotonic() + 60
    while len(list(folder.glob(pattern))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("sent", "code", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_leaves_whole_mattes_and_a_rerun_makes_the_rest(tmp_path, add, run, start, sent, code, word):
    trimaps = {f"{number:02}": add(f"{number:02}", 60, 50 + number) for number in range(20)}
    assert run(output=tmp_path / "reference")[0] == 0
    process = start()
    wait_for(tmp_path / "out", "*.png", process, count=3)
    process.send_signal(sent)
    _, err = process.communicate(timeout=30)
    assert process.returncode == code
    advice = "keeps the pictures that are done; the same command with --skip-existing continues"
    assert err.splitlines()[-1] == f"{word}; {tmp_path / 'out'} {advice}"
    assert "Traceback" not in err
    left = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.name != MANIFEST}
    assert 3 <= len(left) < len(trimaps)
    status, out, err = run("--skip-existing")
    assert status == 0, err
    assert f"{len(trimaps) - len(left)} written, {len(left)} skipped, 0 failed" in out
    assert_mattes(tmp_path / "out", trimaps)
    for name in trimaps:
        made = (tmp_path / "out" / f"{name}.png").read_bytes()
        assert made == (tmp_path / "reference" / f"{name}.png").read_bytes()
        assert made == left.get(f"{name}.png", made)


def test_a_second_ctrl_c_ends_at_once_even_while_a_write_hangs(tmp_path, add, start):
    for number in range(4):
        add(str(number))
    process = start(hanging=True)
    wait_for(tmp_path / "out", ".*.part", process)
    for _ in range(2):  # one Ctrl-C, as the terminal and a launcher send it
        process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):  # the first waits for the file that is being written
        process.wait(timeout=SAME_REQUEST + 2)  # a busy process receives it later
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=5)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert os.listdir(tmp_path / "out") == []


# ---- settings


@pytest.mark.parametrize("model", ["prior", "no prior"])
def test_more_memory_than_there_is_gives_a_matte(tmp_path, add, run, model):
    trimap = add("a", 70, 300)
    status, _, err = run("--max-memory", "999999TB", "--batch-size", "1000000", model=model)
    assert status == 0, err
    assert_mattes(tmp_path / "out", {"a": trimap})


def test_too_little_memory_is_told_with_what_it_takes(tmp_path, add, run):
    add("a", 70, 300)
    status, _, err = run("--max-memory", "1MiB", "--batch-size", "4", model="no prior")
    assert (status, err.count("\n")) == (2, 1)
    assert re.search(r"a\.png: 300 x 70 pixels take about \d+MiB .*, and 1MiB may be used; raise --max-memory", err)
    assert os.listdir(tmp_path / "out") == [MANIFEST]


@pytest.mark.parametrize(
    "options",
    [
        ["--batch-size=0"], ["--batch-size=-3"], ["--max-memory=0"], ["--max-memory=-1GB"], ["--max-memory=nan"],
        ["--max-memory=1KB"], ["--mode=fast"], ["--views=all"], ["--precision=int8"],
    ],
)  # fmt: skip
def test_settings_that_mean_nothing_are_one_line(tmp_path, add, run, options):
    add("a")
    status, _, err = run(*options)
    assert (status, err.count("\n")) == (2, 1)
    assert "expected" in err
    assert options[0].split("=")[1] in err
    assert not (tmp_path / "out").exists()


def test_a_model_of_nan_names_every_image_and_writes_nothing(tmp_path, add, run, models):
    for name in ("a", "b", "c"):
        add(name)
    with torch.no_grad():
        models["nan"] = build(load_config(CONFIG, OVERRIDES).model).eval()
        for parameter in models["nan"].parameters():
            parameter.fill_(float("nan"))
    status, out, err = run("--batch-size", "2", model="nan")
    assert status == 2
    assert "0 written, 0 skipped, 3 failed" in out
    for name in ("a", "b", "c"):
        assert f"error: {tmp_path / 'images' / name}.png: the model predicts NaN" in err
    assert os.listdir(tmp_path / "out") == [MANIFEST]
