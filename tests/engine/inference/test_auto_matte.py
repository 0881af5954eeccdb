"""The chain from a picture to a matte: against the truth of a soft disc, and what it does at the edges."""

import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image
from tiny import ROOT

from data.images.foreground_colours import estimate_foreground
from data.images.mask_to_trimap import SEGMENTATION
from engine.inference import Predictor
from engine.inference.auto_matte import AutoMatte, around
from engine.inference.subjects import GivenMasks, PointedSubjects, SegmentedSubjects, Subject
from metrics import score_image
from modeling.meta_arch.closed_form import ClosedForm
from runtime.errors import InputError
from tools import auto_matte

SIZE, CENTRE, RADIUS = 120, (70, 50), 28


def disc(softness: float = 8) -> tuple[np.ndarray, np.ndarray]:
    """A picture (H, W, 3) and its alpha (H, W), uint8: a red disc with a soft edge over a bluish texture."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    distance = np.hypot(rows - CENTRE[0], columns - CENTRE[1])
    alpha = np.clip((RADIUS - distance) / softness + 0.5, 0, 1)
    noise = np.random.default_rng(0).integers(0, 30, (SIZE, SIZE, 3))
    background = np.array([30, 60, 160]) + noise
    image = alpha[..., None] * np.array([200, 40, 30]) + (1 - alpha[..., None]) * background
    return np.rint(image).astype(np.uint8), np.rint(alpha * 255).astype(np.uint8)


@pytest.fixture(scope="module")
def matting() -> Predictor:
    return Predictor(ClosedForm().eval())


def test_the_matte_is_nearer_the_truth_than_the_mask(matting):
    image, truth = disc()
    mask = (truth > 127).astype(np.float32)
    result = AutoMatte(GivenMasks(), matting, width=8).one({"image": image, "mask": mask})
    rough, fine = (score_image(matte, truth)["sad"] for matte in ((mask * 255).astype(np.uint8), result["alpha"]))
    assert fine < 0.2 * rough
    assert set(np.unique(result["trimap"])) == {0, 128, 255}
    np.testing.assert_array_equal(result["mask"], mask)


def test_only_what_is_around_the_subject_is_matted(matting):
    seen = []

    class Watching:
        model, device = matting.model, matting.device

        plan, used_plan, exact = matting.plan, None, matting.exact

        def __call__(self, samples, plan):
            self.used_plan = plan
            seen.append(samples[0]["image"].shape)
            return matting(samples, plan)

    trimap = np.zeros((400, 500), np.uint8)
    trimap[100:200, 300:360], trimap[120:180, 320:340] = 128, 255
    image = np.random.default_rng(0).integers(0, 255, (400, 500, 3), np.uint8)
    alpha = AutoMatte(GivenMasks(), Watching()).alpha_of(image, trimap)
    assert seen == [(100 + 2 * 32, 60 + 2 * 32, 3)]
    assert (alpha[trimap == 255] == 255).all()
    assert (alpha[trimap == 0] == 0).all()
    rows, columns = around(np.pad(np.ones((1, 1), bool), ((0, 9), (0, 500))))
    assert (rows, columns) == (slice(0, 10), slice(0, 33))


@pytest.mark.parametrize("level", [0, 1])
def test_a_mask_without_an_edge_needs_no_matting(level):
    image, _ = disc()
    predictor = Predictor(ClosedForm().eval())
    predictor.plan = None  # calling it would fail
    chain = AutoMatte(GivenMasks(), predictor)
    result = chain.one({"image": image, "mask": np.full((SIZE, SIZE), level, np.float32)})
    assert (result["alpha"] == 255 * level).all()
    assert chain.remark == (
        "no subject was found, the matte is empty"
        if level == 0
        else "the subject has no edge in the picture, the matte is its trimap"
    )


def test_mask_and_trimap_agree_about_what_was_left_out(matting):
    image, truth = disc()
    probability = (truth > 127).astype(np.float32)
    probability[3:6, 3:6] = 1  # below a tenth of the largest region

    chain = AutoMatte(lambda _: Subject(probability, 8.0, is_sharp=False, cleaning=SEGMENTATION), matting)
    result = chain.one({"image": image})
    assert not result["mask"][:8, :8].any()
    assert not result["trimap"][:8, :8].any()
    assert chain.remark == "small regions beside the subject were removed, 9 pixels; see --smallest-island"


@pytest.mark.parametrize(
    "pointed",
    [
        PointedSubjects(box=(15, 35, 85, 105)),
        PointedSubjects(inside=[(50, 70)], outside=[(5, 5), (110, 110)]),
        PointedSubjects(box=(0, 0, 120, 120), inside=[(50, 70)]),
    ],
    ids=["box", "clicks", "both"],
)
def test_grabcut_finds_the_disc(pointed):
    image, truth = disc(softness=2)
    mask = pointed({"image": image}).mask()
    inside = truth > 127
    assert (mask & inside).sum() / (mask | inside).sum() > 0.93
    np.testing.assert_array_equal(mask, pointed({"image": image}).mask())  # the same each time


def test_a_click_fixes_the_pixels_around_it_also_within_the_band(matting):
    """The disc's edge is soft from 24 to 32 pixels around (x 50, y 70), so both clicks are in the band of 8."""
    image, truth = disc()
    large = [np.kron(array, np.ones((5, 5, 1)[: array.ndim], np.uint8)) for array in (image, truth)]
    inside, outside = (5 * 50, 5 * (70 - 26)), (5 * (50 + 27), 5 * 70)
    box = tuple(5 * side for side in (15, 35, 85, 105))
    plain = PointedSubjects(box)({"image": large[0]}).trimap(40)
    assert plain[inside[::-1]] == plain[outside[::-1]] == 128
    subjects = PointedSubjects(box, inside=[inside], outside=[outside])
    trimap = subjects({"image": large[0]}).trimap(40)
    rows, columns = np.mgrid[: 5 * SIZE, : 5 * SIZE]
    for (x, y), level in ((inside, 255), (outside, 0)):
        near = np.hypot(rows - y, columns - x) <= 0.005 * 5 * SIZE  # 3 pixels
        assert (trimap[near] == level).all()
        assert (trimap == 128)[y - 8 : y + 9, x - 8 : x + 9].any()
    alpha = AutoMatte(subjects, matting, width=40).one({"image": large[0]})["alpha"]
    assert 0 < large[1][inside[::-1]] < 255
    assert 0 < large[1][outside[::-1]] < 255
    assert (alpha[inside[::-1]], alpha[outside[::-1]]) == (255, 0)


