"""The original ViTMatte against transformers', its attention against a float64 formula, and partial features."""

from functools import partial

import pytest
import torch
from tiny import ROOT
from torch import nn

from engine.config import build, load_config
from engine.training.param_groups import param_groups
from modeling.backbone import ViT, partial_block, relative_positions
from modeling.backbone.relative_positions import relative_attention, resize_table
from modeling.backbone.windows import windowed_attention
from modeling.criterion import MattingCriterion
from modeling.decoder import DetailCapture
from modeling.meta_arch import ViTMatte
from modeling.pretrained import convert
from modeling.pretrained.architecture import VITMATTE_VARIANTS
from modeling.weights.loading import load_model
from tests.references.reference_vitmatte import (
    PUBLISHED_DECODER,
    PUBLISHED_S,
    huggingface_vitmatte,
    original_names,
    our_vitmatte,
    random_batch,
    unknown_alphas,
)

CONFIGS = {"vitmatte_s": "ViTMatte_S_dino", "vitmatte_b": "ViTMatte_B_mae"}


def original_vit(**settings) -> ViT:
    """A small backbone of the original kind, every tensor random."""
    defaults = {
        "embed_dim": 32, "num_heads": 2, "depth": 3, "img_size": 96, "window_size": 3, "window_block_indexes": [0],
        "residual_block_indexes": [1, 2], "num_register_tokens": 0, "use_cls_token": False, "rope_base": None,
        "layer_scale_init": None, "window_padding": "zeros", "use_abs_pos": True, "pretrain_img_size": 64,
        "use_rel_pos": True, "final_norm": False, "norm_layer": partial(nn.LayerNorm, eps=1e-6),
    }  # fmt: skip
    return draw(ViT(**defaults | settings))


def draw(model: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3, generator=generator)
    return model.eval()


def pixels(*size: int) -> torch.Tensor:
    return torch.randn(*size, generator=torch.Generator().manual_seed(1))


# --- alpha ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small():
    theirs = huggingface_vitmatte()
    return theirs, theirs.state_dict()


@pytest.mark.parametrize("size", [(128, 128), (96, 160), (33, 71), (256, 224), (1, 50)])
def test_alpha_equals_transformers(small, size):
    """Sizes of the tables, smaller, larger, padded, with windows of 3 that do not divide the grid."""
    theirs, state = small
    conversion = convert(original_names(state))
    ours = our_vitmatte(conversion.metadata, conversion.model)
    got, expected = unknown_alphas(ours, theirs, random_batch(size, batch=2))
    assert expected.std() > 0.01
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


def test_alpha_of_vitmatte_s_equals_transformers():
    theirs = huggingface_vitmatte(PUBLISHED_S, PUBLISHED_DECODER)
    ours = build(load_config(str(ROOT / "configs/ViTMatte_S_dino.py")).model).eval()
    conversion = convert(original_names(theirs.state_dict()))
    assert conversion.metadata["arch"] == "vitmatte_s"
    load_model(ours, {"model": conversion.model, "metadata": conversion.metadata}, "converted.pth")
    for size in [(512, 512), (320, 448), (200, 333)]:
        got, expected = unknown_alphas(ours, theirs, random_batch(size))
        torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


# --- attention -----------------------------------------------------------------------------------------------------


def literal_relative_attention(q, k, v, table_h, table_w, grid):
    """The published definition, one key and query at a time, float64; tables of the grid's own size."""
    height, width = grid
    q, k, v, table_h, table_w = (t.double() for t in (q, k, v, table_h, table_w))
    logits = torch.empty(*q.shape[:2], height * width, height * width, dtype=torch.float64)
    for query in range(height * width):
        for key in range(height * width):
            down, right = query // width - key // width, query % width - key % width
            relative = table_h[down + height - 1] + table_w[right + width - 1]
            logits[..., query, key] = (q[:, :, query] * (k[:, :, key] / q.shape[-1] ** 0.5 + relative)).sum(-1)
    return logits.softmax(-1) @ v


