"""The gate between estimates of alpha: hand-worked weights, and alpha between its candidates."""

import math

import pytest
import torch

from modeling.decoder import DetailCapture
from modeling.decoder.gate import closed_to_candidates, gated_alpha


def test_gate_by_hand():
    # own alpha sigmoid(ln 3) = 3/4; weights softmax(ln 1, ln 2, ln 5) = 1/8, 2/8, 5/8
    logits = torch.tensor([math.log(3), 0.0, math.log(2), math.log(5)]).view(1, 4, 1, 1)
    candidates = torch.tensor([0.4, 1.3]).view(1, 2, 1, 1)  # the second is clipped to 1
    assert gated_alpha(logits, candidates, dim=1).item() == pytest.approx(0.75 / 8 + 0.4 * 2 / 8 + 5 / 8, abs=1e-6)


def test_alpha_lies_between_its_estimates_and_gradients_reach_all_of_them():
    logits = torch.randn(2, 4, 9, 9, requires_grad=True)
    candidates = torch.rand(2, 2, 9, 9)
    alpha = gated_alpha(logits, candidates, dim=1)
    estimates = torch.cat([torch.sigmoid(logits[:, :1]), candidates], dim=1)
    assert (alpha >= estimates.amin(1, keepdim=True) - 1e-6).all()
    assert (alpha <= estimates.amax(1, keepdim=True) + 1e-6).all()
    alpha.sum().backward()
    assert (logits.grad.abs().amax(dim=(0, 2, 3)) > 0).all()


def test_a_decoder_that_trusts_a_candidate_returns_it():
    decoder = DetailCapture(8, img_chans=6, convstream_out=[4, 4, 4], fusion_out=[4, 4, 4, 4], candidates=[5]).eval()
    last = decoder.matting_head.matting_convs[3]
    torch.nn.init.zeros_(last.weight)
    last.bias.data = torch.tensor([0.0, -20.0, 20.0])
    images = torch.rand(1, 6, 32, 48)
    with torch.no_grad():
        alpha = decoder(torch.randn(1, 8, 2, 3), images)
    torch.testing.assert_close(alpha, images[:, 5:], atol=1e-6, rtol=0)


def test_a_closed_gate_chooses_the_own_alpha_and_has_finite_gradients():
    logits = torch.randn(300, 4, 2, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    torch.manual_seed(1)
    alpha = gated_alpha(closed_to_candidates(logits, 0.3), torch.zeros(300, 2, 2, 2), dim=1)
    own = torch.isclose(alpha, torch.sigmoid(logits[:, :1])).flatten(1).all(dim=1)
    assert 60 < own.sum() < 120  # 90 expected, 8 the standard deviation
    alpha.sum().backward()
    assert torch.isfinite(logits.grad).all()


def test_without_candidates_the_keys_and_shapes_are_the_published_ones():
    plain = DetailCapture(8, convstream_out=[4, 4, 4], fusion_out=[4, 4, 4, 4]).state_dict()
    assert plain["matting_head.matting_convs.3.weight"].shape == (1, 16, 1, 1)
    gated = DetailCapture(8, convstream_out=[4, 4, 4], fusion_out=[4, 4, 4, 4], candidates=[3]).state_dict()
    assert gated.keys() == plain.keys()
    assert gated["matting_head.matting_convs.3.weight"].shape == (3, 16, 1, 1)


def test_a_channel_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="candidates must be channels 0 to 3"):
        DetailCapture(8, candidates=[4])