def test_specks_of_grabcut_are_no_part_of_the_subject():
    image, _ = disc(softness=2)
    image[5:8, 100:103] = image[70, 50]  # of the disc's colour
    subject = PointedSubjects(inside=[(50, 70)])({"image": image})
    assert subject.mask()[6, 101]
    trimap = subject.trimap(2)
    assert trimap[6, 101] == 0
    assert trimap[70, 50] == 255


def test_a_large_picture_is_pointed_at_on_a_coarser_grid():
    image, truth = disc(softness=2)
    large = np.kron(image, np.ones((18, 18, 1), np.uint8))  # 2160 pixels
    subject = PointedSubjects(box=tuple(18 * side for side in (15, 35, 85, 105)))({"image": large})
    assert subject.cell == pytest.approx(1512 / 1024)  # a box of 1260 pixels, and strips of 126
    inside = np.kron(truth > 127, np.ones((18, 18), bool))
    assert (subject.mask() & inside).sum() / (subject.mask() | inside).sum() > 0.93


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (300, 1), (2, 2), (12, 700)])
def test_a_box_around_a_thin_picture_is_all_of_it(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    height, width = shape
    assert PointedSubjects(box=(0, 0, width, height))({"image": image}).mask().all()
    nothing = PointedSubjects(box=(0, 0, 1, 1), outside=[(0, 0)])({"image": image[:1, :1]})
    assert not nothing.mask().any()
    assert PointedSubjects(inside=[(0, 0)])({"image": image}).mask()[0, 0]


def test_pointing_nowhere_is_refused():
    with pytest.raises(InputError, match="expected a box around the subject, or a click on it"):
        PointedSubjects(outside=[(1, 1)])
    with pytest.raises(InputError, match="with some area"):
        PointedSubjects(box=(5, 5, 5, 9))
    with pytest.raises(InputError, match="box: expected LEFT TOP RIGHT BOTTOM within 0 0 120 120, got 30 10 5000 93"):
        PointedSubjects(box=(30, 10, 5000, 93))({"image": disc()[0]})
    with pytest.raises(InputError, match="within 120 x 120, got 300, 4"):
        PointedSubjects(inside=[(300, 4)])({"image": disc()[0]})


def test_a_soft_mask_of_a_user_keeps_its_small_parts():
    mask = np.zeros((100, 100), np.float32)
    mask[20:80, 20:80], mask[5, 5], mask[50, 50] = 1, 0.9, 0.4
    trimap = Subject(mask, None, is_sharp=False).trimap(1)
    assert trimap[5, 5] == 128
    assert trimap[50, 50] == 128
    assert Subject(mask, 14.0, is_sharp=False, cleaning=SEGMENTATION).trimap(1)[5, 5] == 0


def test_systems_of_other_outputs_are_refused(matting):
    with pytest.raises(InputError, match="--seg: expected a system that predicts a mask, got a ClosedForm"):
        SegmentedSubjects(matting)


# ---- the command line


def files(folder, softness: float = 8) -> None:
    image, truth = disc(softness)
    for kind, picture in (("in", image), ("masks", np.where(truth > 127, 255, 0).astype(np.uint8))):
        for name in ("a.png", "clip/b.png"):
            path = folder / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture).save(path)