@pytest.mark.parametrize("chunk_bytes", [2**26, 20 * 4 * 20 * 2 * 3, 3 * 20 * 4, 1])
def test_relative_attention_equals_the_formula_however_it_is_cut(monkeypatch, chunk_bytes):
    """All at once; whole images; a few queries of one head; one query at a time."""
    monkeypatch.setitem(relative_positions.CHUNK_BYTES, "cpu", chunk_bytes)
    grid = (4, 5)
    q, k, v = pixels(3, 4, 2, 20, 8)
    table_h, table_w = pixels(7, 8), pixels(9, 8)
    expected = literal_relative_attention(q, k, v, table_h, table_w, grid)
    rows, columns = torch.arange(20) // 5, torch.arange(20) % 5
    with torch.inference_mode():
        got = relative_attention(q, k, v, table_h, table_w, rows, columns, grid)
    torch.testing.assert_close(got.double(), expected, atol=1e-5, rtol=1e-5)
    some = torch.tensor([3, 4, 11, 19])
    got = relative_attention(q[:, :, some], k, v, table_h, table_w, rows[some], columns[some], grid)
    torch.testing.assert_close(got.double(), expected[:, :, some], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("grid", [(6, 6), (7, 8), (2, 1)])
def test_zero_padded_windows_equal_whole_windows_of_a_padded_grid(grid):
    q, k, v = pixels(3, 2, 2, grid[0] * grid[1], 8)
    padded = tuple(-(-length // 3) * 3 for length in grid)
    padding = (0, 0, 0, padded[1] - grid[1], 0, padded[0] - grid[0])
    whole = [nn.functional.pad(t.unflatten(2, grid), padding).flatten(2, 3) for t in (q, k, v)]
    expected = windowed_attention(*whole, padded, 3, "global").unflatten(2, padded)[:, :, : grid[0], : grid[1]]
    got = windowed_attention(q, k, v, grid, 3, "global", zero_padding=True)
    torch.testing.assert_close(got, expected.flatten(2, 3), atol=1e-5, rtol=1e-5)


def test_chunks_respect_the_budget():
    for shape, keys in [((1, 6, 4096), 4096), ((25, 6, 196), 196), ((1, 12, 100_000), 100_000), ((2, 3, 5), 7)]:
        q = torch.empty(*shape, 0)
        chunks = list(relative_positions._chunks(q, keys))
        sizes = [[len(range(n)[cut]) for n, cut in zip(shape, chunk, strict=True)] for chunk in chunks]
        assert sum(images * heads * queries for images, heads, queries in sizes) == shape[0] * shape[1] * shape[2]
        largest = max(images * heads * queries * keys * 4 for images, heads, queries in sizes)
        assert largest <= relative_positions.CHUNK_BYTES["cpu"]


def test_tables_are_resized_linearly_as_transformers_does():
    from transformers.models.vitdet.modeling_vitdet import get_rel_pos

    table = pixels(13, 8)
    for length in (3, 7, 20):
        distances = torch.arange(length)[:, None] - torch.arange(length) + length - 1
        torch.testing.assert_close(resize_table(table, length)[distances], get_rel_pos(length, length, table))


def test_a_key_bias_changes_nothing():
    model = original_vit()
    before = model(pixels(1, 4, 112, 80))
    for block in model.blocks:
        block.attn.qkv.bias.data[32:64] += 5
    torch.testing.assert_close(model(pixels(1, 4, 112, 80)), before, atol=0, rtol=0)


@pytest.mark.parametrize("use_act_checkpoint", [False, True])
@pytest.mark.parametrize("chunk_bytes", [2**26, 1000])
def test_gradients_reach_all_and_do_not_depend_on_chunks_or_checkpointing(monkeypatch, use_act_checkpoint, chunk_bytes):
    def gradients(model):
        model.train()(pixels(2, 4, 112, 80)).square().mean().backward()
        return {name: parameter.grad for name, parameter in model.named_parameters()}

    expected = gradients(original_vit())
    dead = [name for name, gradient in expected.items() if not gradient.abs().sum() > 0]
    assert dead == []
    monkeypatch.setitem(relative_positions.CHUNK_BYTES, "cpu", chunk_bytes)
    got = gradients(original_vit(use_act_checkpoint=use_act_checkpoint))
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("settings", [{"use_cls_token": True}, {"num_register_tokens": 4}, {"rope_base": 100.0}])
def test_relative_positions_exclude_what_has_no_place_in_them(settings):
    with pytest.raises(ValueError, match="use_rel_pos needs"):
        original_vit(**settings)


# --- partial features ----------------------------------------------------------------------------------------------

BACKBONES = {
    "original": original_vit,
    "original without convolutions": lambda: original_vit(residual_block_indexes=[]),
    "dinov3": lambda: draw(ViT(embed_dim=32, num_heads=2, depth=2)),
    "dinov3 hybrid": lambda: draw(
        ViT(embed_dim=32, num_heads=2, depth=3, window_size=3, window_block_indexes=[0, 1], residual_block_indexes=[2])
    ),
    "windowed last": lambda: draw(ViT(embed_dim=32, num_heads=2, depth=2, window_size=3, window_block_indexes=[1])),
}


@pytest.mark.parametrize("name", BACKBONES)
def test_needed_patches_are_exact_and_the_others_finite(name):
    model, image = BACKBONES[name](), pixels(2, 4, 144, 112)
    generator = torch.Generator().manual_seed(2)
    with torch.inference_mode():
        expected = model(image)
        for share in (0, 0.01, 0.05, 0.3, 1):
            for maps in (1, 2):
                needed = torch.rand(maps, 9, 7, generator=generator) < share
                got = model(image, needed)
                assert got.isfinite().all()
                at = needed.expand(2, -1, -1)
                picked = [features.permute(0, 2, 3, 1)[at] for features in (got, expected)]
                torch.testing.assert_close(*picked, atol=2e-5, rtol=1e-5)


def test_needed_saves_the_last_blocks_queries(monkeypatch):
    model, image = original_vit(), pixels(1, 4, 144, 112)
    widths = []
    model.blocks[-1].mlp.register_forward_pre_hook(lambda _, inputs: widths.append(inputs[0].shape[1]))
    needed = torch.zeros(1, 9, 7, dtype=torch.bool)
    needed[0, 4, 3] = True
    model(image, needed)
    monkeypatch.setattr(partial_block, "WORTHWHILE_SHARE", 0)
    model(image, needed)
    model.train()(image, needed)
    assert widths == [9, 63, 63]  # the patch and its eight neighbours, which its convolution reads


# --- configs and training ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_are_the_published_models(name):
    config = load_config(str(ROOT / f"configs/{CONFIGS[name]}.py"))
    with torch.device("meta"):
        model = build(config.model)
    backbone = model.backbone
    width, depth, heads = VITMATTE_VARIANTS[name]
    assert (backbone.embed_dim, len(backbone.blocks), backbone.blocks[0].attn.num_heads) == (width, depth, heads)
    lengths = {index: len(block.attn.rel_pos_h) for index, block in enumerate(backbone.blocks)}
    assert lengths == {index: 63 if index in (2, 5, 8, 11) else 27 for index in range(12)}
    assert {block.norm1.eps for block in backbone.blocks} == {1e-6}
    if name == "vitmatte_s":
        assert len(model.state_dict()) == 258  # as in the published file


def test_relative_positions_learn_with_their_block_and_decay():
    """ViTDet's settings decay them: they exempt `pos_embed` alone."""
    decoder = DetailCapture(32, convstream_out=[8, 8, 8], fusion_out=[8, 8, 8, 8])
    statistics = {"pixel_mean": [0.5] * 3, "pixel_std": [0.25] * 3}
    model = ViTMatte(backbone=original_vit(), decoder=decoder, criterion=MattingCriterion(), **statistics)
    groups = param_groups(model, base_lr=1.0, weight_decay=0.1, layer_decay=0.5)
    setting = {p: (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}
    for index, block in enumerate(model.backbone.blocks):
        assert setting[block.attn.rel_pos_h] == setting[block.attn.qkv.weight] == (0.5 ** (3 - index), 0.1)
    assert setting[model.backbone.pos_embed] == (0.5**4, 0.0)


def test_training_starts_from_dino_weights():
    """As preprocess.py converts them: relative positions, convolutions and decoder start fresh, no more."""
    timm = pytest.importorskip("timm")
    config = load_config(str(ROOT / "configs/ViTMatte_S_dino.py"), ["model.backbone.depth=4"])
    config.model.backbone.window_block_indexes, config.model.backbone.residual_block_indexes = [0, 1], [2, 3]
    model = build(config.model)
    dino = timm.create_model("vit_small_patch16_224", depth=4, num_classes=0)
    conversion = convert(dino.state_dict())
    load_model(model, {"model": conversion.model, "metadata": conversion.metadata}, "dino.pth", pretrained=True)
    torch.testing.assert_close(model.backbone.blocks[3].mlp.fc1.weight, dino.blocks[3].mlp.fc1.weight)
    assert not any(block.attn.rel_pos_h.any() for block in model.backbone.blocks)
    batch = random_batch((64, 96)) | {"alpha": torch.rand(1, 1, 64, 96)}
    sum(model.train()(batch).values()).backward()
    assert all(block.attn.rel_pos_w.grad.abs().sum() > 0 for block in model.backbone.blocks)
