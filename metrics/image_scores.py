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
    """How a metric is computed and how it is printed.

    Attributes:
        of: the value of a checked pair; NaN where it is undefined.
        title: head of its column, with the unit that papers print.
        unit: of the value itself.
        scale: from the value to the number under the title.
        higher_is_better: as for PSNR and SSIM.
    """

    of: Callable[[MattePair], float]
    title: str
    unit: str
    scale: float = 1
    higher_is_better: bool = False

    @property
    def description(self) -> Description:
        """The metric without its function."""
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
PAPER_METRICS = ("sad", "mse", "grad", "conn")  # what tables on Composition-1k print


def score_image(
    pred_alpha: np.ndarray,
    alpha: np.ndarray,
    trimap: np.ndarray | None = None,
    metrics: Sequence[str] = PAPER_METRICS,
) -> dict[str, float]:
    """Score one matte, in the units papers report.

    Args:
        pred_alpha: (H, W) uint8, the prediction as saved: rounded, and scored without clamping it by the trimap.
        alpha: (H, W) uint8, the truth.
        trimap: (H, W) uint8, scored where it is exactly 128; None scores every pixel.
        metrics: names in `METRICS`.

    Returns:
        the metrics by name (sad, grad, conn in thousands, mse plain; NaN where undefined, as mse is when no pixel
        is scored), and the int `pixels` scored.

    Raises:
        ValueError: shapes or dtypes are not as above.
        KeyError: no such metric.
    """
    pair = matte_pair(pred_alpha, alpha, trimap)
    return {**{name: METRICS[name].of(pair) for name in metrics}, "pixels": pair.pixels}


def mean_scores(
    scores: Iterable[Mapping[str, float]], skip_undefined: bool = False, metrics: Sequence[str] = PAPER_METRICS
) -> dict[str, float]:
    """Average the results of `score_image`, every image weighing the same whatever its size.

    Args:
        scores: one mapping per image.
        skip_undefined: average each metric over the images where it is finite. By default one NaN makes the
            mean NaN, as in the reference, and one infinite PSNR makes it infinite.
        metrics: names of those to average.

    Returns:
        metric -> mean; NaN where there is nothing to average.
    """
    scores = list(scores)
    means = {}
    for name in metrics:
        values = [score[name] for score in scores]
        if skip_undefined:
            values = [value for value in values if math.isfinite(value)]
        means[name] = math.fsum(values) / len(values) if values else math.nan
    return means
