"""A pretrained patch embedding for a network with more input channels than its file."""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor

from modeling.trimap_input import LEVELS

logger = logging.getLogger("dinomatte.pretrained")

PATCH_EMBED = "backbone.patch_embed.proj.weight"
RGB_CHANS = 3
VALUE_CHANS = RGB_CHANS + 1
ONE_HOT_CHANS = RGB_CHANS + len(LEVELS)


def fit_input_channels(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `state` with the patch embedding's trimap channels as `expected` has them; what was done is logged.

    RGB alone gets zeros for the trimap. A trimap channel of values 0, 0.5 and 1 becomes one for each region, its
    weight times the region's value: the network computes what it did, and zeros, as preprocess.py writes them, stay
    zeros. Any other difference is left for the caller to refuse.
    """
    if PATCH_EMBED not in state or PATCH_EMBED not in expected:
        return dict(state)
    weight, chans = state[PATCH_EMBED], expected[PATCH_EMBED].shape[1]
    if weight.ndim != 4 or (weight.shape[1], chans) not in (
        (RGB_CHANS, VALUE_CHANS),
        (RGB_CHANS, ONE_HOT_CHANS),
        (VALUE_CHANS, ONE_HOT_CHANS),
    ):
        return dict(state)
    if weight.shape[1] == RGB_CHANS:
        trimap, done = weight.new_zeros(len(weight), chans - RGB_CHANS, *weight.shape[2:]), "zeros for the trimap"
    else:
        value = weight[:, RGB_CHANS:]  # (D, 1, p, p)
        trimap = torch.cat([level * value for level in LEVELS], dim=1)
        done = "zeros for the trimap" if not value.any() else "the trimap's values as regions, which computes the same"
    logger.info("%s: %d input channels made %d, %s", PATCH_EMBED, weight.shape[1], chans, done)
    return {**state, PATCH_EMBED: torch.cat([weight[:, :RGB_CHANS], trimap], dim=1)}
