"""Names and errors as people read them: safely, in one line, some of many, in the expected order."""

import re
from collections.abc import Iterable

SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
NAMED_AT_MOST = 5  # names in a one-line message before it goes on with a count


def printable(name: str) -> str:
    """Spell out what cannot be shown: bytes that are not text, line breaks, marks that turn the writing direction."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def name_some(names: Iterable[str]) -> str:
    """Join names for a one-line message: the first few and how many more."""
    names = sorted(names)
    text = ", ".join(map(printable, names[:NAMED_AT_MOST]))
    more = len(names) - NAMED_AT_MOST
    return f"{text} and {more} more" if more > 0 else text


def one_line(error: BaseException) -> str:
    """An error's message for a one-line message of ours; its type where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def natural_order(name: str) -> tuple:
    """Key that sorts names as people do: frame2 before frame10, case aside."""
    parts = re.split(r"([0-9]+)", name.casefold())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def superscripts(title: str) -> str:
    """Write powers as they are printed: "MSE (10^-3)" as "MSE (10⁻³)"."""
    return re.sub(r"\^(-?\d+)", lambda power: power[1].translate(SUPERSCRIPTS), title)
