"""Trimaps: one rule for arrays and tensors, and erosion by hand."""

import cv2
import numpy as np
import pytest
import torch
from skimage.morphology import erosion

from data.images.trimap import fuse_with_trimap, quantise_trimap, trimap_from_alpha
from data.images.trimap_tensors import (
    fuse_trimap,
    quantise_trimap_tensor,
    resize_trimap_tensor,
    tensor_to_trimap,
    trimap_to_tensor,
)


def test_arrays_and_tensors_are_quantised_alike():
    levels = np.arange(256, dtype=np.uint8)
    snapped = quantise_trimap(levels)
    expected = torch.tensor([{0: 0.0, 128: 0.5, 255: 1.0}[int(level)] for level in snapped])
    for coded in (torch.from_numpy(levels), torch.from_numpy(levels).int(), torch.from_numpy(levels).float() / 255):
        assert torch.equal(quantise_trimap_tensor(coded), expected)


def test_thirds_of_the_scale_are_the_thresholds():
    assert quantise_trimap(np.array([84, 85, 169, 170], np.uint8)).tolist() == [0, 128, 128, 255]
    assert quantise_trimap_tensor(torch.tensor([84, 85, 169, 170])).tolist() == [0, 0.5, 0.5, 1]
    assert quantise_trimap_tensor(torch.tensor([84.9, 85.1, 169.9, 170.1]) / 255).tolist() == [0, 0.5, 0.5, 1]


def test_a_float_trimap_that_resizing_took_above_one_keeps_its_scale():
    """Bicubic resizing overshoots: 1.05 is foreground, and no sign of a scale up to 255."""
    resized = torch.tensor([0.0, -0.04, 0.5, 1.0, 1.05])
    assert quantise_trimap_tensor(resized).tolist() == [0, 0, 0.5, 1, 1]


def test_tensors_are_fused_as_arrays_are():
    fused = fuse_trimap(torch.tensor([[[[0.1, 0.2, 0.3]]]]), torch.tensor([[[[0.0, 0.5, 1.0]]]]))
    assert fused.tolist() == torch.tensor([[[[0.0, 0.2, 1.0]]]]).tolist()


def test_round_trip_through_a_tensor():
    trimap = np.array([[0, 128, 255], [255, 0, 128]], np.uint8)
    tensor = trimap_to_tensor(trimap)
    assert tensor.tolist() == [[[0, 0.5, 1], [1, 0, 0.5]]]
    np.testing.assert_array_equal(tensor_to_trimap(tensor), trimap)


def test_fusing_writes_the_known_regions():
    alpha = np.array([[10, 20, 30]], np.uint8)
    trimap = np.array([[0, 128, 255]], np.uint8)
    np.testing.assert_array_equal(fuse_with_trimap(alpha, trimap), [[0, 20, 255]])


def test_trimap_from_alpha_equals_scikit_image_erosion():
    rows, columns = np.mgrid[:90, :120]
    alpha = np.clip((35 - np.hypot(rows - 45, columns - 60)) / 8 + 0.5, 0, 1)
    # OpenCV's 5x5 ellipse, written out
    ellipse = np.array([[0, 0, 1, 0, 0], [1] * 5, [1] * 5, [1] * 5, [0, 0, 1, 0, 0]], np.uint8)
    trimap = trimap_from_alpha(alpha, foreground_erosion=5, background_erosion=1)
    np.testing.assert_array_equal(trimap == 255, erosion((alpha == 1).astype(np.uint8), ellipse) > 0)
    np.testing.assert_array_equal(trimap == 0, alpha == 0)


def test_nearly_opaque_counts_as_opaque_within_the_tolerance():
    alpha = np.array([[1e-6, 1e-3, 1 - 1e-3, 1 - 1e-6]])
    np.testing.assert_array_equal(trimap_from_alpha(alpha, 1, 1), [[0, 128, 128, 255]])
    np.testing.assert_array_equal(trimap_from_alpha(alpha, 1, 1, tolerance=1e-2), [[0, 0, 255, 255]])
    at_the_limit = np.array([[1e-5, 1.005e-5, 1 - 1.005e-5, 1 - 1e-5]])
    np.testing.assert_array_equal(trimap_from_alpha(at_the_limit, 1, 1), [[0, 128, 128, 255]])


@pytest.mark.parametrize("step", [2, 3, 4])
@pytest.mark.parametrize("side", range(1, 12))
def test_a_sampled_matte_is_unknown_where_a_sampled_neighbour_is_not_opaque(side, step):
    """The definition of erosion pixel by pixel: the element's offsets that are multiples of the step count."""
    alpha = np.kron(np.random.default_rng(side).random((4, 5)) > 0.2, np.ones((3, 3)))
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    offsets = np.argwhere(ellipse) - side // 2
    offsets = offsets[(offsets % step == 0).all(axis=1)] // step
    expected = np.empty(alpha.shape, np.uint8)
    for row, column in np.ndindex(alpha.shape):
        near = offsets + np.array([row, column])
        near = near[((near >= 0) & (near < alpha.shape)).all(axis=1)]
        seen = set(alpha[tuple(near.T)])
        expected[row, column] = {(1,): 255, (0,): 0}.get(tuple(seen), 128)
    np.testing.assert_array_equal(trimap_from_alpha(alpha, side, side, step=step), expected)


@pytest.mark.parametrize("size", [(640, 960), (600, 800), (1080, 1920)])
@pytest.mark.parametrize("factor", [1 / 2, 1 / 3, 1 / 4, 1 / 6, 1 / 8, 0.75, 1.25])
def test_resizing_leaves_known_what_is_known_throughout(size, factor):
    smaller = [round(side * factor) for side in size]
    for value in (0.0, 1.0):
        assert (resize_trimap_tensor(torch.full((1, 1, *size), value), smaller) == value).all()
    halves = torch.zeros(1, 1, *size)
    halves[..., size[1] // 2 :] = 1
    unknown = (resize_trimap_tensor(halves, smaller) == 0.5).any(dim=2).sum()
    assert 0 < unknown <= 2 + 2 * max(1, 1 / factor) * factor  # columns that the border's neighbours are blended in
