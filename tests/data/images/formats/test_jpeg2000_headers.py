"""Headers of JPEG 2000, written by hand after ISO/IEC 15444-1: A.5.1 for the codestream, annex I for the boxes."""

import base64
import io
import struct

import numpy as np
import pytest
from test_jpeg2000 import RAMPS

from data.images.files import read_rgb
from data.images.formats.jpeg2000 import Channels, Jpeg2000Error, read_channels, read_values
from runtime.errors import InputError


def codestream(depths: list[int], right: int = 16, bottom: int = 16, left: int = 0, top: int = 0) -> bytes:
    """SOC and SIZ, with one tile that begins with the image, and channels that are not subsampled."""
    grid = struct.pack(">8I", right, bottom, left, top, right, bottom, left, top)
    channels = b"".join(bytes([depth, 1, 1]) for depth in depths)
    body = b"\0\0" + grid + struct.pack(">H", len(depths)) + channels
    return b"\xff\x4f\xff\x51" + struct.pack(">H", len(body) + 2) + body + b"\xff\x52"


def box(kind: bytes, content: bytes, long: bool = False) -> bytes:
    if long:  # the length is in 8 bytes after the type
        return struct.pack(">I4sQ", 1, kind, 16 + len(content)) + content
    return struct.pack(">I4s", 8 + len(content), kind) + content


SIGNATURE = box(b"jP  ", b"\r\n\x87\n")


def test_the_size_is_the_area_between_the_corners():
    size = 0x01020304, 0x05060708, 0x00010203, 0x00040506
    found = read_channels(io.BytesIO(codestream([11], *size)))
    assert found == Channels((0x05060708 - 0x00040506, 0x01020304 - 0x00010203), (12,), False)


def test_each_channel_has_its_depth_and_sign():
    assert read_channels(io.BytesIO(codestream([0, 7, 37]))) == Channels((16, 16), (1, 8, 38), False)
    assert read_channels(io.BytesIO(codestream([7, 0x80 | 11]))) == Channels((16, 16), (8, 12), True)
    many = [index % 16 for index in range(258)]  # more than a byte can count
    assert read_channels(io.BytesIO(codestream(many))).bits == tuple(depth + 1 for depth in many)


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("before", [b"", box(b"free", b""), box(b"free", b"", long=True), box(b"uuid", bytes(300)),
                                    box(b"uuid", bytes(300), long=True)])  # fmt: skip
def test_the_codestream_is_found_after_boxes_of_any_length(before, long):
    file = io.BytesIO(SIGNATURE + before + box(b"jp2c", codestream([9, 9, 9]), long))
    file.seek(5)
    assert read_channels(file) == Channels((16, 16), (10, 10, 10), False)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        SIGNATURE,
        SIGNATURE + struct.pack(">I4s", 0, b"uuid") + codestream([9]),  # a length of 0: the last box
        SIGNATURE + struct.pack(">I4sQ", 1, b"uuid", 15) + codestream([9]),  # shorter than its own header
        SIGNATURE + box(b"jp2c", bytes(47)),
        SIGNATURE + box(b"jp2c", codestream([9])[:41]),
        codestream([9])[:41],  # without the number of channels
    ],
)
def test_a_file_without_a_codestream_is_refused(content):
    with pytest.raises(Jpeg2000Error, match="no codestream"):
        read_channels(io.BytesIO(content))


@pytest.mark.parametrize(
    ("depths", "kind"),
    [
        ([11, 13, 11], "3 channels of 12, 14 bits is not read"),
        ([16, 16, 16], "3 channels of 17 bits is not read"),
        ([9, 9, 9, 9, 9], "5 channels of 10 bits is not read"),
        ([9, 9], "2 channels of 10 bits is not read"),
        ([0x8F], "1 channels of 16 bits, signed, is not read"),
        ([15], "1 channels of 16 bits is damaged"),
    ],
)
def test_channels_that_opencv_does_not_read_are_refused_by_their_header(tmp_path, depths, kind):
    (tmp_path / "a.j2k").write_bytes(codestream(depths))
    with pytest.raises(Jpeg2000Error, match=f"^JPEG 2000 with {kind}.*; save it as a 16-bit PNG or TIFF$"):
        read_values(tmp_path / "a.j2k", (16, 16))


def test_values_of_another_depth_or_shape_than_the_header_says_are_refused(tmp_path, monkeypatch):
    (tmp_path / "a.j2k").write_bytes(codestream([9, 9, 9]))
    right = np.full((16, 16, 3), 1023, np.uint16)
    for decoded in (None, right.astype(np.uint8), right[..., 0], right[:8], np.dstack([right, right[..., :1]])):
        monkeypatch.setattr("data.images.formats.jpeg2000.decode_by_opencv", lambda path, decoded=decoded: decoded)
        with pytest.raises(Jpeg2000Error, match="3 channels of 10 bits is damaged or of a kind that is not read"):
            read_values(tmp_path / "a.j2k", (16, 16))
    monkeypatch.setattr("data.images.formats.jpeg2000.decode_by_opencv", lambda path: right)
    assert (read_values(tmp_path / "a.j2k", (16, 16)) == 65535).all()


def test_a_palette_of_more_bits_than_its_indices_is_refused(tmp_path):
    """The values of a palette replace the channel of 9 bits, whose header does not describe them."""
    data = base64.b64decode(RAMPS["gray9.jp2"])
    place, colours = data.index(b"jp2h") - 4, data.index(b"colr") - 4
    end = place + int.from_bytes(data[place : place + 4], "big")
    entries = np.linspace(0, 4095, 512).round().astype(">u2")
    palette = box(b"pclr", struct.pack(">HBB", 512, 1, 11) + entries.tobytes()) + box(b"cmap", b"\0\0\1\0")
    header = box(b"jp2h", data[place + 8 : colours] + palette + data[colours:end])
    (tmp_path / "a.jp2").write_bytes(data[:place] + header + data[end:])
    with pytest.raises(InputError, match="JPEG 2000 with this kind of palette is not read; save it as PNG"):
        read_rgb(tmp_path / "a.jp2")
