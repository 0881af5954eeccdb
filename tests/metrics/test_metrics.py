import json
import math
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from scipy import ndimage
from tiny import ROOT

from metrics import PAPER_METRICS, conn, grad, mean_scores, mse, sad, score_image
from metrics.connectivity import connected_levels, thresholds
from metrics.gradient import RADIUS, gaussian_kernels
from tests.references.literal_metrics import score_literally

GOLDEN_DIR = ROOT / "tests" / "goldens" / "metrics"
GOLDENS = [
    (region, name, golden)
    for region, file in (("unknown", "goldens.json"), ("whole", "goldens_whole.json"))
    for name, golden in json.loads((GOLDEN_DIR / file).read_text()).items()
]


def golden_case(name):
    return [np.array(Image.open(GOLDEN_DIR / kind / f"{name}.png")) for kind in ("pred", "alpha", "trimap")]


def full(shape, value):
    return np.full(shape, value, np.uint8)


# ---- against the MATLAB code's own results


@pytest.mark.parametrize(("region", "name", "golden"), GOLDENS, ids=[f"{name}-{region}" for region, name, _ in GOLDENS])
def test_scores_equal_the_matlab_code(region, name, golden):
    pred_alpha, alpha, trimap = golden_case(name)
    trimap = trimap if region == "unknown" else None
    scores = score_image(pred_alpha, alpha, trimap)
    expected = {key: math.nan if value is None else value for key, value in golden.items()}
    assert scores == pytest.approx(expected, rel=1e-5, abs=1e-9, nan_ok=True)
    assert scores["pixels"] == golden["pixels"]
    alone = {metric.__name__: metric(pred_alpha, alpha, trimap) for metric in (sad, mse, grad, conn)}
    assert alone == pytest.approx({name: scores[name] for name in PAPER_METRICS}, rel=0, abs=0, nan_ok=True)


# ---- against the literal float64 implementation

# Values at, just under and just over the thresholds, so that levels, plateaus and ties are common.
level_values = st.sampled_from([0, 25, 26, 51, 76, 77, 101, 102, 127, 128, 152, 153, 154, 179, 204, 229, 230, 254, 255])
gray_values = st.one_of(level_values, st.integers(0, 255))
trimap_values = st.sampled_from([0, 127, 128, 128, 128, 129, 255])


@st.composite
def matte_samples(draw):
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    values = draw(st.sampled_from([level_values, gray_values, st.sampled_from([0, 153, 255])]))
    pred_alpha = draw(arrays(np.uint8, shape, elements=values))
    close = draw(st.booleans())  # an unrelated truth seldom shares a large component
    alpha = pred_alpha.copy() if close else draw(arrays(np.uint8, shape, elements=values))
    if close:
        for y, x in draw(st.lists(st.tuples(st.integers(0, shape[0] - 1), st.integers(0, shape[1] - 1)), max_size=6)):
            alpha[y, x] = draw(values)
    trimap = draw(st.none() | arrays(np.uint8, shape, elements=trimap_values))
    return pred_alpha, alpha, trimap


@settings(max_examples=300, deadline=None, derandomize=True)
@given(matte_samples())
def test_scores_equal_a_literal_implementation(sample):
    assert score_image(*sample) == pytest.approx(score_literally(*sample), rel=1e-9, abs=1e-12, nan_ok=True)


# ---- against scipy, at sizes where strips, fills and labelling all take part


def levels_by_scipy(shared):
    levels = np.zeros(shared.shape, np.uint8)
    alive = np.ones(shared.shape, bool)
    for i in range(1, 11):
        labels, count = ndimage.label((10 * shared.astype(int) >= 255 * i).T)  # .T: labels count down the columns
        if count == 0:
            break
        alive &= (labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])).T
        levels += alive
    return levels


@pytest.mark.parametrize("smoothing", [0, 1, 2, 4, 9])
def test_connected_levels_equal_scipy_labelling_on_noise(smoothing):
    generator = np.random.default_rng(smoothing)
    for gain in (0.6, 1.5, 4):
        noise = ndimage.gaussian_filter(generator.normal(size=(150, 211)), smoothing)
        shared = np.clip(128 + 100 * gain * noise / noise.std(), 0, 255).astype(np.uint8)
        np.testing.assert_array_equal(connected_levels(shared), levels_by_scipy(shared))


