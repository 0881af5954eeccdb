"""A learned choice between the network's own alpha and estimates that it was given."""

import torch
from torch import Tensor


def closed_to_candidates(logits: Tensor, prob: float) -> Tensor:
    """Logits (B, 2 + K, H, W) as `gated_alpha` takes them, which in a random share of the samples choose the own alpha.

    In training the own alpha then learns where the gate would leave everything to a candidate.
    """
    closed = torch.rand(len(logits), 1, 1, 1, device=logits.device) < prob
    return torch.cat([logits[:, :2], logits[:, 2:].masked_fill(closed, float("-inf"))], dim=1)


def gated_alpha(logits: Tensor, candidates: Tensor, dim: int) -> Tensor:
    """A convex combination of the head's own alpha and other estimates, the weights from the same head.

    Args:
        logits: along `dim` the logit of the own alpha, the gate's logit for it, and one for each candidate.
        candidates: along `dim` K estimates of alpha; what is outside [0, 1] is clipped.

    Returns:
        Alpha in [0, 1], of size 1 along `dim`, float32.
    """
    own, gate = logits.float().split([1, logits.shape[dim] - 1], dim)
    estimates = torch.cat([torch.sigmoid(own), candidates.float().clamp(0, 1)], dim)
    return (torch.softmax(gate, dim) * estimates).sum(dim, keepdim=True)
