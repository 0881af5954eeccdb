"""All metrics of one image, and their mean over images."""

import math
from collections.abc import Iterable, Mapping

import numpy as np

from metrics.connectivity import conn_of
from metrics.gradient import grad_of
from metrics.pair import matte_pair
from metrics.sad_mse import mse_of, sad_of

METRICS = {"sad": sad_of, "mse": mse_of, "grad": grad_of, "conn": conn_of}


def score_image(pred_alpha: np.ndarray, alpha: np.ndarray, trimap: np.ndarray | None = None) -> dict[str, float]:
    """Score one matte by every metric, in the units papers report.

    Args:
        pred_alpha: (H, W) uint8, the prediction as saved: rounded, and scored without clamping it by the trimap.
        alpha: (H, W) uint8, the truth.
        trimap: (H, W) uint8, scored where it is exactly 128; None scores every pixel.

    Returns:
        sad, grad, conn in thousands, mse plain (NaN when no pixel is scored), and the int `pixels` scored.

    Raises:
        ValueError: shapes or dtypes are not as above.
    """
    pair = matte_pair(pred_alpha, alpha, trimap)
    return {**{name: metric(pair) for name, metric in METRICS.items()}, "pixels": pair.pixels}


def mean_scores(scores: Iterable[Mapping[str, float]], skip_undefined: bool = False) -> dict[str, float]:
    """Average the results of `score_image`, every image weighing the same whatever its size.

    Args:
        scores: one mapping per image.
        skip_undefined: average each metric over the images where it is not NaN. By default one NaN makes the
            mean NaN, as in the reference.

    Returns:
        metric -> mean; NaN where there is nothing to average.
    """
    scores = list(scores)
    means = {}
    for name in METRICS:
        values = [score[name] for score in scores]
        if skip_undefined:
            values = [value for value in values if not math.isnan(value)]
        means[name] = math.fsum(values) / len(values) if values else math.nan
    return means
