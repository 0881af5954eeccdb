"""The losses as their authors write them, with which benchmarks compare, against this project's."""

import torch

from modeling.criterion import MattingCriterion
from tests.references.public_losses import public_losses


def test_both_forms_have_the_same_values_and_gradients_on_crops_of_512():
    generator = torch.Generator().manual_seed(0)
    pred_alpha, alpha = torch.rand(2, 2, 1, 512, 512, generator=generator, dtype=torch.float32)
    trimap = torch.randint(0, 3, (2, 1, 512, 512), generator=generator) / 2
    gradients = []
    values = []
    for losses_of in (MattingCriterion(), public_losses):
        pred = pred_alpha.clone().requires_grad_()
        losses = losses_of(pred, alpha, trimap)
        sum(losses.values()).backward()
        values.append({name: loss.item() for name, loss in sorted(losses.items())})
        gradients.append(pred.grad)
    torch.testing.assert_close(*values, rtol=1e-5, atol=0)
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-9)