def test_a_folder_of_pictures_with_all_that_can_be_saved(tmp_path, capsys):
    files(tmp_path)
    kinds = ["mask", "trimap", "alpha", "rgba", "composite"]
    status = auto_matte.main(
        [str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--mask", str(tmp_path / "masks"), "--width", "8",
         "--save", ",".join(kinds), "--background", "#0000ff"]
    )  # fmt: skip
    assert status == 0
    assert "2 written, 0 skipped, 0 failed" in capsys.readouterr().out
    written = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    assert written == sorted(f"{kind}/{name}" for kind in kinds for name in ("a.png", "clip/b.png"))
    image, truth = disc()
    alpha, rgba, composite = (np.asarray(Image.open(tmp_path / "out" / kind / "a.png")) for kind in kinds[2:])
    assert score_image(alpha, truth)["sad"] < 0.1
    np.testing.assert_array_equal(rgba[..., 3], alpha)
    np.testing.assert_array_equal(rgba[..., :3], estimate_foreground(image, alpha))
    assert composite[5, 100].tolist() == [0, 0, 255]
    assert composite[CENTRE].tolist() == image[CENTRE].tolist()


def test_one_picture_by_a_box(tmp_path):
    files(tmp_path, softness=2)
    arguments = [str(tmp_path / "in/a.png"), "--output", str(tmp_path / "o.png"), "--box", "15", "35", "85", "105"]
    assert auto_matte.main([*arguments, "--save", "alpha,trimap"]) == 0
    assert sorted(path.name for path in tmp_path.glob("*.png")) == ["o.png", "o_trimap.png"]
    image, truth = disc(softness=2)
    mask = PointedSubjects(box=(15, 35, 85, 105))({"image": image}).mask()
    rough = score_image(np.where(mask, 255, 0).astype(np.uint8), truth)["sad"]
    assert score_image(np.asarray(Image.open(tmp_path / "o.png")), truth)["sad"] < 0.7 * rough


