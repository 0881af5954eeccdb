"""The colour prior against scipy's Gaussian filter and against scenes with a known answer."""

import numpy as np
import torch
from scipy import ndimage

from modeling.priors.colour_prior import ColourPrior, _gaussian_blur


def two_colour_scene(alpha: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    foreground = torch.tensor([0.9, 0.2, 0.1]).view(1, 3, 1, 1)
    background = torch.tensor([0.1, 0.3, 0.8]).view(1, 3, 1, 1)
    trimap = torch.where(alpha == 0, 0.0, torch.where(alpha == 1, 1.0, 0.5))
    return alpha * foreground + (1 - alpha) * background, trimap


def test_projected_alpha_is_exact_for_two_flat_colours():
    ramp = torch.linspace(-0.5, 1.5, 160).clamp(0, 1).expand(1, 1, 96, 160)
    image, trimap = two_colour_scene(ramp)
    prior = ColourPrior()(image, trimap)
    alphas, residuals, distances = prior[:, 0::3], prior[:, 1::3], prior[:, 2::3]
    assert (alphas - ramp).abs().max() < 0.02
    assert residuals.max() < 0.02
    assert (distances - (0.8**2 + 0.1**2 + 0.7**2) ** 0.5).abs().max() < 0.03


def test_blur_of_an_edge_equals_scipy():
    """Within half a per cent of the step, away from the border, where resampling repeats the last sample."""
    image = np.repeat((np.arange(330) > 150)[None].astype(float), 300, axis=0)
    for sigma in (1.5, 4, 12, 36):
        got = _gaussian_blur(torch.from_numpy(image)[None, None].float(), sigma)[0, 0].numpy()
        expected = ndimage.gaussian_filter(image, sigma, mode="constant")
        margin = int(3 * sigma)
        difference = (got - expected)[margin:-margin, margin:-margin]
        assert np.abs(difference).max() < 0.005, sigma


def test_finite_when_a_region_is_missing():
    image = torch.rand(1, 3, 40, 50)
    for level in (0.0, 0.5, 1.0):
        assert torch.isfinite(ColourPrior()(image, torch.full((1, 1, 40, 50), level))).all()


def test_channels_are_counted():
    prior = ColourPrior(sigmas=(3, 9))
    assert prior.out_chans == 9
    assert prior(torch.rand(2, 3, 33, 65), torch.full((2, 1, 33, 65), 0.5)).shape == (2, 9, 33, 65)
