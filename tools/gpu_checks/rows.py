"""Cases of a section, and rows of the report."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

VERDICTS = {True: "passed", False: "**failed**", None: ""}
HEADER = "| section | case | result | |\n| --- | --- | --- | --- |"


class Row(NamedTuple):
    """One line of the report.

    Attributes:
        result: text of the figures with their limits.
        passed: whether the check passed; None for a figure without a limit, or if nothing was checked.
        values: figures for the JSON file.
        section, case: names of the check, set by the runner.
    """

    result: str
    passed: bool | None = None
    values: dict[str, Any] | None = None
    section: str = ""
    case: str = ""


Case = tuple[str, Callable[[], Row]]  # name and check; a check that raises is a failed row


class Skipped(Exception):  # noqa: N818  (not an error: the case needs a package that is not installed)
    """Reason why a case is skipped."""


def markdown(rows: Iterable[Row]) -> str:
    """The rows as one Markdown table."""
    lines = [f"| {row.section} | {_cell(row.case)} | {_cell(row.result)} | {VERDICTS[row.passed]} |" for row in rows]
    return "\n".join([HEADER, *lines])


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
