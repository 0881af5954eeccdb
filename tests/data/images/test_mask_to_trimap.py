"""Trimaps from masks: exact discs against SciPy's and scikit-image's, and what must not vanish."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from skimage.morphology import disk

from data.images.mask_to_trimap import (
    SEGMENTATION,
    Cleaning,
    mask_cell,
    trimap_from_mask,
    trimap_from_probability,
    unknown_share,
)
from runtime.errors import InputError


def blobs(seed: int, size: int = 48) -> np.ndarray:
    noise = np.random.default_rng(seed).random((size, size + 9))
    return ndimage.gaussian_filter(noise, 4) > 0.5


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), width=st.integers(0, 12))
def test_a_band_is_what_erosion_and_dilation_by_a_disc_leave(seed, width):
    mask = blobs(seed)
    trimap = trimap_from_mask(mask, width)
    element = disk(width).astype(bool)
    eroded = ndimage.binary_erosion(np.pad(mask, width, "edge"), element, border_value=1)
    dilated = ndimage.binary_dilation(np.pad(mask, width, "edge"), element)
    inner = slice(width, -width) if width else slice(None)
    np.testing.assert_array_equal(trimap == 255, eroded[inner, inner])
    np.testing.assert_array_equal(trimap != 0, dilated[inner, inner])


def test_wider_bands_are_nested():
    mask = blobs(3)
    bands = [trimap_from_mask(mask, width) == 128 for width in (1, 2, 5, 9)]
    for narrow, wide in itertools.pairwise(bands):
        assert (narrow <= wide).all()
        assert wide.sum() > narrow.sum()


def test_an_object_that_the_frame_cuts_has_no_band_along_the_frame():
    mask = np.zeros((40, 40), bool)
    mask[:, 20:] = True
    trimap = trimap_from_mask(mask, 3)
    assert (trimap == trimap[0]).all()  # the same in each row, the first and last too
    assert (trimap[0, 23:] == 255).all()
    assert (trimap[0, 17:23] == 128).all()
    assert (trimap[0, :17] == 0).all()


def test_thin_parts_holes_and_islands_are_unknown_not_lost():
    mask = np.zeros((80, 120), bool)
    mask[20:60, 20:60] = True
    mask[38:40, 60:100] = True  # an arm thinner than the band
    mask[30, 30] = False  # a hole
    mask[70, 110] = True  # an island
    trimap = trimap_from_mask(mask, 4)
    assert (trimap[38:40, 64:100] == 128).all()
    assert trimap[30, 30] == 128
    assert trimap[70, 110] == 128
    assert (trimap[mask] != 0).all()
    assert (trimap[~mask] != 255).all()


def test_each_object_has_a_band_of_its_own_size():
    mask = np.zeros((420, 700), bool)
    mask[10:410, 10:410] = True  # 400 x 400: 0.02 x 400 = 8 inside, 0.03 x 400 = 12 outside, and half a cell
    mask[200:240, 600:640] = True  # 40 x 40: 0.8 and 1.2, and half a cell
    row = trimap_from_mask(mask, cell=1)[220]
    assert np.flatnonzero(row[410:500] == 128).tolist() == list(range(12))
    assert np.flatnonzero(row[:410] == 255)[-1] == 401
    assert np.flatnonzero(row[640:] == 128).tolist() == [0, 1]
    wide = trimap_from_mask(mask, cell=8)[220]
    assert np.flatnonzero(wide[410:500] == 128).tolist() == list(range(16))


def test_a_computed_band_has_1_to_75_pixels():
    mask = np.zeros((700, 700), bool)
    mask[150:550, 150:550] = True
    row = trimap_from_mask(mask, cell=200)[350]  # 100 + 0.02 x 400 would be 108
    assert np.flatnonzero(row == 255).tolist() == list(range(225, 475))
    assert np.flatnonzero(row).tolist() == list(range(75, 625))
    mask = np.zeros((30, 30), bool)
    mask[10:20, 10:20] = True
    row = trimap_from_mask(mask, cell=0)[15]  # 0.02 x 10 and 0.03 x 10 would be 0
    assert np.flatnonzero(row == 255).tolist() == list(range(11, 19))
    assert np.flatnonzero(row).tolist() == list(range(9, 21))


def test_the_cell_of_an_enlarged_mask_is_found():
    coarse = np.random.default_rng(0).random((12, 15)) > 0.5
    for side in (2, 7, 16):
        assert mask_cell(np.kron(coarse, np.ones((side, side)))) == side
    assert mask_cell(blobs(5)) == 1
    square = np.zeros((64, 64), bool)
    square[16:48, 16:48] = True  # even coordinates, but no grid
    assert mask_cell(square) == 1
    assert mask_cell(np.zeros((5, 5))) == 1


def test_the_largest_cell_has_64_pixels():
    coarse = np.random.default_rng(0).random((12, 15)) > 0.5
    assert mask_cell(np.kron(coarse, np.ones((64, 64)))) == 64
    assert mask_cell(np.kron(coarse, np.ones((65, 65)))) == 1


@pytest.mark.parametrize(
    ("columns", "speck", "cell"),
    [
        (8, 13, 4),  # an object of 8 x 8 cells, and 4 + 4 edges
        (7, 13, 1),  # the root of 7 x 8 is 7.5 cells
        (8, 19, 1),  # the speck is at the right border: 7 edges
    ],
)
def test_a_cell_needs_8_cells_across_an_object_and_8_edges(columns, speck, cell):
    coarse = np.zeros((20, 20))
    coarse[2:10, 2 : 2 + columns] = 1
    coarse[13, speck] = 1
    assert mask_cell(np.kron(coarse, np.ones((4, 4)))) == cell


def test_boxes_at_round_coordinates_are_not_made_of_cells():
    mask = np.zeros((700, 1100), bool)
    for top, left in ((50, 50), (50, 400), (50, 750), (350, 200), (500, 550), (400, 900)):
        mask[top : top + 100, left : left + 100] = True
    assert mask_cell(mask) == 1


@pytest.mark.parametrize(("fill", "level"), [(False, 0), (True, 255)])
def test_empty_and_full_masks_have_no_band(fill, level):
    assert (trimap_from_mask(np.full((30, 20), fill)) == level).all()
    assert (trimap_from_probability(np.full((30, 20), float(fill))) == level).all()


def test_what_a_segmentation_doubts_is_unknown_and_a_margin_around_it():
    probability = np.tile(np.linspace(0, 1, 101), (30, 1))
    trimap = trimap_from_probability(probability, width=0, cleaning=Cleaning())
    assert np.flatnonzero(trimap[0] == 128).tolist() == list(range(5, 95))
    wider = trimap_from_probability(probability, width=2, cleaning=Cleaning())
    assert np.flatnonzero(wider[0] == 128).tolist() == list(range(3, 97))


def test_probabilities_of_exactly_005_and_095_are_unknown_and_foreground():
    probability = np.array([[0.049, 0.05, 0.5, 0.949, 0.95]])
    trimap = trimap_from_probability(probability, width=0, cleaning=Cleaning())
    assert trimap.tolist() == [[0, 128, 128, 128, 255]]


def test_specks_of_a_segmentation_are_removed_and_holes_filled():
    probability = np.zeros((200, 200))
    probability[50:150, 50:150] = 1
    probability[5, 5] = 1  # an island of 1 pixel of 40000
    probability[100, 100] = 0  # a hole
    probability[0:10, 100] = 1  # 10 pixels: below a tenth of the largest
    trimap = trimap_from_probability(probability, width=2, cleaning=SEGMENTATION)
    assert trimap[5, 5] == 0
    assert trimap[5, 100] == 0
    assert trimap[100, 100] == 255


def test_an_island_of_a_segmentation_has_a_thousandth_of_the_picture_and_a_tenth_of_the_largest_object():
    for side, small, large in ((10, (3, 13), (5, 8)), (100, (27, 37), (25, 40))):  # 39 and 40 pixels, 999 and 1000
        probability = np.zeros((200, 200))
        probability[60 : 60 + side, 50 : 50 + side] = 1
        probability[5 : 5 + small[0], 5 : 5 + small[1]] = 1
        probability[5 : 5 + large[0], 100 : 100 + large[1]] = 1
        trimap = trimap_from_probability(probability, width=1)
        assert [trimap[6, 7], trimap[6, 102], trimap[62, 52]] == [0, 255, 255]


@pytest.mark.parametrize("cleaning", [Cleaning(smallest_island=10 / 900), Cleaning(smallest_of_largest=0.1)])
def test_either_limit_removes_small_islands(cleaning):
    mask = np.zeros((30, 30), bool)
    mask[5:15, 5:15], mask[20:23, 20:23], mask[20:22, 5:10] = True, True, True  # 100, 9 and 10 pixels
    trimap = trimap_from_mask(mask, 0, 1, cleaning)
    assert [trimap[10, 10], trimap[21, 21], trimap[21, 7]] == [255, 0, 255]


def test_an_object_alone_is_removed_if_it_is_small():
    mask = np.zeros((30, 30), bool)
    mask[5:8, 5:8] = True
    assert (trimap_from_mask(mask, 2, 1, Cleaning(smallest_island=0.02)) == 0).all()  # 18 pixels
    assert (trimap_from_mask(mask, 0, 1, Cleaning(smallest_island=0.01)) == 255).sum() == 9
    assert (trimap_from_mask(~mask[:1, :1], 0, 1, Cleaning(smallest_island=1)) == 255).all()


def test_small_holes_are_4_connected_and_do_not_touch_the_border():
    mask = np.ones((16, 16), bool)
    mask[2:4, 2:4] = False  # 4 pixels, as many as the limit
    mask[2, 8:11] = False  # 3
    mask[8, 8], mask[9, 9], mask[10, 10], mask[11, 11] = False, False, False, False  # they touch at corners
    mask[7, 0] = mask[0, 7] = mask[15, 4] = mask[4, 15] = False
    holes = trimap_from_mask(mask, 0, 1, Cleaning(smallest_hole=4 / 256)) == 0
    expected = ~mask
    expected[2, 8:11] = False
    expected[[8, 9, 10, 11], [8, 9, 10, 11]] = False
    np.testing.assert_array_equal(holes, expected)


def test_a_hole_of_a_segmentation_is_filled_below_a_thousandth_of_the_picture():
    probability = np.zeros((200, 200))
    probability[20:180, 20:180] = 1
    probability[50:53, 50:63] = 0  # 39 pixels
    probability[100:105, 100:108] = 0  # 40
    probability[150:153, 150:163] = 0.5  # 39 that are doubted
    trimap = trimap_from_probability(probability, width=0)
    assert (trimap[45:60, 45:70] == 255).all()
    assert (trimap[100:105, 100:108] == 0).all()
    assert (trimap[145:160, 145:170] == 255).all()


def test_the_usual_band_of_a_mask_has_half_a_cell_and_that_of_a_segmentation_half_a_pixel():
    coarse = np.zeros((20, 20))
    coarse[2:10, 2:10] = coarse[13, 13] = 1
    row = trimap_from_mask(np.kron(coarse, np.ones((4, 4))))[24]  # of 32 pixels: 2 + 0.64 and 2 + 0.96, rounded
    assert np.flatnonzero(row == 255).tolist() == list(range(11, 37))
    assert np.flatnonzero(row).tolist() == list(range(5, 43))
    probability = np.zeros((200, 200))
    probability[50:150, 50:150] = 1
    row = trimap_from_probability(probability)[100]  # 0.5 + 2 and 0.5 + 3, rounded to even
    assert np.flatnonzero(row == 255).tolist() == list(range(52, 148))
    assert np.flatnonzero(row).tolist() == list(range(46, 154))


def test_the_largest_objects_alone_are_kept():
    mask = np.zeros((60, 120), bool)
    mask[5:45, 5:45], mask[5:25, 60:80], mask[5:15, 100:110] = True, True, True
    for count, kept in ((1, [True, False, False]), (2, [True, True, False]), (3, [True] * 3), (None, [True] * 3)):
        trimap = trimap_from_mask(mask, 2, 1, Cleaning(largest_only=count))
        assert [trimap[y, x] == 255 for y, x in ((20, 20), (15, 70), (10, 105))] == kept
    both = trimap_from_mask(mask, 2, 1, Cleaning(smallest_island=0.05, largest_only=3))  # 0.05 of 7200 is 360
    assert [both[y, x] == 255 for y, x in ((20, 20), (15, 70), (10, 105))] == [True, True, False]


def test_impossible_settings_are_one_line():
    with pytest.raises(InputError, match=r"^width: expected 0 pixels or more, got -1"):
        trimap_from_mask(np.zeros((4, 4)), width=-1)
    with pytest.raises(InputError, match=r"^cell: expected 0 pixels or more, got inf"):
        trimap_from_mask(np.zeros((4, 4)), cell=np.inf)
    for share in (-0.5, 1.5):
        with pytest.raises(InputError, match=f"^smallest_hole: expected a share from 0 to 1, got {share}"):
            Cleaning(smallest_hole=share)
    with pytest.raises(InputError, match="largest: expected 1 object or more, got 0"):
        Cleaning(largest_only=0)
    with pytest.raises(InputError, match="got NaN or infinity"):
        trimap_from_probability(np.full((4, 4), np.nan))
    with pytest.raises(InputError, match="got NaN or infinity"):
        trimap_from_probability(np.array([[0, 1, np.inf]]))


def test_the_unknown_share():
    assert unknown_share(np.uint8([[0, 128], [255, 255]])) == 0.25
    assert unknown_share(np.zeros((0, 4), np.uint8)) == 0
