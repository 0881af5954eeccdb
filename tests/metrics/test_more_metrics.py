"""MAD, PSNR and SSIM of an image, dtSSD and MESSDdt of a sequence."""

import itertools
import math
import weakref

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from engine.evaluation.evaluators import MattingEvaluator, format_scores
from metrics import similarity, temporal
from metrics.pair import matte_pair, scored_boxes
from metrics.sad_mse import mad, mse, psnr, sad
from metrics.similarity import ssim
from metrics.temporal import dtssd, messddt, score_sequence, truth_flow
from tests.references.literal_metrics import score_change_literally, score_further_literally


def full(shape, value):
    return np.full(shape, value, np.uint8)


def soft_mattes(shape, seed=0):
    """A prediction, a truth with soft edges and flat parts, and a trimap of scattered and compact unknown pixels."""
    generator = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(generator.normal(size=shape), 4)
    noise /= noise.std()
    alpha = np.clip(128 + 200 * noise, 0, 255).astype(np.uint8)
    pred_alpha = np.clip(alpha + generator.normal(size=shape) * 12, 0, 255).astype(np.uint8)
    trimap = np.where(np.abs(noise) < 0.4, 128, np.where(noise > 0, 255, 0)).astype(np.uint8)
    return pred_alpha, alpha, trimap


def blob(centre, shape=(60, 80), width=9):
    rows, columns = np.indices(shape)
    distances = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2
    return np.rint(255 * np.exp(-distances / (2 * width**2))).astype(np.uint8)


def moved(image, down, across):
    """The image moved by whole pixels, its own edges repeated where it leaves the frame."""
    rows, columns = np.indices(image.shape)
    rows = np.clip(rows - down, 0, image.shape[0] - 1)
    return image[rows, np.clip(columns - across, 0, image.shape[1] - 1)]


def uniform_flow(shape, across, down):
    return np.broadcast_to(np.float32([across, down]), (*shape, 2))


# ---- against scikit-image

WANG = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}  # as in the paper


@pytest.mark.parametrize("shape", [(11, 11), (11, 40), (33, 12), (70, 71), (150, 211)])
def test_psnr_and_ssim_of_the_whole_region_equal_scikit_image(shape):
    for pred_alpha, alpha in (soft_mattes(shape)[:2], np.random.default_rng(1).integers(0, 256, (2, *shape), np.uint8)):
        assert ssim(pred_alpha, alpha) == pytest.approx(
            structural_similarity(pred_alpha, alpha, **WANG), rel=1e-12, abs=1e-13
        )
        assert psnr(pred_alpha, alpha) == pytest.approx(
            peak_signal_noise_ratio(alpha, pred_alpha, data_range=255), rel=1e-12
        )


@pytest.mark.parametrize("rows", [1, 64, 1000])
def test_ssim_of_the_unknown_region_is_the_mean_of_scikit_images_map(monkeypatch, rows):
    monkeypatch.setattr(similarity, "STRIP_ROWS", rows)
    pred_alpha, alpha, trimap = soft_mattes((150, 211))
    _, index = structural_similarity(pred_alpha, alpha, **WANG, full=True)
    inside = np.zeros(alpha.shape, bool)
    inside[5:-5, 5:-5] = True
    for unknown in (trimap, np.where(np.random.default_rng(2).random(alpha.shape) < 0.001, 128, 0).astype(np.uint8)):
        expected = index[inside & (unknown == 128)].mean()
        assert ssim(pred_alpha, alpha, unknown) == pytest.approx(expected, rel=1e-12)


def test_ssim_of_flat_mattes_at_the_extremes_equals_scikit_image():
    mattes = full((20, 20), 0), full((20, 20), 255)
    assert ssim(*mattes) == pytest.approx(structural_similarity(*mattes, **WANG), rel=1e-12)


# ---- against the literal float64 implementation

pixel_values = st.one_of(st.sampled_from([0, 127, 128, 255]), st.integers(0, 255))
trimap_values = st.sampled_from([0, 127, 128, 128, 128, 129, 255])


