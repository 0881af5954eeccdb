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
    mask_iou,
    moved_between,
    places,
    pulled,
    small_gray,
)
from engine.video.steady import SteadyAlpha, SteadyMean, SteadyProbability
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
    moved = motion.step(np.roll(large, 10, axis=1))
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


def test_a_steady_mean_of_a_still_plane_by_hand():
    mean = SteadyMean(weight=0.5, tolerance=1e6)
    planes = [np.full((8, 8), value, np.float32) for value in (0, 1, 1)]
    values = [mean.step(plane, still((8, 8)))[0, 0] for plane in planes]
    assert values == pytest.approx([0, 0.5, 0.75])


def test_noise_falls_as_the_theory_of_exponential_means_says():
    """Changes of a mean with weight w have the standard deviation of the noise's times w / sqrt(2 - w)."""
    rng = np.random.default_rng(0)
    mean = SteadyMean(weight=0.5, tolerance=1e6)
    planes = [(0.5 + 0.02 * rng.standard_normal((64, 64))).astype(np.float32) for _ in range(40)]
    means = [mean.step(plane, still((64, 64))) for plane in planes]
    raw, steadied = (np.diff(series[10:], axis=0).std() for series in (planes, means))
    assert steadied / raw == pytest.approx(0.5 / 1.5**0.5, rel=0.03)


def test_a_mean_follows_the_motion_and_what_is_not_trusted():
    edge = np.zeros((16, 32), np.float32)
    edge[:, :10] = 1
    moved = still((16, 32))
    moved.flow[..., 0] = -4  # it was four pixels to the left
    mean = SteadyMean(weight=0.5, tolerance=1e6)
    mean.step(edge, None)
    shifted = np.roll(edge, 4, axis=1)
    shifted[:, :4] = 1
    np.testing.assert_allclose(mean.step(shifted, moved), shifted, atol=1e-5)
    hidden = Moved(moved.flow, np.zeros((16, 32), np.float32), moved.error)
    np.testing.assert_array_equal(mean.step(edge, hidden), edge)


def test_a_change_beyond_the_tolerance_is_followed():
    mean = SteadyMean(weight=0.5, tolerance=0.3)
    mean.step(np.zeros((8, 8), np.float32), None)
    assert mean.step(np.ones((8, 8), np.float32), still((8, 8)))[0, 0] == pytest.approx(1, abs=1e-4)


def test_alpha_is_steadied_in_the_unknown_region_alone():
    trimap = np.zeros((4, 6), np.uint8)
    trimap[:, 2:4], trimap[:, 4:] = UNKNOWN, FOREGROUND
    steady = SteadyAlpha(weight=0.5, tolerance=1e6)
    first = np.where(trimap == UNKNOWN, np.uint8(100), trimap)
    second = np.where(trimap == UNKNOWN, np.uint8(120), trimap)
    np.testing.assert_array_equal(steady.matte(first, trimap, None), first)
    result = steady.matte(second, trimap, still((4, 6)))
    np.testing.assert_array_equal(result[trimap == UNKNOWN], 110)
    np.testing.assert_array_equal(result[trimap != UNKNOWN], trimap[trimap != UNKNOWN])


def test_another_mask_begins_again():
    left, right = np.zeros((8, 8), np.float32), np.zeros((8, 8), np.float32)
    left[:, :4] = right[:, 4:] = 1
    steady = SteadyProbability(tolerance=1e6)
    steady.step(left, None)
    np.testing.assert_array_equal(steady.step(right, still((8, 8))), right)


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
            "key frame: is of frame 10, and the clip has 3 frames",
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


def test_a_clip_becomes_steadier_at_no_more_error():
    """A stand-in for matting that needs no model: alpha with noise, and a band that wanders."""
    rng = np.random.default_rng(0)
    motion, steady = Motion(), SteadyAlpha()
    plain, steadied, truths = [], [], []
    for frame in SyntheticClip((120, 160), 12, seed=3, family="solid", motion=0.5, turn=0.1, pan=0.3, noise=0.01):
        trimap = trimap_of(frame.alpha)
        noisy = np.clip(frame.alpha + 25 * rng.standard_normal(frame.alpha.shape), 0, 255).round().astype(np.uint8)
        alpha = np.where(trimap == UNKNOWN, noisy, trimap)
        plain.append(alpha)
        steadied.append(steady.matte(alpha, trimap, motion.step(frame.image)))
        truths.append(frame.alpha)
    from metrics.temporal import score_sequence

    def scores(alphas):
        error = np.mean([cv2.absdiff(alpha, truth).mean() for alpha, truth in zip(alphas, truths, strict=True)])
        return score_sequence((a, t, None) for a, t in zip(alphas, truths, strict=True))["dtssd"], error

    (before, error_before), (after, error_after) = scores(plain), scores(steadied)
    assert after < 0.5 * before
    assert error_after < error_before
