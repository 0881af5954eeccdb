"""Flow, cuts, steady means and carried key frames, on motions that are known."""

import weakref
from functools import partial

import cv2
import numpy as np
import pytest

from data.images.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from data.synthetic import textures
from data.synthetic.clips import SyntheticClip
from engine.video.key_frames import KeyFrame, agreed, carried_trimap, carry_key_frames, check_key_frames, find_scenes
from engine.video.motion import (
    CUT_DISTANCE,
    FLOW_SIDE,
    Motion,
    Moved,
    histogram,
    histogram_distance,
    linked,
    mask_iou,
    moved_between,
    places,
    pulled,
    small_gray,
)
from engine.video.steady import robust_mean, steadied, weighted_median
from runtime.errors import InputError


@pytest.fixture(scope="module")
def texture() -> np.ndarray:
    return textures.dead_leaves(np.random.default_rng(0), 200, 260)


def still(shape) -> Moved:
    return Moved(np.zeros((*shape, 2), np.float32), np.ones(shape, np.float32), np.zeros(shape, np.float32))


def test_the_flow_of_a_shifted_picture_is_the_shift(texture):
    """Content moves right by 3 and down by 2, so a pixel was 3 to the left and 2 above."""
    gray = cv2.cvtColor(texture, cv2.COLOR_RGB2GRAY)
    moved = moved_between(gray[20:180, 20:240], gray[18:178, 17:237])
    inner = moved.flow[10:-10, 10:-10]
    assert np.abs(np.median(inner, axis=(0, 1)) - (-3, -2)).max() < 0.05
    assert np.median(moved.trust[10:-10, 10:-10]) > 0.95
    back = pulled(gray[20:180, 20:240].astype(np.float32), moved.flow)
    assert np.abs(back - gray[18:178, 17:237])[10:-10, 10:-10].mean() < 2


def test_what_was_hidden_is_not_trusted(texture):
    """A square moves by 12 pixels: the strip that it uncovers was nowhere."""
    rng = np.random.default_rng(1)
    square = textures.dead_leaves(rng, 60, 60)
    frames = []
    for left in (100, 112):
        frame = texture.copy()
        frame[70:130, left : left + 60] = square
        frames.append(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY))
    trust = moved_between(*frames).trust
    assert trust[75:125, 102:110].mean() < 0.3
    assert trust[:50].mean() > 0.95


def test_large_frames_are_followed_at_a_small_size(texture):
    large = cv2.resize(texture, (1300, 1000), interpolation=cv2.INTER_CUBIC)
    assert max(small_gray(large).shape) == FLOW_SIDE
    motion = Motion()
    assert motion.step(large) is None
    moved = motion.step(np.roll(large, 10, axis=1)).back
    plane = np.tile(np.arange(1300, dtype=np.float32), (1000, 1))
    inner = moved.pulled(plane)[100:-100, 100:-100]
    assert np.median(plane[100:-100, 100:-100] - inner) == pytest.approx(10, abs=0.3)


def test_histograms_apart_by_hand():
    black, white = np.zeros((2, 2, 3), np.uint8), np.full((2, 2, 3), 255, np.uint8)
    half = np.concatenate([black[:1], white[:1]])
    assert histogram_distance(histogram(black), histogram(white)) == 1
    assert histogram_distance(histogram(black), histogram(half)) == 0.5
    assert histogram_distance(histogram(half), histogram(half[::-1])) == 0


def test_a_cut_ends_the_motion():
    clip = SyntheticClip((96, 128), 6, seed=4, cut_at=3)
    motion = Motion()
    assert [motion.step(frame.image) is None for frame in clip] == [True, False, False, True, False, False]
    assert histogram_distance(*(histogram(clip[index].image) for index in (2, 3))) > CUT_DISTANCE


def test_intersection_over_union_by_hand():
    first, second = np.array([True, True, False, False]), np.array([False, True, True, False])
    assert mask_iou(first, second) == pytest.approx(1 / 3)
    assert mask_iou(first & second & ~first, np.zeros(4, bool)) == 1


def test_medians_of_weights_by_hand():
    values = np.float32([[1, 1, 5], [2, 2, 6], [10, 10, 7]])
    weights = np.float32([[1, 1, 1], [1, 0, 0], [1, 1, 0]])
    assert weighted_median(values, weights).tolist() == [2, 5.5, 5]  # the second lies between 1 and 10


def test_the_median_of_equal_weights_is_numpys():
    values = np.random.default_rng(0).random((5, 200)).astype(np.float32)
    np.testing.assert_allclose(weighted_median(values, np.ones_like(values)), np.median(values, axis=0), atol=1e-6)


