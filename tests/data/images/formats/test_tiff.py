"""TIFF of every kind: bits x sample format x channels x planes x byte order x compression x photometric x tiles.

tifffile writes the files and the values are known: each is read right, or refused in one line.
"""

import itertools
import struct
import tracemalloc
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
import tifffile
from PIL import Image

from data.images.files import opened_image, read_gray, read_header, read_rgb
from data.images.formats import tiff
from data.images.mattes import read_matte, read_trimap
from runtime.errors import InputError

GOLDENS = Path(__file__).parents[2] / "goldens" / "tiff"
SIZE = (19, 35)  # no multiple of 8 or of a tile
TYPES = ("bool", "uint8", "uint16", "uint32", "int8", "int16", "int32", "float16", "float32", "float64")
CODECS = ("none", "adobe_deflate", "lzma")  # those that tifffile writes by itself; others are among the goldens


def values_of(dtype: str, channels: int) -> np.ndarray:
    shape = SIZE if channels == 1 else (*SIZE, channels)
    rng = np.random.default_rng(channels)
    if dtype == "bool":
        return rng.integers(0, 2, shape).astype(bool)
    if dtype.startswith("float"):
        return rng.random(shape).astype(dtype)
    highest = min(np.iinfo(dtype).max, 65535)
    return rng.integers(highest // 2, highest + 1, shape).astype(dtype)


def kinds(dtype: str):
    variants = (False, True) if dtype in ("uint8", "uint16", "float32") else (False,)  # of tiles and predictors
    for channels in (1, 2, 3, 4):
        for order, codec, tiled, predictor in itertools.product("<>", CODECS, variants, variants):
            for planar, photometric in itertools.product((False, True), ("minisblack", "miniswhite", "rgb")):
                is_rgb = photometric == "rgb"
                if is_rgb != (channels > 2) or (planar and channels == 1):
                    continue
                if predictor and (codec == "none" or dtype == "bool" or dtype.startswith("float")):
                    continue
                yield channels, order, codec, tiled, predictor, planar, photometric


def write(path, values, order, codec, tiled, predictor, planar, photometric) -> None:
    channels = values.shape[2] if values.ndim == 3 else 1
    options = {"tile": (16, 16)} if tiled else {}
    if codec != "none":
        options |= {"compression": codec, "predictor": predictor}
    if channels > 1:
        options["planarconfig"] = "separate" if planar else "contig"
    if channels in (2, 4):
        options["extrasamples"] = ["unassalpha"]
    stored = np.moveaxis(values, -1, 0).copy() if planar else values
    tifffile.imwrite(path, stored, byteorder=order, photometric=photometric, metadata=None, **options)


def expected_of(values: np.ndarray, photometric: str) -> np.ndarray:
    """The colours or gray, (H, W) or (H, W, 3) uint8, that a file of these values shows."""
    channels = values.shape[2] if values.ndim == 3 else 1
    if photometric == "miniswhite":
        values = ~values if values.dtype == bool else np.iinfo(values.dtype).max - values
    if values.dtype == bool:
        levels = values * np.uint8(255)
    elif values.dtype.kind == "f":
        levels = np.rint(values.astype(np.float32).astype(np.float64) * 255).astype(np.uint8)
    elif values.dtype.itemsize > 1:
        levels = (values >> 8 if channels > 1 else np.rint(values / 257)).astype(np.uint8)
    else:
        levels = values
    if channels < 3:
        return levels if channels == 1 else levels[..., 0]
    return levels[..., :3]


def why_refused(dtype: str, channels: int, codec: str, photometric: str) -> str:
    """Why a kind may be refused, or nothing for one that must be read."""
    if dtype.startswith("int"):
        return "the scale of signed values is not known"
    if channels > 1 and dtype in ("bool", "uint32", "float16", "float32", "float64"):
        return "several channels that are not of 8 or 16 bits"
    if dtype.startswith("float") and photometric == "miniswhite":
        return "nobody knows which float is black"
    if dtype == "uint32" and photometric == "miniswhite":
        return "values far above 65535"
    return "Pillow does not read it, and tifffile unpacks it without a bound" if codec == "lzma" else ""


@pytest.mark.parametrize("dtype", TYPES)
def test_every_kind_is_read_right_or_refused_in_one_line(tmp_path, dtype):
    path, read, refused = tmp_path / "a.tif", 0, []
    for kind in kinds(dtype):
        channels, codec, photometric = kind[0], kind[2], kind[6]
        values = values_of(dtype, channels)
        write(path, values, *kind[1:])
        try:
            found = read_gray(path) if channels < 3 else read_rgb(path)
        except InputError as error:
            refused.append((channels, codec, photometric))
            message = str(error)
        else:
            message = ""
        if message:
            assert message.startswith(str(path)), kind
            assert "\n" not in message, kind
            assert why_refused(dtype, channels, codec, photometric), (kind, message)
            continue
        np.testing.assert_array_equal(found, expected_of(values, photometric), err_msg=str(kind))
        assert read_header(path).size == SIZE, kind
        read += 1
    assert (read == 0) == dtype.startswith("int")
    if dtype == "uint8":
        # planes of gray and opacity, or white is zero beside an opacity
        assert set(refused) == {(2, "lzma", "minisblack"), (2, "lzma", "miniswhite")}


@pytest.mark.parametrize("name", sorted(path.stem for path in GOLDENS.glob("*.tif")))
def test_codecs_that_tifffile_does_not_write_are_read_right_or_refused(name):
    """Files of imagecodecs: LZW, PackBits and Zstandard."""
    y, x = np.mgrid[:12, :10]
    base = ((x * 7 + y * 11) % 120 / 119).astype(np.float32)
    deep = np.rint(base * 65535).astype(np.uint16)
    if name == "float32_big_lzw":  # Pillow swaps its bytes, and tifffile needs imagecodecs
        with pytest.raises(InputError, match=r"float32_big_lzw\.tif: TIFF of kind 32-bit float"):
            read_gray(GOLDENS / f"{name}.tif")
    elif name.startswith("float32"):
        np.testing.assert_array_equal(read_gray(GOLDENS / f"{name}.tif"), np.rint(base.astype(np.float64) * 255))
    elif name.startswith("gray16"):
        np.testing.assert_array_equal(read_gray(GOLDENS / f"{name}.tif"), np.rint(deep / 257))
    elif name.startswith("gray8"):
        np.testing.assert_array_equal(read_gray(GOLDENS / f"{name}.tif"), np.rint(base * 255))
    else:
        expected = np.dstack([deep, deep[::-1], deep[:, ::-1]]) >> 8
        np.testing.assert_array_equal(read_rgb(GOLDENS / f"{name}.tif"), expected)


def write_by_hand(
    path, width: int, height: int, bits: int, data: bytes, more: Mapping[int, int | None] = MappingProxyType({})
):
    """A little-endian file of one strip, with the values of `more` for other tags, or for the same; None for no tag."""
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 1, 273: 8, 278: height, 279: len(data), **more}
    tags = {tag: value for tag, value in sorted(tags.items()) if value is not None}
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    start = 8 + len(data) + len(data) % 2
    content = struct.pack("<2sHI", b"II", 42, start) + data.ljust(start - 8, b"\0")
    path.write_bytes(content + struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0))


