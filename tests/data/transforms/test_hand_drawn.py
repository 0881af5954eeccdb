"""Hand-drawn trimaps: widths by hand, scikit-image's morphology, and that what is known is true."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.morphology import disk, opening

from data.images.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from data.transforms.hand_drawn import HandDrawn, draw_hand_drawn, hand_drawn_trimap


def half_plane(size: int = 128, edge: int = 64) -> np.ndarray:
    """Alpha 1 left of the column `edge`, 0.5 on it, 0 right of it."""
    alpha = np.zeros((size, size), np.float32)
    alpha[:, :edge], alpha[:, edge] = 1, 0.5
    return alpha


def test_widths_are_pixels_taken_from_each_side():
    row = hand_drawn_trimap(half_plane(), HandDrawn(foreground_width=10.0, background_width=20.0))[64]
    # distances are within 5 per cent (OpenCV's 3 x 3 mask)
    assert abs(np.flatnonzero(row == FOREGROUND).max() - (63 - 10)) <= 1
    assert abs(np.flatnonzero(row == BACKGROUND).min() - (65 + 20)) <= 1


def test_the_narrowest_band_is_what_is_not_opaque_or_transparent():
    alpha = half_plane()
    trimap = hand_drawn_trimap(alpha, HandDrawn())
    np.testing.assert_array_equal(trimap == UNKNOWN, (alpha > 0) & (alpha < 1))


def test_a_band_that_would_swallow_a_region_is_halved():
    alpha = np.zeros((128, 128), np.float32)
    alpha[54:74, 54:74] = 1
    trimap = hand_drawn_trimap(alpha, HandDrawn(foreground_width=30.0, background_width=4.0))
    assert (trimap == FOREGROUND).mean() >= 0.01


def test_filling_is_an_opening_of_the_known_regions():
    rng = np.random.default_rng(0)
    alpha = (rng.random((96, 96)) > 0.02).astype(np.float32)  # holes everywhere
    alpha[:, :40] = 0
    known = hand_drawn_trimap(alpha, HandDrawn(filling=2.0)) == FOREGROUND
    reference = opening(alpha == 1, disk(2))
    assert (known != reference).mean() < 0.04  # discs of a distance transform and of pixels differ at the rim
    assert not (known & (alpha < 1)).any()


def test_unevenness_varies_the_width_and_dabs_widen_it():
    uneven = hand_drawn_trimap(half_plane(), HandDrawn(10.0, 10.0, unevenness=0.8, seed=3))
    edges = np.array([np.flatnonzero(row == FOREGROUND).max() for row in uneven])
    assert edges.max() - edges.min() > 4
    plain, dabbed = (hand_drawn_trimap(half_plane(), HandDrawn(5.0, 5.0, dabs=dabs, seed=1)) for dabs in (0, 5))
    assert (plain[dabbed != plain] != UNKNOWN).all()
    assert (dabbed == UNKNOWN).sum() > (plain == UNKNOWN).sum()


def test_unknown_inside_leaves_no_foreground_known():
    trimap = hand_drawn_trimap(half_plane(), HandDrawn(5.0, 5.0, unknown_inside=True))
    assert set(np.unique(trimap)) == {BACKGROUND, UNKNOWN}


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(["empty", "full", "soft", "island"]))
def test_what_is_known_is_true(seed, kind):
    rng = np.random.default_rng(seed)
    alpha = {
        "empty": np.zeros((40, 56), np.float32),
        "full": np.ones((40, 56), np.float32),
        "soft": np.clip(rng.normal(0.5, 1, (40, 56)), 0, 1).astype(np.float32),
        "island": np.pad(np.ones((4, 5), np.float32), ((20, 16), (30, 21))),
    }[kind]
    trimap = hand_drawn_trimap(alpha, draw_hand_drawn(rng))
    assert trimap.dtype == np.uint8
    assert (alpha[trimap == FOREGROUND] >= 1 - 1e-5).all()
    assert (alpha[trimap == BACKGROUND] <= 1e-5).all()
    assert (trimap[(alpha > 1e-5) & (alpha < 1 - 1e-5)] == UNKNOWN).all()


def test_half_of_the_bands_are_narrower_than_the_geometric_mean():
    rng = np.random.default_rng(2)
    widths = np.array([draw_hand_drawn(rng, 0.5, 40.0).background_width for _ in range(2000)])
    assert abs(np.median(np.log(widths)) - np.log(20) / 2) < 0.15
    assert widths.max() < 40 * np.exp(0.7)
