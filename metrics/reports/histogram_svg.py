"""Histogram with a box plot below it, drawn as SVG without a library."""

import math

from metrics.reports.distribution import Distribution

WIDTH, HEIGHT = 320, 132
LEFT, RIGHT = 10, 310
BASE, BAR_HEIGHT = 88, 80
BOX_TOP, BOX_HEIGHT = 98, 10
LABELS_AT = 126
LABELS_AT_MOST = 6


def histogram_svg(spread: Distribution, scale: float, mean: float | None) -> str:
    """An SVG element whose classes leave its colours to the page.

    Each bar has its count as data-count and in its title.

    Args:
        spread: distribution of the values.
        scale: factor from a value to the printed number.
        mean: position of the mean; None for no mark.
    """
    if spread.n == 0:
        return ""
    edges = [spread.start + k * spread.step for k in range(len(spread.counts) + 1)]

    def at(value: float) -> float:
        return LEFT + (RIGHT - LEFT) * (value - edges[0]) / (edges[-1] - edges[0])

    parts = [_bar(at(low), at(high), count, max(spread.counts), _interval(low, high, spread.step, scale))
             for low, high, count in zip(edges, edges[1:], spread.counts, strict=False)]  # fmt: skip
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{RIGHT}" y1="{BASE}" y2="{BASE}"/>')
    parts.append(_box(*(at(value) for value in spread[3:8])))
    if mean is not None:
        parts.append(f'<line class="at-mean" x1="{at(mean):.1f}" x2="{at(mean):.1f}" y1="2" y2="{BASE}"/>')
    every = math.ceil(len(edges) / LABELS_AT_MOST)
    parts += [
        f'<text x="{at(edge):.1f}" y="{LABELS_AT}">{_round(edge, spread.step, scale)}</text>' for edge in edges[::every]
    ]
    words = f"histogram of {spread.n} values"
    return (
        f'<svg class="histogram" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{words}">{"".join(parts)}</svg>'
    )


def _bar(left: float, right: float, count: int, highest: int, interval: str) -> str:
    height = BAR_HEIGHT * count / highest
    return (
        f'<rect data-count="{count}" x="{left + 0.75:.2f}" y="{BASE - height:.2f}" '
        f'width="{max(1, right - left - 1.5):.2f}" height="{height:.2f}"><title>{interval}: {count}</title></rect>'
    )


def _box(minimum: float, lower: float, median: float, upper: float, maximum: float) -> str:
    middle = BOX_TOP + BOX_HEIGHT / 2
    return (
        f'<line x1="{minimum:.1f}" x2="{maximum:.1f}" y1="{middle}" y2="{middle}"/>'
        f'<rect class="box" x="{lower:.1f}" y="{BOX_TOP}" width="{max(1, upper - lower):.1f}" height="{BOX_HEIGHT}"/>'
        f'<line class="at-median" x1="{median:.1f}" x2="{median:.1f}" y1="{BOX_TOP}" y2="{BOX_TOP + BOX_HEIGHT}"/>'
    )


def _interval(low: float, high: float, step: float, scale: float) -> str:
    return f"{_round(low, step, scale)} to {_round(high, step, scale)}"


def _round(edge: float, step: float, scale: float) -> str:
    """An edge, a multiple of `step`, with the decimals of the step."""
    decimals = max(0, -math.floor(math.log10(step * scale) + 1e-9))
    return f"{edge * scale + 0:.{decimals}f}"