@pytest.mark.parametrize(("bits", "row"), [(2, [0b00011011]), (4, [0x01, 0x23])])
def test_fewer_than_eight_bits_are_scaled(tmp_path, bits, row):
    write_by_hand(tmp_path / "a.tif", 4, 1, bits, bytes(row))  # levels 0, 1, 2, 3
    scale = 255 // (2**bits - 1)
    assert read_gray(tmp_path / "a.tif").tolist() == [[0, scale, 2 * scale, 3 * scale]]


def test_twelve_bits_a_pixel_are_not_read_as_sixteen(tmp_path):
    write_by_hand(tmp_path / "a.tif", 2, 1, 12, bytes([0xFF, 0xF0, 0x00]))
    assert Image.open(tmp_path / "a.tif").getpixel((0, 0)) == 4095  # as Pillow decodes it
    with pytest.raises(InputError, match="TIFF of kind 12-bit MINISBLACK"):
        read_gray(tmp_path / "a.tif")


def test_twelve_bits_are_refused_even_if_tifffile_can_decode_them(tmp_path, monkeypatch):
    write_by_hand(tmp_path / "a.tif", 2, 1, 12, bytes([0xFF, 0xF0, 0x00]))
    monkeypatch.setattr(tifffile.TiffPage, "asarray", lambda page: np.uint16([[4095, 0]]))  # as with imagecodecs
    with pytest.raises(InputError, match="TIFF of kind 12-bit MINISBLACK"):
        read_gray(tmp_path / "a.tif")


