"""Losses without a trimap against the public code's numbers, against numpy, and at their settings."""

import math

import numpy as np
import pytest
import torch

from modeling.criterion.edge_criterion import EdgeCriterion, edge_loss, gradient_magnitude, is_boundary, laplacian_loss
from runtime.errors import InputError
from tests.references.frozen_weights import ARRAYS, NUMBERS

SIZES = tuple(NUMBERS["losses"])  # the second has odd sides
NAMES = ("alpha", "gradient", "laplacian", "boundary", "composition")


def picture(name: str, size: str) -> torch.Tensor:
    values = torch.from_numpy(ARRAYS[f"{name}_{size}"]).float() / 255
    return values[:, None] if values.ndim == 3 else values


def alphas(size: str) -> tuple[torch.Tensor, torch.Tensor]:
    return picture("pred", size), picture("target", size)


def plain(losses: dict[str, torch.Tensor], **weights: float) -> dict[str, float]:
    """The losses before their weights."""
    weights = {"alpha": 1, "gradient": 0.5, "laplacian": 0.1, **weights}
    return {name: losses[f"{name}_loss"].item() / weight for name, weight in weights.items()}


def near_kinks(size: str) -> torch.Tensor:
    """Pixels whose gradient depends on a Laplacian that agrees exactly: its sign is then that of a rounding error."""
    pred, target = (ARRAYS[f"{name}_{size}"].astype(np.int64) for name in ("pred", "target"))
    difference = np.pad(pred - target, ((0, 0), (1, 1), (1, 1)))
    zero = np.pad(4 * difference[:, 1:-1, 1:-1] == around(difference, np.add), ((0, 0), (1, 1), (1, 1)))
    return torch.from_numpy(zero[:, 1:-1, 1:-1] | around(zero, np.logical_or))[:, None]


def around(values: np.ndarray, join) -> np.ndarray:
    """The four neighbours of each inner pixel, joined."""
    rows = join(values[:, :-2, 1:-1], values[:, 2:, 1:-1])
    return join(rows, join(values[:, 1:-1, :-2], values[:, 1:-1, 2:]))


@pytest.mark.parametrize("size", SIZES)
def test_the_defaults_are_the_public_losses_and_gradients(size):
    pred, target = alphas(size)
    expected = NUMBERS["losses"][size]["default_weights"]
    losses = EdgeCriterion()(pred.requires_grad_(), target)
    for name, value in plain(losses).items():
        assert value == pytest.approx(expected[name], rel=1e-5)
    total = sum(losses.values())
    assert total.item() == pytest.approx(expected["total"], rel=1e-5)
    total.backward()
    gradient = torch.from_numpy(ARRAYS[f"grad_total_{size}"]).reshape(pred.shape)
    kinks = near_kinks(size)
    torch.testing.assert_close(pred.grad[~kinks], gradient[~kinks], rtol=1e-4, atol=1e-6)
    assert (pred.grad - gradient).abs().max() <= 2 * 4 * 0.1 / pred.numel() * 1.001  # the sign of one term, twice
    assert kinks.float().mean() < 0.13


@pytest.mark.parametrize("size", SIZES)
def test_optional_terms_and_l1_are_the_public_ones(size):
    numbers, (pred, target) = NUMBERS["losses"][size], alphas(size)
    layers = [picture(name, size) for name in ("merged", "fg", "bg")]
    losses = EdgeCriterion(boundary_weight=0.25, composition_weight=0.75)(pred, target, *layers)
    expected = numbers["boundary_0.25_composition_0.75"]
    for name, value in plain(losses, boundary=0.25, composition=0.75).items():
        assert value == pytest.approx(expected[name], rel=1e-5)
    assert sum(losses.values()).item() == pytest.approx(expected["total"], rel=1e-5)
    l1 = EdgeCriterion(alpha_loss="l1")(pred, target)
    assert plain(l1)["alpha"] == pytest.approx(numbers["l1_instead_of_charbonnier"]["alpha"], rel=1e-5)


