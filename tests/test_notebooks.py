"""The notebooks of docs/ run from top to bottom."""

import json
import warnings

import numpy as np
import pytest
from tiny import ROOT

NOTEBOOKS = sorted((ROOT / "docs").rglob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_and_is_stored_without_outputs(path, monkeypatch, capsys):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    monkeypatch.chdir(path.parent)
    assert path.stat().st_size < 20_000
    names: dict = {"__name__": "__main__"}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                assert cell["outputs"] == []
                exec(compile("".join(cell["source"]), f"{path.name}", "exec"), names)
    pyplot.close("all")
    assert "of the picture is unknown" in capsys.readouterr().out
    assert names["alpha"].shape == names["image"].shape[:2]
    assert names["alpha"][80:160, 110:170].mean() > 0.99  # the face
    assert names["alpha"][:, :40].max() == 0
    np.testing.assert_array_equal(names["composite"][0, 0], names["background"])
    assert len(np.unique(names["fine"])) > 256
    np.testing.assert_allclose(names["fine"], names["alpha"], atol=0.5 / 255 + 1e-6)  # the same, rounded


def test_there_is_a_notebook():
    assert NOTEBOOKS