def test_one_channel_in_separate_planes_is_not_transposed(tmp_path):
    values = np.uint16([[0, 257, 514], [65535, 771, 1028]])
    write_by_hand(tmp_path / "a.tif", 3, 2, 16, values.tobytes(), {262: 0, 284: 2})
    np.testing.assert_array_equal(read_gray(tmp_path / "a.tif"), [[255, 254, 253], [0, 252, 251]])
    halves = np.float16([[0, 0.2, 0.4], [0.6, 0.8, 1]])
    write_by_hand(tmp_path / "a.tif", 3, 2, 16, halves.tobytes(), {339: 3, 284: 2})
    np.testing.assert_array_equal(read_gray(tmp_path / "a.tif"), [[0, 51, 102], [153, 204, 255]])


@pytest.mark.parametrize(
    ("bits", "kind", "name"),
    [(8, 3, "8-bit float"), (12, 3, "12-bit float"), (32, 5, "32-bit"), (16, 6, "16-bit complex"), (16, 7, "16-bit")],
)
def test_numbers_that_are_no_levels_are_refused_by_their_kind(tmp_path, bits, kind, name):
    write_by_hand(tmp_path / "a.tif", 2, 1, bits, bytes(8), {339: kind})
    with pytest.raises(InputError, match=f"TIFF of kind {name} MINISBLACK with 1 channels, compression NONE is not"):
        read_gray(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("model", "channels", "planar"),
    [("cfa", 1, False), ("cielab", 3, True), ("ycbcr", 3, True), ("separated", 4, True)],
)
def test_other_colour_models_are_not_read_as_gray_or_rgb(tmp_path, model, channels, planar):
    values = values_of("uint16", channels)
    stored = np.moveaxis(values, -1, 0).copy() if planar else values
    planes = {"planarconfig": "separate"} if planar else {}
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric=model, metadata=None, **planes)
    with pytest.raises(InputError, match=f"TIFF of kind 16-bit .*{model.upper()} with {channels} channels"):
        read_rgb(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", range(10))  # 0 and 9 mean nothing
@pytest.mark.parametrize("planar", [False, True])
def test_the_orientation_is_applied_by_either_decoder(tmp_path, orientation, planar):
    values = values_of("uint16", 3)
    stored = np.moveaxis(values, -1, 0).copy() if planar else values
    tifffile.imwrite(
        tmp_path / "a.tif",
        stored,
        photometric="rgb",
        planarconfig="separate" if planar else "contig",
        metadata=None,
        extratags=[(274, 3, 1, orientation, True)],
    )
    upright = {
        **dict.fromkeys((0, 1, 9), lambda a: a),
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a),
    }
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.tif"), upright[orientation](values >> 8))
    header = read_header(tmp_path / "a.tif")
    assert (header.size, header.stored_size) == (upright[orientation](values).shape[:2], SIZE)
    assert header.orientation == (orientation if orientation in upright.keys() - {0, 9} else 1)
    assert header.deep


def test_what_pillow_does_not_know_has_a_header(tmp_path):
    write(tmp_path / "a.tif", values_of("uint16", 1), ">", "none", False, False, False, "miniswhite")
    header = read_header(tmp_path / "a.tif")
    assert (header.size, header.stored_size, header.orientation) == (SIZE, SIZE, 1)
    assert (header.format, header.mode, header.deep) == ("TIFF", "", True)
    write_by_hand(tmp_path / "a.tif", 2, 1, 8, bytes([7, 9]), {339: 4})  # of SampleFormat "undefined"
    assert read_gray(tmp_path / "a.tif").tolist() == [[7, 9]]
    assert read_header(tmp_path / "a.tif")[3:] == ("TIFF", "", False)
    with pytest.raises(InputError, match="expected a TIFF of a common kind"), opened_image(tmp_path / "a.tif", False):
        pass


def test_a_file_that_does_not_give_its_bits_has_one_a_sample(tmp_path):
    write_by_hand(tmp_path / "a.tif", 3, 1, 1, bytes([0b10100000]), {258: None})
    assert read_gray(tmp_path / "a.tif").tolist() == [[255, 0, 255]]
    assert read_header(tmp_path / "a.tif").deep is False


def test_integers_above_sixteen_bits_are_off_the_scale(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.uint32([[0, 65535]]))
    assert read_gray(tmp_path / "a.tif").tolist() == [[0, 255]]
    tifffile.imwrite(tmp_path / "a.tif", np.uint32([[0, 65536]]))
    with pytest.raises(InputError, match=r"expected values in 0\.\.65535, found 0\.\.65536"):
        read_gray(tmp_path / "a.tif")


