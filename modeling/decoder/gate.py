"""Learned gate between the network's own alpha and given estimates."""

import torch
from torch import Tensor


def closed_to_candidates(logits: Tensor, prob: float) -> Tensor:
    """Logits (B, 2 + K, H, W) for `gated_alpha` that select the network's own alpha in a random share of the samples.

    In training the own alpha is then also trained where the gate would select a candidate everywhere.
    """
    closed = torch.rand(len(logits), 1, 1, 1, device=logits.device) < prob
    return torch.cat([logits[:, :2], logits[:, 2:].masked_fill(closed, float("-inf"))], dim=1)


def gated_alpha(logits: Tensor, candidates: Tensor, dim: int) -> Tensor:
    """Convex combination of the head's own alpha and other estimates, with weights from the same head.

    Args:
        logits: along `dim`, the logit of the own alpha, the gate's logit for it, and one gate logit for each candidate.
        candidates: along `dim`, K estimates of alpha; values outside [0, 1] are clipped.

    Returns:
        Alpha in [0, 1], of size 1 along `dim`, float32.
    """
    own, gate = logits.float().split([1, logits.shape[dim] - 1], dim)
    estimates = torch.cat([torch.sigmoid(own), candidates.float().clamp(0, 1)], dim)
    return (torch.softmax(gate, dim) * estimates).sum(dim, keepdim=True)
