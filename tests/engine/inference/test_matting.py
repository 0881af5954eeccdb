"""`Matting`: the values of the programs, whatever the caller's pictures are made of, in any thread, from any folder."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import OpenEXR
import pytest
import tifffile
import torch
from clips import write_clip
from PIL import Image
from systems import Red, TrimapFree, TwoClasses
from tiny import ROOT

import inference
from data.images.backgrounds import read_background
from data.images.foreground_colours import estimate_foreground
from data.video import open_clip
from engine.inference import Matting, Predictor
from engine.inference.auto_matte import around
from engine.inference.subjects import SegmentedSubjects
from modeling.weights import system_file
from runtime.errors import InputError
from tools import auto_matte

HEIGHT, WIDTH = 60, 90
BOX = (20, 15, 75, 50)


def picture(seed: int = 0, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """(H, W, 3) uint8: an orange ellipse with a soft edge over bluish noise."""
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot((rows - height / 2) / (height / 4), (columns - width / 2) / (width / 4))
    alpha = np.clip((1.2 - distance) * 3, 0, 1)[..., None]
    noise = np.random.default_rng(seed).integers(0, 60, (height, width, 3))
    return np.rint(alpha * [220, 120, 30] + (1 - alpha) * (np.array([20, 60, 140]) + noise)).astype(np.uint8)


def trimap_for(image: np.ndarray) -> np.ndarray:
    height, width = image.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot((rows - height / 2) / (height / 4), (columns - width / 2) / (width / 4))
    return np.select([distance < 0.8, distance > 1.35], [255, 0], 128).astype(np.uint8)


IMAGE = picture()
TRIMAP = trimap_for(IMAGE)


@pytest.fixture(scope="module")
def matting():
    return Matting(device="cpu")


@pytest.fixture(scope="module")
def alpha(tmp_path_factory):
    """What inference.py writes for the picture and its trimap, by the model in the box."""
    folder = tmp_path_factory.mktemp("png")
    Image.fromarray(IMAGE).save(folder / "i.png")
    Image.fromarray(TRIMAP).save(folder / "t.png")
    arguments = [f"--image={folder}/i.png", f"--trimap={folder}/t.png", f"--output={folder}/o.png", "--device=cpu"]
    assert inference.main(arguments) == 0
    return np.asarray(Image.open(folder / "o.png"))


def as_levels(matte: np.ndarray) -> np.ndarray:
    """The 8-bit PNG of a matte."""
    assert matte.dtype == np.float32
    levels = np.rint(matte * 255)
    np.testing.assert_allclose(matte, levels / 255, atol=1e-7)
    return levels.astype(np.uint8)


FORMS = {
    "uint8": lambda image, trimap: (image, trimap),
    "uint16": lambda image, trimap: (image.astype(np.uint16) * 257, trimap.astype(np.uint16) * 257),
    "float32": lambda image, trimap: (image.astype(np.float32) / 255, trimap.astype(np.float32) / 255),
    "float64, trimap of 0, 0.5, 1": lambda image, trimap: (image / 255, np.round(trimap / 127.5) / 2),
    "trimap resized with overshoot": lambda image, trimap: (image, trimap / 255 * 1.1 - 0.05),
    "trimap of 127 and in RGB": lambda image, trimap: (image, np.dstack([np.where(trimap == 128, 127, trimap)] * 3)),
    "RGBA and (H, W, 1)": lambda image, trimap: (np.dstack([image, trimap]), trimap[..., None]),
    "not contiguous": lambda image, trimap: (image[::-1][::-1], np.asfortranarray(trimap)),
    "PIL": lambda image, trimap: (Image.fromarray(image), Image.fromarray(trimap)),
    "PIL RGBA and palette": lambda image, trimap: (
        Image.fromarray(np.dstack([image, trimap])), Image.fromarray(trimap).convert("P")
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_alpha_is_that_of_inference_py_to_the_bit(matting, alpha, form):
    image, trimap = FORMS[form](IMAGE, TRIMAP)
    np.testing.assert_array_equal(as_levels(matting.predict(image, trimap)), alpha)
    assert ((alpha > 0) & (alpha < 255)).sum() > 50  # there is something to compare


def test_a_turned_photograph_is_matted_upright(matting, alpha, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by 90 degrees clockwise
    Image.fromarray(np.rot90(IMAGE)).save(tmp_path / "turned.png", exif=exif)
    with Image.open(tmp_path / "turned.png") as turned:
        assert turned.size == (HEIGHT, WIDTH)
        np.testing.assert_array_equal(as_levels(matting.predict(turned, TRIMAP)), alpha)
        assert turned.size == (HEIGHT, WIDTH)  # the caller's picture is left as it was


@pytest.mark.parametrize("mode", ["L", "I;16", "CMYK", "P", "1", "F"])
def test_pil_images_mean_what_their_files_mean(matting, tmp_path, mode):
    gray = IMAGE[..., 0]
    images = {
        "I;16": Image.fromarray(gray.astype(np.uint16) * 255),
        "F": Image.fromarray(gray.astype(np.float32) / 255),
    }
    image = images.get(mode) or Image.fromarray(IMAGE).convert(mode)
    for name, saved in (("i.tif", image), ("t.png", Image.fromarray(TRIMAP))):
        saved.save(tmp_path / name)
    arguments = [f"--{kind}={tmp_path / name}" for kind, name in
                 (("image", "i.tif"), ("trimap", "t.png"), ("output", "o.png"))]  # fmt: skip
    assert inference.main([*arguments, "--device=cpu"]) == 0
    np.testing.assert_array_equal(as_levels(matting.predict(image, TRIMAP)), np.asarray(Image.open(tmp_path / "o.png")))


MASKS = {
    "binary": TRIMAP == 255,
    "uint8 of 0 and 1": (TRIMAP == 255).astype(np.uint8),
    "uint16": (TRIMAP == 255).astype(np.uint16) * 65535,
    "float": (TRIMAP == 255).astype(np.float64),
    "PIL cut-out": Image.fromarray(np.dstack([IMAGE, np.where(TRIMAP == 255, 255, 0).astype(np.uint8)])),
}


def auto_matted(folder, *how: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Alpha, trimap and cut-out that tools/auto_matte.py writes for the picture."""
    Image.fromarray(IMAGE).save(folder / "i.png")
    arguments = [str(folder / "i.png"), f"--output={folder / 'o.png'}", "--save=alpha,trimap,rgba", "--device=cpu"]
    assert auto_matte.main([*arguments, *how]) == 0
    return tuple(np.asarray(Image.open(folder / name)) for name in ("o.png", "o_trimap.png", "o_rgba.png"))