def test_a_strip_that_unpacks_to_more_than_its_rows_is_refused_before_it_fills_the_memory(tmp_path):
    values = np.zeros((8, 8), np.float32)
    bomb = zlib.compress(bytes(200_000_000), 9)
    tifffile.imwrite(tmp_path / "a.tif", values, byteorder=">", compression="adobe_deflate", metadata=None)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        tags = file.pages[0].tags
        offset, count = tags[273].valueoffset, tags[279].valueoffset
    data[offset : offset + 4] = struct.pack(">I", len(data))
    data[count - 8 : count + 4] = struct.pack(">HHII", 279, 4, 1, len(bomb))
    (tmp_path / "a.tif").write_bytes(bytes(data) + bomb)
    tracemalloc.start()
    with pytest.raises(InputError, match="longer than its rows"):
        read_gray(tmp_path / "a.tif")
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("rows", [5, 2**32 - 1])  # of a strip; the last is the default
@pytest.mark.parametrize("excess", [0, 1])
def test_a_strip_or_tile_unpacks_to_as_many_bytes_as_its_pixels_take_at_most(tmp_path, tiled, rows, excess):
    values = np.arange(15, dtype=np.uint16).reshape(5, 3) * 257
    stored = np.zeros((16, 32), np.uint16) if tiled else np.zeros((5, 3), np.uint16)
    stored[:5, :3] = 65535 - values
    data = zlib.compress(stored.tobytes() + bytes(excess))
    tile = {322: 32, 323: 16, 324: 8, 325: len(data)} if tiled else {}
    write_by_hand(tmp_path / "a.tif", 3, 5, 16, data, {259: 8, 262: 0, 278: rows, **tile})
    if excess:
        with pytest.raises(InputError, match="longer than its rows"):
            read_gray(tmp_path / "a.tif")
    else:
        np.testing.assert_array_equal(read_gray(tmp_path / "a.tif"), values // 257)


def test_damaged_deflated_data_are_named(tmp_path):
    write_by_hand(tmp_path / "a.tif", 3, 5, 16, b"no deflate", {259: 8, 262: 0})
    with pytest.raises(InputError, match=r"not a readable image \(Error -3"):
        read_gray(tmp_path / "a.tif")


def test_more_pixels_than_the_limit_are_refused_by_either_decoder(tmp_path, monkeypatch):
    for photometric in ("minisblack", "miniswhite"):
        write(tmp_path / "a.tif", values_of("uint16", 1), ">", "none", False, False, False, photometric)
        for read in (read_gray, read_header):
            monkeypatch.setattr("data.images.files.MAX_PIXELS", 19 * 35)
            read(tmp_path / "a.tif")
            monkeypatch.setattr("data.images.files.MAX_PIXELS", 19 * 35 - 1)
            with pytest.raises(InputError, match="35 x 19 pixels is over the limit of 664"):
                read(tmp_path / "a.tif")


@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
def test_several_pages_are_refused_by_either_decoder(tmp_path, photometric):
    with tifffile.TiffWriter(tmp_path / "a.tif", byteorder=">") as file:
        for _ in range(2):
            file.write(values_of("uint16", 1), photometric=photometric, metadata=None)
    with pytest.raises(InputError, match="expected a single image"):
        read_gray(tmp_path / "a.tif")


def test_signed_integers_are_no_matte_and_twelve_bits_in_sixteen_are_none(tmp_path):
    for codec in ("none", "adobe_deflate"):  # by Pillow, and for big-endian by tifffile
        for order in "<>":
            write(tmp_path / "a.tif", values_of("int16", 1), order, codec, False, False, False, "minisblack")
            with pytest.raises(InputError, match="found signed integers"):
                read_matte(tmp_path / "a.tif")
            write(tmp_path / "a.tif", np.int16([[0, 32767]]), order, codec, False, False, False, "minisblack")
            with pytest.raises(InputError, match="found 0, 32767;"):
                read_trimap(tmp_path / "a.tif")
    values = np.linspace(0, 4095, SIZE[0] * SIZE[1]).reshape(SIZE).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(InputError, match="values up to 4095, as of 12 bits"):
        read_matte(tmp_path / "a.tif")


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(
    ("dtype", "photometric"), [("uint16", "minisblack"), ("uint16", "miniswhite"), ("float16", "minisblack")]
)
def test_offsets_of_64_bits_are_read_by_every_decoder(tmp_path, order, dtype, photometric):
    values = values_of(dtype, 1)
    tifffile.imwrite(tmp_path / "a.tif", values, byteorder=order, photometric=photometric, metadata=None, bigtiff=True)
    np.testing.assert_array_equal(read_gray(tmp_path / "a.tif"), expected_of(values, photometric))


def test_both_numbers_of_deflate_are_read(tmp_path):
    values = values_of("float32", 1)
    for codec, number in (("adobe_deflate", 8), ("deflate", 32946)):
        tifffile.imwrite(tmp_path / "a.tif", values, byteorder=">", compression=codec, metadata=None)
        with tifffile.TiffFile(tmp_path / "a.tif") as file:
            assert file.pages[0].compression == number
        np.testing.assert_array_equal(read_gray(tmp_path / "a.tif"), expected_of(values, "minisblack"))


@pytest.mark.parametrize(
    ("dtype", "channels", "codec"),
    [
        ("bool", 1, "group3"),
        ("bool", 1, "group4"),
        ("uint8", 1, "tiff_lzw"),
        ("uint8", 3, "tiff_lzw"),
        ("uint8", 4, "tiff_lzw"),
        ("uint16", 1, "tiff_lzw"),
        ("float32", 1, "tiff_lzw"),
    ],
)
@pytest.mark.parametrize("names_the_format", [False, True])
def test_codecs_that_only_pillow_has_are_read(tmp_path, dtype, channels, codec, names_the_format):
    values = values_of(dtype, channels)
    kind = 3 if dtype == "float32" else 1  # of SampleFormat, which is 1 in a file without it
    info = {339: kind} if names_the_format or kind == 3 else {}
    Image.fromarray(values).save(tmp_path / "a.tif", compression=codec, tiffinfo=info)
    with tifffile.TiffFile(tmp_path / "a.tif") as file, pytest.raises((ValueError, KeyError)):
        file.pages[0].asarray()  # needs another library
    found = read_gray(tmp_path / "a.tif") if channels == 1 else read_rgb(tmp_path / "a.tif")
    np.testing.assert_array_equal(found, expected_of(values, "minisblack"))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("codec", ["none", "adobe_deflate"])
def test_large_unsigned_values_are_not_taken_for_negative_ones(tmp_path, order, codec):
    """-1, 0 and 1 are a trimap, as which 2^32 - 1, 0 and 1 would be read."""
    write(tmp_path / "a.tif", np.uint32([[0, 1, 2**32 - 1]]), order, codec, False, False, False, "minisblack")
    with pytest.raises(InputError, match="values of 0 to 4294967295 are not read"):
        read_trimap(tmp_path / "a.tif")
    write(tmp_path / "a.tif", np.uint32([[0, 1, 2]]), order, codec, False, False, False, "minisblack")
    assert read_trimap(tmp_path / "a.tif").tolist() == [[0, 128, 255]]


@pytest.mark.parametrize("value", [-(2**32) + 128, 2**32 + 128])
def test_values_of_64_bits_are_not_cut_to_32(tmp_path, value):
    tifffile.imwrite(tmp_path / "a.tif", np.int64([[0, value, 255]]))
    with pytest.raises(InputError, match=f"values of {min(0, value)} to {max(255, value)} are not read"):
        read_trimap(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", ["int16", "int32", "float32"])
def test_signed_values_and_floats_of_which_zero_is_white_are_no_trimap(tmp_path, dtype):
    write(tmp_path / "a.tif", np.array([[-1, 0, 1]], dtype), ">", "none", False, False, False, "miniswhite")
    with pytest.raises(InputError, match=f"WhiteIsZero of {dtype}"):
        read_trimap(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_numbers_are_not_read_as_their_real_parts(tmp_path, dtype):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0, 1, 2]], dtype))
    for read in (read_gray, read_rgb, read_matte, read_trimap):
        with pytest.raises(InputError, match="-bit complex MINISBLACK with 1 channels, compression NONE is not read"):
            read(tmp_path / "a.tif")