def test_the_mean_of_values_that_are_near_each_other_by_hand():
    """Median 0.5, median deviation 0.02, so the spread is 0.06; 0.9 counts for nothing."""
    values = np.float32([[0.5], [0.48], [0.52], [0.9]])
    weights = np.ones_like(values)
    weights[3] = 0.5
    expected = 0.5
    for _ in range(2):
        near = weights * np.exp(-(((values - expected) / 0.06) ** 2))
        expected = float((near * values).sum() / near.sum())
    assert robust_mean(values, weights)[0] == pytest.approx(expected, abs=2e-3)
    assert robust_mean(values, weights)[0] == pytest.approx(0.5, abs=5e-3)


def test_noise_falls_nearly_as_that_of_a_plain_mean_and_an_outlier_is_dropped():
    """Of five values the mean has the noise's standard deviation / sqrt(5), the median 1.2 times that."""
    rng = np.random.default_rng(0)
    planes = (0.5 + 0.02 * rng.standard_normal((5, 64, 64))).astype(np.float32)
    neighbours = [(plane, still((64, 64))) for plane in planes[1:]]
    everywhere = np.ones((64, 64), bool)
    steady = steadied(planes[0], neighbours, everywhere)
    assert steady.std() / 0.02 < 1.2 / 5**0.5
    spoilt = steadied(np.ones_like(planes[0]), neighbours, everywhere)  # the frame itself is wrong throughout
    assert np.abs(spoilt - 0.5).mean() < 0.02


def test_an_edge_that_moves_evenly_stays_where_it_is():
    """Frames on both sides, each four pixels further; the mean of any of them would be off by as much."""
    edges = [np.zeros((16, 64), np.float32) for _ in range(5)]
    for number, edge in enumerate(edges):
        edge[:, : 20 + 4 * number] = 1
        edge[:, 20 + 4 * number] = 0.5
    moved = []
    for steps in (-2, -1, 1, 2):
        motion = still((16, 64))
        motion.flow[..., 0] = 4 * steps
        moved.append((edges[2 + steps], motion))
    np.testing.assert_allclose(steadied(edges[2], moved), edges[2], atol=1e-5)
    noisy = edges[2] + np.float32([0.2, -0.2] * 32)
    inner = steadied(noisy, moved, np.ones((16, 64), bool))[:, 4:-4]
    np.testing.assert_allclose(inner, edges[2][:, 4:-4], atol=0.03)


def test_what_is_not_trusted_counts_for_nothing():
    plane, others = np.full((4, 4), 0.3, np.float32), np.full((4, 4), 0.6, np.float32)
    hidden = Moved(still((4, 4)).flow, np.zeros((4, 4), np.float32), still((4, 4)).error)
    everywhere = np.ones((4, 4), bool)
    np.testing.assert_allclose(steadied(plane, [(others, hidden)] * 4, everywhere), plane, atol=1e-6)
    np.testing.assert_allclose(steadied(plane, [(others, still((4, 4)))] * 4, everywhere), others, atol=1e-6)


def test_only_the_region_is_averaged():
    plane, others = np.full((4, 4), 0.3, np.float32), np.full((4, 4), 0.6, np.float32)
    region = np.zeros((4, 4), bool)
    region[1, 2] = True
    result = steadied(plane, [(others, still((4, 4)))] * 4, region)
    assert result[1, 2] == pytest.approx(0.6)
    np.testing.assert_array_equal(result[~region], plane[~region])
    sure = np.ones((4, 4), np.float32)
    assert steadied(sure, [(sure, still((4, 4)))] * 4) is sure


@pytest.mark.parametrize(("step", "least", "most"), [(0.0, -1e-6, 1e-6), (0.5, 0.3, 0.65), (3.0, 1.5, 3.3)])
def test_the_flow_of_noise_is_no_motion_and_half_a_pixel_is(texture, step, least, most):
    """A disc of one colour before a texture, both with noise: only its edge says how it moves."""
    rng = np.random.default_rng(2)
    rows, columns = np.mgrid[:160, :200].astype(np.float32)
    images, alphas = [], []
    for number in range(2):
        alpha = np.clip(40.5 - np.hypot(rows - 80, columns - 100 - step * number), 0, 1).astype(np.float32)
        image = alpha[..., None] * (0.7, 0.5, 0.4) + (1 - alpha[..., None]) * texture[:160, :200] / 255
        noisy = np.clip(image + 0.02 * rng.standard_normal(image.shape), 0, 1)
        images.append(np.rint(255 * noisy).astype(np.uint8))
        alphas.append(alpha)
    moved = linked(*map(small_gray, images)).back.of_object(alphas[1])
    edge = (alphas[1] > 0.05) & (alphas[1] < 0.95)
    assert least <= -np.median(moved.flow[edge][:, 0]) <= most
    if step == 0:
        assert np.abs(moved.flow[edge]).mean() < 0.03


