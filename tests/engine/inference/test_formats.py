"""inference.py from file to file: depths, formats, sub-folders, profiles, and what it says of photographs."""

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import OpenEXR
import pytest
import tifffile
import torch
from PIL import Image, ImageCms
from systems import Pointwise, TwoClasses

import inference
from engine.inference import FileSettings, fit_to, needs_exact, plan_files
from engine.inference.manifest import MANIFEST
from runtime import command_line as cli
from runtime.errors import InputError

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
HEIGHT, WIDTH = 6, 40


class Ramp(Pointwise):
    """Alpha that rises from left to right in steps far below an 8-bit level."""

    def decode(self, state):
        trimap = state["trimap"]
        values = torch.arange(trimap.shape[-1] * trimap.shape[-2], dtype=torch.float32) / 4111 + 0.3
        return {"alpha": values.view(1, 1, *trimap.shape[-2:]).expand_as(trimap)}


TRIMAP = np.full((HEIGHT, WIDTH), 128, np.uint8)
TRIMAP[0], TRIMAP[-1] = 0, 255
ALPHA = (np.arange(HEIGHT * WIDTH, dtype=np.float32) / np.float32(4111) + np.float32(0.3)).reshape(HEIGHT, WIDTH)
ALPHA = np.where(TRIMAP == 128, ALPHA, TRIMAP / np.float32(255))


@pytest.fixture
def run(tmp_path, monkeypatch, capsys) -> Callable:
    """Run the script on paths in the test's folder; returns (exit status, stdout, stderr)."""

    def call(image: str, trimap: str, output: str, *options: str) -> tuple[int, str, str]:
        monkeypatch.setattr(inference, "model_of_checkpoint", lambda arguments: (Ramp(), "cpu"))
        places = [f"--{name}={tmp_path / path}" for name, path in
                  (("image", image), ("trimap", trimap), ("output", output))]  # fmt: skip
        with pytest.raises(SystemExit) as ended:
            cli.run(lambda: inference.main(["--config-file=-", "--checkpoint=-", *places, *options]))
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return ended.value.code, out, err

    return call


@pytest.fixture
def scene(tmp_path) -> Path:
    """i/a.png with a profile, and t/a.png."""
    for folder in ("i", "t"):
        (tmp_path / folder).mkdir()
    colours = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(colours).save(tmp_path / "i" / "a.png", icc_profile=PROFILE)
    Image.fromarray(TRIMAP).save(tmp_path / "t" / "a.png")
    return tmp_path


