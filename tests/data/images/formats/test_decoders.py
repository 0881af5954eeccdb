"""Kinds of files that Pillow misreads without an error: they are read right, or refused.

The files are written by hand from the formats' definitions, or by the tools that are named beside them.
"""

import base64
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pillow_heif
import pytest
import tifffile

from data.images.files import opened_image, read_header, read_rgb, read_rgb_profile
from data.images.mattes import read_gray_exact, read_matte
from runtime.errors import InputError


def write(folder: Path, name: str, content: bytes | str) -> Path:
    """Write bytes, or base64 of them."""
    (folder / name).write_bytes(base64.b64decode(content) if isinstance(content, str) else content)
    return folder / name


# 8 x 4 pixels, of which the left half is black and the right half white, by opj_compress 2.5
FEW_BITS = {
    1: "AAAADGpQICANCocKAAAAFGZ0eXBqcDIgAAAAAGpwMiAAAAAtanAyaAAAABZpaGRyAAAABAAAAAgAAQAHAAAAAAAPY29scgEAAAAAABEA"
    "AACGanAyY/9P/1EAKQAAAAAACAAAAAQAAAAAAAAAAAAAAAgAAAAEAAAAAAAAAAAAAQABAf9SAAwAAAABAAAEBAAB/1wABEAI/2QAJQAB"
    "Q3JlYXRlZCBieSBPcGVuSlBFRyB2ZXJzaW9uIDIuNS4w/5AACgAAAAAAFAAB/5PSABFQQj//2Q==",
    4: "AAAADGpQICANCocKAAAAFGZ0eXBqcDIgAAAAAGpwMiAAAAAtanAyaAAAABZpaGRyAAAABAAAAAgAAQMHAAAAAAAPY29scgEAAAAAABEA"
    "AACQanAyY/9P/1EAKQAAAAAACAAAAAQAAAAAAAAAAAAAAAgAAAAEAAAAAAAAAAAAAQMBAf9SAAwAAAABAAAEBAAB/1wABEAg/2QAJQAB"
    "Q3JlYXRlZCBieSBPcGVuSlBFRyB2ZXJzaW9uIDIuNS4w/5AACgAAAAAAHgAB/5PfINARUEINYGK5EHgvIBg//9k=",
}


@pytest.mark.parametrize("bits", FEW_BITS)
def test_jpeg_2000_of_few_bits_whose_white_would_be_gray_is_refused(tmp_path, bits):
    path = write(tmp_path, "a.jp2", FEW_BITS[bits])
    with pytest.raises(InputError, match=f"a.jp2: JPEG 2000 with {bits} bits in a channel is not read; save it as PNG"):
        read_matte(path)


def box(kind: bytes, content: bytes) -> bytes:
    return (8 + len(content)).to_bytes(4, "big") + kind + content


def shorts(*numbers: int) -> bytes:
    return b"".join(number.to_bytes(2, "big") for number in numbers)


def jp2(values: np.ndarray, *boxes: bytes, space: int | bytes = 16) -> bytes:
    """A JP2 file with a codestream by OpenCV, which expects the channels B, G, R and alpha; space may be a profile."""
    shown = values if values.ndim == 2 else values[..., [2, 1, 0, 3][: values.shape[2]]]
    encoded = cv2.imencode(".jp2", shown, [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])[1].tobytes()
    height, width, channels = values.shape if values.ndim == 3 else (*values.shape, 1)
    depth = bytes([8 * values.dtype.itemsize - 1])
    header = [
        box(b"ihdr", height.to_bytes(4, "big") + width.to_bytes(4, "big") + shorts(channels) + depth + b"\7\0\0"),
        box(b"colr", b"\2\0\0" + space if isinstance(space, bytes) else b"\1\0\0" + space.to_bytes(4, "big")),
        *boxes,
    ]
    start = box(b"jP  ", b"\r\n\x87\n") + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
    return start + box(b"jp2h", b"".join(header)) + box(b"jp2c", encoded.split(b"jp2c", 1)[1])