def test_a_cut_out_beside_a_composite_may_be_asked_for_twice(tmp_path):
    files(tmp_path, softness=2)
    arguments = [str(tmp_path / "in/a.png"), "--output", str(tmp_path / "o.png"), "--box", "15", "35", "85", "105"]
    assert auto_matte.main([*arguments, "--cutout", "--save", "rgba,composite", "--background", "red"]) == 0
    assert [Image.open(tmp_path / name).mode for name in ("o.png", "o_composite.png")] == ["RGBA", "RGB"]


def test_a_folder_is_written_in_the_depth_and_format_that_are_asked_for(tmp_path):
    files(tmp_path)
    arguments = [str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--mask", str(tmp_path / "masks")]
    assert auto_matte.main([*arguments, "--width", "8", "--format", "tif", "--bits", "16", "--cutout"]) == 0
    rgba = tifffile.imread(tmp_path / "out/clip/b.tif")
    assert (rgba.dtype, rgba.shape) == (np.uint16, (SIZE, SIZE, 4))
    assert len(np.unique(rgba[..., 3])) > 257
    with pytest.raises(InputError, match=r"--format webp --bits 16: \.webp supports 8 bits, not 16"):
        auto_matte.main([*arguments, "--format", "webp", "--bits", "16"])
    with pytest.raises(InputError, match="mask is made of 8-bit levels"):
        auto_matte.main([*arguments, "--bits", "16", "--save", "alpha,mask"])


def test_a_cut_out_keeps_the_16_bits_of_its_picture(tmp_path):
    files(tmp_path)
    image, _ = disc()
    values = image * np.uint16(257) + np.uint16(13)
    values[image == 255] = 65535
    cv2.imwrite(str(tmp_path / "deep.png"), values[..., ::-1])
    arguments = [str(tmp_path / "deep.png"), "--mask", str(tmp_path / "masks/a.png"), "--width", "8"]
    assert auto_matte.main([*arguments, "--output", str(tmp_path / "o.tif"), "--bits", "16", "--cutout"]) == 0
    rgba = tifffile.imread(tmp_path / "o.tif")
    opaque = rgba[..., 3] == 65535
    assert opaque.any()
    np.testing.assert_array_equal(rgba[opaque][:, :3], values[opaque])


def test_hidden_files_are_no_pictures_and_links_above_are_not_followed(tmp_path, capsys):
    files(tmp_path)
    (tmp_path / "in/.trash").mkdir()
    (tmp_path / "in/.trash/old.mp4").write_bytes(b"")
    (tmp_path / "in/clip/above").symlink_to(tmp_path / "in")
    arguments = [str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--mask", str(tmp_path / "masks")]
    assert auto_matte.main([*arguments, "--width", "8"]) == 0
    captured = capsys.readouterr()
    assert "2 written" in captured.out
    assert "ignored" not in captured.err


def test_of_several_people_the_largest_can_be_kept(tmp_path, capsys):
    """Discs of 28 and 9 pixels; and a speck that only --smallest-island drops from a mask of the user's."""
    image, truth = disc(softness=2)
    mask = np.where(truth > 127, 255, 0).astype(np.uint8)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    mask[np.hypot(rows - 20, columns - 100) < 9] = 255
    mask[2:4, 2:4] = 255
    for name, picture in (("i.png", image), ("m.png", mask)):
        Image.fromarray(picture).save(tmp_path / name)
    arguments = [str(tmp_path / "i.png"), "--output", str(tmp_path / "o.png"), "--mask", str(tmp_path / "m.png")]
    kept = {}
    for more in ((), ("--smallest-island", ".01"), ("--largest", "2"), ("--largest", "1")):
        assert auto_matte.main([*arguments, "--save", "mask", "--width", "1", *more]) == 0
        found = np.asarray(Image.open(tmp_path / "o.png")) > 0
        kept[more] = [bool(found[y, x]) for y, x in (CENTRE, (20, 100), (2, 2))]
    assert list(kept.values()) == [[True] * 3, [True, True, False], [True, True, False], [True, False, False]]
    assert "were removed" in capsys.readouterr().err


def large(path) -> None:
    """A PNG whose header states 600 megapixels."""
    content = b"\x89PNG\r\n\x1a\n"
    for kind, data in ((b"IHDR", struct.pack(">IIBBBBB", 30000, 20000, 1, 0, 0, 0, 0)), (b"IDAT", b"")):
        content += struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    path.write_bytes(content)


def animated(path) -> None:
    Image.new("RGB", (9, 9), "red").save(path, save_all=True, append_images=[Image.new("RGB", (9, 9), "blue")])


BROUGHT = {  # file, how it is made, and the message; none for those that are cut out
    "CMYK": ("print.jpg", lambda path: Image.fromarray(disc()[0]).convert("CMYK").save(path), None),
    "one pixel": ("pixel.png", lambda path: Image.new("RGB", (1, 1)).save(path), None),
    "gray with alpha": ("gray.png", lambda path: Image.new("LA", (9, 9), (90, 40)).save(path), None),
    "animated": ("moving.webp", animated, "expected a single image, found several frames; save the one you mean"),
    "HEIC without its codec": (
        "phone.heic",
        lambda path: path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64)),
        "HEIC files need pillow-heif; install it with `pip install -r requirements/formats.txt`",
    ),
    "over the limit": ("large.png", large, "30000 x 20000 pixels is over the limit of 400,000,000"),
    "hostile name": ("a\u202egnp.exe\n[31m.png", lambda path: path.write_bytes(b"<script>"), "not a readable image"),
    "empty video": ("clip.mp4", lambda path: path.write_bytes(b""), "expected a video file, found an empty one"),
}