def files_under(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def exr_plane(path: Path, name: str) -> np.ndarray:
    return OpenEXR.File(str(path), separate_channels=True).channels()[name].pixels


def test_a_matte_is_quantised_once_to_the_depth_that_is_asked_for(scene, run):
    for output, options in (
        ("a.png", []), ("b.png", ["--bits", "16"]), ("a.tif", []), ("b.tif", ["--bits", "16"]),
        ("c.tif", ["--bits", "32"]), ("a.exr", []), ("b.exr", ["--bits", "32"]), ("a.webp", []),
    ):  # fmt: skip
        status, _, err = run("i/a.png", "t/a.png", output, *options)
        assert (status, err) == (0, f"{scene / 'i' / 'a.png'}: predicting as a whole\n")
    levels = np.rint(ALPHA.astype(np.float64) * 255).astype(np.uint8)
    deep = np.rint(ALPHA.astype(np.float64) * 65535).astype(np.uint16)
    assert len(np.unique(deep)) > 4 * len(np.unique(levels))  # 8 bits would not do
    np.testing.assert_array_equal(np.asarray(Image.open(scene / "a.png")), levels)
    np.testing.assert_array_equal(np.asarray(Image.open(scene / "b.png")), deep)
    np.testing.assert_array_equal(tifffile.imread(scene / "a.tif"), levels)
    np.testing.assert_array_equal(tifffile.imread(scene / "b.tif"), deep)
    np.testing.assert_array_equal(tifffile.imread(scene / "c.tif"), ALPHA)
    np.testing.assert_array_equal(exr_plane(scene / "a.exr", "Y"), ALPHA.astype(np.float16))
    np.testing.assert_array_equal(exr_plane(scene / "b.exr", "Y"), ALPHA)
    np.testing.assert_array_equal(np.asarray(Image.open(scene / "a.webp"))[..., 0], levels)
    assert {Image.open(scene / name).info.get("icc_profile") for name in ("a.png", "b.png", "a.webp")} == {None}


def test_a_trimap_without_unknown_is_its_own_matte_in_any_depth(scene, run):
    known = np.where(TRIMAP == 0, 0, 255).astype(np.uint8)
    Image.fromarray(known).save(scene / "t" / "a.png")
    assert run("i/a.png", "t/a.png", "a.tif", "--bits", "32")[0] == 0
    np.testing.assert_array_equal(tifffile.imread(scene / "a.tif"), known / np.float32(255))


def test_a_cut_out_has_the_depth_and_the_profile_of_its_image(scene, run):
    for output, options in (("a.png", []), ("b.png", ["--bits", "16"]), ("c.tif", ["--bits", "32"]), ("d.exr", [])):
        assert run("i/a.png", "t/a.png", output, "--save", "rgba", *options)[0] == 0
    with Image.open(scene / "i" / "a.png") as image:
        colours = np.asarray(image)
    full = TRIMAP == 255
    for name in ("a.png", "b.png"):
        with Image.open(scene / name) as image:
            assert (image.mode, image.info["icc_profile"]) == ("RGBA", PROFILE)
            np.testing.assert_array_equal(np.asarray(image)[full][:, :3], colours[full])
    with tifffile.TiffFile(scene / "c.tif") as file:
        assert file.pages[0].tags[34675].value == PROFILE
        np.testing.assert_array_equal(file.asarray()[..., 3], ALPHA)
        np.testing.assert_array_equal(file.asarray()[full][:, :3], colours[full] / np.float32(255))
    np.testing.assert_array_equal(exr_plane(scene / "d.exr", "A"), ALPHA.astype(np.float16))
    assert not exr_plane(scene / "d.exr", "R")[TRIMAP == 0].any()  # colours of EXR are multiplied by alpha


def test_a_cut_out_keeps_the_16_bits_of_its_image(scene, run):
    values = np.random.default_rng(1).integers(0, 65536, (HEIGHT, WIDTH, 3), np.uint16)
    cv2.imwrite(str(scene / "i" / "b.png"), values[..., ::-1])
    opaque = TRIMAP == 255
    for output, options in (("b.png", ["--bits", "16"]), ("b.tif", ["--bits", "16"]), ("c.tif", ["--bits", "32"])):
        assert run("i/b.png", "t/a.png", output, "--cutout", *options)[0] == 0
    png = cv2.imread(str(scene / "b.png"), cv2.IMREAD_UNCHANGED)[..., 2::-1]
    tif, floats = (tifffile.imread(scene / name)[..., :3] for name in ("b.tif", "c.tif"))
    np.testing.assert_array_equal(png, tif)
    np.testing.assert_array_equal(tif[opaque], values[opaque])
    np.testing.assert_array_equal(floats[opaque], values[opaque] / np.float32(65535))
    cv2.imwrite(str(scene / "i" / "c.png"), (np.rint(values[..., ::-1] / 257)).astype(np.uint8))
    assert run("i/c.png", "t/a.png", "d.tif", "--cutout", "--bits", "32")[0] == 0
    assert 0 < np.abs(tifffile.imread(scene / "d.tif")[..., :3] - floats).max() < 1.5 / 255


def test_a_cut_out_of_light_keeps_its_highlights(scene, run):
    light = (np.random.default_rng(1).random((HEIGHT, WIDTH, 3)) ** 4 * 40).astype(np.float16)  # white is 1
    OpenEXR.File({"type": OpenEXR.scanlineimage}, {"RGB": light}).write(str(scene / "i" / "b.exr"))
    opaque, clear = TRIMAP == 255, TRIMAP == 0
    assert (light[opaque] > 1).any()
    assert run("i/b.exr", "t/a.png", "b.exr", "--save", "rgba,composite", "--background", "black")[0] == 0
    for name in ("b.exr", "b_composite.exr"):
        colours = np.dstack([exr_plane(scene / name, channel) for channel in "RGB"])
        np.testing.assert_array_equal(colours[opaque], light[opaque])
        assert not colours[clear].any()
    assert run("i/b.exr", "t/a.png", "b.png", "--cutout", "--bits", "16")[0] == 0
    png = cv2.imread(str(scene / "b.png"), cv2.IMREAD_UNCHANGED)[..., 2::-1]
    assert (png[opaque][light[opaque] >= 1] == 65535).all()


def test_depth_that_a_cut_out_loses_is_reported(scene, run):
    ten_bits = np.random.default_rng(1).integers(0, 1024, (HEIGHT, WIDTH, 3))
    (scene / "i" / "b.ppm").write_bytes(f"P6 {WIDTH} {HEIGHT} 1023\n".encode() + ten_bits.astype(">u2").tobytes())
    status, _, err = run("i/b.ppm", "t/a.png", "b.png", "--cutout", "--bits", "16")
    assert (status, "warning: 1 image: only 8 bits of this kind of PPM are read; cut-outs have" in err) == (0, True), (
        err
    )
    _, _, err = run("i/b.ppm", "t/a.png", "c.png", "--bits", "16")  # a matte has no colours
    assert "8 bits" not in err


def test_a_background_gives_the_composite_by_the_formula_in_the_depth_of_the_file(scene, run):
    cuts = {}
    for bits in (8, 32):
        assert run("i/a.png", "t/a.png", f"{bits}.tif", "--bits", str(bits), "--cutout")[0] == 0
        cuts[bits] = tifffile.imread(scene / f"{bits}.tif").astype(np.float64)
    cuts[8] /= 255
    picture = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    Image.fromarray(picture).save(scene / "behind.png", icc_profile=PROFILE)
    rows = np.linspace(0, 1, HEIGHT)[:, None, None]
    behind_of = {
        "#1e90ff": [30, 144, 255],
        "30,144,255": [30, 144, 255],
        "red..navy": (1 - rows) * [255, 0, 0] + rows * [0, 0, 128],
        str(scene / "behind.png"): picture,
    }
    for text, behind in behind_of.items():
        for output, options, full in (("b.png", [], 255), ("c.png", ["--bits", "16", "--cutout"], 65535)):
            colours, alpha = np.split(cuts[8 if full == 255 else 32], [3], axis=-1)
            expected = colours * alpha + np.asarray(behind) / 255 * (1 - alpha)
            assert run("i/a.png", "t/a.png", output, f"--background={text}", *options)[0] == 0
            found = cv2.imread(str(scene / output), cv2.IMREAD_UNCHANGED)[..., ::-1].astype(np.float64)
            assert np.abs(found - expected * full).max() < 0.51
            with Image.open(scene / output) as image:
                assert image.info["icc_profile"] == PROFILE


def test_a_cut_out_is_premultiplied_where_that_is_asked_for(scene, run):
    for name, options in (("straight", []), ("multiplied", ["--premultiplied"])):
        assert run("i/a.png", "t/a.png", f"{name}.tif", "--cutout", "--bits", "32", *options)[0] == 0
    straight, multiplied = (tifffile.imread(scene / f"{name}.tif") for name in ("straight", "multiplied"))
    np.testing.assert_allclose(multiplied[..., :3], straight[..., :3] * straight[..., 3:], atol=1e-7)
    status, _, err = run("i/a.png", "t/a.png", "a.exr", "--cutout", "--no-premultiplied")
    assert (status, "by its specification" in err, (scene / "a.exr").exists()) == (2, True, False)
    assert run("i/a.png", "t/a.png", "a.exr", "--cutout", "--premultiplied")[0] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--cutout", "--save", "alpha"],
            "--cutout: is short for --save rgba; write --save alpha,rgba (the output itself",
        ),
        (["--save", "alpha", "--background", "white"], "--background: only has an effect on composites"),
        (["--background", "whitish"], "--background: expected a colour (white, '#1e90ff' or 30,144,255), a gradient"),
        (["--background", "white", "--premultiplied"], "--premultiplied: only has an effect on cut-outs"),
        (["--premultiplied"], "--premultiplied: only has an effect on cut-outs; give --cutout"),
    ],
)
def test_options_of_cut_outs_that_contradict_each_other_are_one_line(scene, run, options, message):
    status, _, err = run("i/a.png", "t/a.png", "o.png", *options)
    assert (status, err.count("\n"), message in err) == (2, 1, True), err


