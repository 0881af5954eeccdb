"""Results table of a paper, with one row for each method, in Markdown and in LaTeX."""

import math
import re
from collections.abc import Callable, Iterator, Mapping

from metrics.image_scores import METRICS
from runtime.text import printable, superscripts

DECIMALS = {"ssim": 4}  # decimals of the printed number; other metrics have two, as in papers on Composition-1k

# Characters with a meaning in LaTeX, and characters that its default font encoding prints as others.
LATEX_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\`{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    **{c: f"\\{c}" for c in "&%$#_{}"},
}

Means = Mapping[str, Mapping[str, float]]  # method -> metric -> mean over the set, NaN if it is undefined


def markdown_table(means: Means) -> str:
    """Markdown table with the best value of each metric in bold.

    Args:
        means: values in the units of `score_image`. A missing metric or an undefined mean is a dash.
    """
    head, *rows = _rows(means, escape_markdown, _markdown_title, bold="**{}**", none="–")
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows))


def latex_table(means: Means) -> str:
    r"""LaTeX `tabular` with the best value of each metric in bold; see `markdown_table` for the arguments.

    It needs only `\usepackage{booktabs}`. Its rows can be pasted into another table.
    """
    cells = list(_rows(means, escape_latex, _latex_title, bold=r"\textbf{{{}}}", none="--"))
    head, *rows = (rf"{' & '.join(row)} \\" for row in cells)
    lines = [
        r"% needs \usepackage{booktabs}",
        rf"\begin{{tabular}}{{l{'r' * (len(cells[0]) - 1)}}}",
        *(r"\toprule", head, r"\midrule", *rows, r"\bottomrule"),
        r"\end{tabular}",
    ]
    return "\n".join(lines) + "\n"


def escape_markdown(text: str) -> str:
    """Text that Markdown (CommonMark, and GitHub's tables) shows unchanged."""
    return re.sub(r"([\\`*_{}\[\]<>#|~^$&!])", r"\\\1", printable(text))


def escape_latex(text: str) -> str:
    """Text that LaTeX prints unchanged, also at the start of a table row."""
    escaped = "".join(LATEX_ESCAPES.get(c, c) for c in printable(text))
    escaped = re.sub("-(?=-)", "-{}", escaped)  # -- would become a dash
    return (
        f"{{}}{escaped}" if escaped.startswith(("[", "*")) else escaped
    )  # the row before ends in \\, which would read both as arguments


def _rows(
    means: Means, escape: Callable[[str], str], title: Callable[[str], str], bold: str, none: str
) -> Iterator[list[str]]:
    """Cells of the header, then of each method: its name and its printed means."""
    metrics = [metric for metric in METRICS if any(metric in values for values in means.values())]
    columns = [_column(metric, means) for metric in metrics]
    yield ["Method", *map(title, metrics)]
    for index, name in enumerate(means):
        cells = (column[index] for column in columns)
        yield [escape(name), *(bold.format(text) if best else text or none for text, best in cells)]


def _column(metric: str, means: Means) -> list[tuple[str, bool]]:
    """Printed number of each method ("" for none), and whether it is the best. Numbers that print the same tie."""
    values = [values.get(metric, math.nan) * METRICS[metric].scale for values in means.values()]
    texts = ["" if math.isnan(value) else f"{value:.{DECIMALS.get(metric, 2)}f}" for value in values]
    defined = [value for value in values if not math.isnan(value)]
    if len(defined) < 2:  # a single method is not marked as the best
        return [(text, False) for text in texts]
    best = values.index(max(defined) if METRICS[metric].higher_is_better else min(defined))
    return [(text, text == texts[best]) for text in texts]


def _markdown_title(metric: str) -> str:
    title = superscripts(METRICS[metric].title)
    return f"{escape_markdown(title)} {'↑' if METRICS[metric].higher_is_better else '↓'}"


def _latex_title(metric: str) -> str:
    words = re.split(r"(\d+\^-?\d+)", METRICS[metric].title)  # every second part is a power
    words[1::2] = [f"${base}^{{{power}}}$" for base, power in (word.split("^") for word in words[1::2])]
    words[::2] = map(escape_latex, words[::2])
    arrow = r"$\uparrow$" if METRICS[metric].higher_is_better else r"$\downarrow$"
    return f"{''.join(words)} {arrow}"