@st.composite
def matte_samples(draw, frames=1, largest=14):
    """(pred_alphas, alphas, trimap or None), some of the predictions close to the truth."""
    shape = draw(st.tuples(st.integers(1, largest), st.integers(1, largest)))
    alphas = [draw(arrays(np.uint8, shape, elements=pixel_values)) for _ in range(frames)]
    pred_alphas = [alpha.copy() for alpha in alphas]
    if draw(st.booleans()):
        pred_alphas = [draw(arrays(np.uint8, shape, elements=pixel_values)) for _ in range(frames)]
    for pred_alpha in pred_alphas:
        for y, x in draw(st.lists(st.tuples(st.integers(0, shape[0] - 1), st.integers(0, shape[1] - 1)), max_size=3)):
            pred_alpha[y, x] = draw(pixel_values)
    return pred_alphas, alphas, draw(st.none() | arrays(np.uint8, shape, elements=trimap_values))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(matte_samples())
def test_mad_psnr_and_ssim_equal_a_literal_implementation(sample):
    (pred_alpha,), (alpha,), trimap = sample
    scores = {metric.__name__: metric(pred_alpha, alpha, trimap) for metric in (mad, psnr, ssim)}
    expected = score_further_literally(pred_alpha, alpha, trimap)
    assert scores == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(matte_samples(frames=2, largest=8), st.data())
def test_dtssd_and_messddt_equal_a_literal_implementation(sample, data):
    pred_alphas, alphas, trimap = sample
    halves = arrays(np.int8, (*alphas[0].shape, 2), elements=st.integers(-24, 24))
    flow = (data.draw(halves) / 2 + data.draw(st.sampled_from([0, 0.1, -0.3]))).astype(np.float32)
    scores = {"dtssd": dtssd(pred_alphas, alphas, trimap), "messddt": messddt(pred_alphas, alphas, flow, trimap)}
    expected = score_change_literally(pred_alphas, alphas, flow, trimap)
    assert scores == pytest.approx(expected, rel=1e-9, abs=1e-12, nan_ok=True)


def test_dtssd_is_exact_at_sizes_where_every_code_path_of_the_sum_takes_part():
    generator = np.random.default_rng(5)
    for _ in range(100):
        shape = generator.integers(1, 70, 2)
        p, next_p, a, next_a = generator.integers(0, 256, (4, *shape), np.uint8)
        squares = (next_p.astype(int) - p - next_a + a) ** 2
        assert dtssd((p, next_p), (a, next_a)) == 100 * math.sqrt(squares.sum() / (65025 * squares.size))
        trimap = full(shape, 0)
        trimap[generator.random(shape) < 0.5] = 128
        trimap[0, 0] = 128
        squares = squares[trimap == 128]
        assert dtssd((p, next_p), (a, next_a), trimap) == 100 * math.sqrt(squares.sum() / (65025 * squares.size))


@pytest.mark.parametrize("rows", [1, 7, 1000])
def test_messddt_does_not_depend_on_the_strips(monkeypatch, rows):
    pred_alphas, alphas, trimaps = zip(*(soft_mattes((150, 131), seed) for seed in (0, 1)), strict=True)
    flow = np.random.default_rng(3).normal(scale=20, size=(150, 131, 2))
    whole, unknown = messddt(pred_alphas, alphas, flow), messddt(pred_alphas, alphas, flow, trimaps[0])
    monkeypatch.setattr(temporal, "STRIP_ROWS", rows)
    assert (messddt(pred_alphas, alphas, flow), messddt(pred_alphas, alphas, flow, trimaps[0])) == (whole, unknown)


# ---- MAD and PSNR, worked by hand


def test_mad_is_sad_per_scored_pixel():
    pred_alpha, alpha, trimap = soft_mattes((40, 50))
    pixels = np.count_nonzero(trimap == 128)
    assert mad(pred_alpha, alpha, trimap) == pytest.approx(sad(pred_alpha, alpha, trimap) * 1000 / pixels, rel=1e-15)
    assert mad(full((2, 2), 51), full((2, 2), 0)) == 0.2


def test_psnr_of_an_error_of_a_tenth_is_twenty_decibels():
    pred_alpha, alpha = full((1, 100), 0), full((1, 100), 0)
    pred_alpha[0, 0] = 255  # a mean square of 1 / 100
    assert psnr(pred_alpha, alpha) == pytest.approx(20, rel=1e-15)


