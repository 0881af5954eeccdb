"""Adapting a pretrained patch embedding to a network with different input channels for the trimap."""

import logging
from collections.abc import Mapping

import torch
from torch import Tensor

from modeling.trimap_input import LEVELS
from runtime.errors import InputError

logger = logging.getLogger("dinomatte.pretrained")

PATCH_EMBED = "backbone.patch_embed.proj.weight"
FIRST_KERNELS = (PATCH_EMBED, "backbone.layer1.0.weight")  # those of a ViT and of VGG-16
RGB_CHANS = 3
VALUE_CHANS = RGB_CHANS + 1
ONE_HOT_CHANS = RGB_CHANS + len(LEVELS)


def fit_input_channels(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `state` with the trimap channels of `expected` in the first kernel. The change is logged.

    An RGB encoder, as preprocess.py writes it, gets zeros for the trimap. A trimap channel of values 0, 0.5 and 1 is
    replaced by one channel for each region, with its weight times the region's value. The network then computes the
    same. A trimap channel of zeros, as in encoders of format 1, is dropped for a network without a trimap. Any other
    difference is left to the caller, who refuses it.

    Raises:
        InputError: the network has no trimap, but the file's trimap channel is not zero.
    """
    key = next((key for key in FIRST_KERNELS if key in state and key in expected), None)
    if key is None:
        return dict(state)
    weight, chans = state[key], expected[key].shape[1]
    if weight.ndim != 4 or (weight.shape[1], chans) not in (
        (RGB_CHANS, VALUE_CHANS),
        (RGB_CHANS, ONE_HOT_CHANS),
        (VALUE_CHANS, ONE_HOT_CHANS),
        (VALUE_CHANS, RGB_CHANS),
    ):
        return dict(state)
    rgb, trimap = weight[:, :RGB_CHANS], weight[:, RGB_CHANS:]  # (D, 3, p, p), (D, 0 or 1, p, p)
    is_trained = bool(trimap.any())  # true for NaN
    if chans == RGB_CHANS:
        if is_trained:
            raise InputError(
                f"{key} has a fourth input channel trained on trimaps, and this config's model has no trimap; "
                "use an encoder that preprocess.py wrote"
            )
        fitted, done = trimap[:, :0], "the trimap's dropped, which was zero"
    elif is_trained:
        fitted = torch.cat([level * trimap for level in LEVELS], dim=1)
        done = "the trimap's values as regions, which computes the same"
    else:
        fitted = weight.new_zeros(len(weight), chans - RGB_CHANS, *weight.shape[2:])
        done = "zeros for the trimap"
    logger.info("%s: %d input channels changed to %d, %s", key, weight.shape[1], chans, done)
    return {**state, key: torch.cat([rgb, fitted], dim=1)}
