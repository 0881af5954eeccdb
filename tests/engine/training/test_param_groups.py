"""Parameter groups against the factors that hustvl/ViTMatte's optimizer produces."""

import pytest
import torch
from torch import nn

from engine.training.param_groups import param_groups
from modeling.backbone import ViT
from modeling.decoder import DetailCapture
from modeling.meta_arch import ParameterRoles, System

# 0.65 ** (13 - id) as printed by the published code for a 12-block ViT
PUBLISHED_FACTORS = [
    0.003697, 0.005688, 0.008751, 0.013463, 0.020712, 0.031864, 0.049022,
    0.075419, 0.116029, 0.178506, 0.274625, 0.4225, 0.65,
]  # fmt: skip


class Model(System):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = ViT(embed_dim=8, depth=12, num_heads=2, residual_block_indexes=[2], use_abs_pos=True)
        self.decoder = nn.Sequential(nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4))

    def parameter_roles(self) -> ParameterRoles:
        return ParameterRoles.of(self.backbone, self.decoder)


@pytest.fixture
def model() -> Model:
    return Model()


def settings_of(model: nn.Module, **options) -> dict[str, tuple[float, float]]:
    groups = param_groups(model, base_lr=1.0, weight_decay=0.1, layer_decay=0.65, head_lr_mult=3.0, **options)
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[p]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}


def test_layer_decay_has_the_published_factors(model):
    settings = settings_of(model)
    lr = {name: value for name, (value, _) in settings.items()}
    for name in ("patch_embed.proj.weight", "cls_token", "storage_tokens", "pos_embed"):
        assert lr[f"backbone.{name}"] == pytest.approx(PUBLISHED_FACTORS[0], abs=1e-6)
    for block in range(12):
        for name in ("attn.qkv.weight", "mlp.fc2.bias", "norm1.weight", "ls1.gamma"):
            assert lr[f"backbone.blocks.{block}.{name}"] == pytest.approx(PUBLISHED_FACTORS[block + 1], abs=1e-6)
    assert lr["backbone.blocks.2.residual.conv1.weight"] == 1
    assert lr["backbone.norm.weight"] == 1
    assert lr["decoder.0.weight"] == 3


def test_every_parameter_is_in_exactly_one_group(model):
    groups = param_groups(model, 1.0, 0.1, 0.65, 3.0)
    grouped = [p for g in groups for p in g["params"]]
    assert len(grouped) == len(set(grouped)) == len(list(model.parameters()))


def test_norms_biases_layer_scale_and_tokens_are_not_decayed(model):
    decay = {name: value for name, (_, value) in settings_of(model).items()}
    for name, value in decay.items():
        spared = (
            name.endswith(("bias", "gamma", "token", "tokens", "pos_embed"))
            or "norm" in name
            or name == "decoder.1.weight"
        )
        assert value == (0.0 if spared else 0.1), name


def test_wrappers_change_nothing(model):
    plain = settings_of(model)
    wrapper = nn.ModuleDict({"module": nn.ModuleDict({"student": model})})
    assert {name.removeprefix("module.student."): value for name, value in settings_of(wrapper).items()} == plain


def test_frozen_parameters_are_left_out(model):
    model.backbone.requires_grad_(False)
    assert all(name.startswith("decoder.") for name in settings_of(model))


def test_adamw_accepts_the_groups(model):
    optimizer = torch.optim.AdamW(param_groups(model, 5e-4, 0.1, 0.65), lr=5e-4)
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0, 0.1}


def test_muon_takes_the_matrices_that_come_without_pretrained_weights():
    model = Model()
    model.backbone = ViT(embed_dim=8, depth=3, num_heads=2, residual_block_indexes=[1], merge_block_indexes=[0])
    model.decoder = DetailCapture(8, convstream_out=[4, 4, 4], fusion_out=[4, 4, 4, 4])
    names = {parameter: name for name, parameter in model.named_parameters()}
    groups = param_groups(model, 1.0, 0.1, 0.65, 3.0, muon_for_new=True)
    marked = {names[parameter] for group in groups if group["muon"] for parameter in group["params"]}
    assert marked == {
        *(f"backbone.blocks.1.residual.conv{i}.weight" for i in (1, 2, 3)),
        "backbone.merge.0.proj.weight",
        *(f"decoder.convstream.convs.{i}.conv.weight" for i in range(3)),
        *(f"decoder.fusion_blks.{i}.conv.conv.weight" for i in range(4)),
        "decoder.matting_head.matting_convs.0.weight",  # not .3, of one row
    }
    lr_and_decay = {names[p]: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    plain = param_groups(model, 1.0, 0.1, 0.65, 3.0)
    assert lr_and_decay == {names[p]: (g["lr"], g["weight_decay"]) for g in plain for p in g["params"]}
    assert all("muon" not in group for group in plain)


def test_merge_projections_learn_at_the_full_rate():
    model = Model()
    model.backbone = ViT(embed_dim=8, depth=12, num_heads=2, merge_block_indexes=[3])
    settings = settings_of(model)
    assert settings["backbone.merge.3.proj.weight"] == (1, 0.1)
    assert settings["backbone.merge.3.norm.weight"] == (1, 0)