def test_psnr_is_infinite_for_identical_mattes_and_zero_for_opposite_ones():
    assert psnr(full((3, 3), 9), full((3, 3), 9)) == math.inf
    assert psnr(full((3, 3), 0), full((3, 3), 255)) == 0


def test_sums_over_large_images_do_not_overflow():
    shape = (5000, 4000)
    black, white = full(shape, 0), full(shape, 255)
    assert mad(black, white) == 1
    assert dtssd((black, white), (white, black)) == 200  # the error goes from -1 to 1
    assert messddt((black, black), (white, black), uniform_flow(shape, 0, 0)) == 1


# ---- SSIM, worked by hand


def test_ssim_is_exactly_one_for_identical_mattes():
    _, alpha, trimap = soft_mattes((80, 90))
    assert ssim(alpha, alpha.copy(), trimap) == 1
    assert ssim(alpha, alpha.copy()) == 1


def test_ssim_of_flat_mattes_is_the_luminance_term():
    c1 = 2.55**2
    expected = (2 * 100 * 200 + c1) / (100**2 + 200**2 + c1)
    assert ssim(full((13, 13), 100), full((13, 13), 200)) == pytest.approx(expected, rel=1e-14)


def test_ssim_sees_known_pixels_within_five_of_the_scored_one():
    alpha, trimap = full((20, 20), 0), full((20, 20), 0)
    trimap[10, 10] = 128
    pred_alpha = alpha.copy()
    pred_alpha[13, 7] = 255
    assert ssim(pred_alpha, alpha, trimap) < 0.5
    pred_alpha[13, 7], pred_alpha[15, 5] = 0, 255  # the corner of the window, of weight 1.1e-6
    assert 0.99 < ssim(pred_alpha, alpha, trimap) < 1
    pred_alpha[15, 5], pred_alpha[16, 10], pred_alpha[10, 4] = 0, 255, 255
    assert ssim(pred_alpha, alpha, trimap) == 1


def test_ssim_leaves_out_unknown_pixels_whose_window_leaves_the_image():
    pred_alpha, alpha, _ = soft_mattes((30, 40))
    trimap = full((30, 40), 128)
    assert ssim(pred_alpha, alpha, trimap) == pytest.approx(ssim(pred_alpha, alpha), rel=1e-14)
    trimap[5:-5, 5:-5] = 0
    assert math.isnan(ssim(pred_alpha, alpha, trimap))


@pytest.mark.parametrize("shape", [(1, 1), (10, 50), (50, 10)])
def test_ssim_is_undefined_for_images_smaller_than_the_window(shape):
    assert math.isnan(ssim(full(shape, 0), full(shape, 0)))
    assert math.isnan(ssim(full(shape, 0), full(shape, 0), full(shape, 128)))


# ---- boxes


@pytest.mark.parametrize("margin", [0, 3])
@pytest.mark.parametrize("shape", [(50, 60), (7, 7), (6, 9), (9, 6), (2, 2)])
def test_scored_boxes_hold_every_scored_pixel_once(shape, margin):
    generator = np.random.default_rng(4)
    trimap = np.where(generator.random(shape) < 0.05, 128, 0).astype(np.uint8)
    for scored in (trimap == 128, np.ones(shape, bool)):
        pair = matte_pair(full(shape, 0), full(shape, 0), None if scored.all() else trimap)
        seen = np.zeros(shape, int)
        for rows, columns in scored_boxes(pair, strip_rows=8, margin=margin):
            assert 0 < rows.stop - rows.start <= 8
            assert columns.start < columns.stop
            seen[rows, columns] += 1
        inside = np.zeros(shape, bool)
        inside[margin : shape[0] - margin, margin : shape[1] - margin] = True
        assert seen.max() <= 1
        assert not seen[~inside].any()
        assert seen[scored & inside].all()


# ---- dtSSD and MESSDdt, worked by hand