def palette(*columns: list[int], order: tuple[int, ...] = (0, 1, 2), depth: int = 8) -> tuple[bytes, bytes]:
    entries = b"".join(bytes(entry) for entry in zip(*columns, strict=True))
    head = shorts(len(columns[0])) + bytes([len(columns)]) + bytes([depth - 1] * len(columns))
    mapping = b"".join(bytes([0, 0, 1, column]) for column in order)
    return box(b"pclr", head + entries), box(b"cmap", mapping)


INDICES = np.tile(np.uint8([0, 1, 2, 3]), (32, 8))
COLOURS = np.dstack([INDICES * np.uint8(85), INDICES * np.uint8(10), INDICES * np.uint8(0) + 7])
RED, GREEN, BLUE = [255, 0, 9, 8], [255, 0, 20, 3], [255, 0, 77, 100]


def test_jpeg_2000_with_the_usual_boxes_is_read(tmp_path):
    in_order = box(b"cdef", shorts(4, 3, 1, 0, 0, 0, 1, 1, 0, 2, 2, 0, 3))
    with_alpha = np.dstack([COLOURS, np.full((32, 32), 128, np.uint8)])
    np.testing.assert_array_equal(read_rgb(write(tmp_path, "a.jp2", jp2(with_alpha, in_order))), COLOURS)
    expected = np.stack([RED, GREEN, BLUE], axis=-1)[INDICES]
    path = write(tmp_path, "b.jp2", jp2(INDICES, *palette(RED, GREEN, BLUE)))
    np.testing.assert_array_equal(read_rgb(path), expected)
    path = write(tmp_path, "c.jp2", jp2(COLOURS[..., 0], space=17))
    np.testing.assert_array_equal(read_matte(path), COLOURS[..., 0])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (jp2(COLOURS, box(b"cdef", shorts(3, 0, 0, 3, 1, 0, 2, 2, 0, 1))), "another order of channels"),
        (jp2(np.dstack([INDICES, COLOURS]), box(b"cdef", shorts(4, 0, 1, 0, 1, 0, 1, 2, 0, 2, 3, 0, 3))), "order"),
        (jp2(np.dstack([COLOURS, INDICES]), box(b"cdef", shorts(4, 0, 0, 1, 1, 0, 2, 2, 0, 3, 3, 2, 0))), "order"),
        (jp2(np.uint16(257) * COLOURS, box(b"cdef", shorts(3, 0, 0, 3, 1, 0, 2, 2, 0, 1))), "another order"),
        (jp2(INDICES, *palette(RED, GREEN, BLUE, order=(2, 1, 0))), "this kind of palette"),
        (jp2(INDICES, *palette(RED, order=(0,)), space=17), "this kind of palette"),
        (jp2(INDICES, *palette([15, 0, 1, 2], [15, 0, 1, 2], [15, 0, 1, 2], depth=4)), "this kind of palette"),
        (jp2(COLOURS, space=14), "colour space 14 and 8 bits"),  # CIELab
        (jp2(COLOURS, space=bytes(16) + b"Lab " + bytes(108)), "profile of kind 'Lab '"),
        (jp2(np.dstack([COLOURS, INDICES]), space=bytes(16) + b"CMYK" + bytes(108)), "profile of kind 'CMYK'"),
        (jp2(np.uint16(257) * COLOURS, space=18), "colour space 18 and 16 bits"),  # YCbCr
    ],
    ids=[
        "BGR",
        "ARGB",
        "premultiplied",
        "BGR of 16 bits",
        "palette BGR",
        "gray",
        "4 bits",
        "Lab",
        "ICC Lab",
        "ICC CMYK",
        "YCbCr of 16 bits",
    ],
)
def test_jpeg_2000_whose_boxes_are_not_followed_is_refused(tmp_path, content, message):
    with pytest.raises(InputError, match=f"a.jp2: JPEG 2000 with .*{message}.* is not read; save it as PNG"):
        read_rgb(write(tmp_path, "a.jp2", content))


