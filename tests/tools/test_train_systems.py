"""tools/train_systems.py: what is equal for every system, and settings that the configs have."""

import argparse
from pathlib import Path

import pytest
import torch
from tiny import ROOT

from data.synthetic import SubjectMasks, SyntheticMatting
from engine.config import build, load_config
from runtime.errors import InputError
from tools import train_systems
from tools.train_systems import TRAININGS, overrides

STAGES = [(name, stage) for name, stages in TRAININGS.items() for stage in stages]
OPTIONS = argparse.Namespace(samples=8000, seed=3)


def config_of(stage):
    settings = [one for one in overrides(Path("out"), stage, None, OPTIONS) if one != "--resume"]
    return load_config(str(ROOT / "configs" / f"{stage.config}.py"), settings)


@pytest.mark.parametrize("name", TRAININGS)
def test_every_system_sees_as_many_samples_of_the_same_set(name):
    configs = [config_of(stage) for stage in TRAININGS[name]]
    assert sum(config.train.max_iter * config.dataloader.train.batch_size for config in configs) == 8000
    for config in configs:
        dataset = config.dataloader.train.dataset
        dataset = dataset.get("dataset", dataset)
        assert (dataset.size, dataset.samples_per_epoch) == (96, 100_000)
        assert dataset.seed == config.train.seed == 3
        whole_scenes = "trimap" not in build(config.model).inputs
        assert dataset.get("scene_size") == ([96, 144] if whole_scenes else None)


def test_the_two_vitmattes_differ_in_their_backbones_alone():
    ours, original = (
        dict(build(config_of(TRAININGS[name][0]).model).named_parameters())
        for name in ("vitmatte_dinov3", "vitmatte_original")
    )
    for names in (ours, original):
        assert sum("decoder" in name for name in names) == sum("decoder" in name for name in ours)
    assert {name for name in original if "decoder" in name} == {name for name in ours if "decoder" in name}
    assert "backbone.pos_embed" in original
    assert "backbone.blocks.0.attn.rel_pos_h" in original
    assert not any("pos_embed" in name or "rel_pos" in name for name in ours)
    assert original["backbone.blocks.1.attn.rel_pos_h"].shape == (2 * 6 - 1, 32)  # 96 pixels are 6 patches


def test_diffmatte_is_self_aligned_in_the_published_order():
    config = config_of(TRAININGS["diffmatte"][0])
    assert (config.train.self_align_stage1_step, config.train.self_align_stage2_step, config.train.max_iter) == (
        200,
        300,
        500,
    )


def test_a_mask_is_where_the_subject_covers_half_of_a_pixel():
    scenes = SyntheticMatting(size=64, samples_per_epoch=4, seed=5, scene_size=(64, 96), backgrounds="textures")
    masks = SubjectMasks(scenes)
    assert len(masks) == 4
    sample, scene = masks[2, 1], scenes[2, 1]
    torch.testing.assert_close(sample["image"], scene["image"])
    assert sample["mask"].dtype == torch.int64
    assert set(sample["mask"].unique().tolist()) == {0, 1}
    assert (scene["alpha"][0][sample["mask"] == 1] >= 0.5).all()
    assert (scene["alpha"][0][sample["mask"] == 0] < 0.5).all()
    assert sample["name"] == scene["name"]


def test_an_unknown_training_is_named(monkeypatch):
    monkeypatch.setattr("sys.argv", ["train_systems.py", "--only", "magic"])
    with pytest.raises(InputError, match=r"--only: expected some of vitmatte_dinov3, .*, got 'magic'"):
        train_systems.main()


def test_a_complete_training_is_not_repeated(tmp_path, monkeypatch, capsys):
    (tmp_path / "frozen_dinov3").mkdir()
    (tmp_path / "frozen_dinov3" / "model_final.pth").touch()
    monkeypatch.setattr("sys.argv", ["train_systems.py", "--only", "frozen_dinov3", "--output-dir", str(tmp_path)])
    monkeypatch.setattr(train_systems.subprocess, "run", None)  # calling it would fail
    train_systems.main()
    assert "frozen_dinov3/model_final.pth: complete, not trained again" in capsys.readouterr().out
