"""Whole photographs and fixed views: what a sample shows, and files that cannot be used."""

import numpy as np
import pytest
import torch
from PIL import Image

from data.testing.matting_folder import MattingFolder
from data.training.fixed_views import FixedViews
from data.training.whole_photographs import WholePhotographs
from runtime.errors import InputError

PLAIN = {"colour_jitter": False, "crop_size": 32, "samples_per_epoch": 4}


def coordinates(height: int, width: int) -> np.ndarray:
    """A picture whose red and green grow with the row and the column, from 0 to 255."""
    rows, columns = np.linspace(0, 255, height)[:, None], np.linspace(0, 255, width)[None]
    return np.stack(np.broadcast_arrays(rows, columns, 128.0), axis=2).round().astype(np.uint8)


@pytest.fixture
def root(tmp_path):
    """A set as DATA/train, with names whose case differs between the folders; alpha is the red channel."""
    for name in ("rgb_images", "alpha_maps"):
        (tmp_path / name).mkdir()
    for stem, size in (("Wide", (64, 128)), ("tall", (96, 64))):
        picture = coordinates(*size)
        Image.fromarray(picture).save(tmp_path / "rgb_images" / f"{stem}.PNG")
        Image.fromarray(picture[..., 0]).save(tmp_path / "alpha_maps" / f"{stem.lower()}.png")
    return tmp_path


def message(action) -> str:
    with pytest.raises(InputError) as caught:
        action()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_crop_keeps_proportions_and_alpha_stays_with_its_pixels(root):
    for index in range(12):
        sample = WholePhotographs(root, **PLAIN, largest_zoom=1.0, seed=3)[index // 4, index % 4]
        image, alpha = sample["image"], sample["alpha"]
        assert image.shape == (3, 32, 32)
        torch.testing.assert_close(alpha[0], image[0], rtol=0, atol=1e-6)
        height, width = (96, 64) if sample["name"] == "tall" else (64, 128)
        scale = 32 / min(height, width)
        steps = [255 / (side - 1) / scale / 255 for side in (height, width)]
        down = image[0].diff(dim=0)[2:-2].mean().item()
        across = image[1].diff(dim=1).abs()[:, 2:-2].mean().item()
        assert [down, across] == pytest.approx(steps, rel=0.05)
        assert set(sample["trimap"].unique().tolist()) <= {0, 0.5, 1}


def test_zoom_flip_and_place_are_drawn(root):
    dataset = WholePhotographs(root, **PLAIN, largest_zoom=2.0)
    slopes, signs, tops = set(), set(), set()
    for epoch in range(8):
        image = dataset[epoch, 0]["image"]  # always the wide one
        slopes.add(round(image[0].diff(dim=0)[2:-2].mean().item(), 6))
        signs.add(np.sign(image[1].diff(dim=1).mean().item()))
        tops.add(round(image[1].amin().item(), 3))
    assert len(slopes) >= 6  # zooms come in whole pixels
    assert min(slopes) >= 1 / 63 * 0.95
    assert max(slopes) <= 1 / 31 * 1.05
    assert signs == {-1, 1}
    assert len(tops) == 8


def test_padding_mirrors_photograph_and_alpha_alike(root):
    dataset = WholePhotographs(root, **PLAIN, fit="pad")
    for index in range(4):
        sample = dataset[index]
        image = sample["image"]
        torch.testing.assert_close(sample["alpha"][0], image[0], rtol=0, atol=1e-6)
        if sample["name"] == "Wide":  # 16 rows, then their mirror
            torch.testing.assert_close(image[:, 16:31], image[:, :15].flip(1), rtol=0, atol=1e-6)
            assert image[1].amax() - image[1].amin() > 0.95  # the whole width is shown


def test_a_sample_is_a_function_of_seed_epoch_and_index(root):
    def image(seed, key):
        return WholePhotographs(root, **PLAIN, seed=seed)[key]["image"]

    assert torch.equal(image(0, (1, 2)), image(0, (1, 2)))
    assert not torch.equal(image(0, (1, 2)), image(1, (1, 2)))


def test_views_are_the_data_set_s_samples_and_the_same_in_every_epoch(root):
    dataset = WholePhotographs(root, **PLAIN)
    views = FixedViews(dataset, 6)
    assert len(views) == 6
    for index in range(6):
        expected = dataset[divmod(index, 4)]
        for epoch in (0, 1, 7):
            view = views[epoch, index]
            assert view.keys() == expected.keys()
            assert torch.equal(view["image"], expected["image"])
            assert view["name"] == ("Wide", "tall")[index % 2]
    assert len({views[0, index]["image"].sum().item() for index in range(6)}) == 6
    assert len(views.paths()) == 4
    with pytest.raises(IndexError):
        views[0, 6]
    assert "dataloader.train.fixed_views: expected a whole number of at least 1, got 0" in message(
        lambda: FixedViews(dataset, 0)
    )


def test_unusable_files_are_one_line_each(root):
    Image.new("L", (64, 50)).save(root / "alpha_maps" / "tall.png")
    dataset = WholePhotographs(root, **PLAIN)
    (problem,) = dataset.problems(decode=False)
    assert "tall.png: 64 x 50 pixels, but" in problem
    Image.fromarray(coordinates(96, 64)).save(root / "alpha_maps" / "tall.png")
    text = message(lambda: [dataset[index] for index in range(2)])
    assert "tall.png: expected a gray alpha, found a picture in colours" in text
    (root / "alpha_maps" / "tall.png").unlink()
    text = message(lambda: WholePhotographs(root, **PLAIN)[0])
    assert "tall.PNG: no image of that name in" in text
    (root / "rgb_images" / "tall.PNG").unlink()
    (root / "rgb_images" / "Wide.PNG").unlink()
    (root / "alpha_maps" / "wide.png").unlink()
    assert "expected images and alphas of the same names, found none" in message(
        lambda: WholePhotographs(root, **PLAIN)[0]
    )
    assert "expected folders rgb_images, and alpha_maps" in message(lambda: WholePhotographs(root / "x", **PLAIN)[0])
    assert "fit: expected" in message(lambda: WholePhotographs(root, **PLAIN, fit="stretch"))
    assert "largest_zoom: expected" in message(lambda: WholePhotographs(root, **PLAIN, largest_zoom=0.5))


def test_gray_photographs_and_gray_alphas_of_three_channels_are_taken(root):
    Image.fromarray(coordinates(96, 64)[..., 0]).save(root / "rgb_images" / "tall.PNG")
    Image.fromarray(np.repeat(coordinates(96, 64)[..., :1], 3, axis=2)).save(root / "alpha_maps" / "tall.png")
    dataset = WholePhotographs(root, **PLAIN, largest_zoom=1.0)
    for index in range(4):
        sample = dataset[index]
        torch.testing.assert_close(sample["alpha"][0], sample["image"][0], rtol=0, atol=1e-6)


def test_a_folder_without_trimaps_is_a_test_set(root):
    folder = MattingFolder(root / "rgb_images", alpha_dir=root / "alpha_maps", allow_extra=False)
    items = {item["name"]: item for item in (folder[index] for index in range(len(folder)))}
    assert set(items) == {"Wide", "tall"}
    assert items["tall"]["trimap"] is None
    np.testing.assert_array_equal(items["tall"]["alpha"], coordinates(96, 64)[..., 0])
    assert folder.problems() == []
