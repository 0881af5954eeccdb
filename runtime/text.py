"""Text for messages: safe names, one-line errors, short lists, natural order."""

import re
from collections.abc import Iterable, Mapping

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NAMED_AT_MOST = 5  # names in a one-line message, after which only their number is given


def printable(name: str) -> str:
    """Escape characters that cannot be shown: invalid bytes, line breaks, marks of the writing direction."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def name_some(names: Iterable[str]) -> str:
    """Join names for a one-line message: the first few, and the number of the others."""
    names = sorted(names)
    text = ", ".join(map(printable, names[:NAMED_AT_MOST]))
    more = len(names) - NAMED_AT_MOST
    return f"{text} and {more} more" if more > 0 else text


def one_line(error: BaseException) -> str:
    """The message of an error for a one-line message, or its type if it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def natural_order(name: str) -> tuple:
    """Sorting key for the natural order: frame2 before frame10, without regard to case."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def superscripts(title: str) -> str:
    """Write powers in superscript: "MSE (10^-3)" as "MSE (10⁻³)"."""
    return re.sub(r"\^(-?\d+)", lambda power: power[1].translate(SUPERSCRIPTS), title)


def summary(counts: Mapping[str, int]) -> str:
    """The number of jobs with each status.

    Example:
        >>> summary({"written": 3, "failed": 1})
        '3 written, 0 skipped, 1 failed'
    """
    return ", ".join(f"{counts.get(status, 0)} {status}" for status in ("written", "skipped", "failed"))
