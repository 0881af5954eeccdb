"""The examples in docstrings give the results that they show."""

import doctest
import importlib
import inspect
from pathlib import Path

import pytest

import metrics
from data.images.foreground_colours import composite_over, estimate_foreground
from data.images.mask_to_trimap import trimap_from_mask, trimap_from_probability
from data.images.trimap import fuse_with_trimap, quantise_trimap, trimap_from_alpha
from data.synthetic.dataset import SyntheticMatting
from data.testing.matting_folder import MattingFolder
from data.training.mixture import Mixture
from engine.inference import Matting, Predictor
from modeling.backbone import ViT
from modeling.classical.closed_form import closed_form_alpha
from modeling.meta_arch.base import System
from modeling.pretrained import convert
from modeling.weights.system_file import read_system

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
    assert tried
    assert not failed


PUBLIC = [
    *(getattr(metrics, name) for name in metrics.__all__ if inspect.isroutine(getattr(metrics, name))),
    *(Matting, Matting.predict, Predictor, ViT.features, System.predict, closed_form_alpha, read_system),
    *(trimap_from_mask, trimap_from_probability, trimap_from_alpha, quantise_trimap, fuse_with_trimap),
    *(estimate_foreground, composite_over, convert, MattingFolder, SyntheticMatting, Mixture),
]


@pytest.mark.parametrize("item", PUBLIC, ids=lambda item: item.__qualname__)
def test_what_users_call_has_an_example(item):
    assert ">>>" in item.__doc__
