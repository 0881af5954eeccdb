"""Inputs of a prediction: the arrays, the remarks and the refusals of files that other libraries wrote."""

import cv2
import numpy as np
import OpenEXR
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


def test_deep_colours_are_read_on_request_and_of_the_image_only(write):
    deep = IMAGE.astype(np.uint16) * 256 + 7
    files = {"image": write("i", deep[..., ::-1]), "trimap": write("t", TRIMAP * np.uint16(257))}
    assert sorted(read_files(files)) == ["image", "trimap"]
    arrays = read_files(files, deep_colours=True)
    assert sorted(arrays) == ["deep_colours", "image", "trimap"]
    np.testing.assert_allclose(arrays["deep_colours"], deep / 65535, rtol=1e-6)
    np.testing.assert_array_equal(arrays["trimap"], TRIMAP)
    assert sorted(read_files({**files, "image": write("i", IMAGE)}, deep_colours=True)) == ["image", "trimap"]


def test_deep_colours_that_cannot_be_read_give_a_remark(tmp_path):
    header = f"P6 {IMAGE.shape[1]} {IMAGE.shape[0]} 1023\n".encode()
    (tmp_path / "i.ppm").write_bytes(header + (IMAGE.astype(">u2") * 4).tobytes())
    for deep_colours, expected in ((False, []), (True, ["only 8 bits of this kind of PPM are read"])):
        remarks: list[Remark] = []
        assert list(read_files({"image": tmp_path / "i.ppm"}, None, remarks, deep_colours)) == ["image"]
        assert [remark.text.split(";")[0] for remark in remarks] == expected


def test_floats_have_the_transfer_of_their_format_unless_another_is_requested(tmp_path):
    light = np.full((4, 6, 3), 0.5, np.float32)  # as light the level 188, as a level 127.5
    OpenEXR.File({"type": OpenEXR.scanlineimage}, {"RGB": light}).write(str(tmp_path / "i.exr"))
    files = {"image": tmp_path / "i.exr"}
    for arguments, level in (((), 187.516), (("srgb",), 127.5)):
        arrays = read_files(files, *arguments, deep_colours=True)
        np.testing.assert_allclose(arrays["deep_colours"], level / 255, rtol=1e-5)
        assert np.abs(arrays["image"] - level).max() <= 0.5
