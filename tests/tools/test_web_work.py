"""The work of the web page, without a browser: uploads, marks, trimaps, results, and what hostile ones meet."""

import base64
import io
import json
import os
import sys
import time
import zipfile
from itertools import pairwise

import numpy as np
import pytest
import torch
from clips import write_clip
from PIL import Image
from profiles import swapped_profile
from systems import TrimapFree, TwoClasses

import tools.web
from data.images.foreground_colours import composite_over, estimate_foreground
from data.video import open_clip
from engine.inference import Matting
from modeling.weights import system_file
from runtime.errors import InputError
from tools import auto_matte, web_demo
from tools.web.work import (
    CLIP_FILES,
    COLOURS,
    Limits,
    Marks,
    Progress,
    Stroke,
    centre_of,
    colour_of,
    cut_out,
    cut_out_clip,
    duration,
    message,
    paint,
    parse_marks,
    progress_bar,
    read_upload,
    read_upload_mask,
    remarks_on,
    safe_name,
    shown_results,
    surface_of,
    surface_with_trimap,
    sweep,
    trimap_for,
)

SIZE = (60, 90)  # height, width
PROFILE = swapped_profile()
BOX = (20, 12, 70, 48)
NO_MARKS = {"strokes": [], "box": None, "inside": [], "outside": []}


def picture() -> np.ndarray:
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]]
    alpha = np.clip((1 - np.hypot((rows - 30) / 14, (columns - 45) / 20)) * 4 + 0.5, 0, 1)[..., None]
    noise = np.random.default_rng(0).integers(0, 50, (*SIZE, 3))
    return np.rint(alpha * [230, 110, 20] + (1 - alpha) * (np.array([10, 60, 150]) + noise)).astype(np.uint8)


@pytest.fixture(scope="module")
def matting():
    return Matting(device="cpu")


def sent(marks: dict, size: tuple[int, int] = SIZE) -> str:
    return json.dumps({"height": size[0], "width": size[1], "marks": {**NO_MARKS, **marks}})


# ---- uploads


def test_an_upload_is_read_as_any_file_is(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(picture())).save(tmp_path / "turned.png", exif=exif)
    np.testing.assert_array_equal(read_upload(str(tmp_path / "turned.png"), Limits()).picture, picture())
    cmyk = Image.fromarray(picture()).convert("CMYK")
    cmyk.save(tmp_path / "print.tif")
    np.testing.assert_array_equal(
        read_upload(str(tmp_path / "print.tif"), Limits()).picture, np.asarray(cmyk.convert("RGB"))
    )
    Image.new("RGB", (1, 1), (1, 2, 3)).save(tmp_path / "pixel.png")
    assert read_upload(str(tmp_path / "pixel.png"), Limits()).picture.tolist() == [[[1, 2, 3]]]
    Image.fromarray((picture()[..., 0] > 128).astype(np.uint8)).save(tmp_path / "mask.png")
    mask = read_upload_mask(str(tmp_path / "mask.png"), Limits())
    np.testing.assert_array_equal(mask, picture()[..., 0] > 128)


def test_what_is_unusual_about_an_upload_is_said(tmp_path):
    Image.fromarray(np.dstack([picture(), picture()[..., :1]])).save(tmp_path / "cut.png", icc_profile=PROFILE)
    found = read_upload(str(tmp_path / "cut.png"), Limits())
    assert found.note == (
        "90 x 60 pixels; it has transparent pixels, as if it was cut out already; its colours are used as they are "
        "stored there. Mark the subject."
    )
    assert found.profile == PROFILE


