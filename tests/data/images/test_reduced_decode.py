"""JPEGs decoded at a reduced size: sizes worked out by hand, and the pixels of a flat picture."""

import numpy as np
import pytest
from PIL import Image

from data.images.reduced_decode import read_rgb_reduced


def save(path, orientation=1, mode="RGB"):
    """A picture of 64 x 96 pixels, stored so; the upper half is red."""
    pixels = np.zeros((64, 96, 3), np.uint8)
    pixels[:32, :, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95, "subsampling": 0} if path.suffix == ".jpg" else {}
    Image.fromarray(pixels).convert(mode).save(path, exif=exif, **options)


@pytest.mark.parametrize(
    ("needed", "size"),
    [((64, 96), (64, 96)), ((33, 48), (64, 96)), ((32, 48), (32, 48)), ((16, 24), (16, 24)), ((9, 9), (16, 24)),
     ((8, 12), (8, 12)), ((1, 1), (8, 12)), ((8, 13), (16, 24))],
)  # fmt: skip
@pytest.mark.parametrize("orientation", [1, 4, 5, 6, 8])
def test_the_smallest_scale_that_is_large_enough_is_decoded(tmp_path, needed, size, orientation):
    save(tmp_path / "a.jpg", orientation)
    turn = slice(None, None, -1) if orientation >= 5 else slice(None)
    picture = read_rgb_reduced(tmp_path / "a.jpg", needed[turn])
    assert picture.shape == (*size[turn], 3)
    red = picture[..., 0] > 127
    height, width = red.shape
    upper_half = {
        1: red[: height // 2],
        4: red[height // 2 :],
        5: red[:, : width // 2],
        6: red[:, width // 2 :],
        8: red[:, : width // 2],
    }
    assert upper_half[orientation].all()
    assert red.mean() == 0.5


@pytest.mark.parametrize(("name", "mode"), [("a.png", "RGB"), ("a.jpg", "L"), ("a.jpg", "CMYK")])
def test_other_formats_and_modes_keep_their_size(tmp_path, name, mode):
    save(tmp_path / name, mode=mode)
    assert read_rgb_reduced(tmp_path / name, (8, 12)).shape == (64, 96, 3)
