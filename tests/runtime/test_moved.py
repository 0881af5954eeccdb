"""Configs saved before modules moved load and build as they did; the files are of the tree before the move."""

import pytest
from tiny import ROOT

from engine.config import build, load_config
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


def test_the_table_names_only_modules_that_are_gone_and_modules_that_are_there():
    for old, new in MOVED.items():
        assert not (ROOT / f"{old.replace('.', '/')}.py").exists()
        assert (ROOT / f"{new.replace('.', '/')}.py").is_file()
    assert len(MOVED_CLASSES) == 1