def bad_uploads(folder) -> None:
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    frames[0].save(folder / "moving.webp", save_all=True, append_images=frames[1:])
    (folder / "text.mp4").write_bytes(b"no video")
    (folder / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    (folder / "text.png").write_bytes(b"no picture")
    Image.fromarray(picture()).save(folder / "cut.png")
    content = (folder / "cut.png").read_bytes()
    (folder / "cut.png").write_bytes(content[: len(content) // 2])
    Image.new("L", (1001, 1000)).save(folder / "large.png")
    (folder / "heavy.png").write_bytes(bytes(20_001))
    (folder / "a\u202egnp.exe\n<b>.png").write_bytes(b"")


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("moving.webp", r"^moving\.webp: expected a single image, found several frames"),
        ("text.mp4", r"^text\.mp4: expected a video file, found a file that is not a video"),
        ("phone.heic", r"^phone\.heic: "),
        ("text.png", r"^text\.png: not a readable image"),
        ("cut.png", r"^cut\.png: not a readable image"),
        ("large.png", r"^large\.png: 1001 x 1000 pixels are over this page's limit of 1 megapixels"),
        ("heavy.png", r"^heavy\.png: is over the limit of 0\.02 MB"),
        ("a\u202egnp.exe\n<b>.png", r"^a\\u202egnp\.exe\\n<b>\.png: "),
        ("gone.png", r"^gone\.png: is no longer on the server, .* upload it again"),
        (None, "expected a picture or a clip, got none; choose a file first"),
    ],
)
def test_a_bad_upload_is_named_without_its_place_on_the_server(tmp_path, name, match):
    bad_uploads(tmp_path)
    with pytest.raises(InputError, match=match) as caught:
        read_upload(name and str(tmp_path / name), Limits(megapixels=1, upload=20_000))
    assert str(tmp_path) not in str(caught.value)


def test_a_codec_that_is_missing_is_named_in_one_line(tmp_path, monkeypatch):
    write_clip(tmp_path / "clip.mp4", 2)
    (tmp_path / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(64))
    for module in ("av", "pillow_heif"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match="video files need PyAV: install it with"):
        read_upload(str(tmp_path / "clip.mp4"), Limits())
    with pytest.raises(InputError, match=r"^phone\.heic: HEIC files need pillow-heif; install it with"):
        read_upload(str(tmp_path / "phone.heic"), Limits())


def test_a_clip_is_read_up_to_its_limits(tmp_path):
    path = tmp_path / "clip.mp4"
    write_clip(path, 5)
    first = read_upload(str(path), Limits(clip_frames=5))
    assert (first.picture.shape, first.is_clip, first.profile) == ((48, 64, 3), True, None)
    assert first.picture[5, 5].tolist() == pytest.approx([255, 0, 0], abs=4)
    assert first.note == "64 x 48 pixels, 5 frames, 0.2 s. Mark the subject in the first frame."
    with pytest.raises(InputError, match=r"^clip\.mp4: is over this page's limit of 4 frames; cut it shorter"):
        read_upload(str(path), Limits(clip_frames=4))
    with pytest.raises(InputError, match=r"^clip\.mp4: 64 x 48 pixels are over this page's limit of 0\.001 megapixels"):
        read_upload(str(path), Limits(megapixels=0.001))


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("/tmp/x/photo.jpg", "photo"),
        ("/tmp/x/my photo (1).jpeg", "my_photo_1"),
        ("/tmp/x/..%2f..%2fetc.passwd", "2f.._2fetc"),
        ("/tmp/x/\u732b.png", "picture"),
        ('/tmp/x/"><script>.png', "script"),
        ("/tmp/x/" + 300 * "a" + ".png", 40 * "a"),
        ("/tmp/x/.png", "png"),
    ],
)
def test_names_of_files_hold_nothing_that_means_something(name, safe):
    assert safe_name(name) == safe


# ---- marks


def test_marks_are_read_and_kept_within_the_picture():
    text = sent(
        {
            "box": [70.4, 48, -20, 12],  # dragged from the right to the left, and out of the picture
            "inside": [[45, 30], [500, -3]],
            "outside": [[0, 0]],
            "strokes": [{"level": "unknown", "radius": 2.5, "points": [[1, 2], [3.5, 4]]}],
        }
    )
    marks = parse_marks(text, SIZE)
    assert marks.box == (0, 12, 70, 48)
    assert marks.inside == [(45, 30), (89, 0)]
    assert marks.outside == [(0, 0)]
    (stroke,) = marks.strokes
    assert (stroke.level, stroke.radius, stroke.points.tolist()) == (128, 2.5, [[1, 2], [3.5, 4]])


