"""Stacked priors: order, and what absence looks like."""

import pytest
import torch
from torch import nn

from modeling.priors import PriorStack
from modeling.priors.colour_prior import ColourPrior


class Constant(nn.Module):
    """A prior of known values that counts its calls."""

    def __init__(self, value: float, out_chans: int) -> None:
        super().__init__()
        self.value, self.out_chans, self.calls = value, out_chans, 0

    def forward(self, image, trimap):
        self.calls += 1
        return torch.full((len(image), self.out_chans, *image.shape[-2:]), self.value)


IMAGE, TRIMAP = torch.rand(400, 3, 4, 6), torch.full((400, 1, 4, 6), 0.5)


def test_order_and_indicator():
    stack = PriorStack([Constant(0.25, 2), Constant(0.75, 1)], drop_probs=[0.2, 0.0]).eval()
    assert stack.out_chans == 4
    out = stack(IMAGE[:2], TRIMAP[:2])
    torch.testing.assert_close(out[:, :, 0, 0], torch.tensor([[0.25, 0.25, 1.0, 0.75]] * 2))


def test_in_training_a_share_of_the_samples_lacks_the_prior():
    stack = PriorStack([Constant(0.25, 2), Constant(0.75, 1)], drop_probs=[0.2, 0.0]).train()
    torch.manual_seed(0)
    out = stack(IMAGE, TRIMAP)
    present = out[:, 2, 0, 0]
    assert 50 < (present == 0).sum() < 110  # 80 of 400 expected, 8 the standard deviation
    assert torch.equal(out[:, :2], 0.25 * present.view(-1, 1, 1, 1).expand(-1, 2, 4, 6))
    assert (out[:, 3] == 0.75).all()


def test_a_skipped_prior_is_not_computed():
    slow = Constant(0.25, 2)
    stack = PriorStack([slow, Constant(0.75, 1)], drop_probs=[0.2, 0.0]).eval()
    stack.skipped = frozenset({0})
    out = stack(IMAGE[:1], TRIMAP[:1])
    assert slow.calls == 0
    torch.testing.assert_close(out[0, :, 0, 0], torch.tensor([0.0, 0.0, 0.0, 0.75]))


def test_without_drops_it_is_the_priors_joined():
    image, trimap = torch.rand(1, 3, 40, 40), torch.randint(0, 3, (1, 1, 40, 40)) / 2
    first, second = ColourPrior(sigmas=[4]), ColourPrior(sigmas=[12])
    stack = PriorStack([first, second])
    assert torch.equal(stack(image, trimap), torch.cat([first(image, trimap), second(image, trimap)], dim=1))
    with pytest.raises(ValueError, match="a probability for each of 2"):
        PriorStack([first, second], drop_probs=[0.5])
