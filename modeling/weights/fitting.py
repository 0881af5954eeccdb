"""Adapting pretrained tensors to a network that differs from their file in a supported way."""

import logging
from collections.abc import Mapping

from torch import Tensor

from modeling.weights.input_channels import fit_input_channels
from modeling.weights.relative_positions import fit_relative_positions

logger = logging.getLogger("dinomatte.pretrained")


def fit_pretrained(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return `state` with the trimap channels and relative positions of `expected`. Changes are logged.

    Raises:
        InputError: see `fit_input_channels` and `fit_relative_positions`.
    """
    state = fit_input_channels(state, expected)
    shapes = {key: tuple(value.shape) for key, value in expected.items()}
    state, done = fit_relative_positions(state, shapes)
    if done:
        logger.info("tables of relative positions interpolated: %s", done)
    return state
