"""Cases of a section, and rows of the report: what was found in each."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

VERDICTS = {True: "passed", False: "**failed**", None: ""}
HEADER = "| section | case | result | |\n| --- | --- | --- | --- |"


class Row(NamedTuple):
    """One line of the report.

    Attributes:
        result: the figures in words, with what they may be at most.
        passed: None where a figure is reported without a limit, or nothing was checked.
        values: the figures, for the JSON file.
        section, case: what was checked; the runner fills them in.
    """

    result: str
    passed: bool | None = None
    values: dict[str, Any] | None = None
    section: str = ""
    case: str = ""


Case = tuple[str, Callable[[], Row]]  # its name, and the check itself: one that raises is a failed row


class Skipped(Exception):  # noqa: N818  (no error: the case needs what is not installed)
    """The reason why there is nothing to check here."""


def markdown(rows: Iterable[Row]) -> str:
    """The rows as one Markdown table."""
    lines = [f"| {row.section} | {_cell(row.case)} | {_cell(row.result)} | {VERDICTS[row.passed]} |" for row in rows]
    return "\n".join([HEADER, *lines])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