def test_labels_of_32_bits_in_a_codec_that_only_pillow_has_are_read(tmp_path):
    Image.fromarray(np.int32([[0, 1, 2]])).save(tmp_path / "a.tif", compression="tiff_lzw")
    assert read_trimap(tmp_path / "a.tif").tolist() == [[0, 128, 255]]


@pytest.mark.parametrize(("tag", "values"), [(258, (8, 8, 16)), (258, (5, 6, 5)), (339, (1, 1, 2)), (339, (1, 1, 3))])
def test_channels_of_different_depths_or_formats_are_refused(tmp_path, tag, values):
    Image.fromarray(values_of("uint8", 3)).save(tmp_path / "a.tif", tiffinfo={339: (1, 1, 1)})
    data = bytearray((tmp_path / "a.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        offset = file.pages[0].tags[tag].valueoffset
    data[offset : offset + 6] = struct.pack("<HHH", *values)
    (tmp_path / "a.tif").write_bytes(bytes(data))
    with pytest.raises(InputError, match=r"a\.tif: "):
        read_rgb(tmp_path / "a.tif")


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_five_channels_are_read_as_the_first_three_or_refused(tmp_path, dtype, planar):
    values = np.dstack([values_of(dtype, 3), values_of(dtype, 2)])
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.moveaxis(values, -1, 0).copy() if planar else values,
        photometric="rgb",
        planarconfig="separate" if planar else "contig",
        extrasamples=["unspecified"] * 2,
        metadata=None,
    )
    if dtype == "uint8" and not planar:
        np.testing.assert_array_equal(read_rgb(tmp_path / "a.tif"), values[..., :3])
    else:
        with pytest.raises(InputError, match="with 5 channels, compression NONE is not read"):
            read_rgb(tmp_path / "a.tif")


@pytest.mark.parametrize("excess", [0, 1])
def test_a_strip_of_a_plane_unpacks_to_the_samples_of_one_channel(tmp_path, excess):
    planes = np.arange(45, dtype=np.uint16).reshape(3, 5, 3) * 257
    strips = [planes[0].tobytes(), planes[1].tobytes() + bytes(excess), planes[2].tobytes()]
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        packed = [zlib.compress(strip) for strip in strips]
        file.write(iter(packed), shape=planes.shape, dtype=np.uint16, photometric="rgb", planarconfig="separate",
                   compression="adobe_deflate", metadata=None)  # fmt: skip
    if excess:
        with pytest.raises(tiff.TiffError, match="longer than its rows"):
            tiff.read_values(tmp_path / "a.tif", 15)
    else:
        values, header = tiff.read_values(tmp_path / "a.tif", 15)
        np.testing.assert_array_equal(values, np.moveaxis(planes, 0, -1))
        assert header == ((5, 3), 1, 16, 3)


@pytest.mark.parametrize("dtype", ["uint32", "int16", "float32", "complex64"])
@pytest.mark.parametrize("channels", [1, 3])
def test_values_are_gray_or_several_channels_of_8_or_16_bits(tmp_path, dtype, channels):
    values = np.arange(6 * channels).reshape(2, 3, channels).astype(dtype)
    values = values if channels > 1 else values[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb" if channels > 1 else "minisblack")
    if channels > 1 or dtype == "complex64":
        with pytest.raises(tiff.TiffError, match=f"TIFF of kind .*with {channels} channels, .* is not read; save it"):
            tiff.read_values(tmp_path / "a.tif", 6)
    else:
        found, _ = tiff.read_values(tmp_path / "a.tif", 6)
        np.testing.assert_array_equal(found, values)


def test_white_is_zero_inverts_gray_and_not_its_alpha(tmp_path):
    values = np.uint16([[[0, 7], [1000, 65535], [65535, 0]]])
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="miniswhite", planarconfig="contig",
                     extrasamples=["unassalpha"])  # fmt: skip
    found, _ = tiff.read_values(tmp_path / "a.tif", 3)
    assert found.tolist() == [[[65535, 7], [64535, 65535], [0, 0]]]


def test_integers_of_32_bits_are_read_to_the_limits_of_their_signed_type(tmp_path):
    for values, signed in ((np.uint32([[0, 2**31 - 1]]), False), (np.int32([[-(2**31), 2**31 - 1]]), True)):
        tifffile.imwrite(tmp_path / "a.tif", values)
        image = tiff.read_tiff(tmp_path / "a.tif", 2)
        assert image.mode == "I"
        assert np.asarray(image).tolist() == values.tolist()
        assert image.info.get("signed", False) == signed
    tifffile.imwrite(tmp_path / "a.tif", np.uint32([[0, 2**31]]))
    with pytest.raises(tiff.TiffError, match="values of 0 to 2147483648 are not read"):
        tiff.read_tiff(tmp_path / "a.tif", 2)


def test_a_volume_of_colours_is_no_picture(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((2, 16, 16, 3), np.uint16), photometric="rgb", volumetric=True)
    with pytest.raises(tiff.TiffError, match="16-bit RGB with 3 channels, compression NONE is not read"):
        tiff.read_values(tmp_path / "a.tif", 256)