# 4 x 4 pixels of 2 bits, by opj_compress 2.5, and the header of a palette of 4 colours
INDEX_OF_2_BITS = (
    "/0//UQApAAAAAAAEAAAABAAAAAAAAAAAAAAABAAAAAQAAAAAAAAAAAABAQEB/1IADAAAAAEAAAQEAAH/XAAEQBD/ZAAlAAFDcmVhdGVk"
    "IGJ5IE9wZW5KUEVHIHZlcnNpb24gMi41LjD/kAAKAAAAAAAUAAH/k90QEWI09//Z"
)


def test_jpeg_2000_with_a_palette_of_few_bits_is_refused(tmp_path):
    header = jp2(INDICES, *palette(RED, GREEN, BLUE)).split(b"jp2c")[0][:-4]
    small = header.replace(b"\0\0\0\x20\0\0\0\x20\0\1\7", b"\0\0\0\4\0\0\0\4\0\1\1")
    assert small != header
    path = write(tmp_path, "a.jp2", small + box(b"jp2c", base64.b64decode(INDEX_OF_2_BITS)))
    with pytest.raises(InputError, match="this kind of palette is not read"):
        read_rgb(path)


# 8 x 8 pixels, of which the left half is black and the right half white, by avifenc 0.11
AVIF = {
    "gray 8": (
        "AAAAHGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZgAAAPBtZXRhAAAAAAAAAChoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAbGliYXZp"
        "ZgAAAAAOcGl0bQAAAAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAEUAAAAGgAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAAAAEAAGF2"
        "MDFDb2xvcgAAAABoaXBycAAAAElpcGNvAAAAFGlzcGUAAAAAAAAACAAAAAgAAAAOcGl4aQAAAAABCAAAAAxhdjFDgQAcAAAAABNjb2xy"
        "bmNseAABAA0ABoAAAAAXaXBtYQAAAAAAAAABAAEEAQKDBAAAACJtZGF0EgAKCBgIv2GAhoNQMgwQAIaiupseItStRJQ="
    ),
    "gray 10": (
        "AAAAHGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZgAAAPBtZXRhAAAAAAAAAChoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAbGliYXZp"
        "ZgAAAAAOcGl0bQAAAAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAEUAAAAGwAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAAAAEAAGF2"
        "MDFDb2xvcgAAAABoaXBycAAAAElpcGNvAAAAFGlzcGUAAAAAAAAACAAAAAgAAAAOcGl4aQAAAAABCgAAAAxhdjFDgQBcAAAAABNjb2xy"
        "bmNseAABAA0ABoAAAAAXaXBtYQAAAAAAAAABAAEEAQKDBAAAACNtZGF0EgAKCBgIv2OAhoNQMg0QAIaiupoWZS1KxSLE"
    ),
    "RGB 10": (
        "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUEAAADybWV0YQAAAAAAAAAoaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAAAGxp"
        "YmF2aWYAAAAADnBpdG0AAAAAAAEAAAAeaWxvYwAAAABEAAABAAEAAAABAAABGgAAADAAAAAoaWluZgAAAAAAAQAAABppbmZlAgAAAAAB"
        "AABhdjAxQ29sb3IAAAAAamlwcnAAAABLaXBjbwAAABRpc3BlAAAAAAAAAAgAAAAIAAAAEHBpeGkAAAAAAwoKCgAAAAxhdjFDgSBAAAAA"
        "ABNjb2xybmNseAABAA0AAIAAAAAXaXBtYQAAAAAAAAABAAEEAQKDBAAAADhtZGF0EgAKCDgIv2MBDQAgMiIQAACLo9NK/7G2Cf+Faxt2"
        "4WEEexznwhprbu/ELIt/3hGA"
    ),
    "gray 12": (
        "AAAAHGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZgAAAPBtZXRhAAAAAAAAAChoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAbGliYXZp"
        "ZgAAAAAOcGl0bQAAAAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAEUAAAAHAAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAAAAEAAGF2"
        "MDFDb2xvcgAAAABoaXBycAAAAElpcGNvAAAAFGlzcGUAAAAAAAAACAAAAAgAAAAOcGl4aQAAAAABDAAAAAxhdjFDgUB8AAAAABNjb2xy"
        "bmNseAABAA0ABoAAAAAXaXBtYQAAAAAAAAABAAEEAQKDBAAAACRtZGF0EgAKCFgIv2PAQ0GoMg4QAIaiupnStxLUrBSbhA=="
    ),
}
CROPPED_AVIF = (  # avifenc --crop 0,0,4,8
    "AAAAHGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZgAAARltZXRhAAAAAAAAAChoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAbGliYXZp"
    "ZgAAAAAOcGl0bQAAAAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAE9AAAAGgAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAAAAEAAGF2"
    "MDFDb2xvcgAAAACRaXBycAAAAHFpcGNvAAAAFGlzcGUAAAAAAAAACAAAAAgAAAAOcGl4aQAAAAABCAAAAAxhdjFDgQAcAAAAABNjb2xy"
    "bmNseAABAA0ABoAAAAAoY2xhcAAAAAQAAAABAAAACAAAAAH////+AAAAAQAAAAAAAAABAAAAGGlwbWEAAAAAAAAAAQABBQECgwSFAAAA"
    "Im1kYXQSAAoIGAi/YYCGg1AyDBAAhqK6mx4i1K1ElA=="
)


