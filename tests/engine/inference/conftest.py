"""Fixtures of the tests of inference."""

import pytest

from runtime import command_line
from tools import auto_matte


@pytest.fixture
def run_auto_matte(capsys):
    """Function that runs tools/auto_matte.py on the CPU, and returns its status, stdout and stderr."""

    def call(*arguments) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            command_line.run(lambda: auto_matte.main([*map(str, arguments), "--device", "cpu"]))
        return ended.value.code, *capsys.readouterr()

    return call