def test_motions_one_after_the_other_add_up():
    flow = still((8, 32))
    flow.flow[..., 0] = 3
    half = Moved(flow.flow, flow.trust / 2, flow.error + 0.25)
    twice = half.then(half)
    np.testing.assert_allclose(twice.flow[..., 0], 6)
    np.testing.assert_allclose(twice.trust, 0.25)
    np.testing.assert_allclose(twice.error, 0.5)
    large = half.at_size((16, 96))
    assert (large.flow[0, 0, 0], large.error[0, 0]) == pytest.approx((9, 0.25 * 2.5))


def test_both_ways_of_a_link_lead_back(texture):
    gray = cv2.cvtColor(texture, cv2.COLOR_RGB2GRAY)
    link = linked(gray[20:180, 20:240], gray[18:178, 17:237])
    there_and_back = link.back.then(link.forth).flow
    assert np.abs(there_and_back[10:-10, 10:-10]).mean() < 0.05
    assert np.abs(np.median(link.forth.flow[10:-10, 10:-10], axis=(0, 1)) - (3, 2)).max() < 0.05


def test_a_trimap_carried_nowhere_is_itself_and_its_band_widens_by_the_drift():
    key = np.full((40, 60), BACKGROUND, np.uint8)
    key[:, 20:30], key[:, 30:] = UNKNOWN, FOREGROUND
    none = np.zeros((40, 60), np.float32)
    np.testing.assert_array_equal(carried_trimap(key, places((40, 60)), none), key)
    wider = carried_trimap(key, places((40, 60)), none + 3)
    assert wider[20].tolist() == [BACKGROUND] * 17 + [UNKNOWN] * 16 + [FOREGROUND] * 27
    moved = carried_trimap(key, places((40, 60)) - np.float32([5, 0]), none)
    np.testing.assert_array_equal(moved[:, 25:60], key[:, 20:55])
    assert (moved[:, :4] == UNKNOWN).all()  # it was outside of the key frame


def test_trimaps_that_disagree_are_unknown_there_and_around():
    first = np.full((1, 12), BACKGROUND, np.uint8)
    second = first.copy()
    first[:, 6:], second[:, 8:] = FOREGROUND, FOREGROUND
    result = agreed(first, second)[0]
    assert set(result[6:8].tolist()) == {UNKNOWN}
    assert result[0] == BACKGROUND
    assert result[-1] == FOREGROUND
    assert (result == UNKNOWN).sum() > 2
    known = agreed(np.full((1, 3), UNKNOWN, np.uint8), np.full((1, 3), FOREGROUND, np.uint8))
    assert (known == FOREGROUND).all()


def trimap_of(alpha: np.ndarray) -> np.ndarray:
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (13, 13))
    inside = (alpha >= 128).astype(np.uint8)
    trimap = np.full(alpha.shape, UNKNOWN, np.uint8)
    trimap[cv2.erode(inside, disc) > 0] = FOREGROUND
    trimap[cv2.dilate(inside, disc) == 0] = BACKGROUND
    return trimap


def carried_through(images, trimaps) -> list[np.ndarray]:
    """The trimaps of all frames, from those of some by their index."""
    scenes = find_scenes(images)
    keys = {index: KeyFrame.given(trimap) for index, trimap in trimaps.items()}
    check_key_frames(keys, scenes, images[0].shape[:2])
    return list(carry_key_frames(images, keys, scenes))


def test_key_frames_are_carried_with_the_object():
    """Three key frames of 17: what is said to be known is so, and the band grows by half at most."""
    clip = SyntheticClip((160, 208), 17, seed=3, family="solid", motion=1.5, turn=0.4, noise=0.01)
    frames = list(clip)
    keys = {index: trimap_of(frames[index].alpha) for index in (0, 8, 16)}
    carried = carried_through([frame.image for frame in frames], keys)
    assert len(carried) == 17
    for index, key in keys.items():
        np.testing.assert_array_equal(carried[index], key)
    wrong, bands, own = [], [], []
    for frame, trimap in zip(frames, carried, strict=True):
        assert set(np.unique(trimap).tolist()) <= {BACKGROUND, UNKNOWN, FOREGROUND}
        wrong.append(
            (((trimap == BACKGROUND) & (frame.alpha > 127)) | ((trimap == FOREGROUND) & (frame.alpha < 128))).mean()
        )
        bands.append((trimap == UNKNOWN).mean())
        own.append((trimap_of(frame.alpha) == UNKNOWN).mean())
    assert np.mean(wrong) < 2e-4
    assert np.mean(bands) < 1.5 * np.mean(own)
    first_alone = [
        (((keys[0] == BACKGROUND) & (f.alpha > 127)) | ((keys[0] == FOREGROUND) & (f.alpha < 128))).mean()
        for f in frames
    ]
    assert np.mean(wrong) < 0.1 * np.mean(first_alone)  # against not moving it at all