def test_sub_folders_and_names_are_kept(scene, run):
    decomposed = unicodedata.normalize("NFD", "Zoë")
    for folder, name, trimap in (("x", "a", "a_trimap"), ("x/y", "CAT", "cat"), ("z", decomposed, "Zoë")):
        for kind, source, target in (("i", "a.png", f"{name}.webp"), ("t", "a.png", f"{trimap}.png")):
            (scene / kind / folder).mkdir(parents=True, exist_ok=True)
            Image.open(scene / kind / source).save(scene / kind / folder / target, lossless=True)
    status, out, err = run("i", "t", "o", "--format", "tif", "--bits", "16")
    assert (status, "4 written, 0 skipped, 0 failed" in out) == (0, True), err
    assert files_under(scene / "o") == sorted(["a.tif", MANIFEST, "x/a.tif", "x/y/CAT.tif", f"z/{decomposed}.tif"])
    assert {tifffile.imread(path).dtype for path in (scene / "o").rglob("*.tif")} == {np.dtype(np.uint16)}
    status, out, _ = run("i", "t", "o", "--format", "tif", "--bits", "16", "--skip-existing")
    assert "0 written, 4 skipped" in out


def test_trimaps_and_results_within_the_folder_of_images_are_not_taken_for_images(scene, run):
    os.rename(scene / "t", scene / "i" / "trimaps")
    for _ in range(2):  # the second finds the results of the first
        status, out, err = run("i", "i/trimaps", "i/out")
        assert (status, "1 written, 0 skipped, 0 failed" in out) == (0, True), err


