"""The commands of the documentation name programs, options, configs and settings that exist."""

import argparse
import contextlib
import re
import runpy
import sys
from pathlib import Path

import pytest
from documented_commands import PAGES, Command, code_lines, commands, joined
from tiny import ROOT

from engine.config import load_config

COMMANDS = [command for page in PAGES for command in commands(page) if command.program]
PROGRAMS = sorted({command.program for command in COMMANDS})
PARSERS: dict[str, argparse.ArgumentParser] = {}


class Parsed(BaseException):
    """Ends a program at its command line."""


def parser_of(program: str) -> argparse.ArgumentParser:
    """The parser that a program parses its command line with; it is run up to there, once."""
    if program not in PARSERS:
        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Parsed):

            def parse(parser, *_, **__):
                PARSERS[program] = parser
                raise Parsed

            patch.setattr(argparse.ArgumentParser, "parse_args", parse)
            patch.setattr(argparse.ArgumentParser, "parse_known_args", parse)
            patch.setattr(sys, "argv", [str(ROOT / program)])
            patch.setattr(sys, "path", [str((ROOT / program).parent), *sys.path])
            runpy.run_path(str(ROOT / program), run_name="__main__")
    return PARSERS[program]


def listed(command: Command) -> str:
    return f"{command.page}:{command.line}: {command.text}"


@pytest.mark.parametrize("program", PROGRAMS)
def test_every_option_of_a_documented_command_exists(program):
    known = parser_of(program)._option_string_actions
    wrong = [
        f"{option} in {listed(command)}"
        for command in COMMANDS
        if command.program == program
        for option in command.options
        if option not in known
    ]
    assert wrong == []


def programs_of_users() -> list[str]:
    """The scripts at the root and the programs of tools/ that have options, without benchmarks."""
    scripts = [ROOT / name for name in ("main.py", "inference.py", "evaluation.py", "preprocess.py")]
    tools = [path for path in sorted((ROOT / "tools").glob("*.py")) if not path.name.startswith("benchmark_")]
    parsing = re.compile(r"import argparse|from tools\.study")  # a study's parser is in tools/study.py
    sources = {path: path.read_text(encoding="utf-8") for path in (*scripts, *tools)}
    started = [path for path, source in sources.items() if "__main__" in source and parsing.search(source)]
    return [path.relative_to(ROOT).as_posix() for path in started]


@pytest.mark.parametrize("program", programs_of_users())
def test_every_option_is_on_a_page_that_names_its_program(program):
    pages = [page.read_text(encoding="utf-8") for page in PAGES]
    own = "\n".join(page for page in pages if re.search(rf"(?<!\w){re.escape(Path(program).name)}", page))
    missing = [
        "/".join(action.option_strings)
        for action in parser_of(program)._actions
        if action.option_strings
        and "--help" not in action.option_strings
        and not any(re.search(rf"(?<![\w-]){option}(?![\w-])", own) for option in action.option_strings)
    ]
    assert missing == []


def test_every_config_of_a_documented_command_exists():
    named = {
        (word, listed(command))
        for command in COMMANDS
        for word in command.arguments
        if re.fullmatch(r"configs/\w+\.py", word) and word != "configs/NAME.py"
    }
    assert [where for word, where in sorted(named) if not (ROOT / word).is_file()] == []


TRAINED = [
    command for command in COMMANDS if command.program == "main.py" and any("=" in word for word in command.arguments)
]


@pytest.mark.parametrize("command", TRAINED, ids=lambda command: f"{command.page}:{command.line}")
def test_every_setting_of_a_documented_training_exists(command):
    config = next((word for word in command.arguments if re.fullmatch(r"configs/\w+\.py", word)), None)
    if config is None or not (ROOT / config).is_file():
        pytest.skip("names no config of the project")
    settings = [word for word in command.arguments if re.match(r"[a-z_]+(\.\w+)+=", word)]
    load_config(str(ROOT / config), settings)  # refuses a key that does not exist, and a value of another type


def test_commands_are_found_in_fenced_and_indented_blocks():
    page = [
        "Text `python no.py --in-text`.",
        "    a continued line of a paragraph",
        "",
        "    python main.py --config-file C \\",
        "        train.seed=1    # a comment",
        "    python tools/a.py --background \"#1e90ff\"",
        "",
        "```bash",
        "torchrun --nproc-per-node 4 inference.py --image I | tee log --not-ours",
        "```",
    ]  # fmt: skip
    found = [Command("page", line, text) for line, text in joined(code_lines(page))]
    assert [command.program for command in found] == ["main.py", "tools/a.py", "inference.py"]
    assert [command.line for command in found] == [4, 6, 9]
    assert found[0].arguments == ["--config-file", "C", "train.seed=1"]
    assert found[1].arguments == ["--background", "#1e90ff"]
    assert found[2].options == ["--image"]


def test_a_wrong_option_is_found():
    assert "--image" in parser_of("inference.py")._option_string_actions
    assert "--imagee" not in parser_of("inference.py")._option_string_actions


def test_there_are_commands_of_every_script():
    assert {"main.py", "inference.py", "evaluation.py", "preprocess.py"} < set(PROGRAMS)
    assert {"main.py", "tools/ablation.py", "tools/auto_matte.py", "tools/web_demo.py"} < set(programs_of_users())
    assert len(COMMANDS) > 100