@pytest.mark.parametrize("text", [None, "", "{}", '{"reset": true}', '{"overlay": "data:"}'])
def test_no_marks_are_no_mistake(text):
    assert parse_marks(text, SIZE) == Marks()


STROKE = {"level": "unknown", "radius": 2, "points": [[1, 1]]}


@pytest.mark.parametrize(
    "text",
    [
        "[]", "nonsense", "[" * 100_000, '{"width": 90}', '{"width": 90, "height": 60, "marks": null}', "1e999",
        *(sent({"strokes": [{**STROKE, **change}]}) for change in (
            {"level": "sky"}, {"radius": 0}, {"radius": 1e9}, {"radius": None}, {"points": []}, {"points": [[1]]},
            {"points": "ab"}, {"points": [[float("nan"), 1]]}, {"points": [[float("inf"), 1]]},
        )),
        sent({"strokes": 7}), sent({"box": [1, 2, 3]}), sent({"box": [1, 2, float("inf"), 3]}), sent({"inside": [5]}),
        sent({"inside": [[float("nan"), 1]]}),
    ],
)  # fmt: skip
def test_what_no_browser_of_ours_sends_is_one_line(text):
    with pytest.raises(InputError, match=r"^expected marks on the picture, got something else; reload the page$"):
        parse_marks(text, SIZE)


def test_too_many_marks_and_those_of_another_picture_are_refused():
    with pytest.raises(InputError, match="too much is painted"):
        parse_marks(sent({"strokes": [STROKE] * 2001}), SIZE)
    with pytest.raises(InputError, match="marks are for another picture"):
        parse_marks(sent({}, (61, 90)), SIZE)


@pytest.mark.parametrize("radius", [1, 3, 8])
def test_a_stroke_covers_what_is_within_its_radius(radius):
    corners = np.array([[12.0, 10], [60, 30], [75, 12]])
    painted = paint(np.zeros(SIZE, np.uint8), [Stroke(255, radius, corners)])
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]].astype(float)
    distance = np.full(SIZE, np.inf)
    for (x, y), (u, v) in pairwise(corners):
        along = ((columns - x) * (u - x) + (rows - y) * (v - y)) / ((u - x) ** 2 + (v - y) ** 2)
        nearest = along.clip(0, 1)
        distance = np.minimum(distance, np.hypot(columns - x - nearest * (u - x), rows - y - nearest * (v - y)))
    assert (painted[distance <= radius] == 255).all()
    assert (painted[distance >= radius + 0.6] == 0).all()


def test_later_strokes_lie_over_earlier_ones_and_the_trimap_is_left_as_it_was():
    trimap = np.full(SIZE, 128, np.uint8)
    point = np.array([[30.0, 30.0]])
    painted = paint(trimap, [Stroke(255, 9, point), Stroke(0, 3, point), Stroke(255, 5, np.array([[-40.0, 500.0]]))])
    assert (painted[30, 30], painted[30, 36], painted[30, 45]) == (0, 255, 128)
    assert (trimap == 128).all()


# ---- trimaps and results


def test_the_trimap_is_the_one_found_with_what_is_painted_over_it(matting):
    stroke = Stroke(128, 4, np.array([[45.0, 30.0]]))
    found = matting.trimap(picture(), box=BOX, width=3)
    np.testing.assert_array_equal(trimap_for(matting, picture(), Marks([stroke], BOX), width=3), paint(found, [stroke]))
    mask = (picture()[..., 0] > 128).astype(np.float32)
    np.testing.assert_array_equal(trimap_for(matting, picture(), Marks(), mask), matting.trimap(picture(), mask=mask))
    for rest, level in (("background", 0), ("unknown", 128)):
        painted = trimap_for(matting, picture(), Marks([stroke]), rest=rest)
        assert (painted[30, 45], painted[0, 0]) == (128, level)


