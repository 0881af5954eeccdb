"""tools/make_trimap.py: files and folders, the picture of the band, and what it refuses."""

import numpy as np
import pytest
from PIL import Image

from data.images.mask_to_trimap import trimap_from_mask
from runtime.errors import InputError
from tools import make_trimap


@pytest.fixture
def masks(tmp_path):
    mask = np.zeros((50, 60), np.uint8)
    mask[10:40, 15:45] = 255
    for name in ("a.b.png", "clip/1.png", "clip/2.png"):
        path = tmp_path / "masks" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(path)
    return tmp_path, mask


def run(monkeypatch, *arguments) -> int:
    monkeypatch.setattr("sys.argv", ["make_trimap.py", *map(str, arguments), "--num-workers", "1"])
    return make_trimap.main()


def test_a_folder_keeps_its_sub_folders_and_dotted_names(masks, monkeypatch, capsys):
    folder, mask = masks
    assert run(monkeypatch, "--mask", folder / "masks", "--output", folder / "out", "--width", "3") == 0
    for name in ("a.b.png", "clip/1.png", "clip/2.png"):
        np.testing.assert_array_equal(np.asarray(Image.open(folder / "out" / name)), trimap_from_mask(mask, 3))
    assert "a.b.png: 23.3% unknown, 19.2% foreground (binary mask)" in capsys.readouterr().out  # 700, 576 of 3000


def test_the_preview_marks_both_borders_of_the_band(masks, monkeypatch):
    folder, mask = masks
    picture = np.full((*mask.shape, 3), 100, np.uint8)
    Image.fromarray(picture).save(folder / "photo.png")
    status = run(
        monkeypatch, "--mask", folder / "masks/a.b.png", "--output", folder / "t.png", "--width", "3",
        "--image", folder / "photo.png", "--preview", folder / "p.png",
    )  # fmt: skip
    preview = np.asarray(Image.open(folder / "p.png"))
    assert status == 0
    assert preview[0, 0].tolist() == [35, 35, 35]  # dimmed
    assert preview[12, 30].tolist() == [100, 100, 100]  # inside the band the picture shows
    assert preview[13, 30].tolist() == list(make_trimap.SURE_COLOUR)
    assert preview[7, 30].tolist() == list(make_trimap.POSSIBLE_COLOUR)


def test_one_bad_mask_fails_alone(masks, monkeypatch, capsys):
    folder, _ = masks
    (folder / "masks/clip/1.png").write_bytes(b"no image")
    assert run(monkeypatch, "--mask", folder / "masks", "--output", folder / "out") == 2
    assert capsys.readouterr().err.count("error: ") == 1
    assert sorted(path.name for path in (folder / "out").rglob("*.png")) == ["2.png", "a.b.png"]


def test_an_empty_mask_is_remarked(tmp_path, monkeypatch, capsys):
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "m.png")
    assert run(monkeypatch, "--mask", tmp_path / "m.png", "--output", tmp_path / "t.png") == 0
    assert "warning: the mask is empty" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        (["--mask", "masks", "--output", "masks"], "is inside masks, whose sub-folders are read too"),
        (["--mask", "masks", "--output", "masks/trimaps"], "is inside masks, whose sub-folders are read too"),
        (["--mask", "masks", "--output", "t.png"], "expected a folder for the results of a folder of masks"),
        (["--mask", "masks/a.b.png", "--output", "masks/a.b.png"], "is an input file"),
        (["--mask", "masks/a.b.png", "--output", "t.jpg"], "written as PNG"),
        (["--mask", "none.png", "--output", "t.png"], "expected an image file"),
        (["--mask", "masks", "--output", "o", "--image", "photos", "--preview", "p"], "none for a.b"),
        (["--mask", "masks/a.b.png", "--output", "t.png", "--image", "x.png"], "give both or neither"),
        (["--mask", "masks/a.b.png", "--output", "t.png", "--preview", "t.png"], "is also the output"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_work(masks, monkeypatch, arguments, match):
    folder, mask = masks
    monkeypatch.chdir(folder)
    (folder / "photos" / "clip").mkdir(parents=True)
    for name in ("clip/1.png", "clip/2.png"):
        Image.fromarray(mask).save(folder / "photos" / name)
    with pytest.raises(InputError, match=match):
        run(monkeypatch, *arguments)
    assert not list(folder.glob("t.*"))
    assert not (folder / "o").exists()
