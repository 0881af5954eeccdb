"""The configs: sizes, schedules, and a ViTMatte config carried over."""

import re
import shutil

import pytest
import torch
from tiny import ROOT

from engine.config import build, load_config
from runtime.errors import InputError


def test_configs_build_the_sizes_they_name():
    expected = {"S_10ep": (384, 12), "S_100ep": (384, 12), "B_100ep": (768, 12), "L_100ep": (1024, 24)}
    expected |= {"S_1024": (384, 12), "B_1024": (768, 12), "S_best": (384, 12)}
    for name, (width, depth) in expected.items():
        config = load_config(str(ROOT / f"configs/ViTMatte_{name}.py"))
        with torch.device("meta"):
            model = build(config.model)
        assert (model.backbone.embed_dim, len(model.backbone.blocks)) == (width, depth)
        assert model.decoder.fusion_blks[0].conv.conv.in_channels == width + 192


def test_schedules_have_the_published_arithmetic():
    settings = {
        "S_10ep": (13_470, 2_694, {0: 0.001, 5_000: 1, 11_000: 0.5, 13_000: 0.2}),
        "S_100ep": (134_687, 6_734, {0: 0.001, 125: 0.125875, 40_000: 1, 41_000: 0.5, 95_000: 0.2}),
        "B_100ep": (215_500, 21_550, {0: 0.001, 250: 1, 64_000: 1, 65_000: 0.1, 194_000: 0.05}),
        "S_1024": (269_375, 13_468, {80_000: 1, 81_000: 0.1, 149_000: 0.05, 230_000: 0.01}),
        "B_1024": (269_375, 13_468, {80_000: 1, 81_000: 0.1, 149_000: 0.05, 230_000: 0.01}),
    }
    for name, (max_iter, period, factors) in settings.items():
        config = load_config(str(ROOT / f"configs/ViTMatte_{name}.py"))
        assert config.train.max_iter == max_iter
        assert config.train.checkpointer.period == period
        multiplier = build(config.lr_multiplier)
        for iteration, factor in factors.items():
            assert multiplier(iteration / max_iter) == pytest.approx(factor, rel=1e-3), (name, iteration)


def test_frozen_configs_build_the_encoders_they_name_and_count_as_documented():
    counts = {}
    for name in ("S", "B", "L", "S_published", "demo"):
        config = load_config(str(ROOT / f"configs/FrozenDINOv3_{name}.py"))
        with torch.device("meta"):
            model = build(config.model)
        counts[name] = sum(parameter.numel() for parameter in model.decoder.parameters())
        millions = sum(parameter.numel() for parameter in model.backbone.parameters()) / 1e6
        expected = {"S": 21.6, "B": 85.7, "L": 303.1, "S_published": 21.6, "demo": 0.52}
        assert millions == pytest.approx(expected[name], rel=0.02)
        assert max(model.out_blocks) in (len(model.backbone.blocks) - 1, -1)
        multiplier = build(config.lr_multiplier)
        assert config.optimizer.lr * multiplier(1 - 1e-9) == pytest.approx({"demo": 3e-5}.get(name, 1e-7), rel=0.01)
    assert counts["S_published"] == 1_073_153
    text = (ROOT / "docs" / "systems.md").read_text()
    assert all(f"{counts[name]:,}" in text for name in counts)


def test_the_vitmatte_config_of_the_docs_builds(tmp_path):
    shutil.copytree(ROOT / "configs" / "common", tmp_path / "common")
    (config_text,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "training.md").read_text(), re.DOTALL)
    (tmp_path / "vitmatte_b.py").write_text(config_text)
    config = load_config(str(tmp_path / "vitmatte_b.py"))
    with torch.device("meta"):
        model = build(config.model)
    assert model.decoder.fusion_blks[0].conv.conv.in_channels == 768 + 192
    assert model.backbone.blocks[-1].drop_path.p == pytest.approx(0.1)
    assert config.train.max_iter == 215_500
    multiplier = build(config.lr_multiplier)
    assert [multiplier(at / 215_500) for at in (125, 60_000, 70_000, 200_000)] == pytest.approx([0.5005, 1, 0.1, 0.05])


@pytest.mark.parametrize("text", ["model = undefined_name", "x = (", "import nothing_of_that_name", "model = {}['a']"])
def test_a_config_that_fails_is_one_line(tmp_path, text):
    (tmp_path / "c.py").write_text(text)
    with pytest.raises(InputError, match=r"c\.py: not a usable config"):
        load_config(str(tmp_path / "c.py"))
    (tmp_path / "c.txt").write_text(text)
    with pytest.raises(InputError, match=r"c\.txt: not a usable config"):
        load_config(str(tmp_path / "c.txt"))


def test_the_box_s_gate_chooses_among_the_closed_form_and_the_finest_colour_estimate():
    model = build(load_config(str(ROOT / "configs/ViTMatte_box.py")).model).eval()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert 1e6 < parameters < 8e6  # 16 MB in half precision
    closed_form, colour = model.colour_prior.priors
    image, trimap = torch.rand(1, 3, 64, 96), torch.full((1, 1, 64, 96), 0.5)
    trimap[..., :20], trimap[..., -20:] = 0, 1
    pixels = model.encode({"image": image, "trimap": trimap}).pixels
    first, second = pixels[:, model.decoder.candidates].split(1, dim=1)
    assert torch.equal(first, closed_form(image, trimap)[:, :1])
    assert torch.equal(second, colour(image, trimap)[:, -3:-2])


def test_the_box_trains_on_everything_but_tokens_and_vectors_by_muon():
    config = load_config(str(ROOT / "configs/ViTMatte_box.py"))
    model = build(config.model)
    config.optimizer._set_flag("allow_objects", True)
    config.optimizer.params.model = model
    by_muon = {p for group in build(config.optimizer).param_groups if group["muon"] for p in group["params"]}
    for name, parameter in model.named_parameters():
        is_token = any(piece in name for piece in ("cls_token", "storage_tokens", ".gamma"))
        assert (parameter in by_muon) == (parameter.ndim >= 2 and not is_token), name


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_dim_configs_are_the_published_recipe(stage):
    config = load_config(str(ROOT / f"configs/DIM_stage{stage}.py"))
    assert (config.train.max_iter, config.train.eval_period, config.train.checkpointer.period) == (
        10**6,
        40_000,
        40_000,
    )
    assert (config.train.amp.enabled, config.dataloader.train.batch_size) == (False, 1)
    assert {build(config.lr_multiplier)(at) for at in (0, 0.1, 0.5, 0.999)} == {1}
    model = build(config.model)
    assert (model.stage, model.refiner is None, model.backbone.widths) == (stage, stage == 1, (64, 128, 256, 512, 512))
    config.optimizer._set_flag("allow_objects", True)
    config.optimizer.params.model = model
    optimizer = build(config.optimizer)
    assert type(optimizer) is torch.optim.Adam
    assert {(group["lr"], group["weight_decay"]) for group in optimizer.param_groups} == {(1e-5, 0)}
    trained = sum(p.numel() for group in optimizer.param_groups for p in group["params"])
    assert trained == {1: 26_276_802 - 76_801, 2: 76_801, 3: 26_276_802}[stage]
    recipe = build(config.dataloader.train.dataset).recipe
    assert (recipe.crop_sides, recipe.trimap_erosion, recipe.crop_centre) == ((320, 480, 640), (1, 29), "fractional")
