"""JPEG 2000 of more than 8 bits: files of OpenJPEG's opj_compress 2.5 and of OpenCV, which Pillow misreads."""

import base64
from pathlib import Path

import cv2
import numpy as np
import pytest

from data.images.deep_colours import read_deep_colours
from data.images.files import opened_image, read_header, read_rgb
from data.images.mattes import read_matte
from runtime.errors import InputError

# 16 x 16 pixels, a ramp of all levels from left to right. Channel c is rolled by c pixels.
RAMPS = {
    # 3 channels of 12 bits
    "rgb12.jp2": "AAAADGpQICANCocKAAAAFGZ0eXBqcDIgAAAAAGpwMiAAAAAtanAyaAAAABZpaGRyAAAAEAAAABAAAwsHAAAAAAAPY29scgEAAAAA"
    "ABAAAAF+anAyY/9P/1EALwAAAAAAEAAAABAAAAAAAAAAAAAAABAAAAAQAAAAAAAAAAAAAwsBAQsBAQsBAf9SAAwAAAABAQEEBAAB"
    "/1wAB0BgaGhw/2QAJQABQ3JlYXRlZCBieSBPcGVuSlBFRyB2ZXJzaW9uIDIuNS4w/5AACgAAAAABAwAB/5PP5UAXJdmbbe19wH8y"
    "bt8VdDSkU5AV0FLAdxr+llSNrncMu6tU3rbaKDPo+nGBk5XlMK6TnF1MHW0AMIIqCgbNCrnIDnzKWf90rkG4b1ZKQq+hrc/k0BQa"
    "qpGeZgCxE8B8AADCQlKtXHqvP6Yf8KBXfApwkJEs4AwkI9xzNg/jdkKGCy4/4UDEhL/f4MQRawfY89YMaJtIN7HU/BMDrIkoUAN+"
    "bn4/4UDEhJQoAGEayWgZWKgGegB4/0KBiQl/w/YTABFrBSTclhoDVRIBWZo8Yoo0/3/f+ABgFBsUn5SQN/0YWHu/z/AYABQbFJ+U"
    "kDf9GFh7f//Z",
    # 1 channels of 9 bits
    "gray9.jp2": "AAAADGpQICANCocKAAAAFGZ0eXBqcDIgAAAAAGpwMiAAAAAtanAyaAAAABZpaGRyAAAAEAAAABAAAQgHAAAAAAAPY29scgEAAAAA"
    "ABEAAADManAyY/9P/1EAKQAAAAAAEAAAABAAAAAAAAAAAAAAABAAAAAQAAAAAAAAAAAAAQgBAf9SAAwAAAABAAEEBAAB/1wAB0BI"
    "UFBY/2QAJQABQ3JlYXRlZCBieSBPcGVuSlBFRyB2ZXJzaW9uIDIuNS4w/5AACgAAAAAAVwAB/5PfmdgRaqKXIhP08HYRuMdra2au"
    "NB10XqzNzNtjh2q5PdB5tJSFcRdmSuO6+b5vm+b5wC9RjaomeHYAZGw+j8H1A4A2oZnJ7oA3/9k=",
    # 2 channels of 12 bits
    "two12.jp2": "AAAADGpQICANCocKAAAAFGZ0eXBqcDIgAAAAAGpwMiAAAAAtanAyaAAAABZpaGRyAAAAEAAAABAAAgsHAAAAAAAPY29scgEAAAAA"
    "AAAAAAFManAyY/9P/1EALAAAAAAAEAAAABAAAAAAAAAAAAAAABAAAAAQAAAAAAAAAAAAAgsBAQsBAf9SAAwAAAABAAEEBAAB/1wA"
    "B0BgaGhw/2QAJQABQ3JlYXRlZCBieSBPcGVuSlBFRyB2ZXJzaW9uIDIuNS4w/5AACgAAAAAA1AAB/5Pf4UQRaqKXIhP08HYRuMdr"
    "a2auNB10XqzNzNtjh2q5PaG0s/QGTJiHKJFOPovYTQricLMdYCcLMdYCzfKW74FNs0JztYZ+B1eCaFbdfN83zfOAYj/f4SwXK/dF"
    "l8pzRinuSIitvaUUqod5stLD1Xv6yWH+GxbIUOrrfVD49fJgMz6PsP5MBmfMattmUboSRUFBAEflyxYkb88Ypx9F7CZxAJfB+YUA"
    "NqGZye6AN/3e58/wJAARawyVltEOvkAfbWLf2NTXvcH/2Q==",
    # 4 channels of 10 bits
    "rgba10.j2k": "/0//UQAyAAAAAAAQAAAAEAAAAAAAAAAAAAAAEAAAABAAAAAAAAAAAAAECQEBCQEBCQEBCQEB/1IADAAAAAEBAQQEAAH/XAAHQFBY"
    "WGD/ZAAlAAFDcmVhdGVkIGJ5IE9wZW5KUEVHIHZlcnNpb24gMi41LjD/kAAKAAAAAAE7AAH/k8/NDBcl2Ztt7X3AfzJu3xV0NKRT"
    "kBXQUsB3Gv6WVI2udwy7q1TettooNTENw3qyUg8TsOWuM/EnS7Hqtw6wBW0vHkiW13/PzKgUGqqRnmYAsRPAfAAAwkJSrVx6rz+m"
    "H/CgV3wKcJCShQAMI1ks26vz/M/fsVgRawfY89YMaJtIN7HU/BMDrIkoUAN+bn4/4UDEhJQoAGEayWbdVY9nxXUX37HgHEzcCdhv"
    "X1oA0tzVABGrqqNQbs6VlolCPzWGv5JTjxfnBf5jVY4NGttWc1ou6qQU9oxruTqiYI0Y1jJ/w/APABFrBSTclhoDVRIBVXQLa9/I"
    "kBQbFJ+UkDgAEzqx7BCg5o56H8/YOBQbFJ+UkDf9GFWq5iC/z9hEFywN2ax25cwamPeSgzKBbD//2Q==",
}


