"""Configs saved before modules moved load and build as they did; the files are of the tree before the move."""

import pytest
from tiny import ROOT

from engine.config import build, load_config
from engine.evaluation.evaluators import SegmentationEvaluator
from runtime.moved import MOVED, MOVED_CLASSES

SAVED = sorted((ROOT / "tests" / "goldens" / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", SAVED, ids=lambda path: path.stem)
def test_a_config_saved_before_the_move_builds_its_model_and_data(path):
    config = load_config(str(path), ["dataloader.train.num_workers=0"])
    current = build(load_config(str(ROOT / "configs" / f"{path.stem}.py")).model)
    model = build(config.model)
    assert {key: value.shape for key, value in model.state_dict().items()} == {
        key: value.shape for key, value in current.state_dict().items()
    }
    build(config.dataloader.train)
    build(config.dataloader.test)


def test_an_evaluator_saved_with_the_number_of_classes_builds(tmp_path):
    """The entry as runs saved it: `num_classes` refers to another entry, and `classes` is its name today."""
    saved = tmp_path / "config.yaml"
    saved.write_text(
        "model: {num_classes: 3}\n"
        "dataloader:\n"
        "  evaluator:\n"
        "    _target_: engine.evaluation.evaluators.SegmentationEvaluator\n"
        "    num_classes: ${model.num_classes}\n"
    )
    config = load_config(str(saved), ["dataloader.evaluator.loss=true"])
    evaluator = build(config.dataloader.evaluator)
    assert isinstance(evaluator, SegmentationEvaluator)
    assert (evaluator.num_classes, evaluator.uses_probabilities) == (3, True)
    assert "num_classes" not in config.dataloader.evaluator


def test_the_table_names_only_modules_that_are_gone_and_modules_that_are_there():
    for old, new in MOVED.items():
        assert not (ROOT / f"{old.replace('.', '/')}.py").exists()
        assert (ROOT / f"{new.replace('.', '/')}.py").is_file()
    assert len(MOVED_CLASSES) == 1
