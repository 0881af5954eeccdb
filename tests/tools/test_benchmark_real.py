"""tools/benchmark_real.py on procedural pictures laid out as photographs."""

import json

import numpy as np
import pytest
from PIL import Image

from data.synthetic import SyntheticMatting
from data.testing.eight_bit import EightBit
from metrics import score_image
from runtime.errors import InputError
from tools import benchmark_real


@pytest.fixture
def photographs(tmp_path):
    samples = [EightBit(SyntheticMatting(size=96, samples_per_epoch=3, seed=9))[index] for index in range(3)]
    for index, sample in enumerate(samples):
        for kind in ("image", "trimap", "alpha"):
            (tmp_path / kind).mkdir(exist_ok=True)
            Image.fromarray(sample[kind]).save(tmp_path / kind / f"{index}.png")
    return tmp_path, samples


def run(monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr("sys.argv", ["benchmark_real.py", *arguments])
    benchmark_real.main()


def test_scores_are_those_of_the_methods_own_mattes(photographs, monkeypatch, capsys):
    pymatting = pytest.importorskip("pymatting")
    root, samples = photographs
    file = root / "scores.json"
    run(monkeypatch, "--data-root", str(root), "--methods", "pymatting,closed-form", "--json", str(file),
        "--mattes", str(root / "mattes"), "--sheet", str(root / "sheet.png"))  # fmt: skip
    scores = json.loads(file.read_text())
    for index, sample in enumerate(samples):
        trimap = np.select([sample["trimap"] == 0, sample["trimap"] == 255], [0.0, 1.0], 0.5)
        alpha = np.rint(pymatting.estimate_alpha_cf(sample["image"] / 255, trimap) * 255).astype(np.uint8)
        kept = np.asarray(Image.open(root / "mattes" / "pymatting" / f"{index}.png"))
        np.testing.assert_array_equal(kept, alpha)
        expected = score_image(alpha, sample["alpha"], sample["trimap"])
        assert scores["pymatting"]["scores"][str(index)] == pytest.approx(expected)
    assert Image.open(root / "sheet.png").size == (5 * 240, 24 + 3 * 240)
    assert all(method["cpu_seconds"] > 0 for method in scores.values())
    table = capsys.readouterr().out.splitlines()
    assert table[0].startswith("| 3 photographs, trimap | SAD (10^3) | MSE (10^-3) |")
    assert [row.split(" | ")[0] for row in table[2:]] == ["| pymatting", "| closed-form"]
    assert "better on" in table[3]


def test_a_method_that_there_is_not_is_named(photographs, monkeypatch):
    with pytest.raises(InputError, match=r"--methods: expected some of box, closed-form, .*, got 'magic'"):
        run(monkeypatch, "--data-root", str(photographs[0]), "--methods", "magic")


def test_a_sheet_without_mattes_is_refused(photographs, monkeypatch):
    with pytest.raises(InputError, match="--sheet: expected --mattes too"):
        run(monkeypatch, "--data-root", str(photographs[0]), "--sheet", "sheet.jpg")