def ramp(bits: int, channels: int) -> np.ndarray:
    levels = np.linspace(0, 2**bits - 1, 16).round().astype(int)
    return np.stack([np.tile(np.roll(levels, channel), (16, 1)) for channel in range(channels)], axis=-1)


def write_ramp(folder: Path, name: str) -> Path:
    (folder / name).write_bytes(base64.b64decode(RAMPS[name]))
    return folder / name


@pytest.mark.parametrize("channels", [3, 4])
def test_white_of_16_bits_is_white(tmp_path, channels):
    values = np.full((40, 48, channels), 65535, np.uint16)
    values[:20, :, 0] = 65408  # the least value that Pillow rounds to 256
    cv2.imwrite(str(tmp_path / "a.jp2"), values)
    assert (read_rgb(tmp_path / "a.jp2") == 255).all()


@pytest.mark.parametrize(("name", "bits", "channels"), [("rgb12.jp2", 12, 3), ("rgba10.j2k", 10, 4)])
def test_levels_and_deep_colours_are_fractions_of_the_full_scale(tmp_path, name, bits, channels):
    path = write_ramp(tmp_path, name)
    fractions = ramp(bits, channels)[..., :3] / (2**bits - 1)
    np.testing.assert_array_equal(read_rgb(path), np.rint(fractions * 255))
    colours, remark = read_deep_colours(path)
    np.testing.assert_allclose(colours, fractions, atol=0.51 / 65535)
    assert remark == ""
    assert read_header(path)[3:] == ("JPEG2000", "RGB" if channels == 3 else "RGBA", True)


def test_gray_of_9_bits_has_its_full_scale(tmp_path):
    path = write_ramp(tmp_path, "gray9.jp2")
    fractions = ramp(9, 1)[..., 0] / 511
    np.testing.assert_array_equal(read_rgb(path)[..., 0], np.rint(fractions * 255))
    with opened_image(path) as image:
        assert image.mode == "I;16"
    np.testing.assert_array_equal(read_matte(path), np.rint(fractions * 255))


def test_kinds_that_opencv_does_not_read_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"two12\.jp2: JPEG 2000 with 2 channels of 12 bits is not read; save"):
        read_rgb(write_ramp(tmp_path, "two12.jp2"))
    data = bytearray(base64.b64decode(RAMPS["rgb12.jp2"]))
    sizes = data.index(b"\xff\x4f\xff\x51")
    data[sizes + 42] = 0x8B
    (tmp_path / "signed.jp2").write_bytes(data)
    with pytest.raises(InputError, match=r"signed\.jp2: JPEG 2000 with 3 channels of 12 bits, signed, is not read"):
        read_rgb(tmp_path / "signed.jp2")


def test_damaged_files_are_named(tmp_path, capfd):
    data = base64.b64decode(RAMPS["rgb12.jp2"])
    sizes = data.index(b"\xff\x4f\xff\x51")
    larger = data[: sizes + 8] + (2**20).to_bytes(4, "big") * 2 + data[sizes + 16 :]
    for name, content, message in (
        ("larger.jp2", larger, "its headers differ in size"),
        ("half.jp2", data[: sizes + 100], "is damaged or of a kind that is not read"),
        ("empty.jp2", data[:sizes], "it has no codestream"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=rf"{name}: .*{message}"):
            read_rgb(tmp_path / name)
    assert capfd.readouterr().err == ""  # OpenCV's messages
