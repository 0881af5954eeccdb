"""Inputs of a prediction: the arrays, the remarks and the refusals of files that other libraries wrote."""

import cv2
import numpy as np
import pytest

from data.images.inputs import read_files
from data.images.remarks import Remark
from runtime.errors import InputError

IMAGE = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)  # RGB
TRIMAP = np.uint8([[0, 128, 255, 0, 128, 255]] * 4)
MASK = np.uint8([[0, 51, 102, 204, 255, 255]] * 4)


@pytest.fixture
def write(tmp_path):
    def write(name, array):
        cv2.imwrite(str(tmp_path / f"{name}.png"), array)
        return tmp_path / f"{name}.png"

    return write


def test_each_input_is_read_in_its_own_scale_in_any_order(write):
    files = {"trimap": write("t", TRIMAP), "mask": write("m", MASK), "image": write("i", IMAGE[..., ::-1])}
    remarks = []
    arrays = read_files(files, remarks=remarks)
    assert remarks == []
    np.testing.assert_array_equal(arrays["image"], IMAGE)
    np.testing.assert_array_equal(arrays["trimap"], TRIMAP)
    np.testing.assert_array_equal(arrays["mask"], MASK.astype(np.float32) / 255)


def test_remarks_name_the_input_and_its_file(write):
    cut_out = np.dstack([IMAGE, TRIMAP])
    files = {"image": write("i", cut_out), "trimap": write("t", (TRIMAP > 127) + (TRIMAP > 200) * np.uint8(1))}
    remarks: list[Remark] = []
    np.testing.assert_array_equal(read_files(files, remarks=remarks)["trimap"], TRIMAP)
    assert [(remark.what, remark.path) for remark in remarks] == [(name, str(path)) for name, path in files.items()]
    assert "transparent pixels" in remarks[0].text


@pytest.mark.parametrize(("name", "array"), [("trimap", TRIMAP), ("mask", MASK)])
def test_sizes_that_differ_are_named_with_the_width_first(write, name, array):
    image, other = write("i", IMAGE), write("o", array[:, :5])
    with pytest.raises(InputError) as caught:
        read_files({"image": image, name: other})
    assert str(caught.value) == (
        f"{other}: the {name} is 5 x 4, its image {image} is 6 x 4; make the {name} at the image's size"
    )