def test_no_way_and_two_ways_to_find_the_subject_are_refused(matting):
    with pytest.raises(InputError, match="the subject is not marked; draw a box around it"):
        trimap_for(matting, picture(), Marks())
    with pytest.raises(InputError, match="got a mask and a box or clicks; clear one of them"):
        trimap_for(matting, picture(), Marks(box=BOX), np.ones(SIZE, np.float32))
    with pytest.raises(InputError, match="got a box or clicks and the automatic chain"):
        trimap_for(matting, picture(), Marks(inside=[(45, 30)]), automatic=True)
    with pytest.raises(InputError, match="click on it"):
        trimap_for(matting, picture(), Marks(outside=[(1, 1)]))


def test_the_automatic_chain_is_the_segmentation_of_the_page(monkeypatch):
    torch.manual_seed(0)
    free, classes = TrimapFree().eval(), TwoClasses().eval()
    monkeypatch.setattr(system_file, "read_system", lambda path, device: {"free": free, "seg": classes}[path])
    chained = Matting("free", "cpu", segmentation="seg")
    found = trimap_for(chained, picture(), Marks(), automatic=True)
    np.testing.assert_array_equal(found, chained.trimap(picture()))
    assert trimap_for(chained, picture(), Marks()) is None  # this system needs none


def test_results_are_those_of_auto_matte(matting, tmp_path):
    Image.fromarray(picture()).save(tmp_path / "i.png", icc_profile=PROFILE)
    arguments = ["--box", *map(str, BOX), "--save", "alpha,rgba,composite,trimap", "--background", "#1e90ff"]
    assert auto_matte.main([str(tmp_path / "i.png"), "--output", str(tmp_path / "o.png"), *arguments]) == 0
    trimap = trimap_for(matting, picture(), Marks(box=BOX))
    steps = []
    results = cut_out(
        matting,
        picture(),
        trimap,
        "rgba(30, 144, 255, 1)",
        tmp_path,
        "i",
        lambda share, text: steps.append(share),
        PROFILE,
    )
    assert results.remarks == []
    assert steps == sorted(steps)
    names = {"alpha": "o.png", "cutout": "o_rgba.png", "composite": "o_composite.png", "trimap": "o_trimap.png"}
    assert results.files.keys() == names.keys()
    for kind, name in names.items():
        written, expected = (np.asarray(Image.open(path)) for path in (results.files[kind], tmp_path / name))
        np.testing.assert_array_equal(written, expected, err_msg=kind)
    for kind in ("cutout", "composite"):
        assert Image.open(results.files[kind]).info["icc_profile"] == PROFILE
    alpha = np.asarray(Image.open(results.files["alpha"]))
    colours = estimate_foreground(picture(), alpha)
    plain = cut_out(matting, picture(), trimap, "#1e90ff", tmp_path, "i")
    composite = np.asarray(Image.open(plain.files["composite"]))
    np.testing.assert_array_equal(composite, composite_over(picture(), alpha, np.array([30, 144, 255]), colours))
    assert Image.open(results.files["composite"]).getpixel((0, 0)) != (30, 144, 255)  # the same colour, in PROFILE


CLIP = [np.roll(picture(), 2 * index, axis=1) for index in range(4)]


@pytest.fixture
def clip(tmp_path):
    write_clip(tmp_path / "my.clip.mp4", CLIP)
    (tmp_path / "results").mkdir()
    return str(tmp_path / "my.clip.mp4")


def frames_in(path) -> list[np.ndarray]:
    with open_clip(path) as found:
        return [frame.image for frame in found]


