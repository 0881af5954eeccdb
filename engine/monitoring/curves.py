"""curves.png: an overview of a run, drawn from its metrics.json."""

import logging
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from detectron2.engine import HookBase

from engine.monitoring.error_by_share import BINS
from engine.monitoring.metrics_file import FILE_NAME as METRICS_FILE
from engine.monitoring.metrics_file import VALIDATION, read_metrics
from engine.monitoring.periods import is_due
from engine.monitoring.training_scores import TRAINING
from metrics import METRICS
from metrics.description import Description
from runtime.files import replacing
from runtime.text import one_line

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

logger = logging.getLogger("dinomatte.monitoring")

FILE_NAME = "curves.png"
SECONDS_BETWEEN = 60.0
LARGEST_SHARE_OF_TIME = 0.02
COLUMNS = 4
LEGEND_ENTRIES = 6
RECENT = 10  # lines of metrics.json over which the errors by unknown share are averaged
SMOOTHED = 40  # number of points from which a curve is drawn as a faint line with its running mean

Series = tuple[np.ndarray, np.ndarray]  # iterations, values


class DrawCurves(HookBase):
    """Draw curves.png repeatedly during the run, at most once a minute, and at its end, in the main process.

    Register this hook after the one that writes metrics.json. If drawing fails, a warning is logged.

    Args:
        output_dir: run folder.
        period: iterations between writes of metrics.json.
        metrics: metrics of the validation.
    """

    def __init__(self, output_dir: str | Path, period: int, metrics: Mapping[str, Description] = METRICS) -> None:
        self.output_dir, self.period, self.metrics = Path(output_dir), period, metrics

    def before_train(self) -> None:
        self._next = time.perf_counter() + SECONDS_BETWEEN

    def after_step(self) -> None:
        if is_due(self.trainer, self.period) and time.perf_counter() >= self._next:
            started = time.perf_counter()
            self._draw()
            ended = time.perf_counter()
            self._next = ended + max(SECONDS_BETWEEN, (ended - started) / LARGEST_SHARE_OF_TIME)

    def after_train(self) -> None:
        self._draw()

    def _draw(self) -> None:
        try:
            draw_curves(self.output_dir, self.metrics)
        except Exception as error:  # a picture must not end a run
            logger.warning("%s is not drawn: %s", self.output_dir / FILE_NAME, one_line(error))


def draw_curves(output_dir: str | Path, metrics: Mapping[str, Description] = METRICS) -> None:
    """Draw the metrics.json of a run folder into its curves.png; without a file or lines in it, do nothing.

    It draws losses, validation metrics, learning rates, gradient norm, error by unknown share, and speed.

    Args:
        metrics: titles and scales of the validation metrics; others are shown by their name.

    Raises:
        InputError: the picture cannot be written.
    """
    path = Path(output_dir) / METRICS_FILE
    entries = read_metrics(path) if path.exists() else {}
    if not entries:
        return
    figure = _figure(_series(entries), metrics, Path(output_dir).resolve().name)
    with replacing(Path(output_dir) / FILE_NAME) as temporary:
        figure.savefig(temporary, format="png")


@dataclass(frozen=True)
class Panel:
    """One diagram over the iterations.

    Attributes:
        curves: name in metrics.json -> label.
        log: whether the axis is logarithmic.
        smooth: whether the values are noisy.
        from_zero: whether the axis begins at 0.
        scale: factor from the value to the shown number.
        legend: position of the legend. If there are many curves, it names only some of them.
    """

    heading: str
    curves: dict[str, str]
    log: bool = False
    smooth: bool = False
    from_zero: bool = False
    scale: float = 1.0
    legend: str = "upper right"

    def draw(self, axes: "Axes", series: dict[str, Series]) -> None:
        colours = _colours(len(self.curves))
        for (name, label), colour in zip(self.curves.items(), colours, strict=True):
            iterations, values = series[name][0], series[name][1] * self.scale
            noisy = self.smooth and len(values) >= SMOOTHED
            if noisy:
                axes.plot(iterations, values, color=colour, alpha=0.2, linewidth=0.7)
                iterations, values = iterations[_middle(len(values))], _running_mean(values)
            marker = "." if len(values) < SMOOTHED else None
            axes.plot(iterations, values, color=colour, linewidth=1.3, marker=marker, label=label)
        if self.log and all((series[name][1] > 0).any() for name in self.curves):
            axes.set_yscale("log")
        if self.from_zero:
            axes.set_ylim(0, 1.08 * max(series[name][1].max() * self.scale for name in self.curves) or 1)
        axes.set_xlabel("iteration", fontsize=8)
        if len(self.curves) > 1:
            lines = [line for line in axes.get_lines() if not line.get_label().startswith("_")]
            named = np.unique(np.linspace(0, len(lines) - 1, LEGEND_ENTRIES).round().astype(int))
            axes.legend(handles=[lines[number] for number in named], fontsize=7, framealpha=0.6, loc=self.legend)


