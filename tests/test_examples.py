"""The examples in docstrings give the results that they show."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("data", "engine", "metrics", "modeling", "runtime")
MODULES = sorted(
    path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
    for package in PACKAGES
    for path in (ROOT / package).rglob("*.py")
    if ">>>" in path.read_text(encoding="utf-8")
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # examples may write files
    failed, tried = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert tried and not failed


def test_the_functions_that_users_call_have_examples():
    from engine.inference import Predictor
    from metrics import conn, dtssd, grad, mad, mean_scores, messddt, mse, psnr, sad, score_folders, score_image
    from metrics import score_sequence, ssim
    from modeling.backbone import ViT
    from modeling.classical.closed_form import closed_form_alpha
    from modeling.meta_arch.base import System
    from modeling.weights.system_file import read_system

    public = [conn, dtssd, grad, mad, mean_scores, messddt, mse, psnr, sad, score_folders, score_image, score_sequence]
    public += [ssim, Predictor, ViT.features, closed_form_alpha, System.predict, read_system]
    assert [item.__name__ for item in public if ">>>" not in (item.__doc__ or "")] == []
