"""The GPU check, rehearsed on a CPU: its sections, what becomes of one that fails, and the model it builds."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from tiny import ROOT

from tools.gpu_checks import decoding
from tools.gpu_checks.inputs import dinov3_vitmatte
from tools.gpu_checks.rows import Row, markdown
from tools.gpu_checks.settings import Cost, Settings

TINY = Settings("cpu", tiny=True)
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def check(*arguments: str, prelude: str = "") -> subprocess.CompletedProcess:
    code = f"import runpy, sys; sys.argv = ['tools/check_gpu.py', *sys.argv[1:]]; {prelude}\n"
    code += "runpy.run_path('tools/check_gpu.py', run_name='__main__')"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)


@pytest.mark.slow
def test_every_section_runs_and_passes(tmp_path):
    done = check("--tiny-on-cpu", "--json", str(tmp_path / "figures.json"))
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[1] == "| --- | --- | --- | --- |"
    assert all(line.count(" | ") == 3 for line in lines)  # nothing but the table
    rows = json.loads((tmp_path / "figures.json").read_text())
    assert len(lines) == 2 + len(rows)
    sections = {row["section"] for row in rows}
    assert len(sections) == 12  # ten, the machine and the sum
    assert not [row for row in rows if "skipped" in row["result"] or row["passed"] is False]
    exact = [row["values"] for row in rows if row["section"] == "alpha" and "fp32" in row["case"]]
    assert len(exact) == 2 * (2 + 3)  # two ways of decoding and three of the predictor, for two models
    assert all(values.get("max", 0) < 1e-5 and values.get("levels", 0) == 0 for values in exact)


def test_says_in_one_line_that_there_is_no_gpu():
    done = check()
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "error: no GPU: torch finds no CUDA device; --tiny-on-cpu runs the sections on the CPU"
    ]


def test_what_needs_detectron2_is_skipped_by_name_without_it():
    hide = "import importlib.util as u; f = u.find_spec; "
    hide += "u.find_spec = lambda name, *rest: None if name == 'detectron2' else f(name, *rest)"
    done = check("--tiny-on-cpu", "--sections", "training-run", prelude=hide)
    assert done.returncode == 0
    assert done.stdout.count("skipped: detectron2 is not installed") == 2


def test_an_unknown_section_is_named():
    done = check("--sections", "alpha,magic")
    assert done.returncode == 2
    assert "no section named magic; there are alpha, training-run" in done.stderr


@pytest.mark.parametrize(
    ("section", "seconds", "results"),
    [
        ("a case fails", 60, ["fine", "ValueError: out of\nsomething", "fine too"]),
        ("a case is skipped", 60, ["skipped: no such library", "fine"]),
        ("the process dies", 60, ["fine", "the process ended with status 7"]),
        ("it takes too long", 10, ["fine", "not finished after 10 s"]),
    ],
)
def test_what_becomes_of_a_section(section, seconds, results):
    """In a process of its own, as the check is: a fork of this one would inherit the locks of its threads."""
    command = [sys.executable, str(ROOT / "tests" / "tools" / "failing_sections.py"), section, str(seconds)]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["result"] for row in rows] == results
    failed = [result.split()[0] in ("ValueError:", "the", "not") for result in results]
    assert [row["passed"] is False for row in rows] == failed
    assert {row["section"] for row in rows} == {"alpha"}


def test_cells_hold_one_line():
    assert markdown([Row("a\nb | c", False, None, "s", "x")]).splitlines()[2] == r"| s | x | a b \| c | **failed** |"


def test_the_model_is_that_of_the_config():
    from engine.config import build, load_config

    with torch.device("meta"):
        theirs, ours = build(load_config("configs/ViTMatte_S_100ep.py").model), dinov3_vitmatte()
    assert str(ours) == str(theirs)
    assert {k: v.shape for k, v in ours.state_dict().items()} == {k: v.shape for k, v in theirs.state_dict().items()}
    assert vars(ours.backbone).keys() == vars(theirs.backbone).keys()
    plain = (int, str, bool, frozenset, type(None))
    for name, value in vars(theirs.backbone).items():
        if isinstance(value, plain):
            assert getattr(ours.backbone, name) == value


def test_constants_are_fitted_to_the_times():
    """Times that follow the model exactly give its constants back."""
    rng = np.random.default_rng(0)
    cases = []
    for pixels in (2**18, 2**20, 2**22):
        for share in (0.05, 0.2, 0.6):
            work = decoding.sparse.Work(pixels, 1e5, 1e5 * share * rng.uniform(0.8, 1.2), share)
            units = 3e9 + pixels * (0.8 * work.active + 20_000 * share)
            cases.append(decoding.Decoding(work, Cost(pixels * 1e5 * 2e-9, None), Cost(units * 2e-9, None), False))
    values = decoding.fit(TINY, cases).values
    assert values["sparse_call"] == pytest.approx(3e9, rel=1e-3)
    assert values["sparse_product"] == pytest.approx(0.8, rel=1e-2)
    assert values["sparse_pixel"] == pytest.approx(20_000, rel=1e-2)
