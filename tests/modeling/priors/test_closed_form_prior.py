"""The closed-form prior against PyMatting's closed form on procedural images, and on scenes with a known answer."""

import numpy as np
import pytest
import torch
from pymatting import estimate_alpha_cf
from torch import Tensor

from data.synthetic import SyntheticMatting
from modeling.priors.closed_form_prior import ClosedFormPrior


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Importing PyMatting lets torch have every core, which slows small tensors down on a busy machine."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def samples() -> list[dict]:
    dataset = SyntheticMatting(size=128, samples_per_epoch=4, seed=11, backgrounds="textures")
    return [dataset[index] for index in range(4)]


def batch_of(samples: list[dict]) -> tuple[Tensor, Tensor]:
    return torch.stack([each["image"] for each in samples]), torch.stack([each["trimap"] for each in samples])


def test_alpha_is_as_close_to_the_truth_as_pymattings(samples):
    """Over all unknown pixels, half the size against the whole size."""
    ours = theirs = 0.0
    for sample in samples:
        image, trimap = batch_of([sample])
        unknown = trimap[0, 0] == 0.5
        alpha = ClosedFormPrior()(image, trimap)[0, 0]
        reference = estimate_alpha_cf(image[0].permute(1, 2, 0).double().numpy(), trimap[0, 0].double().numpy())
        ours += (alpha - sample["alpha"][0])[unknown].abs().sum().item()
        theirs += np.abs(reference - sample["alpha"][0].numpy())[unknown.numpy()].sum()
    assert ours < 1.1 * theirs


def test_known_pixels_are_exact_and_fit(samples):
    image, trimap = batch_of(samples)
    alpha, misfit = ClosedFormPrior()(image, trimap).split(1, dim=1)
    known = trimap != 0.5
    assert torch.equal(alpha[known], trimap[known])
    assert (misfit[known] == 0).all()
    assert alpha.min() >= 0
    assert alpha.max() <= 1


def test_a_matte_linear_in_the_colours_is_found_and_fits():
    """Two flat colours mixed: alpha is a linear function of the colour in every window."""
    ramp = torch.linspace(-0.5, 1.5, 160).clamp(0, 1).expand(1, 1, 96, 160)
    foreground, background = torch.tensor([0.9, 0.2, 0.1]).view(3, 1, 1), torch.tensor([0.1, 0.3, 0.8]).view(3, 1, 1)
    image = ramp * foreground + (1 - ramp) * background
    trimap = torch.where(ramp == 0, 0.0, torch.where(ramp == 1, 1.0, 0.5))
    alpha, misfit = ClosedFormPrior(iterations=100)(image, trimap).split(1, dim=1)
    assert (alpha - ramp).abs().max() < 0.005
    assert misfit.max() < 0.01


@pytest.mark.parametrize("shape", [(1, 1), (2, 70), (33, 65), (100, 131)])
def test_any_size_and_missing_regions(shape):
    image = torch.rand(3, 3, *shape, generator=torch.Generator().manual_seed(0))
    trimap = torch.full((3, 1, *shape), 0.5)
    trimap[1, :, :1], trimap[2, :, :1] = 0, 1
    prior = ClosedFormPrior()(image, trimap)
    assert prior.shape == (3, ClosedFormPrior.out_chans, *shape)
    for index, level in enumerate((0.5, 0.0, 1.0)):  # nothing known, only background, only foreground
        assert (prior[index, 0] == level).all()


def test_a_batch_equals_its_images(samples):
    image, trimap = batch_of(samples)
    together = ClosedFormPrior()(image, trimap)
    alone = torch.cat([ClosedFormPrior()(*batch_of([sample])) for sample in samples])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_autocast_changes_nothing(samples):
    image, trimap = batch_of(samples[:1])
    plain = ClosedFormPrior()(image, trimap)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(ClosedFormPrior()(image, trimap), plain)
