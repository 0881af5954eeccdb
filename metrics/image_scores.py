"""All metrics of one image, and their mean over images."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from metrics.connectivity import conn_of
from metrics.description import Description
from metrics.gradient import grad_of
from metrics.pair import MattePair, matte_pair
from metrics.sad_mse import mad_of, mse_of, psnr_of, sad_of
from metrics.similarity import ssim_of


class Metric(NamedTuple):
    """Computation and description of a metric.

    Attributes:
        of: function of a checked pair; NaN where the metric is undefined.
        title: heading of its column, with the unit of published tables.
        unit: unit of the value.
        scale: factor from the value to the printed number.
        higher_is_better: True for metrics such as PSNR and SSIM.
    """

    of: Callable[[MattePair], float]
    title: str
    unit: str
    scale: float = 1
    higher_is_better: bool = False

    @property
    def description(self) -> Description:
        """Description of the metric, without its function."""
        return Description(*self[1:])


METRICS = {
    "sad": Metric(sad_of, "SAD (10^3)", "thousands"),
    "mse": Metric(mse_of, "MSE (10^-3)", "mean", scale=1e3),
    "grad": Metric(grad_of, "Grad (10^3)", "thousands"),
    "conn": Metric(conn_of, "Conn (10^3)", "thousands"),
    "mad": Metric(mad_of, "MAD (10^-3)", "mean", scale=1e3),
    "psnr": Metric(psnr_of, "PSNR (dB)", "decibels", higher_is_better=True),
    "ssim": Metric(ssim_of, "SSIM", "index", higher_is_better=True),
}
PAPER_METRICS = ("sad", "mse", "grad", "conn")  # metrics of tables on Composition-1k


def score_image(
    pred_alpha: np.ndarray,
    alpha: np.ndarray,
    trimap: np.ndarray | None = None,
    metrics: Sequence[str] = PAPER_METRICS,
) -> dict[str, float]:
    """Score one matte, in the units of published tables.

    Args:
        pred_alpha: (H, W) uint8 or uint16, the prediction as saved: rounded, and not overwritten by the trimap.
        alpha: (H, W) uint8 or uint16, the truth.
        trimap: (H, W) uint8, scored where it is exactly 128; None scores every pixel.
        metrics: names in `METRICS`.

    Returns:
        The metrics by name, and the number `pixels` of scored pixels. sad, grad and conn are in thousands, mse is the
        plain mean. NaN marks undefined values, such as mse without a scored pixel.

    Raises:
        ValueError: shapes or dtypes are not as above.
        KeyError: an unknown metric.

    Example:
        >>> alpha = np.full((10, 10), 255, np.uint8)
        >>> trimap = np.full((10, 10), 128, np.uint8)
        >>> score_image(np.zeros_like(alpha), alpha, trimap, metrics=["sad", "mse"])
        {'sad': 0.1, 'mse': 1.0, 'pixels': 100}
    """
    pair = matte_pair(pred_alpha, alpha, trimap)
    return {**{name: METRICS[name].of(pair) for name in metrics}, "pixels": pair.pixels}


def mean_scores(
    scores: Iterable[Mapping[str, float]], skip_undefined: bool = False, metrics: Sequence[str] = PAPER_METRICS
) -> dict[str, float]:
    """Average the results of `score_image`, with the same weight for every image.

    Args:
        scores: one mapping for each image.
        skip_undefined: whether each metric is averaged over the images for which it is finite. By default one NaN makes
            the mean NaN, as in the reference, and one infinite PSNR makes it infinite.
        metrics: names of the metrics to average.

    Returns:
        metric -> mean; NaN if there is nothing to average.

    Example:
        >>> mean_scores([{"sad": 2.0, "mse": 0.25}, {"sad": 4.0, "mse": 0.75}], metrics=["sad", "mse"])
        {'sad': 3.0, 'mse': 0.5}
    """
    scores = list(scores)
    means = {}
    for name in metrics:
        values = [score[name] for score in scores]
        if skip_undefined:
            values = [value for value in values if math.isfinite(value)]
        means[name] = math.fsum(values) / len(values) if values else math.nan
    return means