@pytest.mark.parametrize("size", SIZES)
def test_gradients_weights_and_boundaries_have_the_public_values(size):
    numbers, (pred, target) = NUMBERS["losses"][size], alphas(size)
    for scale, value in numbers["gradient_one_scale_alone"].items():
        assert edge_loss(pred, target, [int(scale)]).item() == pytest.approx(value, rel=1e-5)
    gradient = gradient_magnitude(target)
    stored = torch.from_numpy(ARRAYS[f"target_gradient_{size}"]).squeeze()
    stride = 1 if stored.numel() == gradient.numel() else 3
    torch.testing.assert_close(gradient[..., ::stride, ::stride].squeeze(), stored, rtol=0, atol=1e-5)
    assert gradient.max().item() == pytest.approx(numbers["max_target_gradient"], rel=1e-6)
    assert gradient.exp().max().item() == pytest.approx(numbers["max_edge_weight"], rel=1e-5)
    assert is_boundary(target).sum() == numbers["boundary_mask_pixels"]
    assert is_boundary(torch.ones_like(target)).sum() == numbers["boundary_mask_pixels_all_ones_target"]


@pytest.mark.parametrize("size", SIZES)
def test_a_perfect_prediction_costs_the_root_of_eps_and_nothing_else(size):
    _, target = alphas(size)
    losses = EdgeCriterion()(target, target)
    assert plain(losses) == pytest.approx({"alpha": 1e-3, "gradient": 0, "laplacian": 0}, abs=1e-8)
    assert EdgeCriterion(charbonnier_eps=1e-8)(target, target)["alpha_loss"].item() == pytest.approx(1e-4)
    assert EdgeCriterion(alpha_loss="l1")(target, target)["alpha_loss"] == 0


def test_losses_are_those_of_plain_loops_for_every_border_and_weight():
    rng = np.random.default_rng(0)
    pred, target = rng.random((2, 7, 9))
    tensors = [torch.from_numpy(values)[None, None] for values in (pred, target)]
    kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])

    def magnitude(alpha, mode):
        padded = np.pad(alpha, 1, mode=mode)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3))
        return np.sqrt((windows * kernel).sum((2, 3)) ** 2 + (windows * kernel.T).sum((2, 3)) ** 2 + 1e-8)

    for border, mode in (("zeros", "constant"), ("replicate", "edge")):
        pred_gradient, gradient = magnitude(pred, mode), magnitude(target, mode)
        for name, weight in (("exp", np.exp(gradient)), ("linear", 1 + gradient), ("none", np.ones_like(gradient))):
            value = edge_loss(*tensors, scales=[1], edge_weight=name, border=border).item()
            assert value == pytest.approx(np.abs(weight * (pred_gradient - gradient)).mean(), rel=1e-9)
        difference = np.pad(pred - target, 1, mode=mode)
        laplacian = 4 * difference[1:-1, 1:-1] - difference[:-2, 1:-1] - difference[2:, 1:-1]
        laplacian = laplacian - difference[1:-1, :-2] - difference[1:-1, 2:]
        assert laplacian_loss(*tensors, border=border).item() == pytest.approx(np.abs(laplacian).mean(), rel=1e-9)


def test_replicated_borders_are_no_edges():
    ones = torch.ones(1, 1, 32, 40)
    assert gradient_magnitude(ones).max() == pytest.approx(math.sqrt(18), rel=1e-5)  # 4.24, at the corners
    assert gradient_magnitude(ones, "replicate").max() == pytest.approx(1e-4)
    assert not is_boundary(ones, "replicate").any()


def test_losses_are_float32_under_autocast_and_on_images_smaller_than_a_scale():
    pred, target = torch.rand(1, 1, 3, 3), torch.rand(1, 1, 3, 3)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = EdgeCriterion()(pred.bfloat16(), target)
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_scales_larger_than_the_image_do_not_count():
    pred, target = torch.rand(2, 1, 1, 3, 5, generator=torch.Generator().manual_seed(0))
    single = [edge_loss(pred, target, [scale]).item() for scale in (1, 2)]
    assert edge_loss(pred, target, [1, 2, 4]).item() == pytest.approx(sum(single) / 2, rel=1e-6)
    assert edge_loss(pred, target, [4]) == 0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"edge_weight": "cubic"}, "edge_weight.*cubic"),
        ({"border": "mirror"}, "border.*mirror"),
        ({"charbonnier_eps": 0}, "charbonnier_eps above 0"),
        ({"alpha_weight": -1}, "weights of at least 0"),
        ({"scales": []}, "scales: expected"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises((InputError, ValueError), match=message):
        EdgeCriterion(**settings)
