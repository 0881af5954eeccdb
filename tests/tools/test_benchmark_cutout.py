"""The benchmark of cut-outs, on a tiny set."""

import re

import pytest

from tools import benchmark_cutout


def test_the_tables_hold_each_method_and_ours_leaves_the_least_fringe(monkeypatch, capsys):
    pytest.importorskip("pymatting")
    arguments = ["--sizes", "128", "--count", "2", "--megapixels", "0.02", "--repeats", "1"]
    monkeypatch.setattr("sys.argv", ["benchmark_cutout.py", *arguments])
    benchmark_cutout.main()
    rows = [re.split(r" *\| *", line)[1:-1] for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    fringes = {row[2]: float(row[3]) for row in rows if row[0] == "2 of 128 x 128"}
    assert fringes["ours"] < fringes["PyMatting"] < fringes["the picture's own"]
    steps = [row[2] for row in rows if row[0].startswith("163 x 122")]
    assert steps == ["PyMatting", "ours", "writing .png", "writing .tif"] * 2