def test_the_flow_has_the_settings_of_the_published_evaluation():
    """nowsyn/DVM calls OpenCV with these positional arguments."""
    frames = [blob((30, 40)), blob((33, 36), width=11)]
    expected = cv2.calcOpticalFlowFarneback(*frames, None, 0.5, 5, 10, 2, 7, 1.5, cv2.OPTFLOW_FARNEBACK_GAUSSIAN)
    np.testing.assert_array_equal(truth_flow(*frames), expected)
    with pytest.raises(ValueError, match=r"^alpha: expected"):
        truth_flow(frames[0] / 255, frames[1])


def test_dtssd_of_one_flickering_pixel():
    alpha = full((2, 2), 100)
    flicker = alpha.copy()
    flicker[1, 0] = 151  # by 0.2: the mean square is 0.04 / 4
    assert dtssd((alpha, flicker), (alpha, alpha)) == pytest.approx(10, rel=1e-15)
    assert dtssd((flicker, alpha), (alpha, alpha)) == pytest.approx(10, rel=1e-15)
    trimap = full((2, 2), 0)
    trimap[1] = 128
    assert dtssd((alpha, flicker), (alpha, alpha), trimap) == pytest.approx(100 * math.sqrt(0.02), rel=1e-15)


def test_messddt_of_one_flickering_pixel():
    alpha = full((2, 2), 100)
    flicker = alpha.copy()
    flicker[1, 0] = 151
    still = uniform_flow((2, 2), 0, 0)
    assert messddt((alpha, flicker), (alpha, alpha), still) == pytest.approx(0.04 / 4, rel=1e-15)
    # One pixel moves down onto the flickering one, which is clamped to itself.
    down = uniform_flow((2, 2), 0, 1)
    assert messddt((alpha, flicker), (alpha, alpha), down) == pytest.approx(2 * 0.04 / 4, rel=1e-15)


def test_a_constant_error_is_steady():
    alphas = [blob((30, 30)), blob((30, 30))]
    pred_alphas = [alpha // 2 for alpha in alphas]
    assert dtssd(pred_alphas, alphas) == 0
    assert messddt(pred_alphas, alphas, uniform_flow(alphas[0].shape, 0, 0)) == 0


def test_an_error_that_moves_with_the_matte_is_steady_along_the_flow_only():
    alpha = blob((30, 30), width=4)  # black at the frame's edges, where the lookup is clamped
    pred_alpha = moved(alpha, 2, 0)
    pred_alphas, alphas = (pred_alpha, moved(pred_alpha, 3, 5)), (alpha, moved(alpha, 3, 5))
    assert messddt(pred_alphas, alphas, uniform_flow(alpha.shape, 5, 3)) == 0
    assert messddt(pred_alphas, alphas, uniform_flow(alpha.shape, 3, 5)) > 1e-4  # the axes swapped
    assert messddt(pred_alphas, alphas, uniform_flow(alpha.shape, 0, 0)) > 1e-4
    assert dtssd(pred_alphas, alphas) > 1


def test_a_perfect_sequence_scores_zero_however_it_moves():
    alphas = [blob((20, 30)), blob((40, 50))]
    assert dtssd(alphas, alphas) == 0
    assert messddt(alphas, alphas, truth_flow(*alphas)) == 0


def test_the_trimap_is_the_earlier_frames():
    alpha = full((1, 2), 0)
    pred_alphas = full((1, 2), 0), np.array([[255, 0]], np.uint8)
    first = np.array([[128, 0]], np.uint8)
    frames = [(pred_alphas[0], alpha, first), (pred_alphas[1], alpha, 128 - first)]
    scores = score_sequence(frames)
    assert scores == {"dtssd": 100, "messddt": 1, "pairs": 1, "undefined_pairs": 0}
    assert dtssd(pred_alphas, (alpha, alpha), first) == 100


def test_flow_is_rounded_to_whole_pixels_with_halves_to_even():
    alpha = full((1, 5), 0)
    error = np.array([[0, 0, 255, 0, 0]], np.uint8)
    trimap = np.array([[128, 0, 0, 0, 0]], np.uint8)
    for across, found in ((1.5, 1), (2.5, 1), (1.49, 0), (2.51, 0)):
        assert messddt((alpha, error), (alpha, alpha), uniform_flow((1, 5), across, 0), trimap) == found


def test_far_displacements_are_clamped_to_the_image():
    alpha = full((3, 4), 0)
    corner = alpha.copy()
    corner[2, 3] = 255
    for dtype in (np.float16, np.float32, np.float64):
        flow = np.full((3, 4, 2), np.finfo(dtype).max, dtype)
        assert messddt((alpha, corner), (alpha, alpha), flow) == 1
        assert messddt((alpha, corner), (alpha, alpha), -flow) == 0


def test_without_unknown_pixels_everything_is_undefined():
    alpha, known = full((9, 9), 7), full((9, 9), 255)
    assert all(math.isnan(metric(alpha, alpha, known)) for metric in (mad, mse, psnr, ssim))
    assert math.isnan(dtssd((alpha, alpha), (alpha, alpha), known))
    assert math.isnan(messddt((alpha, alpha), (alpha, alpha), uniform_flow((9, 9), 0, 0), known))


# ---- the flow of the truth


def test_truth_flow_follows_a_moving_blob_x_then_y():
    alpha = blob((30, 40))
    flow = truth_flow(alpha, moved(alpha, 2, 4))
    assert flow.shape == (60, 80, 2)
    assert flow.dtype == np.float32
    edge = (alpha > 60) & (alpha < 200)
    np.testing.assert_allclose(np.median(flow[edge], axis=0), [4, 2], atol=0.5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (5, 3)])