def test_connected_levels_handle_ties_of_many_single_pixels():
    shared = np.zeros((40, 60), np.uint8)
    shared[1::2, 1::2] = 255
    levels = connected_levels(shared)
    assert levels[1, 1] == 10
    assert levels.sum() == 10


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (3, 2), (9, 300), (300, 40)])
def test_grad_equals_scipy_filters_across_strips_and_borders(shape):
    generator = np.random.default_rng(3)
    pred_alpha, alpha = generator.integers(20, 240, (2, *shape)).astype(np.uint8)
    trimap = np.where(generator.random(shape) < 0.02, 128, 0).astype(np.uint8)
    trimap[-1, -1] = 128

    def edges(image):
        stretched = (image.astype(float) - image.min()) / max(np.ptp(image), 1)
        smoothing, derivative = gaussian_kernels()
        one = ndimage.convolve1d(
            ndimage.convolve1d(stretched, derivative, 1, mode="nearest"), smoothing, 0, mode="nearest"
        )
        two = ndimage.convolve1d(
            ndimage.convolve1d(stretched, derivative, 0, mode="nearest"), smoothing, 1, mode="nearest"
        )
        return np.hypot(one, two)

    squares = (edges(pred_alpha) - edges(alpha)) ** 2
    assert grad(pred_alpha, alpha, trimap) == pytest.approx(squares[trimap == 128].sum() / 1000, rel=1e-10)
    assert grad(pred_alpha, alpha) == pytest.approx(squares.sum() / 1000, rel=1e-10)


# ---- worked by hand


def test_sad_and_mse_count_only_the_unknown_region_and_do_not_wrap():
    alpha, pred_alpha, trimap = full((4, 4), 255), full((4, 4), 0), full((4, 4), 0)
    trimap[:2] = 128
    assert sad(pred_alpha, alpha, trimap) == pytest.approx(8 / 1000)
    assert sad(alpha, pred_alpha, trimap) == pytest.approx(8 / 1000)
    assert mse(pred_alpha, alpha, trimap) == 1
    assert sad(pred_alpha, alpha) == pytest.approx(16 / 1000)


def test_only_128_exactly_is_unknown():
    trimap = np.array([[127, 128, 129, 0, 255]], np.uint8)
    assert score_image(full((1, 5), 51), full((1, 5), 0), trimap) == pytest.approx(
        {"sad": 0.2 / 1000, "mse": 0.04, "grad": 0, "conn": 0.2 / 1000, "pixels": 1}
    )


def test_without_unknown_pixels_mse_is_undefined_and_the_rest_zero():
    scores = score_image(full((20, 30), 9), full((20, 30), 200), full((20, 30), 255))
    assert math.isnan(scores.pop("mse"))
    assert scores == {"sad": 0, "grad": 0, "conn": 0, "pixels": 0}


def test_sums_over_large_images_do_not_overflow():
    shape = (5000, 4000)  # 2e7 * 255 and 2e7 * 255^2 exceed 32 bits
    assert sad(full(shape, 0), full(shape, 255)) == 20_000
    assert mse(full(shape, 0), full(shape, 255)) == 1


def test_a_step_edge_peaks_at_the_reference_gain():
    alpha = full((30, 30), 0)
    alpha[:, 15:] = 255
    trimap = full((30, 30), 0)
    trimap[15, 15] = 128
    assert grad(full((30, 30), 70), alpha, trimap) == pytest.approx(2.6619967**2 / 1000, rel=1e-7)


def test_the_gaussian_kernels_are_nine_taps_of_unit_norm():
    smoothing, derivative = gaussian_kernels()
    assert RADIUS == 4
    assert smoothing.shape == derivative.shape == (9,)
    assert (smoothing**2).sum() == pytest.approx(1)
    assert (derivative**2).sum() == pytest.approx(1)
    np.testing.assert_array_equal(derivative, -derivative[::-1])


def test_grad_stretches_each_image_by_its_own_extremes():
    alpha = np.random.default_rng(0).integers(0, 2, (24, 31)).astype(np.uint8)
    assert grad(60 + 100 * alpha, 255 * alpha) == pytest.approx(0, abs=1e-20)


