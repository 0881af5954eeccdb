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


def test_a_fused_prediction_has_the_trimap_s_known_pixels_and_no_gradient_there():
    pred = torch.tensor([[[[0.5, 0.5], [0.25, 0.9]]]], requires_grad=True)
    alpha = torch.tensor([[[[0.0, 1.0], [0.5, 0.75]]]])
    trimap = torch.tensor([[[[0.5, 1.0], [0.5, 1.0]]]])  # the last pixel is 0.75 where the trimap says 1
    losses = MattingCriterion(["unknown_l1_loss", "known_l1_loss"], fuse_trimap=True)(pred, alpha, trimap)
    assert losses["unknown_l1_loss"].item() == pytest.approx((0.5 + 0.25) / 2)
    assert losses["known_l1_loss"].item() == pytest.approx((0.0 + 0.25) / 2)
    sum(losses.values()).backward()
    torch.testing.assert_close(pred.grad, torch.tensor([[[[0.5, 0.0], [-0.5, 0.0]]]]))


def test_every_loss_is_of_the_fused_prediction(batch):
    pred, alpha, trimap = batch
    pred = pred.clone().requires_grad_()
    losses = MattingCriterion(fuse_trimap=True)(pred, alpha, trimap)
    written = np.where(trimap.numpy() == 0.5, pred.detach().numpy(), trimap.numpy())
    torch.testing.assert_close(losses, MattingCriterion()(torch.from_numpy(written), alpha, trimap))
    sum(losses.values()).backward()
    assert not pred.grad[trimap != 0.5].any()
    assert pred.grad[trimap == 0.5].abs().min() > 0


@pytest.mark.parametrize("fuse_trimap", [False, True])
@pytest.mark.parametrize("empty", [0.0, None, 0.5], ids=["half without unknown", "uneven halves", "half all unknown"])
def test_the_mean_over_two_halves_is_the_loss_of_the_whole(batch, fuse_trimap, empty):
    pred, alpha, trimap = batch
    trimap = trimap.clone()
    trimap[1, :, :70] = 0.0 if empty is None else empty
    if empty is not None:
        trimap[1] = empty
    criterion = MattingCriterion(fuse_trimap=fuse_trimap)
    whole = pred.clone().requires_grad_()
    expected = criterion(whole, alpha, trimap)
    sum(expected.values()).backward()
    parts = pred.clone().requires_grad_()
    mean_count = int((trimap == 0.5).sum()) / 2
    halves = [criterion(p[None], a[None], t[None], mean_count) for p, a, t in zip(parts, alpha, trimap, strict=True)]
    (sum(sum(half.values()) for half in halves) / 2).backward()
    for name, value in expected.items():
        assert (halves[0][name] + halves[1][name]).item() / 2 == pytest.approx(value.item(), abs=1e-6), name
    torch.testing.assert_close(parts.grad, whole.grad, atol=1e-8, rtol=1e-5)


def test_this_batch_s_own_count_changes_nothing(batch):
    pred, alpha, trimap = batch
    criterion = MattingCriterion()
    count = (trimap == 0.5).sum()  # a 0-dim integer tensor, as a caller counts them
    torch.testing.assert_close(criterion(pred, alpha, trimap, count), criterion(pred, alpha, trimap), atol=0, rtol=0)


@pytest.mark.parametrize("level", [0.0, 0.5])
def test_finite_where_the_whole_batch_has_no_pixel_of_a_region(batch, level):
    pred, alpha, trimap = batch
    trimap = torch.full_like(trimap, level)
    losses = MattingCriterion()(pred, alpha, trimap, trimap.numel() if level == 0.5 else 0)
    assert all(torch.isfinite(loss) for loss in losses.values())
    assert losses["unknown_l1_loss" if level == 0 else "known_l1_loss"] == 0
