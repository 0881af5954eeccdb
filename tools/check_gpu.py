"""Check everything that depends on the device in one run of at most four minutes, and print a Markdown table.

    python tools/check_gpu.py [--sections alpha,inference] [--json OUT.json]
    python tools/check_gpu.py --tiny-on-cpu

Sections: alpha compared with a CPU's (alpha), time and memory compared with transformers' VitMatte (inference), the
choice of sparse or dense decoding (decoding), a training step compared with the public network (training-step), the
training loader (loading), large images and chunks of attention (attention), runs of the trainer, interrupted and
resumed (training-run), nccl with one process (process-group), a compiled backbone (compiled), closed-form matting
(closed-form). Each runs in a separate process with a time limit. A section that fails or exceeds its limit becomes a
row of the table, and the others still run. Without Detectron2, the sections that need it are skipped.

The exit status is 0 if nothing failed, 1 if a check failed, and 2 without a GPU. --tiny-on-cpu runs all sections on the
CPU at sizes that are too small to measure speed.
"""

import argparse
import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from runtime.command_line import run
from runtime.errors import InputError
from runtime.files import replacing
from tools.gpu_checks.processes import Launcher
from tools.gpu_checks.rows import Row, markdown
from tools.gpu_checks.settings import Settings

LIMITS = {  # seconds
    "alpha": 45, "training-run": 60, "process-group": 45, "compiled": 90, "inference": 60, "training-step": 40,
    "decoding": 40, "attention": 30, "loading": 35, "closed-form": 30,
}  # fmt: skip
TOTAL = 232  # seconds for all sections; no section starts later
REHEARSAL = 600  # seconds for a section on a CPU, which may be busy


def main() -> int:
    options = parse_arguments()
    started = time.monotonic()
    settings = Settings("cpu" if options.tiny_on_cpu else "cuda", options.tiny_on_cpu)
    launcher = Launcher.on(settings)
    if launcher is None:
        raise InputError("no GPU: torch finds no CUDA device; --tiny-on-cpu runs the sections on the CPU")
    rows = [Row(launcher.machine, section="machine")]
    report(rows[0], started)
    for name in options.sections:
        left = TOTAL - (time.monotonic() - started)
        for row in launcher.run(name, REHEARSAL if settings.tiny else min(LIMITS[name], left)):
            rows.append(row)
            report(row, started)
    seconds = time.monotonic() - started
    rows.append(Row(f"{seconds:.0f} s", section="all"))
    if options.json:
        with replacing(options.json) as temporary:
            temporary.write_text(json.dumps([row._asdict() for row in rows], indent=1) + "\n")
    print(markdown(rows))
    return 1 if any(row.passed is False for row in rows) else 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sections", type=section_names, default=list(LIMITS), help=f"of {','.join(LIMITS)}")
    parser.add_argument("--json", type=Path, help="file for all figures")
    parser.add_argument("--tiny-on-cpu", action="store_true", help="run at tiny sizes on the CPU")
    return parser.parse_args()


def section_names(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in LIMITS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no section named {', '.join(unknown)}; there are {', '.join(LIMITS)}")
    return names


def report(row: Row, started: float) -> None:
    """Print a line of progress on stderr."""
    verdict = {True: "passed", False: "FAILED", None: ""}[row.passed]
    print(f"{time.monotonic() - started:5.0f} s  {row.section}: {row.case}: {row.result} {verdict}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
