"""One reader of mattes and trimaps: which channel, which scale, and what is refused."""

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image

from data.images.mattes import CodingError, matte_reading, read_gray_exact, read_trimap, trimap_reading
from data.images.trimap_coding import TrimapCodingError, decode_trimap
from runtime.errors import InputError

SIZE = (24, 30)
LABELS = np.repeat([0, 1, 2], 10)[None].repeat(24, 0)  # background, unknown, foreground
TRIMAP = np.uint8([0, 128, 255])[LABELS]
ALPHA = np.tile(np.linspace(0, 255, SIZE[1]).round().astype(np.uint8), (SIZE[0], 1))
COLOURS = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)


def coded(levels, dtype):
    return np.array(levels, dtype)[LABELS]


# --- trimaps: the values

PLAIN = {
    "8 bits": coded([0, 128, 255], np.uint8),
    "127": coded([0, 127, 255], np.uint8),
    "254": coded([0, 127, 254], np.uint8),
    "compressed": coded([8, 120, 247], np.uint8),
    "16 bits": coded([0, 32768, 65535], np.uint16),
    "32 bits": coded([0, 32767, 65535], np.int32),
    "floats": coded([0, 0.5, 1], np.float32),
    "double": coded([0, 0.5, 1], np.float64),
}
REPORTED = {
    "labels": (coded([0, 1, 2], np.uint8), "values 0, 1, 2 read as"),
    "percent": (coded([0, 50, 100], np.uint8), "values 0, 50, 100 read as"),
    "scaled to 160": (coded([0, 80, 160], np.uint8), "values 0, 80, 160 read as"),
    "gray and light": (coded([10, 128, 245], np.uint8), "values 10, 128, 245 read as"),
    "thirds": (coded([0, 85, 170], np.uint8), "values 0, 85, 170 read as"),
    "100 and 200": (coded([0, 100, 200], np.uint8), "values 0, 100, 200 read as"),
    "dark foreground": (coded([0, 128, 200], np.uint8), "values 0, 128, 200 read as"),
    "no black": (coded([64, 128, 255], np.uint8), "values 64, 128, 255 read as"),
    "video levels": (coded([16, 126, 235], np.uint8), "values 16, 126, 235 read as"),
    "light unknown in 16 bits": (coded([0, 40000, 65535], np.uint16), "values 0, 40000, 65535 read as"),
    "uneven floats": (coded([0, 0.4, 1], np.float32), "values 0, 0.4, 1 read as"),
    "labels in 16 bits": (coded([0, 1, 2], np.uint16), "values 0, 1, 2 read as"),
    "8 bits in 16": (coded([0, 128, 255], np.uint16), "values 0, 128, 255 read as"),
    "half of 16 bits": (coded([0, 16384, 32767], np.uint16), "values 0, 16384, 32767 read as"),
    "half and one": (coded([0, 16384, 32768], np.uint16), "values 0, 16384, 32768 read as"),
    "labels in floats": (coded([0, 1, 2], np.float32), "values 0, 1, 2 read as"),
    "8 bits in floats": (coded([0, 128, 255], np.float32), "values 0, 128, 255 read as"),
    "half range in floats": (coded([0, 0.25, 0.5], np.float32), "values 0, 0.25, 0.5 read as"),
    "around 0": (coded([-1, 0, 1], np.int32), "values -1, 0, 1 read as"),
    "around 0 in floats": (coded([-1, 0, 1], np.float32), "values -1, 0, 1 read as"),
    "signed bytes": (coded([-128, 0, 127], np.int32), "values -128, 0, 127 read as"),
    "signed 16 bits": (coded([-32768, 0, 32767], np.int32), "values -32768, 0, 32767 read as"),
}
WRONG = {
    "0 and 1": (coded([0, 1, 1], np.uint8), "found 0, 1, which would all be background"),
    "labels from 1": (coded([1, 2, 3], np.uint8), "found 1, 2, 3, which would all be background"),
    "uneven labels": (coded([0, 1, 3], np.uint8), "found 0, 1, 3, which"),
    "below the thirds": (coded([0, 40, 84], np.uint8), "found 0, 40, 84, which would all be background"),
    "an edge or half the range": (coded([0, 64, 128], np.uint8), "found 0, 64, 128, of which two would become one"),
    "dark unknown": (coded([0, 50, 255], np.uint8), "found 0, 50, 255, of which two would become one"),
    "light unknown": (coded([0, 200, 255], np.uint8), "found 0, 200, 255, of which two would become one"),
    "two close labels": (coded([0, 200, 201], np.uint8), "found 0, 200, 201, of which two would become one"),
    "an object and a void label": (coded([0, 1, 255], np.uint8), "found 0, 1, 255, of which two would become one"),
    "a void label in 16 bits": (coded([0, 1, 65535], np.uint16), "found 0, 1, 65535, of which two would become one"),
    "a mask of labels": (coded([0, 200, 200], np.uint8), "found 0, 200, which may have other meanings"),
    "percent without unknown": (coded([0, 100, 100], np.uint8), "found 0, 100, which may have other meanings"),
    "one gray": (coded([85] * 3, np.uint8), "found 85, which may have other meanings"),
    "levels of a mask in 16 bits": (coded([0, 200, 200], np.uint16), "found 0, 200, which may have other meanings"),
    "posterised": (np.uint8([0, 36, 73, 109, 146, 182, 219, 255])[None], "found 8 values, as a soft matte"),
    "labels and a void": (np.uint8([0, 3, 15, 255])[None], "found 4 values, as a soft matte"),
    "0 and 1 in 16 bits": (coded([0, 1, 1], np.uint16), "found 0, 1, which would all be background"),
    "0 and 1 as floats of two": (coded([0, 1.05, 1.05], np.float32), "found 0, 1.05;"),
    "uneven floats": (coded([-0.02, 0.5, 1], np.float32), "found -0.02, 0.5, 1;"),
    "negative": (coded([-5, 0, 100], np.int32), "found -5, 0, 100;"),
    "above 16 bits": (coded([0, 1, 70000], np.int32), "found 0, 1, 70000;"),
    "NaN": (coded([0, 0.5, np.nan], np.float32), "found NaN or infinity"),
    "infinite": (coded([0, 0.5, np.inf], np.float32), "found NaN or infinity"),
    "soft matte": (ALPHA, "found 30 values, as a soft matte"),
    "soft matte in 16 bits": (ALPHA.astype(np.uint16) * 257, "found 30 values, as a soft matte"),
    "soft matte of 8 bits in 16": (ALPHA.astype(np.uint16), "found 30 values, as a soft matte"),
    "soft matte in floats": (ALPHA.astype(np.float32) / 255, "found 30 values, as a soft matte"),
    "dark": (ALPHA // 4, "which would all be background"),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_values_are_quantised_without_a_remark(name):
    values = PLAIN[name].copy()
    values.setflags(write=False)
    trimap, remark = decode_trimap(values)
    np.testing.assert_array_equal(trimap, TRIMAP)
    assert (trimap.dtype, remark) == (np.uint8, "")
    trimap[0] = 0  # not the file's own, which may be read-only


@pytest.mark.parametrize("name", REPORTED)
def test_three_values_of_another_coding_are_read_and_reported(name):
    values, expected = REPORTED[name]
    trimap, remark = decode_trimap(values)
    np.testing.assert_array_equal(trimap, TRIMAP)
    assert remark == f"{expected} background, unknown, foreground"


@pytest.mark.parametrize("name", WRONG)
def test_other_values_are_refused_and_listed(name):
    values, expected = WRONG[name]
    with pytest.raises(TrimapCodingError) as caught:
        decode_trimap(values)
    assert "expected a trimap of 0 (background), 128 (unknown) and 255 (foreground)" in str(caught.value)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_long_lists_of_values_are_shortened():
    with pytest.raises(TrimapCodingError, match=r"found 0, 1, 2, 3, 4, 5, which"):
        decode_trimap(np.arange(6, dtype=np.uint8)[None])
    with pytest.raises(TrimapCodingError, match=r"found 0, 1, 2, 3, 4, 5, \.\.\. \(20 values up to 19\), which"):
        decode_trimap(np.arange(20, dtype=np.uint8)[None])


def test_signed_values_that_are_not_three_are_refused_since_their_scale_is_not_known():
    trimap, remark = decode_trimap(coded([0, 32768, 65535], np.int32), is_signed=True)
    np.testing.assert_array_equal(trimap, TRIMAP)
    assert remark.startswith("values 0, 32768, 65535 read as")  # unsigned, it is the usual coding
    values = coded([0, 32767, 32767], np.int32)
    assert set(np.unique(decode_trimap(values)[0])) == {0, 128}
    with pytest.raises(TrimapCodingError, match="found 0, 32767;"):
        decode_trimap(values, is_signed=True)
    np.testing.assert_array_equal(decode_trimap(values * 0, is_signed=True)[0], 0)


def test_values_to_255_in_a_wider_type_are_levels():
    edge = np.append(TRIMAP, TRIMAP[:1] // 2, axis=0)  # a few pixels of an edge: four values
    for dtype in (np.uint16, np.int32, np.float32):
        trimap, remark = decode_trimap(edge.astype(dtype))
        np.testing.assert_array_equal(trimap, np.append(TRIMAP, np.uint8([0, 0, 128])[LABELS[:1]], axis=0))
        assert remark.startswith("values of 0..255 in a wider type; values 0, 64, 127, 128, 255 read as background, ba")
    low, remark = decode_trimap(np.array([[0, 120]], np.uint16))
    assert (low.tolist(), remark) == ([[0, 128]], "values of 0..255 in a wider type")
    with pytest.raises(TrimapCodingError, match="found 0, 85, which may have other meanings"):
        decode_trimap(np.array([[0, 85]], np.uint16))
    with pytest.raises(TrimapCodingError, match="found 0, 84, which would all be background"):
        decode_trimap(np.array([[0, 84]], np.uint16))
    with pytest.raises(TrimapCodingError, match="found 0, 256, which"):
        decode_trimap(np.array([[0, 256]], np.uint16))


@pytest.mark.parametrize("values", [[0], [128], [255], [0, 128], [128, 255], [0, 255], [127], [120, 247]])
def test_one_or_two_levels_are_a_trimap_without_the_others(values):
    trimap, remark = decode_trimap(np.uint8([values]))
    assert trimap.tolist() == [[0 if v < 85 else 128 if v < 170 else 255 for v in values]]
    assert remark == ""


@pytest.mark.parametrize("factor", [0.5, 0.7, 1.3, 2, 3])
@pytest.mark.parametrize("kernel", [cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4])
def test_a_resized_trimap_is_none_the_less_one(factor, kernel):
    """A band of 8 pixels around a disc, with soft edges after resizing."""
    y, x = np.mgrid[:90, :120]
    distance = np.hypot(x - 60, y - 45)
    trimap = np.select([distance < 20, distance > 28], [255, 0], 128).astype(np.uint8)
    resized = cv2.resize(trimap, None, fx=factor, fy=factor, interpolation=kernel)
    assert len(np.unique(resized)) > 3
    read, remark = decode_trimap(resized)
    np.testing.assert_array_equal(read, np.where(resized < 85, 0, np.where(resized < 170, 128, 255)))
    assert remark == ""


def test_a_jpeg_of_a_trimap_is_one_and_its_noise_is_no_label(tmp_path):
    Image.fromarray(np.kron(TRIMAP, np.ones((10, 10), np.uint8))).save(tmp_path / "t.jpg", quality=80)
    stored = np.asarray(Image.open(tmp_path / "t.jpg"))
    assert len(np.unique(stored)) > 3
    reading = trimap_reading(tmp_path / "t.jpg")
    np.testing.assert_array_equal(reading.values, np.where(stored < 85, 0, np.where(stored < 170, 128, 255)))
    assert reading.remark == ""
    noise = np.array([[0, 1, 2, 0]], np.uint8)
    assert decode_trimap(noise, is_lossy=True) == (pytest.approx(np.zeros((1, 4))), "")
    assert decode_trimap(np.uint8([[0, 3, 8]]), is_lossy=True)[0].tolist() == [[0, 0, 0]]
    with pytest.raises(TrimapCodingError):
        decode_trimap(np.uint8([[0, 3, 9]]), is_lossy=True)


def test_both_middles_of_the_scale_are_one_value():
    for values in (np.uint8([[0, 127, 128]]), np.uint16([[0, 32767, 32768]]), np.float32([[0, 0.498, 0.502]])):
        trimap, remark = decode_trimap(values)
        assert (trimap.tolist(), remark) == ([[0, 128, 128]], "")
    assert decode_trimap(np.uint8([[0, 127, 128, 255]]))[1] == ""


@pytest.mark.parametrize(
    ("levels", "expected"),
    [([0, 254, 255], [0, 255, 255]), ([0, 7, 255], [0, 0, 255]), ([0, 3, 128], [0, 0, 128]),
     ([0, 126, 127], [0, 128, 128]), ([254, 255], [255, 255]), ([127, 129], [128, 128])],
)  # fmt: skip
def test_levels_within_8_of_a_region_are_the_regions_without_a_remark(levels, expected):
    trimap, remark = decode_trimap(np.uint8([levels]))
    assert (trimap.tolist(), remark) == ([expected], "")


def test_the_regions_of_four_to_six_values_are_reported():
    assert decode_trimap(np.uint8([[0, 1, 2, 255]]))[1] == (
        "values 0, 1, 2, 255 read as background, background, background, foreground"
    )
    certain_to_not = np.uint8([[0] * 9 + [64] + [128] * 9 + [192] + [255] * 9])
    trimap, remark = decode_trimap(certain_to_not)
    assert trimap.tolist() == [[0] * 10 + [128] * 9 + [255] * 10]
    assert remark == "values 0, 64, 128, 192, 255 read as background, background, unknown, foreground, foreground"


@pytest.mark.parametrize(
    ("levels", "expected"),
    [((0, 128, 200), "values 0, 128, 200 read as background, unknown, foreground"),
     ((16, 128, 235), "values 16, 128, 235 read as background, unknown, foreground"),
     ((0, 128, 128), "values 0, 128 read as background, unknown"),
     ((0, 255, 255), None)],
)  # fmt: skip
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_regions_of_other_levels_are_reported_if_edges_are_soft(tmp_path, levels, expected, suffix):
    """The unknown region is large, so that the file is no soft matte."""
    y, x = np.mgrid[:100, :100]
    distance = np.hypot(x - 50, y - 50)
    trimap = np.select([distance < 10, distance > 60], [levels[2], levels[0]], levels[1]).astype(np.uint8)
    save(tmp_path / f"t.{suffix}", cv2.resize(trimap, None, fx=1.3, fy=1.3, interpolation=cv2.INTER_LINEAR))
    if expected is None:
        with pytest.raises(CodingError, match="as a soft matte"):  # a resized mask
            trimap_reading(tmp_path / f"t.{suffix}")
    else:
        assert trimap_reading(tmp_path / f"t.{suffix}").remark == f"soft edges; the most frequent {expected}"


def test_bits_and_empty_arrays_have_no_coding():
    trimap, remark = decode_trimap(np.array([[True, False]]))
    assert (trimap.tolist(), remark) == ([[255, 0]], "")
    for dtype in (np.uint8, np.uint16, np.float32):
        trimap, remark = decode_trimap(np.zeros((0, 3), dtype))
        assert (trimap.shape, trimap.dtype, remark) == ((0, 3), np.uint8, "")


@pytest.mark.parametrize(
    ("levels", "dtype"),
    [
        ((0, 9900, 20000), np.uint16),  # 200 from even, a hundredth of the range
        ((0, 69, 138), np.uint8),
        ((0, 59, 118), np.uint8),
        ((-10, 0, 11), np.int32),
        ((-100, 0.25, 100), np.float32),
    ],
)
def test_even_is_to_a_hundredth_of_the_range_or_one_integer(levels, dtype):
    np.testing.assert_array_equal(decode_trimap(coded(levels, dtype))[0], TRIMAP)


@pytest.mark.parametrize(
    ("levels", "dtype"),
    [
        ((0, 9899, 20000), np.uint16),
        ((0, 68, 136), np.uint8),
        ((0, 60, 120), np.uint8),
        ((-10, 0, 12), np.int32),
        ((-0.1, 0.004, 0.1), np.float32),
        ((-100, 0.5025, 100), np.float32),
    ],
)
def test_less_even_is_not(levels, dtype):
    with pytest.raises(TrimapCodingError):
        decode_trimap(coded(levels, dtype))


def test_a_soft_matte_has_four_times_as_many_pixels_between_as_near_128():
    between = np.arange(20, 36, dtype=np.uint8)  # 16 levels
    for unknown in (120, 136):
        assert 128 in decode_trimap(np.append(between, np.uint8([unknown] * 4))[None])[0]
        with pytest.raises(TrimapCodingError, match=r"found 17 values, as a soft matte.* 84.2%.* 15.8% near 128"):
            decode_trimap(np.append(between, np.uint8([unknown] * 3))[None])
        with pytest.raises(TrimapCodingError, match=r"soft matte.* 81.0%.* 19.0% near 128"):  # 17 of 21 and 4
            decode_trimap(np.append(between, np.uint8([between[0], *[unknown] * 4]))[None])
    for other in (119, 137):  # near 128 no more
        with pytest.raises(TrimapCodingError, match="soft matte"):
            decode_trimap(np.append(between, np.uint8([other] * 9))[None])
    near = np.uint8([8] * 9 + [128] + [247] * 9)  # these count as known
    assert decode_trimap(np.append(between[:4], near)[None])[1] == ""
    with pytest.raises(TrimapCodingError, match="soft matte"):
        decode_trimap(np.append(between[:5], near)[None])


def test_levels_in_a_wider_type_keep_their_thirds():
    usual = np.array([0, 32768, 65535] * 9, np.uint16)
    edges = np.uint16([21716, 21717, 43561, 43562])  # around 84.5 and 169.5 * 257
    trimap, remark = decode_trimap(np.append(edges, usual)[None])
    assert (trimap[0, :4].tolist(), remark) == ([0, 128, 128, 255], "")
    trimap, remark = decode_trimap(np.append(np.uint16([84, 85, 169, 170]), np.uint16([0, 128, 255] * 9))[None])
    assert (trimap[0, :4].tolist(), remark) == ([0, 128, 128, 255], "values of 0..255 in a wider type")


# --- trimaps: files of every kind


def save(path, array, **options):
    image = Image.fromarray(array)
    image.save(path, **options)
    return path


def with_alpha(colours, alpha):
    return np.dstack([colours, alpha])


def palette(labels, colours):
    image = Image.new("P", labels.shape[::-1])
    image.putdata(labels.ravel().tolist())
    image.putpalette([level for colour in colours for level in colour])
    return image


WHITE = np.full((*SIZE, 3), 255, np.uint8)
GRAY = np.dstack([TRIMAP] * 3)
OPAQUE = np.full(SIZE, 255, np.uint8)


@pytest.mark.parametrize(
    ("array", "remark"),
    [
        (TRIMAP, ""),
        (GRAY, ""),
        (with_alpha(GRAY, OPAQUE), ""),
        (with_alpha(COLOURS, TRIMAP), "read from the alpha channel"),
        (with_alpha(WHITE, TRIMAP), "read from the alpha channel"),
        (with_alpha(WHITE * 0, TRIMAP), "read from the alpha channel"),
        (with_alpha(GRAY, TRIMAP), "read from the alpha channel"),
        (with_alpha(GRAY, OPAQUE // 3), "read without its alpha channel, which has one value"),
        (with_alpha(COLOURS, np.uint8([0, 1, 2])[LABELS]), "read from the alpha channel; values 0, 1, 2 read as"),
        (GRAY + np.uint8([0, 0, 20]) * (GRAY == 128), ""),  # tinted by compression
    ],
)
def test_the_channel_that_holds_a_trimap_is_found(tmp_path, array, remark):
    reading = trimap_reading(save(tmp_path / "t.png", array))
    np.testing.assert_array_equal(reading.values, TRIMAP)
    assert reading.remark.startswith(remark)
    assert bool(reading.remark) == bool(remark)


@pytest.mark.parametrize(
    ("array", "kind", "message"),
    [
        (COLOURS, "colour", "expected a gray trimap, found a picture in colours"),
        (np.uint8([(0, 0, 0), (128, 0, 0), (0, 128, 0)])[LABELS], "colour", "found a picture in colours"),
        (with_alpha(np.where(TRIMAP[..., None] == 0, 255, GRAY), np.where(TRIMAP, 255, 0).astype(np.uint8)),
         "transparent", "an alpha channel that is not opaque"),
        (with_alpha(COLOURS, ALPHA), "coding", "soft matte"),
        (ALPHA, "coding", "soft matte"),
        (with_alpha(COLOURS, np.maximum(ALPHA, 128)), "transparent", "an alpha channel that is not opaque"),
    ],
)  # fmt: skip
def test_what_may_mean_two_things_is_no_trimap(tmp_path, array, kind, message):
    path = save(tmp_path / "t.png", array)
    with pytest.raises(CodingError, match=message) as caught:
        read_trimap(path)
    assert caught.value.kind == kind
    assert str(caught.value).startswith(str(path))


def test_a_palette_of_grays_is_read_and_one_of_colours_refused(tmp_path):
    palette(LABELS, [(0,) * 3, (128,) * 3, (255,) * 3]).save(tmp_path / "t.png")
    np.testing.assert_array_equal(read_trimap(tmp_path / "t.png"), TRIMAP)
    palette(LABELS, [(0, 0, 0), (128, 0, 0), (0, 128, 0)]).save(tmp_path / "c.png")
    with pytest.raises(CodingError, match="found a picture in colours"):
        read_trimap(tmp_path / "c.png")
    transparent = palette(LABELS, [(255, 255, 255)] * 3)
    transparent.save(tmp_path / "a.png", transparency=bytes([0, 128, 255]))
    np.testing.assert_array_equal(read_trimap(tmp_path / "a.png"), TRIMAP)


def test_a_level_that_a_png_calls_transparent_is_a_level(tmp_path):
    Image.fromarray(TRIMAP).save(tmp_path / "t.png", transparency=0)
    assert trimap_reading(tmp_path / "t.png") == (pytest.approx(TRIMAP), "")
    Image.fromarray(GRAY).save(tmp_path / "t.png", transparency=(0, 0, 0))
    assert trimap_reading(tmp_path / "t.png") == (pytest.approx(TRIMAP), "")


def test_the_alpha_channel_of_gray_and_of_a_palette_is_found(tmp_path):
    alpha = Image.fromarray(TRIMAP)
    Image.merge("LA", [Image.new("L", alpha.size, 255), alpha]).save(tmp_path / "a.png")
    white = Image.new("P", alpha.size)
    white.putpalette([255] * 3)
    white.putalpha(alpha)
    assert white.mode == "PA"
    white.save(tmp_path / "a.tif")
    for name in ("a.png", "a.tif"):
        assert Image.open(tmp_path / name).mode == ("LA" if name == "a.png" else "PA")
        assert trimap_reading(tmp_path / name) == (pytest.approx(TRIMAP), "read from the alpha channel")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
@pytest.mark.parametrize("levels", [(0, 1, 2), (0, 128, 255), (0, 0.5, 1)])
def test_trimaps_in_tiff_files_of_any_type(tmp_path, dtype, levels):
    if dtype != np.float32 and 0.5 in levels:
        levels = [round(level * np.iinfo(dtype).max) for level in levels]
    for order in "<>":
        tifffile.imwrite(tmp_path / "t.tif", coded(levels, dtype), byteorder=order, compression="adobe_deflate")
        np.testing.assert_array_equal(read_trimap(tmp_path / "t.tif"), TRIMAP, err_msg=order)


def test_labels_in_the_lower_byte_of_deep_colours_are_not_lost_without_a_word(tmp_path):
    cv2.imwrite(str(tmp_path / "t.png"), np.dstack([coded([0, 1, 2], np.uint16)] * 3))
    for read in (read_trimap, matte_reading):
        with pytest.raises(CodingError, match="found none above 255"):
            read(tmp_path / "t.png")
    cv2.imwrite(str(tmp_path / "t.png"), np.dstack([coded([0, 32768, 65535], np.uint16)] * 3))
    np.testing.assert_array_equal(read_trimap(tmp_path / "t.png"), TRIMAP)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_trimap_of_background_alone_is_one(tmp_path, dtype):
    assert trimap_reading(save(tmp_path / "t.tif", np.zeros(SIZE, dtype))) == (pytest.approx(TRIMAP * 0), "")


# --- mattes


@pytest.mark.parametrize(
    ("array", "remark"),
    [
        (ALPHA, ""),
        (np.dstack([ALPHA] * 3), ""),
        (with_alpha(np.dstack([ALPHA] * 3), OPAQUE), ""),
        (with_alpha(COLOURS, ALPHA), "read from the alpha channel"),
        (with_alpha(WHITE, ALPHA), "read from the alpha channel"),
        (with_alpha(np.where(ALPHA[..., None] > 0, 255, COLOURS), ALPHA), "read from the alpha channel"),
        (with_alpha(np.where(ALPHA[..., None] > 0, WHITE, 0), ALPHA), "read from the alpha channel"),
        (with_alpha(np.dstack([ALPHA] * 3), OPAQUE // 3), "read without its alpha channel, which has one value"),
        (with_alpha(np.dstack([ALPHA] * 3), ALPHA), "read from the alpha channel"),
        (ALPHA.astype(np.uint16) * 257, ""),
        (ALPHA > 127, ""),
    ],
)
def test_the_channel_that_holds_a_matte_is_found(tmp_path, array, remark):
    reading = matte_reading(save(tmp_path / "a.png", array))
    np.testing.assert_array_equal(reading.values, np.where(ALPHA > 127, 255, 0) if array.dtype == bool else ALPHA)
    assert (reading.values.dtype, reading.remark) == (np.uint8, remark)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_mattes_of_floats_are_read_from_0_to_1(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", (ALPHA / 255).astype(dtype))
    assert matte_reading(tmp_path / "a.tif") == (pytest.approx(ALPHA), "")
    tifffile.imwrite(tmp_path / "a.tif", ALPHA.astype(dtype))
    with pytest.raises(InputError, match=r"expected values in 0\.\.1, found 0\.\.255"):
        matte_reading(tmp_path / "a.tif")


def test_several_channels_of_floats_are_read_from_0_to_1_only(tmp_path):
    values = np.dstack([ALPHA / np.float32(255)] * 3)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
    assert matte_reading(tmp_path / "a.tif") == (pytest.approx(ALPHA), "")
    for wrong in (values * np.float32(1.01), values - np.float32(0.01)):
        tifffile.imwrite(tmp_path / "a.tif", wrong, photometric="rgb")
        for read in (matte_reading, read_trimap):
            with pytest.raises(CodingError, match=r"expected floats in 0\.\.1 of the .*, found others in its channels"):
                read(tmp_path / "a.tif")


def test_one_visible_pixel_is_a_cut_out(tmp_path):
    alpha = np.zeros(SIZE, np.uint8)
    alpha[3, 4] = 255
    np.testing.assert_array_equal(matte_reading(save(tmp_path / "a.png", with_alpha(COLOURS, alpha))).values, alpha)


def test_an_empty_frame_of_a_matte_in_the_alpha_channel_is_transparent(tmp_path):
    reading = matte_reading(save(tmp_path / "a.png", with_alpha(WHITE, OPAQUE * 0)))
    assert not reading.values.any()


@pytest.mark.parametrize(
    ("array", "kind", "message"),
    [
        (COLOURS, "colour", "expected a gray alpha, found a picture in colours; are photographs and alphas exchanged"),
        (with_alpha(COLOURS, OPAQUE), "colour", "found a picture in colours"),
        (with_alpha(COLOURS, OPAQUE // 3), "colour", "found a picture in colours"),
        (with_alpha(np.dstack([ALPHA] * 3), 255 - ALPHA), "transparent", "mode RGBA with an alpha channel"),
        ((ALPHA > 127).astype(np.uint8), "coding", "found only 0 and 1; multiply it by 255"),
        ((ALPHA > 127).astype(np.uint16), "coding", "found only 0 and 1; multiply it by 65535"),
        (ALPHA.astype(np.uint16), "coding", "found values up to 255, as of 8 bits"),
        (np.rint(ALPHA / 255 * 1023).astype(np.uint16), "coding", "found values up to 1023, as of 10 bits"),
        (np.rint(ALPHA / 255 * 4095).astype(np.uint16), "coding", "found values up to 4095, as of 12 bits"),
        (with_alpha(COLOURS, (ALPHA > 127).astype(np.uint8)), "coding", "found only 0 and 1"),
    ],
)
def test_what_may_mean_two_things_is_no_matte(tmp_path, array, kind, message):
    path = save(tmp_path / "a.png", array)
    with pytest.raises(CodingError, match=message) as caught:
        matte_reading(path)
    assert caught.value.kind == kind
    assert str(caught.value).startswith(str(path))


def test_a_tint_of_32_levels_is_gray_and_of_33_a_colour(tmp_path):
    low = ALPHA // 2
    gray, colour = (np.dstack([low, low, low + np.uint8(tint)]) for tint in (32, 33))
    np.testing.assert_array_equal(matte_reading(save(tmp_path / "a.png", gray)).values, low)
    with pytest.raises(CodingError, match="in colours"):
        matte_reading(save(tmp_path / "a.png", colour))
    with pytest.raises(CodingError, match="not opaque"):
        matte_reading(save(tmp_path / "a.png", with_alpha(gray, 255 - ALPHA)))
    reading = matte_reading(save(tmp_path / "a.png", with_alpha(colour, 255 - ALPHA)))
    np.testing.assert_array_equal(reading.values, 255 - ALPHA)


@pytest.mark.parametrize("lowest", [127, 128])
def test_a_cut_out_is_more_transparent_than_opaque_somewhere(tmp_path, lowest):
    path = save(tmp_path / "a.png", with_alpha(COLOURS, np.maximum(ALPHA, lowest)))
    if lowest == 128:
        with pytest.raises(CodingError, match="not opaque"):
            matte_reading(path)
    else:
        assert matte_reading(path).values.min() == 127


@pytest.mark.parametrize("highest", [0, 2, 254])
def test_faint_mattes_of_8_bits_are_mattes(tmp_path, highest):
    array = np.minimum(ALPHA, highest)
    np.testing.assert_array_equal(matte_reading(save(tmp_path / "a.png", array)).values, array)


@pytest.mark.parametrize("highest", [0, 256, 1022, 4096])
def test_faint_mattes_of_16_bits_are_mattes(tmp_path, highest):
    array = np.minimum(ALPHA.astype(np.uint16) * 257, highest)
    np.testing.assert_array_equal(matte_reading(save(tmp_path / "a.png", array)).values, np.rint(array / 257))


@pytest.mark.parametrize(("suffix", "is_lossy"), [(".jpg", True), (".png", False), (".tif", False)])
def test_only_a_jpeg_may_have_noise_for_labels(tmp_path, monkeypatch, suffix, is_lossy):
    asked = []
    monkeypatch.setattr("data.images.mattes.decode_trimap", lambda values, *how: asked.append(how) or (values, ""))
    trimap_reading(save(tmp_path / f"t{suffix}", TRIMAP))
    assert asked == [(is_lossy, False)]


def test_specks_in_a_black_jpeg_are_no_labels(tmp_path, monkeypatch):
    save(tmp_path / "a.jpg", np.zeros(SIZE, np.uint8))
    monkeypatch.setattr(np, "asarray", lambda image, asarray=np.asarray: np.minimum(asarray(image) + np.uint8(1), 1))
    assert matte_reading(tmp_path / "a.jpg").values.max() == 1


def test_a_true_matte_in_colours_may_be_read_by_its_first_channel(tmp_path):
    reading = matte_reading(save(tmp_path / "a.png", COLOURS), first_channel=True)
    np.testing.assert_array_equal(reading.values, COLOURS[..., 0])
    assert reading.remark == "read by the first of channels that differ"
    reading = matte_reading(save(tmp_path / "a.png", with_alpha(COLOURS, ALPHA)), first_channel=True)
    np.testing.assert_array_equal(reading.values, ALPHA)  # a cut-out is one all the same
    reading = matte_reading(save(tmp_path / "a.png", with_alpha(COLOURS, OPAQUE // 3)), first_channel=True)
    np.testing.assert_array_equal(reading.values, COLOURS[..., 0])
    assert reading.remark == "read by the first of channels that differ"


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_are_unchanged_where_values_must_be_exact(tmp_path, suffix):
    array = ALPHA.astype(np.uint16) * 256 + np.arange(ALPHA.shape[1], dtype=np.uint16)
    path = save(tmp_path / f"a.{suffix}", array)
    for values in (read_gray_exact(path), matte_reading(path, exact=True).values):
        np.testing.assert_array_equal(values, array)
        assert values.dtype == np.uint16


def test_big_endian_values_are_those_of_the_file(tmp_path):
    array = np.uint16([[0, 1, 256], [300, 40000, 65535]])
    tifffile.imwrite(tmp_path / "a.tif", array, byteorder=">")
    values = read_gray_exact(tmp_path / "a.tif")
    np.testing.assert_array_equal(values, array)
    assert values.dtype == np.uint16


def test_floats_are_refused_where_values_must_be_exact(tmp_path):
    path = save(tmp_path / "a.tif", (ALPHA / 255).astype(np.float32))
    for read in (read_gray_exact, lambda path: matte_reading(path, exact=True)):
        with pytest.raises(CodingError, match="expected 8 or 16 bits, found floats"):
            read(path)


@pytest.mark.parametrize("array", [with_alpha(COLOURS, ALPHA), COLOURS, with_alpha(np.dstack([ALPHA] * 3), ALPHA)])
def test_predictions_are_read_from_one_gray_channel_only(tmp_path, array):
    with pytest.raises(CodingError, match="whose channels differ or are transparent"):
        read_gray_exact(save(tmp_path / "a.png", array))
    np.testing.assert_array_equal(read_gray_exact(save(tmp_path / "b.png", np.dstack([ALPHA] * 3))), ALPHA)


def test_a_coding_error_survives_the_way_between_processes():
    import pickle

    error = pickle.loads(pickle.dumps(CodingError("a.png: wrong", "colour", "correct it")))
    assert (str(error), error.kind, error.remedy) == ("a.png: wrong; correct it", "colour", "correct it")