@pytest.mark.parametrize("files", CLIP_FILES)
def test_results_of_a_clip_are_those_of_auto_matte(matting, clip, tmp_path, files):
    trimap = trimap_for(matting, read_upload(clip, Limits()).picture, Marks(box=BOX))
    folder = tmp_path / "results"
    *states, results = cut_out_clip(matting, clip, trimap, "#1e90ff", files, folder, Limits())
    assert [state[:2] for state in states] == [(done, 4) for done in range(5)]
    assert states[-1].seconds_left == 0
    suffix = {"frames": "png"}.get(files, files)
    suffixes = {"webm": ("mp4", "webm"), "mov": ("mov", "mov"), "frames": ("zip", "zip")}[files]
    names = {"alpha": f"my.clip_alpha.{suffixes[0]}", "cutout": f"my.clip_cutout.{suffixes[1]}",
             "composite": "my.clip_composite.mp4"}  # fmt: skip
    assert {kind: file.name for kind, file in results.files.items()} == names
    assert sorted(path.name for path in results.files["alpha"].parent.iterdir()) == sorted(names.values())
    for kind, save in (("cutout", "rgba"), ("composite", "composite")):
        output = tmp_path / save / "%06d.png" if suffix == "png" and kind == "cutout" else tmp_path / f"{save}.{suffix}"
        output = tmp_path / f"{save}.mp4" if kind == "composite" else output
        arguments = [clip, "--output", str(output), "--box", *map(str, BOX), "--save", save, "--device", "cpu"]
        assert auto_matte.main([*arguments, *(["--background", "#1e90ff"] if kind == "composite" else [])]) == 0
        if output.parent == tmp_path:
            np.testing.assert_array_equal(frames_in(results.files[kind]), frames_in(output))
            continue
        with zipfile.ZipFile(results.files[kind]) as archive:
            for file in output.parent.iterdir():
                assert archive.read(f"my.clip_cutout/{file.name}") == file.read_bytes()
    shown = shown_results(results, lambda path: path.name)
    assert shown.count("<video") == (3 if files == "webm" else 1)
    assert shown.count("download=") == 3


def test_a_clip_that_is_dropped_or_fails_leaves_no_folder(matting, clip, tmp_path):
    folder = tmp_path / "results"
    trimap = trimap_for(matting, read_upload(clip, Limits()).picture, Marks(box=BOX))
    run = cut_out_clip(matting, clip, trimap, "white", "frames", folder, Limits())
    assert [next(run).done, next(run).done] == [0, 1]
    assert len(list(folder.iterdir())) == 1
    run.close()
    assert list(folder.iterdir()) == []
    with pytest.raises(InputError, match=r"^my\.clip\.mp4: is over this page's limit of 2 frames"):
        list(cut_out_clip(matting, clip, trimap, "white", "webm", folder, Limits(clip_frames=2)))
    with pytest.raises(InputError, match=r"expected one of webm, mov, frames, got '\.\./\.\./x'"):
        list(cut_out_clip(matting, clip, trimap, "white", "../../x", folder, Limits()))
    with pytest.raises(InputError, match="trimap: is 9 x 9, its image is 90 x 60"):
        list(cut_out_clip(matting, clip, np.full((9, 9), 128, np.uint8), "white", "webm", folder, Limits()))
    assert list(folder.iterdir()) == []


def test_what_is_odd_about_a_clip_is_said_without_its_place_on_the_server(matting, tmp_path):
    write_clip(tmp_path / "odd.mp4", [frame[:-1] for frame in CLIP])
    nothing = np.zeros((59, 90), np.uint8)
    *_, results = cut_out_clip(matting, str(tmp_path / "odd.mp4"), nothing, "white", "webm", tmp_path, Limits())
    said = "\n".join(results.remarks)
    assert "No subject was found" in said
    assert "odd.mp4: its sound (aac) cannot be copied into webm" in said
    assert "odd_alpha.mp4: 90 x 59 has an odd side" in said
    assert str(tmp_path) not in said


def test_the_progress_of_a_clip_is_a_line_and_a_bar():
    assert progress_bar(Progress(0, 40, None)).count('Frame 0 of 40 <progress max="40" value="0">') == 1
    assert "Frame 3 of 40, about 4 min left" in progress_bar(Progress(3, 40, 230.0))
    assert [duration(seconds) for seconds in (0, 59.4, 61, 3660)] == ["0 s", "59 s", "1 min", "1 h 1 min"]