def test_frames_before_the_first_key_and_after_the_last_are_carried_too():
    frames = list(SyntheticClip((96, 128), 7, seed=3, family="solid"))
    carried = carried_through([frame.image for frame in frames], {3: trimap_of(frames[3].alpha)})
    assert len(carried) == 7
    for trimap in carried:
        assert (trimap == UNKNOWN).mean() < 0.5
        assert (trimap == FOREGROUND).any()


def test_nothing_is_carried_over_a_cut():
    frames = list(SyntheticClip((96, 128), 8, seed=4, cut_at=4))
    images = [frame.image for frame in frames]
    assert find_scenes(images) == [range(4), range(4, 8)]
    with pytest.raises(InputError, match=r"clip: expected a key frame in each scene, found none in frames 5 to 8 "):
        carried_through(images, {0: trimap_of(frames[0].alpha)})
    keys = {index: trimap_of(frames[index].alpha) for index in (1, 6)}
    carried = carried_through(images, keys)
    assert len(carried) == 8
    apart = [carried_through(images[4 * part :][:4], {keep - 4 * part: keys[keep]}) for part, keep in enumerate(keys)]
    np.testing.assert_array_equal(carried, np.concatenate(apart))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "at least one key frame"),
        ({0: np.zeros((5, 7), np.uint8)}, "key frame: expected 128 x 96 like frame 1 of the clip, got 7 x 5"),
        (
            {0: np.zeros((96, 128), np.uint8), 9: np.zeros((96, 128), np.uint8)},
            "key frame: is for frame 10, but the clip has 3 frames",
        ),
    ],
)
def test_key_frames_that_do_not_fit_are_refused(keys, message):
    images = [frame.image for frame in SyntheticClip((96, 128), 3)]
    with pytest.raises(InputError, match=message):
        carried_through(images, keys)


def test_scenes_without_a_key_frame_are_counted_from_one_and_the_first_few_are_named():
    scenes = [range(10 * number, 10 * number + 10) for number in range(8)]
    with pytest.raises(InputError, match=r"frames 11 to 20, 21 to 30, 31 to 40, 41 to 50, 51 to 60 and 2 more "):
        check_key_frames({0: KeyFrame.given(np.zeros((4, 4), np.uint8))}, scenes, (4, 4))


def test_after_the_last_key_frame_each_trimap_comes_as_its_frame_is_read(tmp_path, monkeypatch):
    """Frames 1 and 2 wait for key frame 2 (counted from 0); from it on nothing waits, in memory or on disk."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    frames = list(SyntheticClip((96, 128), 7, seed=3, family="solid"))
    read = []
    images = (read.append(index) or frame.image for index, frame in enumerate(frames))
    keys = {index: KeyFrame.given(trimap_of(frames[index].alpha)) for index in (0, 2)}
    trimaps = carry_key_frames(images, keys, [range(7)])
    for expected in (3, 3, 3, 4, 5, 6, 7):
        next(trimaps)
        assert len(read) == expected
        if expected > 3:
            assert not any(path.is_file() for path in tmp_path.rglob("*"))
    assert next(trimaps, None) is None
    assert not any(tmp_path.iterdir())


def test_a_frame_that_waits_takes_less_than_a_sixteenth_of_its_trimap_and_no_trimap_is_kept(tmp_path, monkeypatch):
    """Frames of 4 times the flow's size, all but the first and the last wait; three key frames, two in memory."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    small = list(SyntheticClip((192, 512), 5, seed=3, family="solid", noise=0.01))
    alive, most, sizes = set(), [], []

    def enlarged(plane: np.ndarray) -> np.ndarray:
        return cv2.resize(plane, (2048, 768), interpolation=cv2.INTER_LINEAR)

    def read(index: int) -> np.ndarray:
        trimap = trimap_of(enlarged(small[index].alpha))
        alive.add(index)
        weakref.finalize(trimap, alive.discard, index)
        most.append(len(alive))
        return trimap

    def images():
        for frame in small:
            sizes.append([path.stat().st_size for path in tmp_path.rglob("*.png")])
            yield enlarged(frame.image)

    keys = {index: KeyFrame("", partial(read, index)) for index in (0, 3, 4)}
    assert sum(1 for _ in carry_key_frames(images(), keys, [range(5)])) == 5
    assert [len(files) for files in sizes] == [0, 0, 2, 4, 0]  # frames 1 and 2: gray and trimap
    assert sum(sizes[3]) < 2 * 768 * 2048 / 16
    assert max(most) == 2