@pytest.mark.parametrize("kind", AVIF)
def test_avif_of_more_than_8_bits_is_deep(tmp_path, kind):
    path = write(tmp_path, "a.avif", AVIF[kind])
    np.testing.assert_array_equal(read_matte(path), np.tile(np.uint8([0] * 4 + [255] * 4), (8, 1)))
    assert read_header(path).deep == (kind != "gray 8")
    if kind != "gray 8":
        with pytest.raises(InputError, match=r"a\.avif: expected 8-bit values, found 10 to 16 bits"):
            read_gray_exact(path)


def test_a_clean_aperture_of_avif_is_not_ignored(tmp_path):
    with pytest.raises(InputError, match=r"a\.avif: expected a whole picture, found one that is shown cropped"):
        read_rgb(write(tmp_path, "a.avif", CROPPED_AVIF))
    whole = base64.b64decode(CROPPED_AVIF).replace(b"clap\0\0\0\4", b"clap\0\0\0\10")
    assert read_rgb(write(tmp_path, "b.avif", whole)).shape == (8, 8, 3)


GRAY = np.tile(np.uint8([0, 100, 255, 128]), (3, 1))
TINTED = np.dstack([GRAY, GRAY // 2, 255 - GRAY])
EXTRA = np.full_like(GRAY, 60)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("photometric", ["minisblack", "miniswhite"])
@pytest.mark.parametrize("extra", [2, 3])
def test_gray_with_several_other_channels_is_not_read_as_colours(tmp_path, dtype, photometric, extra):
    values = np.dstack([GRAY] + [EXTRA] * extra).astype(dtype)
    extrasamples = ["unspecified"] * extra
    tifffile.imwrite(
        tmp_path / "a.tif", values, photometric=photometric, extrasamples=extrasamples, planarconfig="contig"
    )
    with pytest.raises(InputError, match=r"a\.tif: .*MINIS.* with [34] channels.* is not read"):
        read_rgb(tmp_path / "a.tif")


def write_with_extra(path: Path, colours: np.ndarray, extra: str, dtype: type, planar: str, codec: str | None) -> None:
    values = np.dstack([colours, np.full_like(GRAY, 128)]).astype(dtype) * dtype(np.iinfo(dtype).max // 255)
    tifffile.imwrite(
        path,
        np.moveaxis(values, -1, 0) if planar == "separate" else values,
        photometric="rgb" if colours.ndim == 3 else "minisblack",
        extrasamples=[extra],
        planarconfig=planar,
        compression=codec,
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("colours", [GRAY, TINTED], ids=["gray", "RGB"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("codec", [None, "zlib"])
@pytest.mark.parametrize("extra", ["unspecified", "unassalpha"])
def test_a_tiff_channel_of_open_meaning_is_no_alpha(tmp_path, dtype, colours, planar, codec, extra):
    write_with_extra(tmp_path / "a.tif", colours, extra, dtype, planar, codec)
    expected = colours if colours.ndim == 3 else np.repeat(colours[..., None], 3, axis=2)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.tif"), expected)
    with opened_image(tmp_path / "a.tif") as image:
        assert image.has_transparency_data == (extra == "unassalpha")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("codec", [None, "zlib"])
@pytest.mark.parametrize("colours", [GRAY, TINTED], ids=["gray", "RGB"])
def test_premultiplied_colours_of_tiff_are_divided_by_alpha_or_refused(tmp_path, dtype, planar, codec, colours):
    write_with_extra(tmp_path / "a.tif", colours // 2, "assocalpha", dtype, planar, codec)
    if colours.ndim == 3 and (planar, codec) != ("separate", None):  # Pillow reads these
        np.testing.assert_allclose(read_rgb(tmp_path / "a.tif"), colours, atol=2)  # a half was rounded down
    else:
        with pytest.raises(InputError, match=r"a\.tif"):
            read_rgb(tmp_path / "a.tif")


def tiff(values: bytes, photometric: int, channels: int, **tags: tuple[int, list]) -> bytes:
    """An uncompressed little-endian TIFF of 4 x 3 pixels; tags are t320=(type, values)."""
    found = {256: (3, [4]), 257: (3, [3]), 258: (3, [8] * channels), 259: (3, [1]), 262: (3, [photometric])}
    found |= {273: (4, [8]), 277: (3, [channels]), 278: (3, [3]), 279: (4, [len(values)])}
    found |= {int(name[1:]): value for name, value in tags.items()}
    places, entries = b"", b""
    begin = 8 + len(values) + len(values) % 2
    for tag, (kind, numbers) in sorted(found.items()):
        size = {3: 2, 4: 4, 5: 4, 7: 1}[kind]  # short, long, fraction of two longs, bytes
        content = b"".join(int(number).to_bytes(size, "little") for number in numbers)
        count = len(numbers) // (2 if kind == 5 else 1)
        if len(content) > 4:
            places, content = places + content, (begin + len(places)).to_bytes(4, "little")
        entries += tag.to_bytes(2, "little") + kind.to_bytes(2, "little") + count.to_bytes(4, "little")
        entries += content.ljust(4, b"\0")
    start = b"II*\0" + (begin + len(places)).to_bytes(4, "little")
    return start + values.ljust(begin - 8, b"\0") + places + len(found).to_bytes(2, "little") + entries + bytes(4)


STUDIO = [16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1]
FULL = [0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1]
BT601, BT709 = [299, 1000, 587, 1000, 114, 1000], [2125, 10000, 7154, 10000, 721, 10000]
YCBCR = bytes([235, 128, 128] * 12)  # white in the range of studios


def test_ycbcr_with_another_white_or_other_weights_is_refused(tmp_path):
    usual = tiff(YCBCR, 6, 3, t530=(3, [1, 1]), t532=(5, FULL), t529=(5, BT601))
    assert (read_rgb(write(tmp_path, "a.tif", usual)) == 235).all()
    for name, tag in (("b.tif", {"t532": (5, STUDIO)}), ("c.tif", {"t529": (5, BT709)})):
        path = write(tmp_path, name, tiff(YCBCR, 6, 3, t530=(3, [1, 1]), **tag))
        with pytest.raises(InputError, match=f"{name}: TIFF of kind 8-bit YCBCR with 3 channels.* is not read"):
            read_rgb(path)


@pytest.mark.parametrize("scale", [1, 257])  # 8 bits, as by some old programs, and the 16 bits of the definition
def test_a_palette_of_8_bits_is_not_read_as_black(tmp_path, scale):
    levels = [255 - level for level in range(256)] * 3
    path = write(tmp_path, "a.tif", tiff(bytes(range(12)), 3, 1, t320=(3, [level * scale for level in levels])))
    if scale == 1:
        with pytest.raises(InputError, match=r"a\.tif: TIFF of kind 8-bit PALETTE .* is not read"):
            read_rgb(path)
    else:
        assert read_rgb(path)[..., 0].ravel().tolist() == list(range(255, 243, -1))


def test_the_thumbnail_of_a_picture_in_a_sub_file_is_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(TINTED[::2], photometric="rgb", subifds=1, subfiletype=1)
        file.write(TINTED, photometric="rgb")
    with pytest.raises(InputError, match=r"a\.tif: expected a picture, found a thumbnail"):
        read_rgb(tmp_path / "a.tif")
    with tifffile.TiffWriter(tmp_path / "b.tif") as file:
        file.write(TINTED, photometric="rgb", subifds=1)
        file.write(TINTED[::2], photometric="rgb", subfiletype=1)
    np.testing.assert_array_equal(read_rgb(tmp_path / "b.tif"), TINTED)


def bmp(rows: list[bytes], bits: int, width: int, colours: bytes, os2: bool = False) -> bytes:
    """An uncompressed BMP; rows are from top to bottom, colours are B, G, R and 0 (OS/2: B, G, R)."""
    size = struct.pack("<HH" if os2 else "<ii", width, len(rows)) + struct.pack("<HH", 1, bits)
    rest = b"" if os2 else struct.pack("<6I", 0, 0, 2835, 2835, len(colours) // 4, 0)
    header = struct.pack("<I", 4 + len(size) + len(rest)) + size + rest + colours
    data = b"".join(row.ljust(-(-len(row) // 4) * 4, b"\0") for row in reversed(rows))
    return b"BM" + struct.pack("<IHHI", 14 + len(header) + len(data), 0, 0, 14 + len(header)) + header + data


BLACK_WHITE = bytes([0, 0, 0, 0, 255, 255, 255, 0])
MASK = [[0] * 10, [0] * 9 + [1], [1] * 10]  # wider than the 8 pixels of a byte
BY_BITS = {
    1: [b"\x00\x00", b"\x00\x40", b"\xff\xc0"],
    4: [b"\x00" * 5, b"\x00" * 4 + b"\x01", b"\x11" * 5],
    8: [bytes(row) for row in MASK],
}


@pytest.mark.parametrize("bits", BY_BITS)
def test_the_indices_of_a_black_and_white_bmp_have_their_own_bits(tmp_path, bits):
    path = write(tmp_path, "a.bmp", bmp(BY_BITS[bits], bits, 10, BLACK_WHITE))
    assert read_matte(path).tolist() == (255 * np.array(MASK)).tolist()
    assert read_gray_exact(path).tolist() == (255 * np.array(MASK)).tolist()


def test_a_cut_off_bmp_of_black_and_white_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"a\.bmp: not a readable image"):
        read_matte(write(tmp_path, "a.bmp", bmp(BY_BITS[8], 8, 10, BLACK_WHITE)[:-20]))


def test_indices_of_4_bits_with_the_darkest_grays_are_read(tmp_path):
    colours = b"".join(bytes([level] * 3 + [0]) for level in range(16))
    path = write(tmp_path, "a.bmp", bmp([b"\x01\x23\xef"], 4, 6, colours))
    assert read_rgb(path)[..., 0].tolist() == [[0, 1, 2, 3, 14, 15]]
    os2 = b"".join(bytes([level] * 3) for level in range(16))
    assert read_rgb(write(tmp_path, "b.bmp", bmp([b"\x01\x23\xef"], 4, 6, os2, os2=True))).tolist() == (
        read_rgb(path).tolist()
    )


@pytest.mark.parametrize("run_lengths", [False, True])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sgi_of_16_bits_is_deep(tmp_path, run_lengths, channels):
    rows = [[0x8123, 0xFFFF, 0], [0, 1, 0xFF80]]  # from the bottom
    header = struct.pack(">HBBHHHHII", 474, run_lengths, 2, 3 if channels > 1 else 2, 3, 2, channels, 0, 65535)
    if run_lengths:  # of 3 literal values and an end mark
        packed = b"".join(struct.pack(">5H", 0x83, *row, 0) for row in rows)
        starts = [512 + 16 * channels + 10 * row for row in range(2)] * channels
        data = struct.pack(f">{2 * channels}I", *starts) + struct.pack(f">{2 * channels}I", *[10] * 2 * channels)
        data += packed
    else:
        data = b"".join(struct.pack(">3H", *row) for row in rows) * channels
    path = write(tmp_path, "a.sgi", header.ljust(512, b"\0") + data)
    assert read_rgb(path)[..., 0].tolist() == [[0, 0, 255], [0x81, 255, 0]]
    assert read_header(path).deep
    with pytest.raises(InputError, match=r"a\.sgi: expected 8-bit values, found 10 to 16 bits"):
        read_gray_exact(path)


@pytest.mark.parametrize("size", [1, 2], ids=["8 bits", "16 bits"])
@pytest.mark.parametrize("ends", [False, True])
def test_sgi_without_end_marks_is_not_read_as_black(tmp_path, size, ends):
    def values(*numbers: int) -> bytes:
        return b"".join(number.to_bytes(size, "big") for number in numbers)

    header = struct.pack(">HBBHHHHII", 474, 1, size, 2, 3, 2, 1, 0, 255)
    row = values(3, 2 ** (8 * size) - 1, *[0] * ends)  # three times white
    table = struct.pack(">4I", 528, 528, len(row), len(row))
    path = write(tmp_path, "a.sgi", header.ljust(512, b"\0") + table + row)
    if ends:
        assert (read_rgb(path) == 255).all()
    else:
        with pytest.raises(InputError, match=r"a\.sgi: expected an end mark in each row"):
            read_rgb(path)


def png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    """A PNG of 2 x 1 pixels with 16 bits per channel; the pixels are the chunk IDAT."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)), *chunks, (b"IEND", b"")]
    checked = [
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(checked)


PIXELS = (b"IDAT", zlib.compress(b"\0" + struct.pack(">6H", 65535, 0, 0, 0, 65535, 0)))  # red, green
EXIF = b"MM\0*" + struct.pack(">IHHHIHHI", 8, 1, 0x0112, 3, 1, 6, 0, 0)  # orientation 6: rotated by 90 degrees
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description rdf:about="" xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/>'
    b"</rdf:RDF></x:xmpmeta>"
)
AS_TEXT = b"\nexif\n%8d\n" % (6 + len(EXIF)) + (b"Exif\0\0" + EXIF).hex().encode() + b"\n"


@pytest.mark.parametrize(
    "chunk",
    [
        (b"eXIf", EXIF),
        (b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
        (b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(AS_TEXT)),
        (b"tEXt", b"Raw profile type exif\0" + AS_TEXT),
    ],
    ids=["eXIf", "XMP", "zTXt", "tEXt"],
)
@pytest.mark.parametrize("before", [False, True])
def test_the_header_of_a_png_has_the_orientation_that_follows_the_pixels(tmp_path, chunk, before):
    path = write(tmp_path, "a.png", png([chunk, PIXELS] if before else [PIXELS, chunk]))
    assert read_rgb(path).tolist() == [[[255, 0, 0]], [[0, 255, 0]]]
    header = read_header(path)
    assert (header.size, header.stored_size, header.orientation, header.deep) == ((2, 1), (1, 2), 6, True)


def test_the_header_of_a_png_with_other_text_after_its_pixels_is_read_without_them(tmp_path):
    damaged = (b"IDAT", PIXELS[1][:5])
    path = write(tmp_path, "a.png", png([damaged, (b"tEXt", b"date:create\0today")]))
    assert read_header(path).size == (1, 2)


def gif(canvas: tuple[int, int], transparent: bool) -> bytes:
    """One frame of 2 x 1 pixels, white and black, on a canvas (width, height) at (0, 0)."""
    start = b"GIF89a" + struct.pack("<HHBBB", *canvas, 0x80, 0, 0) + b"\xff\xff\xff\0\0\0"
    control = b"\x21\xf9\4\1\0\0\0\0" if transparent else b""
    codes = 4 | 0 << 3 | 1 << 6 | 5 << 9  # clear, white, black, end, of 3 bits each
    return start + control + b"," + struct.pack("<HHHHB", 0, 0, 2, 1, 0) + b"\2\2" + struct.pack("<H", codes) + b"\0;"


def test_a_gif_without_colours_in_a_part_of_its_canvas_is_refused(tmp_path):
    assert read_rgb(write(tmp_path, "a.gif", gif((2, 1), False)))[..., 0].tolist() == [[255, 0]]
    with pytest.raises(InputError, match=r"b\.gif: expected a picture that fills its canvas"):
        read_rgb(write(tmp_path, "b.gif", gif((3, 1), False)))
    with opened_image(write(tmp_path, "c.gif", gif((3, 1), True))) as image:  # white is transparent
        assert np.asarray(image.convert("RGBA"))[..., 3].tolist() == [[0, 255, 0]]


@pytest.mark.parametrize(("first", "second"), [(b"\0\0\0", b"\xff\xff\xff"), (b"\0\0\0", b"\0\0\0")])
def test_a_one_bit_pcx_is_black_and_white(tmp_path, first, second):
    def pcx(colours: bytes) -> bytes:
        header = struct.pack("<4B6H", 10, 5, 1, 1, 0, 0, 7, 0, 72, 72) + colours.ljust(48, b"\0") + b"\0\1"
        return (header + struct.pack("<HH", 2, 1)).ljust(128, b"\0") + b"\x0f\0"

    path = write(tmp_path, "a.pcx", pcx(first + second))
    assert read_matte(path).tolist() == [[0] * 4 + [255] * 4]
    with pytest.raises(InputError, match=r"b\.pcx: expected a one-bit PCX of black and white"):
        read_matte(write(tmp_path, "b.pcx", pcx(b"\xff\xff\xff\0\0\0")))


PROFILE = bytes(16) + b"RGB " + bytes(108)


def test_the_profile_of_jpeg_2000_is_read(tmp_path):
    path = write(tmp_path, "a.jp2", jp2(COLOURS, space=PROFILE))
    assert read_rgb_profile(path) == PROFILE
    np.testing.assert_array_equal(read_rgb(path), COLOURS)
    assert read_rgb_profile(write(tmp_path, "b.jp2", jp2(COLOURS))) is None
    assert read_rgb_profile(write(tmp_path, "c.jp2", jp2(INDICES, space=PROFILE))) is None


@pytest.mark.parametrize("photometric", ["rgb", "minisblack"])
def test_the_profile_of_a_tiff_that_pillow_does_not_know_is_read(tmp_path, photometric):
    values = np.dstack([GRAY, EXTRA, GRAY]) if photometric == "rgb" else GRAY
    tifffile.imwrite(  # a big-endian BigTIFF
        tmp_path / "a.tif", values, photometric=photometric, iccprofile=PROFILE, bigtiff=True, byteorder=">"
    )
    assert read_rgb_profile(tmp_path / "a.tif") == (PROFILE if photometric == "rgb" else None)


def test_the_profile_of_ycbcr_is_that_of_its_rgb_values(tmp_path):
    content = tiff(YCBCR, 6, 3, t530=(3, [1, 1]), t34675=(7, list(PROFILE)))
    assert read_rgb_profile(write(tmp_path, "a.tif", content)) == PROFILE


def test_premultiplied_alpha_of_heic_is_no_gray(tmp_path):
    values = np.zeros((16, 16, 4), np.uint8)
    values[:, 4:] = 128  # white that is half opaque
    values[:, 8:] = 255
    pillow_heif.from_bytes("RGBa", (16, 16), values.tobytes()).save(tmp_path / "a.heic", quality=-1, chroma=444)
    np.testing.assert_array_equal(read_matte(tmp_path / "a.heic"), values[..., 3])


@pytest.mark.parametrize(("photometric", "levels"), [(0, [65535, 0]), (1, [0, 65535])])  # read by tifffile, by Pillow
@pytest.mark.parametrize("tag", [{}, {"t274": (3, [1])}])
def test_the_orientation_of_a_tiff_in_xmp_counts_for_its_header_and_its_pixels(tmp_path, photometric, levels, tag):
    row = struct.pack("<4H", levels[0], levels[1], levels[1], levels[1])
    content = tiff(row * 3, photometric, 1, t258=(3, [16]), t700=(7, list(XMP)), **tag)
    path = write(tmp_path, "a.tif", content)
    turned = [[0] * 3] + [[255] * 3] * 3
    expected = [[0, 255, 255, 255]] * 3 if tag else turned  # the tag comes first
    assert read_matte(path).tolist() == expected
    assert read_header(path).size == np.shape(expected)