def test_a_painted_trimap_without_unknown_and_a_single_pixel_have_results_and_a_remark(matting, tmp_path):
    painted = trimap_for(matting, picture(), Marks([Stroke(255, 8, np.array([[45.0, 30.0]]))]))
    results = cut_out(matting, picture(), painted, "white", tmp_path, "i")
    np.testing.assert_array_equal(np.asarray(Image.open(results.files["alpha"])), painted)
    assert results.remarks == [
        "Nothing is unknown: the matte is the trimap. Paint the soft edge as unknown, or widen the band."
    ]
    assert remarks_on(np.zeros(SIZE, np.uint8))[0].startswith("No subject was found: the matte is empty.")
    pixel = np.full((1, 1, 3), 90, np.uint8)
    for level in (0, 128, 255):
        one = cut_out(matting, pixel, np.full((1, 1), level, np.uint8), "white", tmp_path, "pixel")
        assert Image.open(one.files["cutout"]).size == (1, 1)


def test_colours_of_a_picker():
    for text in ("#1e90ff", "rgb(30, 144, 255)", "rgba(30, 143.7, 255.2, 1)", "rgba(30,144,255,0.5)", "dodgerblue"):
        assert colour_of(text).tolist() == [30, 144, 255]
    for text in ("", "url(x)", None, "#12", 99 * "9"):
        with pytest.raises(InputError, match="expected a colour such as #1e90ff"):
            colour_of(text)


def test_the_zoom_begins_at_the_subject():
    alpha = np.zeros(SIZE, np.uint8)
    assert centre_of(alpha) == (0.5, 0.5)
    alpha[10:20, 30:60] = 1
    assert centre_of(alpha) == (45 / 90, 15 / 60)


def test_old_results_are_removed_and_new_ones_kept(tmp_path):
    for name, age in (("old", 7200), ("new", 10)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "alpha.png").write_bytes(b"")
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


# ---- what the browser is sent


def decoded(url: str) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))))


def test_the_surface_shows_the_picture_and_the_trimap_over_it():
    large = np.kron(picture(), np.ones((32, 32, 1), np.uint8))  # 2880 pixels wide
    surface = json.loads(surface_of(large))
    assert (surface["width"], surface["height"]) == (2880, 1920)
    preview = decoded(surface["picture"])
    assert preview.shape == (853, 1280, 3)
    assert np.abs(preview[400].mean(0) - large[900].mean(0)).max() < 4
    trimap = np.repeat(np.array([[0, 128, 255]], np.uint8), 2, axis=0)
    overlay = decoded(json.loads(surface_with_trimap(trimap))["overlay"])
    assert [tuple(colour) for colour in overlay[0, :, :3].tolist()] == [COLOURS[level] for level in (0, 128, 255)]
    assert (overlay[..., 3] == 115).all()


def test_nothing_of_a_user_becomes_markup(matting, tmp_path):
    text = message(["<img src=x onerror=alert(1)>\u202e", "two"], is_error=True)
    assert "<img" not in text
    assert "\u202e" not in text
    assert 'role="alert"' in text
    results = cut_out(matting, picture(), np.zeros(SIZE, np.uint8), "white", tmp_path, "i")
    shown = shown_results(results, lambda path: f"file={path.name}'\"><script>")
    assert "<script>" not in shown
    assert shown.count("download=") == 4
    assert 'download="i_cutout.png"' in shown


# ---- the command line


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--port", "0"], "--port: expected 1 to 65535, got 0"),
        (["--max-clip-frames", "0"], "--max-clip-frames: expected 1 or more, got 0"),
        (["--max-megapixels", "1000"], "--max-megapixels: expected more than 0 and at most 400, got 1000"),
    ],
)
def test_options_that_cannot_be_meant_are_one_line(arguments, match):
    with pytest.raises(InputError, match=match):
        web_demo.main([*arguments, "--device", "cpu"])


def test_a_missing_gradio_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.delitem(sys.modules, "tools.web.layout", raising=False)
    monkeypatch.delattr(tools.web, "layout", raising=False)
    monkeypatch.setitem(sys.modules, "gradio", None)
    with pytest.raises(InputError, match=r"needs gradio, .* pip install -r requirements/web\.txt"):
        web_demo.page_layout()