@pytest.mark.parametrize("form", MASKS)
def test_masks_give_what_auto_matte_writes(matting, tmp_path, form):
    Image.fromarray(TRIMAP == 255).save(tmp_path / "m.png")
    alpha, trimap, _ = auto_matted(tmp_path, f"--mask={tmp_path / 'm.png'}", "--width=4")
    np.testing.assert_array_equal(matting.trimap(IMAGE, mask=MASKS[form], width=4), trimap)
    np.testing.assert_array_equal(as_levels(matting.predict(IMAGE, mask=MASKS[form], width=4)), alpha)


def test_a_soft_mask_is_a_matte_of_another_program(matting, tmp_path):
    soft = np.where(TRIMAP == 128, 90, TRIMAP).astype(np.uint8)
    Image.fromarray(soft).save(tmp_path / "m.png")
    _, trimap, _ = auto_matted(tmp_path, f"--mask={tmp_path / 'm.png'}")
    np.testing.assert_array_equal(matting.trimap(IMAGE, mask=soft), trimap)
    np.testing.assert_array_equal(matting.trimap(IMAGE, mask=soft / 255), trimap)


def test_a_box_with_clicks_gives_what_auto_matte_writes_with_colours(matting, tmp_path):
    how = ["--box", *map(str, BOX), "--click", "45", "30", "--click-outside", "22", "17"]
    alpha, _, rgba = auto_matted(tmp_path, *how)
    given = {"box": BOX, "clicks": [(45, 30)], "clicks_outside": np.array([[22, 17]])}
    matte = matting.predict(IMAGE, **given, foreground=True)
    np.testing.assert_array_equal(as_levels(matte.alpha), alpha)
    np.testing.assert_array_equal(as_levels(matte.foreground), rgba[..., :3])
    np.testing.assert_array_equal(as_levels(matting.predict(IMAGE, clicks=[(45, 30)]))[30, 45], 255)