@dataclass(frozen=True)
class SharePanel:
    """Latest errors by unknown share, as bars."""

    heading: str
    curves: dict[str, str]

    def draw(self, axes: "Axes", series: dict[str, Series]) -> None:
        width = 100 / BINS
        for name in self.curves:
            left = float(name.rpartition("share_")[2].partition("-")[0])
            axes.bar(left, series[name][1][-RECENT:].mean(), width=0.9 * width, align="edge", color="tab:blue")
        axes.set_xlim(0, 100)
        axes.set_xlabel("unknown pixels of the sample, percent", fontsize=8)


def _series(entries: dict[int, dict[str, float]]) -> dict[str, Series]:
    points: dict[str, tuple[list[int], list[float]]] = {}
    for iteration, values in entries.items():
        for name, value in values.items():
            iterations, numbers = points.setdefault(name, ([], []))
            iterations.append(iteration)
            numbers.append(value)
    return {name: (np.array(iterations), np.array(numbers)) for name, (iterations, numbers) in points.items()}


def _figure(series: dict[str, Series], metrics: Mapping[str, Description], title: str) -> "Figure":
    from matplotlib.figure import Figure  # imported here because it takes half a second

    panels = [panel for panel in _panels(series, metrics) if panel.curves]
    columns = max(1, min(COLUMNS, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    figure = Figure(figsize=(4.4 * columns, 3.1 * rows + 0.4), dpi=100)
    figure.subplots_adjust(0.16 / columns, 0.14 / rows, 1 - 0.06 / columns, 1 - 0.17 / rows, 0.2, 0.36)
    figure.suptitle(title, fontsize=11, y=1 - 0.02 / rows)
    for number, panel in enumerate(panels, start=1):
        axes = figure.add_subplot(rows, columns, number)
        panel.draw(axes, series)
        axes.set_title(panel.heading, fontsize=10)
        axes.tick_params(which="both", labelsize=8)
        axes.grid(alpha=0.3)
    return figure


def _panels(series: dict[str, Series], metrics: Mapping[str, Description]) -> list[Panel | SharePanel]:
    def level(name: str) -> float:
        return series[name][1].max()

    def present(*names: str) -> dict[str, str]:
        return {name: name for name in names if name in series}

    scored = (VALIDATION, TRAINING)
    losses = {
        name: name.removeprefix("loss_")
        for name in sorted(series, key=level, reverse=True)
        if "loss" in name and not name.startswith(scored)
    }
    rates = {name: name.removeprefix("lr/") for name in sorted(series, key=level) if name.startswith("lr/")}
    shares = {name: name for name in sorted(series) if name.startswith("unknown_error/")}
    validated = [name.removeprefix(VALIDATION) for name in series if name.startswith(VALIDATION)]
    described = {name: metrics[name] for name in metrics if name in validated}
    described |= {name: Description(name, "") for name in validated if name not in described}
    scores = []
    for name, metric in described.items():
        both = {f"{prefix}{name}": prefix.rstrip("/") for prefix in scored if f"{prefix}{name}" in series}
        heading = metric.title if len(both) > 1 else f"validation: {metric.title}"
        scores.append(Panel(heading, both, scale=metric.scale))
    return [
        Panel("losses", losses, log=True, smooth=True),
        Panel("learning rates", rates, log=True, legend="lower left"),
        Panel("gradient norm", present("grad_norm"), log=True, smooth=True),
        SharePanel("alpha error by unknown share, recent mean", shares),
        *scores,
        Panel("samples per second", present("samples_per_second"), smooth=True, from_zero=True),
        Panel("share of time waiting for data", present("data_wait_share"), smooth=True, from_zero=True),
        Panel(
            "peak memory, GiB", present("memory/process_gib", "memory/gpu_gib"), from_zero=True, legend="center right"
        ),
    ]


def _colours(number: int) -> list:
    """Distinct colours; if there are many, as for learning rates of blocks, from one end of a scale to the other."""
    from matplotlib import colormaps

    if number <= 10:
        return [colormaps["tab10"](index) for index in range(number)]
    return [colormaps["viridis"](index / (number - 1)) for index in range(number)]


def _window(length: int) -> int:
    return max(3, length // 50 | 1)  # odd: a value has as many before it as after it


def _running_mean(values: np.ndarray) -> np.ndarray:
    window = _window(len(values))
    return np.convolve(values, np.full(window, 1 / window), mode="valid")


def _middle(length: int) -> slice:
    """Values on which the running mean is centred."""
    half = _window(length) // 2
    return slice(half, length - half)
