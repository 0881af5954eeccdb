"""The commands of README.md, of the pages of docs/ and of a few other files, as a reader would copy them."""

import re
import shlex
from pathlib import Path
from typing import NamedTuple

from tiny import ROOT

PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "weights").rglob("*.md")])
PROGRAM = re.compile(r"(?:python[\d.]*|torchrun)\b.*?\s((?:tools/)?\w+\.py)\b")


class Command(NamedTuple):
    """A line of a block of code, continued lines joined.

    Attributes:
        page: path from the root.
        line: the first, from 1.
        text: without comment and indent.
    """

    page: str
    line: int
    text: str

    @property
    def program(self) -> str | None:
        """The program of this project that it starts, as a path from the root; None for other commands."""
        found = PROGRAM.search(self.text)
        return found.group(1) if found else None

    @property
    def arguments(self) -> list[str]:
        """Words after the program, up to a pipe or a second command."""
        words = shlex.split(self.text[PROGRAM.search(self.text).end() :])
        end = next((i for i, word in enumerate(words) if word in {"|", "&&", ";", ">"}), len(words))
        return words[:end]

    @property
    def options(self) -> list[str]:
        return [word.partition("=")[0] for word in self.arguments if re.match(r"--?[a-zA-Z]", word)]


def commands(path: Path) -> list[Command]:
    """Commands in a page's fenced and indented blocks, in order."""
    return [
        Command(str(path.relative_to(ROOT)), line, text)
        for line, text in joined(code_lines(path.read_text(encoding="utf-8").splitlines()))
        if re.match(r"\w", text)
    ]


def code_lines(lines: list[str]) -> list[tuple[int, str]]:
    """(number, text without indent) of the lines within blocks of code."""
    found, fence, in_block, previous = [], None, False, ""
    for number, line in enumerate(lines, 1):
        mark = re.match(r"\s*(```+|~~~+)", line)
        if mark:
            fence = None if fence == mark.group(1) else fence or mark.group(1)
            in_block = False
        elif fence:
            found.append((number, line.strip()))
        else:  # an indented block begins after an empty line
            begins = line.startswith("    ") and not previous.strip()
            in_block = begins or (in_block and (line.startswith("    ") or not line.strip()))
            if in_block and line.strip():
                found.append((number, line.strip()))
        previous = line
    return found


def joined(lines: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Join lines that end in a backslash, and drop comments."""
    result, start, text = [], 0, ""
    for number, line in lines:
        start, text = (number, line) if not text else (start, f"{text} {line}")
        text = re.sub(r"\s+#(?!\w{6}\b).*$", "", text)
        if text.endswith("\\"):
            text = text[:-1].rstrip()
        else:
            result.append((start, text))
            text = ""
    return result
