"""Studies: which runs count as complete."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PRINT_FINGERPRINTS = """
from pathlib import Path
from tools.box_study import STUDY
print(*(STUDY.fingerprint(Path("folder"), name, seed, []) for name, seed in (("both", 0), ("both", 1), ("2d", 0))))
"""


def fingerprints() -> list[str]:
    command = [sys.executable, "-c", PRINT_FINGERPRINTS]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()


def test_a_later_process_knows_the_settings_of_an_earlier_one_again():
    earlier, later = fingerprints(), fingerprints()
    assert earlier == later
    assert len(set(earlier)) == 3