def test_one_trimap_serves_a_folder(scene, run):
    Image.open(scene / "i" / "a.png").save(scene / "i" / "b.tga")
    status, out, _ = run("i", "t/a.png", "o")
    assert (status, "2 written" in out) == (0, True)
    assert files_under(scene / "o") == ["a.png", "b.png", MANIFEST]


def test_what_could_be_meant_twice_is_refused_by_name(scene, run):
    Image.fromarray(TRIMAP).save(scene / "t" / "a_trimap.png")
    status, _, err = run("i", "t", "o")
    assert status == 2
    assert "a fits a, a_trimap: rename or remove files" in err
    assert not (scene / "o").exists()


def test_transparent_photographs_and_floats_are_remarked_on_once_a_kind(scene, run):
    colours = np.asarray(Image.open(scene / "i" / "a.png"))
    cut = np.dstack([colours, np.where(TRIMAP == 0, 0, 255).astype(np.uint8)])
    opaque = np.dstack([colours, np.full_like(TRIMAP, 255)])
    for name, picture in (("b", cut), ("c", cut), ("d", opaque)):
        Image.fromarray(picture).save(scene / "i" / f"{name}.png")
    light = np.ascontiguousarray(colours / np.float32(200))
    OpenEXR.File({"type": OpenEXR.scanlineimage}, {"RGB": light}).write(str(scene / "i" / "e.exr"))
    status, _, err = run("i", "t/a.png", "o")
    assert status == 0
    lines = [line for line in err.splitlines() if line.startswith("warning")]
    share = float(f"{100 * (light > 1).mean():.1g}")
    assert lines == [
        "warning: 2 images: has transparent pixels, as if it was cut out already; its colours are used as they are "
        f"stored there (the first is {scene / 'i' / 'b.png'})",
        "warning: 1 image: float values read as linear light, encoded as sRGB (see --transfer); "
        f"{share:g} % of the values are outside 0 to 1 and are clipped for the model ({scene / 'i' / 'e.exr'})",
    ]
    _, _, err = run("i/e.exr", "t/a.png", "e.png", "--transfer", "srgb")
    assert "float values read as sRGB levels" in err


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("a.jpg", [], "a.jpg: JPEG changes a matte's known 0 and 255; results are written as .png, .tif"),
        ("a.webp", ["--bits", "16"], "a.webp: .webp supports 8 bits, not 16"),
        ("a.png", ["--format", "tif"], "a.png: is not a .tif file as --format asks for; leave one of them out"),
        ("o", ["--format", "exr", "--bits", "8"], "--format exr --bits 8: .exr supports 16 or 32 bits, not 8"),
        ("o", ["--bits", "32"], "--bits 32: .png supports 8 or 16 bits, not 32; .tif, .tiff, .exr support 32"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_read(scene, run, output, options, message):
    status, _, err = run("i/a.png", "t/a.png", output, *options)
    assert (status, err.count("\n")) == (2, 1)
    assert message in err
    assert files_under(scene) == ["i/a.png", "t/a.png"]


def test_labels_are_written_in_8_bits_only(scene):
    def jobs(output: str, bits: int | None):
        settings = FileSettings(bits=bits)
        return fit_to(
            plan_files(str(scene / "i" / "a.png"), None, str(scene / output), settings=settings), TwoClasses()
        )

    assert not needs_exact(jobs("a.tif", None))
    for output, bits in (("a.png", 16), ("a.exr", None), ("a.tif", 32)):
        with pytest.raises(InputError, match="mask is made of 8-bit levels; write it as"):
            jobs(output, bits)


def test_tools_that_predict_levels_plan_files_of_8_bits(scene):
    with pytest.raises(InputError, match=r"\.exr supports 16 or 32 bits, not 8"):
        plan_files(str(scene / "i" / "a.png"), None, str(scene / "a.exr"))
