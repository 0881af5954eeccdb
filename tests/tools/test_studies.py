"""The studies: every change is one the program knows, and the table is of what was run."""

import json

import pytest
import torch
from tiny import ROOT

from engine.config import build, load_config
from runtime.errors import InputError
from tools import ablation, box_study
from tools.study import result_path

STUDIES = {"ablation": ablation.STUDY, "box": box_study.STUDY}


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, study in STUDIES.items() for name in study.changes])
def test_every_change_builds_and_changes_something(kind, name, tmp_path):
    study, path = STUDIES[kind], tmp_path
    first = next(iter(study.held_out))
    baseline = load_config(str(ROOT / study.config), study.overrides(path, study.baseline, 0, [], first))
    config = load_config(str(ROOT / study.config), study.overrides(path, name, 0, [], first))
    baseline.train.output_dir = config.train.output_dir
    assert (str(config) == str(baseline)) == (name == study.baseline)
    assert "{folder}" not in str(config)
    with torch.device("meta"):
        model = build(config.model)
    node = config.optimizer.copy()
    node._set_flag("allow_objects", True)
    node.params.model = model
    assert build(node).param_groups
    assert build(config.lr_multiplier)(0.5) > 0
    assert build(config.dataloader.train) is not None


def test_the_published_scale_is_the_published_codes():
    # mean(M |p - g|) * B * S^2 / sum M, as hustvl/ViTMatte writes it for S = 512
    pred_alpha, alpha = torch.rand(2, 1, 32, 32), torch.rand(2, 1, 32, 32)
    trimap = torch.randint(0, 3, (2, 1, 32, 32)) / 2
    mask = (trimap == 0.5).float()
    expected = (mask * (pred_alpha - alpha).abs()).mean() * 2 * 16**2 / mask.sum()
    losses = ablation.PublishedScaleCriterion(["unknown_l1_loss", "loss_pha_laplacian"], crop_size=16)(
        pred_alpha, alpha, trimap
    )
    assert losses["unknown_l1_loss"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_the_table_compares_seed_by_seed_and_leaves_out_what_is_not_done(tmp_path):
    sads = {("published", 0): 2.0, ("published", 1): 4.0, ("ema", 0): 1.0, ("ema", 1): 3.0, ("clip", 0): 1.0}
    for (name, seed), sad in sads.items():
        path = result_path(tmp_path, name, seed)
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"settings": "", "scores": {"held-out": {"sad": sad}}}))
    lines = ablation.STUDY.tables(tmp_path, [0, 1]).splitlines()
    assert lines[2:] == [
        "| the published recipe | 3.0000 | 1.4142 |  |",
        "| averaged weights | 2.0000 | 1.4142 | -37.5% (-50.0%, -25.0%) |",
    ]


def test_the_box_study_needs_backgrounds(tmp_path):
    with pytest.raises(InputError, match=r"bg: expected backgrounds, found no folder; run tools/collect_backgrounds"):
        box_study.prepare(tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_unknown_change_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["ablation.py", "--only", "magic", "--output-dir", str(tmp_path)])
    with pytest.raises(InputError, match="no change named magic; there are published, registers"):
        ablation.STUDY.main(None, "", ablation.write_data)
    assert not list(tmp_path.iterdir())