def test_truth_flow_of_small_or_still_mattes_is_finite(shape):
    assert np.isfinite(truth_flow(*np.random.default_rng(0).integers(0, 256, (2, *shape), np.uint8))).all()
    assert not truth_flow(full((40, 40), 9), full((40, 40), 9)).any()


# ---- sequences


def test_a_sequence_scores_the_mean_over_its_pairs():
    samples = [soft_mattes((40, 50), seed) for seed in range(4)]
    expected = {"dtssd": [], "messddt": []}
    for (p, a, trimap), (next_p, next_a, _) in itertools.pairwise(samples):
        expected["dtssd"].append(dtssd((p, next_p), (a, next_a), trimap))
        expected["messddt"].append(messddt((p, next_p), (a, next_a), truth_flow(a, next_a), trimap))
    scores = score_sequence(iter(samples))
    assert scores == pytest.approx(
        {name: np.mean(values) for name, values in expected.items()} | {"pairs": 3, "undefined_pairs": 0}
    )


def test_pairs_without_scored_pixels_are_left_out_and_counted():
    samples = [soft_mattes((20, 30), seed) for seed in range(3)]
    defined = score_sequence(samples[1:])
    samples[0] = (*samples[0][:2], full((20, 30), 0))
    assert score_sequence(samples) == defined | {"undefined_pairs": 1}
    only_known = [(p, a, full((20, 30), 255)) for p, a, _ in samples]
    scores = score_sequence(only_known)
    assert math.isnan(scores.pop("dtssd"))
    assert math.isnan(scores.pop("messddt"))
    assert scores == {"pairs": 0, "undefined_pairs": 2}


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_frames_have_no_score(count):
    scores = score_sequence([soft_mattes((20, 30))] * count)
    assert scores == pytest.approx(
        {"dtssd": math.nan, "messddt": math.nan, "pairs": 0, "undefined_pairs": 0}, nan_ok=True
    )


def test_a_sequence_holds_two_frames_at_a_time():
    alive = []

    def frames():
        for _ in range(5):
            pred_alpha = full((20, 30), 0)
            alive.append(weakref.ref(pred_alpha))
            assert sum(reference() is not None for reference in alive) <= 2
            yield pred_alpha, full((20, 30), 0), None
            del pred_alpha

    assert score_sequence(frames())["pairs"] == 4


def test_a_sequence_names_the_frame_that_does_not_fit():
    good, other = (full((4, 5), 0),) * 2, (full((5, 4), 0),) * 2
    with pytest.raises(ValueError, match=r"frame 2: expected shape \(4, 5\) like the frame before, got \(5, 4\)"):
        score_sequence([(*good, None), (*good, None), (*other, None)])
    with pytest.raises(ValueError, match=r"frame 1: trimap: expected shape \(4, 5\)"):
        score_sequence([(*good, None), (*good, other[0])])


