"""The losses against numbers worked out by hand and against loops."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from modeling.criterion import MattingCriterion
from modeling.criterion.matting_criterion import (
    LOSSES,
    gradient_penalty,
    known_l1_loss,
    laplacian_pyramid_loss,
    unknown_l1_loss,
)


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    pred, alpha = torch.rand(2, 2, 1, 96, 128, generator=generator)
    trimap = torch.randint(0, 3, (2, 1, 96, 128), generator=generator) / 2
    return pred, alpha, trimap


def test_l1_losses_are_means_over_their_own_pixels():
    pred = torch.tensor([[[[0.5, 0.5], [0.25, 1.0]]]])
    alpha = torch.tensor([[[[0.0, 1.0], [0.5, 1.0]]]])
    unknown = torch.tensor([[[[1.0, 0.0], [1.0, 1.0]]]])
    assert unknown_l1_loss(pred, alpha, unknown).item() == pytest.approx((0.5 + 0.25 + 0.0) / 3)
    assert known_l1_loss(pred, alpha, unknown).item() == pytest.approx(0.5)


def test_gradient_penalty_equals_scipy_sobel(batch):
    pred, alpha, trimap = batch
    unknown = (trimap == 0.5).float()

    def sobel(image):
        return np.stack([ndimage.sobel(image, axis=axis, mode="constant") for axis in (1, 0)])

    error = smoothness = 0.0
    for p, a, m in zip(pred.double().numpy(), alpha.double().numpy(), unknown.double().numpy(), strict=True):
        error += np.sum(m * np.abs(sobel(p[0]) - sobel(a[0])))
        smoothness += np.sum(m * np.abs(sobel(p[0])))
    expected = (error + 0.01 * smoothness) / unknown.sum().item()
    assert gradient_penalty(pred, alpha, unknown).item() == pytest.approx(expected, rel=1e-5)


def test_the_edge_of_the_unknown_region_is_not_a_gradient():
    alpha = torch.ones(1, 1, 40, 40)
    unknown = torch.zeros(1, 1, 40, 40)
    unknown[..., 12:28, 12:28] = 1
    assert gradient_penalty(alpha, alpha, unknown) == 0


def test_laplacian_equals_a_pyramid_of_each_image_by_scipy(batch):
    pred, alpha, trimap = batch
    taps = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256

    def residuals(image):
        for _ in range(5):
            image = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]
            small = ndimage.correlate(image, taps, mode="mirror")[::2, ::2]
            sparse = np.zeros_like(image)
            sparse[::2, ::2] = 4 * small
            yield image - ndimage.correlate(sparse, taps, mode="mirror")
            image = small

    expected = 0.0
    for p, a in zip(pred[:, 0].double().numpy(), alpha[:, 0].double().numpy(), strict=True):
        pairs = zip(residuals(p), residuals(a), strict=True)
        expected += sum(2**level * np.abs(rp - ra).mean() for level, (rp, ra) in enumerate(pairs)) / 5 / len(pred)
    assert laplacian_pyramid_loss(pred, alpha, trimap).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_finite_with_an_empty_region(batch, level):
    pred, alpha, trimap = batch
    pred = pred.clone().requires_grad_()
    losses = MattingCriterion()(pred, alpha, torch.full_like(trimap, level))
    sum(losses.values()).backward()
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert torch.isfinite(pred.grad).all()
    empty = "unknown_l1_loss" if level != 0.5 else "known_l1_loss"
    assert losses[empty].item() == 0


def test_losses_do_not_depend_on_the_crop_size():
    """Four copies of a crop side by side have its losses, but for the seams."""
    generator = torch.Generator().manual_seed(0)
    small = [torch.rand(1, 1, 512, 512, generator=generator) for _ in range(2)]
    trimap = (torch.rand(1, 1, 512, 512, generator=generator) > 0.7) * 0.5
    criterion = MattingCriterion()
    reference = criterion(*small, trimap)
    enlarged = criterion(*(x.tile(1, 1, 2, 2) for x in small), trimap.tile(1, 1, 2, 2))
    for name, value in reference.items():
        assert enlarged[name].item() == pytest.approx(value.item(), rel=0.02), name


def test_random_mattes_give_the_expected_unknown_l1():
    """|U - V| of independent uniforms has mean 1/3."""
    generator = torch.Generator().manual_seed(0)
    pred, alpha = torch.rand(2, 1, 1, 512, 512, generator=generator)
    loss = unknown_l1_loss(pred, alpha, torch.ones(1, 1, 512, 512))
    assert loss.item() == pytest.approx(1 / 3, abs=2e-3)


def test_a_perfect_prediction_costs_only_the_smoothness(batch):
    _, alpha, trimap = batch
    losses = MattingCriterion()(alpha, alpha, trimap)
    assert losses["unknown_l1_loss"] == losses["known_l1_loss"] == losses["loss_pha_laplacian"] == 0
    unknown = (trimap == 0.5).float()
    bare = gradient_penalty(alpha, alpha, unknown, smoothness=0.0)
    assert bare == 0 < losses["loss_gradient_penalty"]


def test_float32_under_autocast(batch):
    pred, alpha, trimap = batch
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = MattingCriterion()(pred.bfloat16(), alpha, trimap)
    full = MattingCriterion()(pred.bfloat16().float(), alpha, trimap)
    assert all(loss.dtype == torch.float32 for loss in mixed.values())
    torch.testing.assert_close(mixed, full)


@pytest.mark.parametrize("side", [1, 3, 4, 17, 40])
def test_small_crops_are_finite(side):
    generator = torch.Generator().manual_seed(0)
    pred, alpha = torch.rand(2, 1, 1, side, side + 2, generator=generator)
    losses = MattingCriterion()(pred, alpha, torch.full_like(alpha, 0.5))
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_an_unknown_loss_name_is_refused():
    with pytest.raises(ValueError, match="composition_loss"):
        MattingCriterion(losses=[*LOSSES, "composition_loss"])
