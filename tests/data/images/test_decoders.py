"""Kinds of files that Pillow misreads without an error: they are read right, or refused.

The files are written by hand from the formats' definitions, or by the tools that are named beside them.
"""

import base64
from pathlib import Path

import cv2
import numpy as np
import pytest

from data.images.files import read_header, read_rgb
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


def jp2(values: np.ndarray, *boxes: bytes, space: int = 16) -> bytes:
    """A JP2 file with a codestream by OpenCV, which expects the channels B, G, R and alpha."""
    shown = values if values.ndim == 2 else values[..., [2, 1, 0, 3][: values.shape[2]]]
    encoded = cv2.imencode(".jp2", shown, [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])[1].tobytes()
    height, width, channels = values.shape if values.ndim == 3 else (*values.shape, 1)
    depth = bytes([8 * values.dtype.itemsize - 1])
    header = [
        box(b"ihdr", height.to_bytes(4, "big") + width.to_bytes(4, "big") + shorts(channels) + depth + b"\7\0\0"),
        box(b"colr", b"\1\0\0" + space.to_bytes(4, "big")),
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
        (jp2(np.uint16(257) * COLOURS, space=18), "colour space 18 and 16 bits"),  # YCbCr
    ],
    ids=["BGR", "ARGB", "premultiplied", "BGR of 16 bits", "palette BGR", "gray", "4 bits", "Lab", "YCbCr of 16 bits"],
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