def test_constant_images_have_no_gradient():
    assert grad(full((20, 20), 77), full((20, 20), 200)) == pytest.approx(0, abs=1e-20)


def test_grad_sees_known_pixels_beside_the_unknown_region():
    alpha = full((20, 20), 0)
    alpha[0, 0] = 255
    pred_alpha = alpha.copy()
    pred_alpha[10, 13] = 255  # known, within the kernel's radius of the unknown pixel
    trimap = full((20, 20), 0)
    trimap[10, 10] = 128
    assert grad(pred_alpha, alpha, trimap) > 1e-6
    trimap[10, 10], trimap[10, 8] = 0, 128  # five away
    assert grad(pred_alpha, alpha, trimap) == 0


def test_conn_thresholds_are_the_integer_rule():
    for opaque in (255, 65535):
        assert [next(v for v in range(opaque + 1) if 10 * v >= opaque * i) for i in range(1, 11)] == thresholds(opaque)
    assert 153 in thresholds(255)


def test_conn_counts_153_as_reaching_six_tenths():
    # l = 0.6 everywhere, so phi = 1 and 1 - 0.4. A threshold of 0.6000000000000001 gives l = 0.5 and 0.5 a pixel.
    assert conn(full((2, 2), 153), full((2, 2), 255)) == pytest.approx(4 * 0.4 / 1000)


@pytest.mark.parametrize(
    ("first", "second"),
    [((2, 0), (0, 2)), ((1, 1), (0, 2)), ((0, 1), (2, 1))],
    ids=["bottom left before top right", "left before right", "top before bottom"],
)
def test_conn_breaks_ties_in_column_major_order(first, second):
    pred_alpha, alpha = full((3, 3), 0), full((3, 3), 0)
    for pixel in (first, second):
        pred_alpha[pixel], alpha[pixel] = 255, 230  # both pass nine thresholds
    for pixel, error in ((first, 0), (second, 25 / 255)):  # l = 0.9: both phi are 1; l = 0: phi are 0 and 25 / 255
        trimap = full((3, 3), 0)
        trimap[pixel] = 128
        assert conn(pred_alpha, alpha, trimap) == pytest.approx(error / 1000)


def test_conn_breaks_a_tie_with_a_component_that_was_the_larger_one_above():
    # From 0.7 on only the right pair passes. Up to 0.6 both pairs do, with half of the pixels each: the left one wins.
    np.testing.assert_array_equal(connected_levels(np.array([[153, 153, 0, 255, 255]], np.uint8)), [[6, 6, 0, 0, 0]])


def test_conn_uses_four_neighbours():
    pred_alpha = np.array([[255, 0, 0], [255, 0, 0], [0, 255, 255]], np.uint8)
    alpha = pred_alpha - (pred_alpha > 0) * np.uint8(25)
    # Diagonal contact does not join: the two pairs tie, the left one wins, the other has l = 0.
    assert conn(pred_alpha, alpha) == pytest.approx(2 * 25 / 255 / 1000)


def test_conn_of_an_empty_intersection_leaves_every_pixel_at_level_zero():
    assert conn(full((5, 6), 0), full((5, 6), 255)) == pytest.approx(30 / 1000)


def test_conn_of_an_intersection_empty_from_some_threshold_on():
    # Both reach 0.4 (102) and not 0.5: l = 0.4, so phi = 1 for 102 and 1 - 0.6 for 255.
    assert conn(full((5, 6), 102), full((5, 6), 255)) == pytest.approx(30 * 0.6 / 1000)


def test_conn_does_not_readmit_a_pixel_that_fell_out():
    # Five dim pixels are the largest component up to 0.2, three bright ones from 0.3 on; those left at l = 0.
    alpha = np.array([[51, 51, 51, 51, 51, 0, 240, 240, 240]], np.uint8)
    pred_alpha = np.array([[51, 51, 51, 51, 51, 0, 255, 255, 255]], np.uint8)
    assert conn(pred_alpha, alpha) == pytest.approx(3 * 15 / 255 / 1000)