# ---- bad arguments

GOOD = full((4, 5), 0)
STILL = np.zeros((4, 5, 2), np.float32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((GOOD / 255, GOOD), "pred_alpha: expected .*uint8"),
        ((GOOD, full((5, 4), 0)), r"alpha: expected shape \(4, 5\) like pred_alpha"),
        ((GOOD, GOOD, GOOD > 0), "trimap: expected .*uint8"),
    ],
)
@pytest.mark.parametrize("metric", [mad, psnr, ssim])
def test_unsuitable_arrays_raise_value_error(metric, arguments, message):
    with pytest.raises(ValueError, match=message):
        metric(*arguments)


@pytest.mark.parametrize(
    ("pred_alphas", "alphas", "trimap", "message"),
    [
        ((GOOD,), (GOOD, GOOD), None, "pred_alphas: expected two consecutive frames, got 1"),
        ((GOOD, GOOD), (GOOD, GOOD, GOOD), None, "^alphas: expected two consecutive frames, got 3"),
        ((GOOD, GOOD), (GOOD, GOOD / 255), None, r"^alphas\[1\]: expected .*uint8"),
        ((GOOD, GOOD.T), (GOOD, GOOD), None, r"pred_alphas\[1\]: expected shape \(4, 5\)"),
        ((GOOD, GOOD), (GOOD, GOOD), GOOD.T, r"trimap: expected shape \(4, 5\)"),
    ],
)
def test_unsuitable_frames_raise_value_error(pred_alphas, alphas, trimap, message):
    with pytest.raises(ValueError, match=message):
        dtssd(pred_alphas, alphas, trimap)
    with pytest.raises(ValueError, match=message):
        messddt(pred_alphas, alphas, STILL, trimap)


@pytest.mark.parametrize(
    ("flow", "message"),
    [
        (STILL[..., 0], r"flow: expected a float array of shape \(4, 5, 2\)"),
        (STILL.astype(np.int32), "flow: expected a float array .* got int32"),
        ([[0, 0]], "flow: .* got list"),
        (np.where(np.indices(STILL.shape)[0] == 3, np.nan, STILL), "flow: expected finite displacements"),
        (STILL + np.inf, "flow: expected finite displacements"),
    ],
)
def test_unsuitable_flow_raises_value_error(flow, message):
    with pytest.raises(ValueError, match=message):
        messddt((GOOD, GOOD), (GOOD, GOOD), flow)


def test_truth_flow_names_the_matte_that_does_not_fit():
    with pytest.raises(ValueError, match=r"next_alpha: expected shape .* like alpha"):
        truth_flow(GOOD, GOOD.T)


def test_views_score_as_their_copies():
    views = [image[::-1, ::2] for image in soft_mattes((60, 80))]
    copies = [view.copy() for view in views]
    for metric in (mad, psnr, ssim):
        assert metric(*views) == metric(*copies)
    pred_alpha, alpha, trimap = views
    assert score_sequence([views, (alpha, pred_alpha, trimap)]) == score_sequence(
        [copies, (copies[1], copies[0], copies[2])]
    )


def test_scores_are_printed_in_the_units_of_papers():
    """Thousands for sums, thousandths for means, decibels, and an index; only PSNR and SSIM are better if higher."""
    names = ["sad", "mse", "grad", "conn", "mad", "psnr", "ssim"]
    metrics = MattingEvaluator("whole", names).metrics
    scores = dict(zip(names, [30.4567, 0.0071234, 14.5, 12.25, 0.02, 31.5, 0.9375], strict=True))
    assert format_scores(scores, metrics) == (
        "SAD (10^3) 30.457  MSE (10^-3) 7.123  Grad (10^3) 14.500  Conn (10^3) 12.250  "
        "MAD (10^-3) 20.000  PSNR (dB) 31.500  SSIM 0.938"
    )
    units = ["thousands", "mean", "thousands", "thousands", "mean", "decibels", "index"]
    assert [metric.unit for metric in metrics.values()] == units
    assert [name for name, metric in metrics.items() if metric.higher_is_better] == ["psnr", "ssim"]