def written_by(program, folder, arguments: list[str], suffix: str, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Alpha and RGBA that a program writes for the picture with so many bits; EXR's colours are in linear light."""
    Image.fromarray(IMAGE).save(folder / "i.png")
    Image.fromarray(TRIMAP).save(folder / "t.png")
    files = folder / f"o{suffix}", folder / f"o_rgba{suffix}"
    assert (
        program.main([*arguments, f"--output={files[0]}", "--save=alpha,rgba", f"--bits={bits}", "--device=cpu"]) == 0
    )
    if suffix == ".tif":
        return tuple(map(tifffile.imread, files))
    planes = [OpenEXR.File(str(file), separate_channels=True).channels() for file in files]
    return planes[0]["Y"].pixels, np.dstack([planes[1][name].pixels for name in "RGBA"])


@pytest.mark.parametrize(("suffix", "bits", "scale"), [(".tif", 16, 65535), (".tif", 32, 1), (".exr", 32, 1)])
def test_more_bits_are_those_of_the_files_of_both_programs(tmp_path, suffix, bits, scale):
    """The files are read by tifffile and OpenEXR."""
    deep = Matting(device="cpu", bits=bits)
    inputs = [f"--image={tmp_path / 'i.png'}", f"--trimap={tmp_path / 't.png'}"]
    boxed = [str(tmp_path / "i.png"), "--box", *map(str, BOX)]
    for program, arguments, given in (
        (inference, inputs, {"trimap": TRIMAP}),
        (auto_matte, boxed, {"box": BOX}),
    ):
        alpha, rgba = written_by(program, tmp_path, arguments, suffix, bits)
        matte = deep.predict(IMAGE, **given, foreground=True)
        assert matte.alpha.dtype == matte.foreground.dtype == np.float32
        np.testing.assert_array_equal(matte.alpha, (alpha / scale).astype(np.float32))
        np.testing.assert_array_equal(rgba[..., 3], alpha)
        assert len(np.unique(alpha)) > 257  # 8 bits would not do
        if suffix == ".tif":
            np.testing.assert_array_equal(matte.foreground, (rgba[..., :3] / scale).astype(np.float32))
        known = matte.alpha[matting_known(program)]
        assert ((known == 0) | (known == 1)).all()


def matting_known(program) -> np.ndarray:
    """Mask of the known pixels of a program's run: all known ones of a trimap, the corners for a box."""
    return TRIMAP != 128 if program is inference else np.add.outer(np.arange(HEIGHT), np.arange(WIDTH)) < 9


@pytest.mark.parametrize("level", [0, 255])
def test_a_subject_without_an_edge_has_its_trimap_in_any_depth(level):
    trimap = np.full((20, 30), level, np.uint8)
    for bits in (8, 16, 32):
        with pytest.warns(UserWarning, match="no unknown pixel"):
            alpha = Matting(device="cpu", bits=bits).predict(IMAGE[:20, :30], trimap, crop=True)
        assert (alpha == level / 255).all()


def test_a_depth_that_no_file_has_is_refused():
    with pytest.raises(InputError, match=r"^bits: expected one of 8, 16, 32, got 12$"):
        Matting(device="cpu", bits=12)


def test_colours_and_alpha_make_up_the_picture(matting):
    matte = matting.predict(IMAGE, TRIMAP, foreground=True)
    expected = estimate_foreground(IMAGE, as_levels(matte.alpha))
    np.testing.assert_array_equal(as_levels(matte.foreground), expected)
    opaque = matte.alpha == 1
    np.testing.assert_allclose(matte.foreground[opaque], IMAGE[opaque] / 255, atol=1e-6)


def test_colours_keep_the_depth_of_an_array(monkeypatch):
    values = np.random.default_rng(0).integers(0, 65536, IMAGE.shape, np.uint16)
    for image in (values, values / 65535):
        matte = Matting(device="cpu", bits=16).predict(image, TRIMAP, foreground=True)
        opaque = matte.alpha == 1
        np.testing.assert_array_equal(np.rint(matte.foreground[opaque].astype(np.float64) * 65535), values[opaque])
    matte = Matting(device="cpu").predict(values, TRIMAP, foreground=True)
    np.testing.assert_array_equal(as_levels(matte.foreground)[opaque], np.rint(values[opaque] / 257))


def test_a_crop_is_matted_as_the_part_around_the_subject(matting, monkeypatch):
    large = np.pad(TRIMAP, ((200, 150), (100, 180)))
    image = np.pad(IMAGE, ((200, 150), (100, 180), (0, 0)), mode="reflect")
    window = around(large > 0)
    part = matting.predict(np.ascontiguousarray(image[window]), np.ascontiguousarray(large[window]))
    expected = np.zeros(large.shape, np.float32)
    expected[window] = part
    np.testing.assert_array_equal(matting.predict(image, large, crop=True), expected)
    monkeypatch.setattr(system_file, "read_system", lambda path, device: Red().eval())
    red = Matting("red", "cpu").predict(IMAGE, TRIMAP, crop=True)
    np.testing.assert_array_equal(as_levels(red), np.where(TRIMAP == 128, IMAGE[..., 0], TRIMAP))


def test_many_threads_get_the_bits_of_one(matting):
    pictures = [picture(seed, 40 + 8 * seed, 64 + 16 * (seed % 3)) for seed in range(6)]
    calls = [
        *(((image, trimap_for(image)), {}) for image in pictures),
        *(((image,), {"box": (15, 10, image.shape[1] - 15, image.shape[0] - 10)}) for image in pictures[:3]),
    ]

    def levels(call):
        return as_levels(matting.predict(*call[0], **call[1]))

    alone = [levels(call) for call in calls]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(levels, calls * 3))
    for index, alpha in enumerate(together):
        np.testing.assert_array_equal(alpha, alone[index % len(calls)])