@pytest.mark.parametrize("case", BROUGHT)
def test_what_people_bring_is_cut_out_or_refused_in_one_line(tmp_path, run_auto_matte, monkeypatch, case):
    name, make, message = BROUGHT[case]
    make(tmp_path / name)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    output = tmp_path / f"out{'.webm' if name.endswith('mp4') else '.png'}"
    status, _, err = run_auto_matte(tmp_path / name, "--output", output, "--box", 0, 0, 1, 1, "--cutout")
    assert "Traceback" not in err
    if message is None:
        assert status == 0
        with Image.open(tmp_path / name) as image, Image.open(output) as cutout:
            assert (cutout.mode, cutout.size) == ("RGBA", image.size)
        assert ("has transparent pixels, as if it was cut out already" in err) == (name == "gray.png")
        return
    assert (status, output.exists()) == (2, False)
    (line,) = (line for line in err.splitlines() if "error" in line)
    assert message in line
    assert line.isprintable()


def test_a_mask_is_never_written_over(tmp_path):
    files(tmp_path)
    mask = tmp_path / "masks/a.png"
    with pytest.raises(InputError, match="is an input file"):
        auto_matte.main([str(tmp_path / "in/a.png"), "--output", str(mask), "--mask", str(mask)])


def test_masks_pair_in_any_case_and_what_is_passed_over_is_named(tmp_path, capsys):
    files(tmp_path)
    (tmp_path / "masks/a.png").rename(tmp_path / "masks/A.PNG")
    (tmp_path / "in/clip/c.mp4").write_bytes(b"")
    arguments = [str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--mask", str(tmp_path / "masks")]
    assert auto_matte.main([*arguments, "--width", "8"]) == 0
    captured = capsys.readouterr()
    assert "2 written" in captured.out
    assert f"{tmp_path / 'in'}: ignored 1 .mp4 (clip/c.mp4)" in captured.err


def test_a_small_subject_of_a_large_picture_needs_the_memory_of_its_part(tmp_path, capsys):
    image = np.random.default_rng(0).integers(0, 255, (1600, 1600, 3), np.uint8)
    mask = np.zeros((1600, 1600), np.uint8)
    mask[100:140, 100:140] = 255
    for name, picture in (("i.png", image), ("m.png", mask)):
        Image.fromarray(picture).save(tmp_path / name)
    arguments = [str(tmp_path / "i.png"), "--output", str(tmp_path / "o.png"), "--mask", str(tmp_path / "m.png")]
    assert auto_matte.main([*arguments, "--max-memory", "200MB", "--width", "4"]) == 0


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ([], "expected one way to find the subject .* got none"),
        (["--mask", "masks", "--box", "1", "1", "9", "9"], "got --mask and --box or --click"),
        (["--mask", "masks", "--save", "alpha", "--background", "red"], "add composite to --save"),
        (["--mask", "masks", "--save", "composite", "--background", "nothing"], "expected a colour .* got 'nothing'"),
        (["--mask", "masks", "--cutout", "--save", "alpha"], "--cutout: is short for --save rgba"),
        (["--mask", "masks", "--premultiplied"], "only has an effect on cut-outs; give --cutout"),
        (["--mask", "masks", "--cutout", "--background", "red", "--premultiplied"], "leave out --background"),
        (["--mask", "in/clip"], "expected a mask for each picture, found none for a, clip/b"),
        (["--mask", "masks", "--classes", "person"], "give --seg"),
        (["--mask", "masks", "--click-outside", "3", "3"], "got --mask and --box or --click"),
        (["--mask", "masks", "--output", "masks"], "masks: is inside masks"),
        (["--mask", "masks", "--seg-every", "2"], "--seg-every: only has an effect with --seg"),
        (["--mask", "masks", "--largest", "0"], "largest: expected 1 object or more"),
    ],
)
def test_what_cannot_be_meant_is_one_line(tmp_path, monkeypatch, more, match):
    files(tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=match):
        auto_matte.main(["in", "--output", "out", *more])


