"""EXIF orientations that only one of two files carries: 8 orientations x which of them x square or not.

Files are read upright. What the other file shows is either on the upright picture or on the stored pixels.
"""

import numpy as np
import pytest
from PIL import Image

import evaluation
from data.images.pairs import DRAWN_ON_STORED_PIXELS, size_hint, turned_apart
from data.images.scan import look_at_mattes, size_mismatches
from data.testing.matting_folder import MattingFolder
from data.training.dim_dataset import read_layer
from engine.inference.jobs import Job, read_inputs
from runtime.errors import InputError

ORIENTATIONS = range(1, 9)
SHAPES = {"square": (16, 16), "oblong": (16, 24)}
ON_UPRIGHT, ON_STORED = "drawn on the upright picture", "drawn on the stored pixels"
TO_STORED = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # orientation -> Pillow's transpose from upright to stored


def gray(size):
    """A trimap without symmetry."""
    trimap = np.full(size, 128, np.uint8)
    trimap[:3], trimap[-4:, :5] = 0, 255
    return Image.fromarray(trimap)


def stored(image, orientation):
    return image if orientation == 1 else image.transpose(Image.Transpose(TO_STORED[orientation]))


def save(path, image, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(path, exif=exif) if orientation > 1 else image.save(path)


def make(folder, shape, orientation, tagged, drawn):
    """The picture i.png and its trimap t.png, of which `tagged` carries the orientation; and the upright trimap."""
    upright = gray(SHAPES[shape])
    picture = upright.convert("RGB")
    if tagged == "both":
        save(folder / "i.png", stored(picture, orientation), orientation)
        save(folder / "t.png", stored(upright, orientation), orientation)
    elif tagged == "picture":
        save(folder / "i.png", stored(picture, orientation), orientation)
        save(folder / "t.png", upright if drawn == ON_UPRIGHT else stored(upright, orientation), 1)
    else:
        save(folder / "i.png", picture, 1)
        save(folder / "t.png", stored(upright, orientation) if drawn == ON_UPRIGHT else upright, orientation)
    return Job({"image": folder / "i.png", "trimap": folder / "t.png"}, {}), np.asarray(upright)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize(
    ("tagged", "drawn"),
    [("picture", ON_UPRIGHT), ("picture", ON_STORED), ("trimap", ON_UPRIGHT), ("trimap", ON_STORED), ("both", "")],
)
def test_what_does_not_fit_is_never_taken_without_a_word(tmp_path, shape, orientation, tagged, drawn):
    job, upright = make(tmp_path, shape, orientation, tagged, drawn)
    remarks = []
    quarter = orientation >= 5 and shape == "oblong"
    paths = tmp_path / "i.png", tmp_path / "t.png"
    if quarter and tagged != "both" and drawn == ON_STORED:
        with pytest.raises(InputError, match=rf"as stored both are .*EXIF orientation.* {orientation}") as caught:
            read_inputs(job, remarks)
        assert "save both upright without the tag" in str(caught.value)
        assert "as stored both are" in size_mismatches([paths])[0]
        folder = MattingFolder(tmp_path, tmp_path)
        folder.listed = [{"image": paths[0], "trimap": paths[1]}]
        with pytest.raises(InputError, match="as stored both are"):
            folder[0]
        with pytest.raises(InputError, match="as stored both are"):
            read_layer(*paths)
        return
    arrays = read_inputs(job, remarks)
    is_right = np.array_equal(arrays["trimap"], upright) and np.array_equal(arrays["image"][..., 0], upright)
    assert is_right == (orientation == 1 or tagged == "both" or drawn == ON_UPRIGHT)
    doubtful = orientation > 1 and tagged != "both" and not quarter
    assert is_right or doubtful
    assert remarks == ([("trimap", DRAWN_ON_STORED_PIXELS, str(paths[1]))] if doubtful else [])
    _, lines = look_at_mattes([paths], [], decode=True)
    assert lines == ([f"1 alpha: {DRAWN_ON_STORED_PIXELS} ({paths[1]})"] if doubtful else [])


@pytest.mark.parametrize("orientation", [1, 6])
def test_sizes_that_an_orientation_does_not_explain_have_no_such_hint(tmp_path, orientation):
    save(tmp_path / "i.png", gray((16, 24)), orientation)
    save(tmp_path / "t.png", gray((16, 25)), 1)
    assert size_hint(tmp_path / "i.png", tmp_path / "t.png") == ""
    assert turned_apart(tmp_path / "i.png", tmp_path / "t.png") == ""


@pytest.mark.parametrize(("first", "second"), [(6, 1), (1, 6), (8, 2)])
def test_the_hint_names_both_orientations(tmp_path, first, second):
    picture, trimap = tmp_path / "i.png", tmp_path / "t.png"
    save(picture, gray((16, 24)), first)
    save(trimap, gray((16, 24)), second)
    assert size_hint(picture, trimap) == (
        f"; as stored both are 24 x 16, but {picture} has the EXIF orientation {first} and {trimap} "
        f"{'none' if second == 1 else second}: save both upright without the tag"
    )


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_evaluation_names_orientations_too(tmp_path, capsys, shape, orientation):
    """The truth carries a tag, prediction and trimap none: all three have the same stored pixels."""
    for folder in ("pred", "alpha", "trimap"):
        (tmp_path / folder).mkdir()
        save(tmp_path / folder / "a.png", gray(SHAPES[shape]), orientation if folder == "alpha" else 1)
    arguments = [word for folder in ("pred", "trimap") for word in (f"--{folder}-dir", str(tmp_path / folder))]
    arguments += ["--label-dir", str(tmp_path / "alpha")]
    if orientation >= 5 and shape == "oblong":
        with pytest.raises(InputError, match=rf"as stored both are 24 x 16, but .* EXIF orientation {orientation} and"):
            evaluation.main(arguments)
        return
    assert evaluation.main(arguments) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "EXIF" in line]
    assert [line.split(":")[1] for line in lines] == ([] if orientation == 1 else [" 1 prediction", " 1 trimap"])