def test_a_single_pixel_has_a_matte(matting):
    pixel = np.full((1, 1, 3), 90, np.uint8)
    with pytest.warns(UserWarning, match="no unknown pixel"):
        assert matting.predict(pixel, np.array([[255]], np.uint8)).tolist() == [[1.0]]
    assert matting.predict(pixel, np.array([[128]], np.uint8)).shape == (1, 1)


@pytest.mark.filterwarnings("error")
def test_a_trimap_without_unknown_is_warned_about(matting):
    with pytest.raises(UserWarning, match="no unknown pixel; the matte is the trimap"):
        matting.predict(IMAGE, np.zeros((HEIGHT, WIDTH), np.uint8))


def test_labels_are_read_and_reported(matting, alpha):
    with pytest.warns(UserWarning, match="trimap: values 0, 1, 2 read as background, unknown, foreground") as caught:
        np.testing.assert_array_equal(as_levels(matting.predict(IMAGE, TRIMAP // 127)), alpha)
    assert caught[0].filename == __file__  # the warning is about the line that gave the trimap


BAD = {
    "file name": (("photo.jpg", TRIMAP), {}, "image: expected a numpy array or a PIL image, got str; read a file"),
    "tensor": ((torch.zeros(3, 4, 4), TRIMAP), {}, "image: expected a numpy array or a PIL image, got torch.Tensor"),
    "channels first": ((np.moveaxis(IMAGE, 2, 0), TRIMAP), {}, r"image: expected \(H, W\), .* got shape \(3, 60, 90\)"),
    "batch": ((IMAGE[None], TRIMAP), {}, r"got shape \(1, 60, 90, 3\)"),
    "empty": ((IMAGE[:0], TRIMAP), {}, "image: expected a picture, got 90 x 0 pixels"),
    "floats of 255": ((IMAGE.astype(float), TRIMAP), {}, "found 20..220; divide by the full scale"),
    "NaN": ((np.full((9, 9), np.nan), TRIMAP[:9, :9]), {}, r"floats in \[0, 1\], found nan"),
    "int64": ((IMAGE.astype(np.int64), TRIMAP), {}, "expected uint8, uint16 or float .* got int64"),
    "two levels": ((IMAGE, TRIMAP // 255 * 50), {}, "^trimap: expected .*, found 0, 50, which would all be background"),
    "other size": ((IMAGE, TRIMAP[:-1]), {}, "trimap: is 90 x 59, its image is 90 x 60"),
    "mask of other size": ((IMAGE,), {"mask": TRIMAP[:-1]}, "mask: is 90 x 59, its image is 90 x 60"),
    "nothing": ((IMAGE,), {}, "ViTMatte needs a trimap: give trimap, mask, box or clicks"),
    "two ways": ((IMAGE, TRIMAP), {"box": BOX}, "one way to find the subject, got trimap and box or clicks"),
    "outside alone": ((IMAGE,), {"clicks_outside": [(1, 1)]}, "expected a box around the subject, or a click on it"),
    "flat click": ((IMAGE,), {"clicks": (5, 6)}, "clicks: expected pairs x, y in whole pixels, got 5"),
    "half pixels": ((IMAGE,), {"box": (1.5, 2, 3, 4)}, "box: expected left, top, right, bottom in whole pixels"),
    "click beside it": ((IMAGE,), {"clicks": [(900, 6)]}, "expected pixels within 90 x 60, got 900, 6"),
    "width": ((IMAGE,), {"mask": TRIMAP > 0, "width": -1}, "width: expected 0 pixels or more, got -1"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_is_one_line(matting, case):
    arguments, more, match = BAD[case]
    with pytest.raises(InputError, match=match) as caught:
        matting.predict(*arguments, **more)
    assert "\n" not in str(caught.value)


def test_missing_files_and_devices_are_named(tmp_path):
    with pytest.raises(InputError, match=r"no\.pth"):
        Matting(tmp_path / "no.pth")
    with pytest.raises(InputError, match="device 'tpu9': expected cpu, cuda"):
        Matting(device="tpu9")


def test_systems_without_a_trimap_and_segmentations_need_the_picture_alone(monkeypatch):
    torch.manual_seed(0)
    free, classes = TrimapFree().eval(), TwoClasses().eval()
    monkeypatch.setattr(system_file, "read_system", lambda path, device: {"free": free, "seg": classes}[path])
    alpha = Matting("free", "cpu").predict(IMAGE)
    np.testing.assert_array_equal(as_levels(alpha), Predictor(free).one({"image": IMAGE})["alpha"])
    with pytest.raises(InputError, match="TrimapFree takes no trimap; omit it"):
        Matting("free", "cpu").predict(IMAGE, TRIMAP)
    with pytest.raises(InputError, match="expected a system that predicts alpha, got a TwoClasses"):
        Matting("seg", "cpu")
    found = SegmentedSubjects(Predictor(classes, probabilities=True))({"image": IMAGE}).trimap(None)
    chained = Matting("free", "cpu", segmentation="seg")
    np.testing.assert_array_equal(chained.trimap(IMAGE), found)
    assert chained.predict(IMAGE).shape == alpha.shape


def disc_clip(count: int = 6) -> list[np.ndarray]:
    """Frames of a picture that drifts to the right."""
    return [np.roll(IMAGE, index, axis=1) for index in range(count)]


@pytest.fixture
def clip(tmp_path):
    pytest.importorskip("av", reason="needs PyAV (requirements/video.txt)")
    write_clip(tmp_path / "clip.mp4", disc_clip())
    return tmp_path / "clip.mp4"


def test_a_clip_has_the_files_of_auto_matte_to_the_byte(matting, clip, tmp_path, capsys):
    arguments = [str(clip), "--output", f"{tmp_path}/theirs/%03d.png", "--save", "alpha,rgba,composite", "--device=cpu"]
    assert auto_matte.main([*arguments, "--box", *map(str, BOX), "--background", "red"]) == 0
    outputs = {kind: tmp_path / f"ours_{kind}" / "%03d.png" for kind in ("alpha", "rgba", "composite")}
    run = Matting(device="cpu", bits=16).predict_clip(clip, outputs, box=BOX, background=read_background("red"))
    assert [(frames.written, frames.clip.num_frames) for frames in run] == [(done, 6) for done in range(1, 7)]
    for kind, folder in (("alpha", "theirs"), ("rgba", "theirs_rgba"), ("composite", "theirs_composite")):
        ours, theirs = (sorted(path.iterdir()) for path in (tmp_path / f"ours_{kind}", tmp_path / folder))
        assert [path.name for path in ours] == [path.name for path in theirs]
        assert [path.read_bytes() for path in ours] == [path.read_bytes() for path in theirs]
        assert len(ours) == 7  # and the times
    capsys.readouterr()


def test_a_clip_that_is_given_up_leaves_nothing_and_lets_others_in(matting, clip, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    run = matting.predict_clip(clip, {"alpha": tmp_path / "o.mp4", "rgba": tmp_path / "o" / "%d.png"}, box=BOX)
    next(run)
    assert matting.predict(IMAGE, TRIMAP).shape == (HEIGHT, WIDTH)
    run.close()
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("outputs", "given", "match"),
    [
        ({"alpha": "o.mp4"}, {}, "ViTMatte needs a trimap: give trimap, mask, box or clicks"),
        ({"alpha": "o.mp4"}, {"box": BOX, "trimap": TRIMAP}, "got trimap and box or clicks"),
        ({"alpha": "o.mp4"}, {"trimap": TRIMAP[:-1]}, "trimap: is 90 x 59, its image is 90 x 60"),
        ({"alpha": "o.mp4"}, {"box": (0, 0, 91, 9)}, "within 0 0 90 60, got 0 0 91 9"),
        ({"matte": "o.mp4"}, {"box": BOX}, "^outputs: expected one of mask, trimap, alpha, rgba, composite, got"),
        ({"rgba": "o.mp4"}, {"box": BOX}, r"o\.mp4: \.mp4 does not support transparency; name it \.mov, \.webm"),
        ({"alpha": "clip.mp4"}, {"box": BOX}, "is the input; choose another name for the result"),
    ],
)
def test_clips_that_cannot_be_done_are_one_line(matting, clip, tmp_path, monkeypatch, outputs, given, match):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=match):
        list(matting.predict_clip("clip.mp4", outputs, **given))
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_clip_of_a_system_without_a_trimap_needs_no_subject(clip, tmp_path, monkeypatch):
    free = TrimapFree().eval()
    monkeypatch.setattr(system_file, "read_system", lambda path, device: free)
    list(Matting("free", "cpu").predict_clip(clip, {"alpha": tmp_path / "o" / "%d.png"}))
    with open_clip(clip) as frames:
        expected = Predictor(free).one({"image": next(iter(frames)).image})["alpha"]
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "o" / "1.png")), expected)


HUB = """
import sys
import numpy as np
import torch
before = set(sys.modules)
matting = torch.hub.load(sys.argv[1], "matting", source="local", device="cpu")
image, trimap = np.load("image.npy"), np.load("trimap.npy")
np.save("alpha.npy", matting.predict(image, trimap))
np.save("boxed.npy", matting.predict(image, box=(20, 15, 75, 50)))
assert "detectron2" not in {name for name in set(sys.modules) - before if name != "detectron2._C"}
"""


def test_torch_hub_loads_it_from_another_folder(matting, alpha, tmp_path):
    np.save(tmp_path / "image.npy", IMAGE)
    np.save(tmp_path / "trimap.npy", TRIMAP)
    subprocess.run([sys.executable, "-c", HUB, str(ROOT)], cwd=tmp_path, check=True)
    np.testing.assert_array_equal(as_levels(np.load(tmp_path / "alpha.npy")), alpha)
    np.testing.assert_array_equal(np.load(tmp_path / "boxed.npy"), matting.predict(IMAGE, box=BOX))


def test_torch_hub_refuses_packages_of_the_caller_with_our_names(monkeypatch, tmp_path):
    import hubconf

    (tmp_path / "data").mkdir()
    stranger = type(sys)("data")
    stranger.__path__ = [str(tmp_path / "data")]
    monkeypatch.setitem(sys.modules, "data", stranger)
    with pytest.raises(ImportError, match=r"data: expected the package of .*, found .*data; call from another program"):
        hubconf.matting()


def test_a_prediction_loads_what_an_array_needs_and_no_more():
    code = (
        "import sys, numpy, engine.inference\n"
        "image, trimap = numpy.zeros((32, 32, 3), 'uint8'), numpy.repeat(numpy.uint8([0, 128, 255, 128]), 256)\n"
        "engine.inference.Matting(device='cpu').predict(image, trimap.reshape(32, 32))\n"
        "heavy = {'detectron2.config', 'torchvision', 'matplotlib', 'av', 'onnx', 'scipy', 'skimage', 'gradio'}\n"
        "heavy.add('torch._dynamo')  # PyTorch's compiler takes as long to load as all else\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
