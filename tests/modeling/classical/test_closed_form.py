"""Closed-form matting against PyMatting's matrix, a direct solution of its system, and hand-worked cases."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatting import cf_laplacian
from scipy import sparse
from scipy.sparse.linalg import spsolve
from torch import Tensor

from modeling.classical import closed_form as module
from modeling.classical.blocks import WholeImages
from modeling.classical.closed_form import EPSILON, TILE, closed_form_alpha
from modeling.classical.matting_laplacian import MARGIN, REACH, product, stencil


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Importing PyMatting lets torch have every core, which slows small tensors down on a busy machine."""
    torch.set_num_threads(1)


def noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return rng.random((height, width, 3))


def flat(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), 0.4)


def three_greys(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """8-bit greys: window covariances of rank one and zero."""
    return np.repeat(rng.integers(100, 103, (height, width, 1)) / 255, 3, axis=2)


def two_colours(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A smooth mixture of two colours in 8 bits, as around something out of focus."""
    ramp = np.linspace(0, 1, width)[None, :, None] * np.ones((height, 1, 1))
    return np.round(255 * (ramp * [0.9, 0.3, 0.1] + (1 - ramp) * [0.1, 0.4, 0.8])) / 255


IMAGES = [noise, flat, three_greys, two_colours]


def as_tensor(array: np.ndarray, dtype: torch.dtype) -> Tensor:
    """(H, W, 3) or (H, W) -> (1, C, H, W)."""
    return torch.from_numpy(np.atleast_3d(array)).permute(2, 0, 1)[None].to(dtype)


def multiplied(image: np.ndarray, x: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """The Laplacian of one image times x, (H, W)."""
    tensor = as_tensor(image, dtype)
    inside = F.pad(torch.ones_like(tensor[:, :1]), (MARGIN,) * 4)
    coefficients = stencil(F.pad(tensor, (MARGIN,) * 4), inside, EPSILON)
    return product(coefficients, F.pad(as_tensor(x, dtype), (REACH,) * 4))[0, 0].numpy()


def product_by_singular_values(image: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The Laplacian times x, window by window: what a ridge regression of x on the colours leaves."""
    y = np.zeros_like(x)
    for top in range(x.shape[0] - 2):
        for left in range(x.shape[1] - 2):
            window = slice(top, top + 3), slice(left, left + 3)
            colours = image[window].reshape(9, 3)
            directions, sizes, _ = np.linalg.svd(colours - colours.mean(axis=0), full_matrices=False)
            centred = (x[window] - x[window].mean()).ravel()
            fit = directions @ (sizes**2 / (sizes**2 + EPSILON) * (directions.T @ centred))
            y[window] += (centred - fit).reshape(3, 3)
    return y


def direct_solution(image: np.ndarray, trimap: np.ndarray) -> np.ndarray:
    """Alpha (H, W) by PyMatting's matrix and a sparse factorisation, in float64."""
    laplacian = sparse.csr_array(cf_laplacian(image, epsilon=EPSILON))
    unknown = trimap.ravel() == 0.5
    alpha = trimap.ravel().copy()
    right_hand_side = -laplacian[unknown][:, ~unknown] @ alpha[~unknown]
    alpha[unknown] = spsolve(sparse.csc_array(laplacian[unknown][:, unknown]), right_hand_side)
    return np.clip(alpha, 0, 1).reshape(trimap.shape)


def framed_trimap(height: int, width: int) -> np.ndarray:
    """Background above, foreground on the right, all else unknown."""
    trimap = np.full((height, width), 0.5)
    trimap[0], trimap[:, -1] = 0, 1
    return trimap


@pytest.mark.parametrize("shape", [(3, 3), (3, 20), (7, 9), (24, 17)])
@pytest.mark.parametrize("make", [noise, flat, three_greys])
def test_product_equals_pymattings_matrix(make, shape):
    rng = np.random.default_rng(0)
    image, x = make(rng, *shape), rng.random(shape)
    expected = (cf_laplacian(image, epsilon=EPSILON) @ x.ravel()).reshape(shape)
    np.testing.assert_allclose(multiplied(image, x, torch.float64), expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(multiplied(image, x, torch.float32), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("make", IMAGES)
def test_product_equals_regressions_by_singular_values(make):
    """For two mixed colours too, where PyMatting's inverse by cofactors keeps half of the digits."""
    rng = np.random.default_rng(0)
    image, x = make(rng, 14, 23), rng.random((14, 23))
    expected = product_by_singular_values(image, x)
    np.testing.assert_allclose(multiplied(image, x, torch.float64), expected, rtol=0, atol=1e-9)
    np.testing.assert_allclose(multiplied(image, x, torch.float32), expected, rtol=0, atol=1e-5)


def test_alpha_linear_in_the_colours_costs_nothing():
    """a . I + b is in the null space of every window, but for the regularisation epsilon |a|^2."""
    image = noise(np.random.default_rng(1), 12, 15)
    alpha = image @ [0.3, -0.2, 0.5] + 0.1
    assert np.abs(multiplied(image, alpha, torch.float64)).max() < 1e-6
    assert np.abs(multiplied(image, np.full((12, 15), 0.7), torch.float32)).max() == 0


def test_one_window_by_hand():
    """A flat 3 x 3 image: L = 1 - 11'/9, so that an unknown centre is the mean of the eight pixels around it."""
    image = np.full((3, 3, 3), 0.4)
    x = np.arange(9.0).reshape(3, 3)
    np.testing.assert_allclose(multiplied(image, x, torch.float64), x - 4, atol=1e-12)
    trimap = np.array([[0, 0, 0], [1, 0.5, 1], [1, 1, 1]])
    assert closed_form_alpha(as_tensor(image, torch.float64), as_tensor(trimap, torch.float64))[0, 0, 1, 1] == 5 / 8


@pytest.mark.parametrize(
    ("make", "shape"), [*((make, shape) for make in IMAGES for shape in ((7, 9), (32, 41))), (three_greys, (99, 97))]
)
def test_alpha_equals_a_direct_solution(make, shape):
    """In float64 but for the tolerance, and in float32 but for rounding: differences do not cancel."""
    image, trimap = make(np.random.default_rng(2), *shape), framed_trimap(*shape)
    expected = direct_solution(image, trimap)
    for dtype, tolerance, atol in ((torch.float64, 1e-10, 1e-7), (torch.float32, 1e-7, 2e-3)):
        alpha = closed_form_alpha(
            as_tensor(image, dtype), as_tensor(trimap, dtype), iterations=1500, tolerance=tolerance
        )
        assert alpha.dtype == dtype
        np.testing.assert_allclose(alpha[0, 0].numpy(), expected, rtol=0, atol=atol)


def scene(seed: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """A noisy disc before a noisy background, and a trimap with a band around its outline."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    radius = min(height, width) / 3
    distance = radius - ((y - height / 2 + 3 * seed) ** 2 + (x - width / 2) ** 2).sqrt()
    alpha = (distance / 8 + 0.5).clamp(0, 1)
    colours = torch.tensor([[0.8, 0.5, 0.2], [0.2, 0.3, 0.6]]).view(2, 3, 1, 1)
    image = alpha * colours[0] + (1 - alpha) * colours[1]
    image = (image + 0.03 * torch.randn(image.shape, generator=generator)).clamp(0, 1)
    trimap = torch.where(distance > 9, 1.0, torch.where(distance < -9, 0.0, 0.5))
    return image[None], trimap[None, None]


def test_a_batch_equals_its_images():
    scenes = [scene(seed, 101, 150) for seed in range(3)]
    together = closed_form_alpha(*(torch.cat(parts) for parts in zip(*scenes, strict=True)))
    for index, each in enumerate(scenes):
        torch.testing.assert_close(together[index : index + 1], closed_form_alpha(*each), rtol=0, atol=1e-5)


def test_whole_images_as_on_a_gpu_give_what_tiles_give(monkeypatch):
    image, trimap = scene(0, 101, 150)
    by_tiles = closed_form_alpha(image, trimap, iterations=200)
    monkeypatch.setattr(module, "_blocks", lambda unknown: WholeImages(unknown, TILE))
    torch.testing.assert_close(closed_form_alpha(image, trimap, iterations=200), by_tiles, rtol=0, atol=1e-4)


@pytest.mark.parametrize("scale", [1, 2, 4])
def test_every_scale_is_close_to_the_truth(scale):
    """The disc's ramp is 8 pixels wide, two at a quarter of the size: its models still follow the colours."""
    image, trimap = scene(0, 160, 200)
    truth = scene_alpha(160, 200)
    alpha = closed_form_alpha(image, trimap, scale=scale)
    assert (alpha - truth)[trimap == 0.5].abs().mean() < 0.05
    by_pixels = closed_form_alpha(image, trimap, max_pixels=160 * 200 // scale**2)
    assert torch.equal(alpha, by_pixels)


def scene_alpha(height: int, width: int) -> Tensor:
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    distance = min(height, width) / 3 - ((y - height / 2) ** 2 + (x - width / 2) ** 2).sqrt()
    return (distance / 8 + 0.5).clamp(0, 1)[None, None]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 75), st.integers(1, 75), st.sampled_from([1, 2, 4]), st.integers(0, 2**16))
def test_known_pixels_are_exact_at_any_size(height, width, scale, seed):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(2, 3, height, width, generator=generator)
    trimap = torch.randint(0, 3, (2, 1, height, width), generator=generator) / 2
    alpha = closed_form_alpha(image, trimap, scale=scale)
    assert alpha.shape == trimap.shape
    assert torch.equal(alpha[trimap != 0.5], trimap[trimap != 0.5])
    assert alpha.min() >= 0  # false for NaN too
    assert alpha.max() <= 1


@pytest.mark.parametrize(("levels", "expected"), [((0.5,), 0.5), ((0.0, 0.5), 0), ((1.0, 0.5), 1)])
def test_a_missing_region_leaves_a_constant(levels, expected):
    image = torch.rand(1, 3, 60, 110, generator=torch.Generator().manual_seed(0))
    trimap = torch.full((1, 1, 60, 110), 0.5)
    trimap[..., :20] = levels[0]
    assert (closed_form_alpha(image, trimap) == expected).all()


def test_nothing_unknown_returns_the_trimap():
    trimap = torch.randint(0, 2, (1, 1, 50, 60), generator=torch.Generator().manual_seed(0)).float()
    assert torch.equal(closed_form_alpha(torch.rand(1, 3, 50, 60), trimap), trimap)


def test_half_precision_autocast_and_gradients_stay_outside():
    image, trimap = scene(0, 64, 80)
    plain = closed_form_alpha(image, trimap)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        alpha = closed_form_alpha(image.clone().requires_grad_(), trimap)
    assert torch.equal(alpha, plain)
    assert not alpha.requires_grad
    assert closed_form_alpha(image.half(), trimap.half()).dtype == torch.float32


@pytest.mark.parametrize(
    ("image", "trimap", "scale", "message"),
    [
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), torch.zeros(1, 1, 8, 8), 1, "image: expected float"),
        (torch.zeros(1, 4, 8, 8), torch.zeros(1, 1, 8, 8), 1, "image: expected float"),
        (torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 9), 1, "trimap: expected"),
        (torch.zeros(1, 3, 8, 8), torch.zeros(1, 1, 8, 8), 3, "power of two"),
    ],
)
def test_what_does_not_fit_is_refused(image, trimap, scale, message):
    with pytest.raises(ValueError, match=message):
        closed_form_alpha(image, trimap, scale=scale)