def test_conn_looks_for_the_component_of_the_intersection_over_the_whole_image():
    alpha = full((1, 9), 255)
    pred_alpha = np.array([[255, 255, 0, 200, 255, 255, 255, 255, 255]], np.uint8)
    trimap = full((1, 9), 0)
    trimap[0, :2] = 128  # cut off in the prediction only, which takes them out for both: no error
    assert conn(pred_alpha, alpha, trimap) == 0
    trimap[0, :4] = 128  # the hole: 1 - 0; the 200, in the component up to 0.7: 1 - (1 - 0.3)
    assert conn(pred_alpha, alpha, trimap) == pytest.approx((1 + 0.3) / 1000)


# ---- what holds for any images


def test_whole_region_equals_a_trimap_of_128_everywhere():
    pred_alpha, alpha, _ = golden_case("islands_128x160")
    whole = score_image(pred_alpha, alpha)
    assert whole == pytest.approx(score_image(pred_alpha, alpha, full(alpha.shape, 128)), rel=1e-12)


def test_a_perfect_prediction_scores_zero_exactly():
    _, alpha, trimap = golden_case("hair_240x320")
    assert score_image(alpha, alpha.copy(), trimap) == {"sad": 0, "mse": 0, "grad": 0, "conn": 0, "pixels": 40520}


def test_views_score_as_their_copies_and_arguments_come_back_unchanged():
    images = golden_case("islands_128x160")
    views = [image[::-1, ::2] for image in images]
    scores = score_image(*views)
    assert scores == score_image(*(view.copy() for view in views))
    for image, again in zip(images, golden_case("islands_128x160"), strict=True):
        np.testing.assert_array_equal(image, again)


def test_read_only_arrays_are_accepted():
    images = golden_case("blob_33x47")
    for image in images:
        image.setflags(write=False)
    assert score_image(*images)["pixels"] == 443


GOOD = full((4, 5), 0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((GOOD.astype(np.float32), GOOD), "pred_alpha: expected .*uint8"),
        ((GOOD, GOOD / 255), "alpha: expected .*uint8"),
        ((GOOD, GOOD, GOOD > 0), "trimap: expected .*uint8"),
        ((GOOD[..., None], GOOD[..., None]), r"pred_alpha: expected an \(H, W\)"),
        ((GOOD, full((5, 4), 0)), r"alpha: expected shape \(4, 5\)"),
        ((GOOD, GOOD, full((4, 6), 0)), "trimap: expected shape"),
        ((GOOD[:0], GOOD[:0]), "at least one pixel"),
        (([[0]], GOOD), "pred_alpha: expected .* got list"),
    ],
)
@pytest.mark.parametrize("metric", [sad, mse, grad, conn, score_image])
def test_unsuitable_arrays_raise_value_error(metric, arguments, message):
    with pytest.raises(ValueError, match=message):
        metric(*arguments)


# ---- means


def test_every_image_weighs_the_same_in_the_mean():
    scores = [
        {"sad": 1.0, "mse": 0.1, "grad": 2.0, "conn": 3.0, "pixels": 10},
        {"sad": 3.0, "mse": 0.3, "grad": 4.0, "conn": 5.0, "pixels": 9999},
    ]
    assert mean_scores(scores) == pytest.approx({"sad": 2, "mse": 0.2, "grad": 3, "conn": 4})


def test_one_undefined_value_makes_the_mean_undefined_unless_skipped():
    scores = [dict.fromkeys(PAPER_METRICS, 1.0), dict.fromkeys(PAPER_METRICS, 2.0) | {"mse": math.nan}]
    assert math.isnan(mean_scores(scores)["mse"])
    assert mean_scores(scores)["sad"] == 1.5
    assert mean_scores(scores, skip_undefined=True) == {"sad": 1.5, "mse": 1.0, "grad": 1.5, "conn": 1.5}
    assert all(math.isnan(value) for value in mean_scores([]).values())


def test_scoring_loads_no_large_library_and_leaves_opencv_threads_alone():
    code = (
        "import sys, cv2; before = cv2.getNumThreads(); import metrics, evaluation; "
        "assert cv2.getNumThreads() == before; assert not {'detectron2', 'torch', 'scipy'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