def test_a_folder_has_a_manifest(tmp_path):
    files(tmp_path)
    cut = np.dstack([disc()[0], np.full((SIZE, SIZE), 200, np.uint8)])
    Image.fromarray(cut).save(tmp_path / "in/a.png")
    (tmp_path / "in/damaged.png").write_bytes(b"damaged")
    Image.fromarray(disc()[1]).save(tmp_path / "masks/damaged.png")
    arguments = [str(tmp_path / "in"), "--output", str(tmp_path / "out"), "--mask", str(tmp_path / "masks")]
    assert auto_matte.main([*arguments, "--save", "alpha,rgba"]) == 2
    record = json.loads((tmp_path / "out/manifest.json").read_text())
    assert (record["processes"], record["counts"]) == (1, {"written": 2, "failed": 1})
    ends = {Path(job["image"]).name: job for job in record["jobs"]}
    assert [ends[name]["status"] for name in ("a.png", "b.png", "damaged.png")] == ["written", "written", "failed"]
    assert ends["a.png"]["outputs"].keys() == {"alpha", "rgba"}
    assert "has transparent pixels" in ends["a.png"]["reading"][0]["text"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["alpha", "manifest.json", "rgba"]


@pytest.mark.slow
def test_processes_share_a_folder(tmp_path):
    files(tmp_path)
    command = [str(ROOT / "tools/auto_matte.py"), str(tmp_path / "in"), "--mask", str(tmp_path / "masks"), "--cutout"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for output, launcher in (("alone", []), ("shared", torchrun)):
        done = subprocess.run(
            [sys.executable, *launcher, *command, "--device", "cpu", "--output", str(tmp_path / output)],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert "2 written, 0 skipped, 0 failed, on cpu, by 2 processes" in done.stdout
    for name in ("a.png", "clip/b.png"):
        assert (tmp_path / "shared" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert json.loads((tmp_path / "shared/manifest.json").read_text())["processes"] == 2


@pytest.mark.parametrize("rank", [0, 1])
def test_the_first_process_does_a_single_picture(tmp_path, run_auto_matte, monkeypatch, rank):
    files(tmp_path)
    for name, value in {"RANK": rank, "WORLD_SIZE": 2, "TORCHELASTIC_RUN_ID": "one"}.items():
        monkeypatch.setenv(name, str(value))
    output = tmp_path / "o.png"
    status, _, _ = run_auto_matte(tmp_path / "in/a.png", "--output", output, "--mask", tmp_path / "masks/a.png")
    assert (status, output.exists()) == (0, rank == 0)
