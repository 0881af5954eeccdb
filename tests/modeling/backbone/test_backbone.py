"""The backbone against transformers' and timm's DINOv3, and its windows against a masked softmax."""

from functools import partial

import pytest
import torch
import torchvision
from torch import nn
from transformers import DINOv3ViTConfig, DINOv3ViTModel
from transformers.models.vitdet.configuration_vitdet import VitDetConfig
from transformers.models.vitdet.modeling_vitdet import VitDetResBottleneckBlock

from modeling.backbone import DINOV3_VARIANTS, ViT
from modeling.backbone.blocks import PatchEmbed, ResidualConvBlock, StochasticDepth
from modeling.backbone.rope import RotaryPositions
from modeling.backbone.windows import windowed_attention

DIM, DEPTH, HEADS = 48, 3, 3
SIZES = [(96, 160), (224, 224), (16, 304), (80, 48)]  # grids 6x10, 14x14, 1x19, 5x3


def randomise(model: nn.Module, seed: int = 0) -> None:
    """Draw every tensor, LayerScale and norms included, so that no default can hide a mistake."""
    generator = torch.Generator().manual_seed(seed)

    def draw(parameter, low, high):
        parameter.data.copy_(low + (high - low) * torch.rand(parameter.shape, generator=generator))

    for name, parameter in model.named_parameters():
        is_scale = "lambda1" in name or "gamma" in name or ("norm" in name and name.endswith("weight"))
        draw(parameter, 0.1 if is_scale else -0.15, 1.0 if is_scale else 0.15)


def small_vit(**settings) -> ViT:
    defaults = {"in_chans": 3, "embed_dim": DIM, "depth": DEPTH, "num_heads": HEADS, "window_size": 4}
    return ViT(**defaults | settings).eval()


def huggingface_to_official(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Rename transformers' DINOv3 tensors by hand, independently of the converter."""
    official = {
        "cls_token": state["embeddings.cls_token"],
        "storage_tokens": state["embeddings.register_tokens"],
        "patch_embed.proj.weight": state["embeddings.patch_embeddings.weight"],
        "patch_embed.proj.bias": state["embeddings.patch_embeddings.bias"],
        "norm.weight": state["norm.weight"],
        "norm.bias": state["norm.bias"],
    }
    renamed = {
        "norm1": "norm1", "norm2": "norm2", "attention.o_proj": "attn.proj", "mlp.up_proj": "mlp.fc1",
        "mlp.down_proj": "mlp.fc2",
    }  # fmt: skip
    gated = {"mlp.gate_proj": "mlp.w1", "mlp.up_proj": "mlp.w2", "mlp.down_proj": "mlp.w3"}
    if any("gate_proj" in key for key in state):
        renamed |= gated
    prefix = "model.layer." if any(key.startswith("model.layer.") for key in state) else "layer."
    for block in range(DEPTH):
        source, target = f"{prefix}{block}.", f"blocks.{block}."
        for theirs, ours in renamed.items():
            for kind in ("weight", "bias"):
                official[f"{target}{ours}.{kind}"] = state[f"{source}{theirs}.{kind}"]
        for i in (1, 2):
            official[f"{target}ls{i}.gamma"] = state[f"{source}layer_scale{i}.lambda1"]
        qkv = [state[f"{source}attention.{name}_proj.weight"] for name in "qkv"]
        query_bias, value_bias = (state[f"{source}attention.{name}_proj.bias"] for name in "qv")
        official[f"{target}attn.qkv.weight"] = torch.cat(qkv)
        official[f"{target}attn.qkv.bias"] = torch.cat([query_bias, torch.zeros(DIM), value_bias])
    return official


@pytest.fixture(scope="module", params=["mlp", "swiglu"])
def reference(request) -> tuple[DINOv3ViTModel, ViT]:
    gated = request.param == "swiglu"
    config = DINOv3ViTConfig(
        hidden_size=DIM, num_hidden_layers=DEPTH, num_attention_heads=HEADS, intermediate_size=4 * DIM,
        num_register_tokens=4, use_gated_mlp=gated, hidden_act="silu" if gated else "gelu",
    )  # fmt: skip
    theirs = DINOv3ViTModel(config).eval()
    randomise(theirs)
    ours = small_vit(ffn=request.param)
    state = huggingface_to_official(theirs.state_dict())
    ours.load_state_dict(state | {"rope_embed.periods": ours.rope_embed.periods}, strict=True)
    return theirs, ours


@pytest.mark.parametrize("size", SIZES)
def test_plain_vit_equals_transformers_dinov3(reference, size):
    theirs, ours = reference
    image = 0.3 * torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    grid = size[0] // 16, size[1] // 16
    with torch.inference_mode():
        expected = theirs(image).last_hidden_state[:, 5:].transpose(1, 2).unflatten(2, grid)
        got = ours(image)
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_plain_vit_equals_timm_dinov3(size):
    from timm.models.eva import Eva

    theirs = Eva(
        patch_size=16, embed_dim=DIM, depth=DEPTH, num_heads=HEADS, qkv_bias=False, qkv_fused=True, init_values=1e-5,
        rope_type="dinov3", rope_temperature=100, rope_rotate_half=True, use_rot_pos_emb=True, use_abs_pos_emb=False,
        num_reg_tokens=4, norm_layer=partial(nn.LayerNorm, eps=1e-5), use_fc_norm=False, num_classes=0,
        dynamic_img_size=True, img_size=256,
    ).eval()  # fmt: skip
    randomise(theirs)
    renamed = {
        key.replace("reg_token", "storage_tokens")
        .replace("gamma_1", "ls1.gamma")
        .replace("gamma_2", "ls2.gamma"): value
        for key, value in theirs.state_dict().items()
    }
    ours = small_vit(qkv_bias=False)
    ours.load_state_dict(renamed | {"rope_embed.periods": ours.rope_embed.periods}, strict=True)
    image = 0.3 * torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        tokens = theirs.forward_features(image)
        expected = tokens[:, 5:].transpose(1, 2).unflatten(2, (size[0] // 16, size[1] // 16))
        torch.testing.assert_close(ours(image), expected, atol=1e-4, rtol=0)


def test_stored_periods_are_used():
    model = small_vit()
    randomise(model)
    image = torch.randn(1, 3, 96, 160, generator=torch.Generator().manual_seed(1))
    before = model(image)
    model.rope_embed.periods.copy_(model.rope_embed.periods.bfloat16().float())
    assert 1e-6 < (model(image) - before).abs().max() < 1e-1


def masked_window_attention(q, k, v, grid, window_size, prefix_update):
    """The definition, in float64 and with a mask over all tokens: a patch sees its window and the prefix."""
    height, width = grid
    num_prefix = q.shape[2] - height * width
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    window = (rows // window_size * (width + 1) + columns // window_size).flatten()
    allowed = torch.ones(q.shape[2], q.shape[2], dtype=torch.bool)
    allowed[num_prefix:, num_prefix:] = window[:, None] == window[None]

    def softmax_attention(allowed):
        scores = q.double() @ k.double().transpose(-1, -2) / q.shape[-1] ** 0.5
        return scores.masked_fill(~allowed, float("-inf")).softmax(-1) @ v.double()

    out = softmax_attention(allowed)
    if prefix_update == "mean" and num_prefix:
        copies = []
        for number in window.unique():
            in_window = torch.cat([torch.ones(num_prefix, dtype=torch.bool), window == number])
            copies.append(softmax_attention(in_window.expand_as(allowed))[:, :, :num_prefix])
        out[:, :, :num_prefix] = torch.stack(copies).mean(0)
    return out


@pytest.mark.parametrize("prefix_update", ["global", "mean"])
@pytest.mark.parametrize("num_prefix", [0, 5])
@pytest.mark.parametrize("grid", [(4, 4), (8, 12), (6, 11), (3, 2), (9, 4)])
def test_windowed_attention_equals_masked_softmax(grid, num_prefix, prefix_update):
    generator = torch.Generator().manual_seed(0)
    q, k, v = torch.randn(3, 2, 3, num_prefix + grid[0] * grid[1], 8, generator=generator)
    expected = masked_window_attention(q, k, v, grid, 4, prefix_update)
    got = windowed_attention(q, k, v, grid, 4, prefix_update)
    torch.testing.assert_close(got.double(), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [{}, {"rope_in_windows": "window"}, {"window_padding": "zeros"}, {"window_prefix": "mean"}],
    ids=lambda s: next(iter(s.items()), ("default",))[0],
)
def test_one_window_is_the_plain_model(settings):
    plain, windowed = small_vit(window_size=14), small_vit(window_size=14, window_block_indexes=[0, 2], **settings)
    randomise(plain)
    windowed.load_state_dict(plain.state_dict())
    image = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(windowed(image), plain(image), atol=1e-5, rtol=0)


def test_restarted_coordinates_treat_each_window_as_an_image():
    """With no global block and no prefix, "window" coordinates make every window an image of its own."""
    model = small_vit(
        window_block_indexes=[0, 1, 2], rope_in_windows="window", use_cls_token=False, num_register_tokens=0
    )
    randomise(model)
    image = torch.randn(1, 3, 128, 192, generator=torch.Generator().manual_seed(1))
    whole = model(image)
    corner = model(image[..., 64:, 128:])  # the window in the second row, third column
    torch.testing.assert_close(whole[..., 4:, 8:], corner, atol=1e-5, rtol=0)


def test_zero_padding_joins_the_softmax_only_when_asked():
    """On a 1x1 grid attention is the value itself; 15 zero tokens (keys 0, values = bias) dilute it."""
    masked = small_vit(window_block_indexes=[0, 1, 2])
    randomise(masked)
    padded = small_vit(window_block_indexes=[0, 1, 2], window_padding="zeros")
    padded.load_state_dict(masked.state_dict())
    plain = small_vit()
    plain.load_state_dict(masked.state_dict())
    image = torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(masked(image), plain(image), atol=1e-5, rtol=0)
    assert (padded(image) - plain(image)).abs().max() > 1e-3


def test_residual_blocks_start_as_identity():
    plain, hybrid = small_vit(), small_vit(residual_block_indexes=[0, 2])
    randomise(plain)
    missing, unexpected = hybrid.load_state_dict(plain.state_dict(), strict=False)
    assert not unexpected
    assert all(".residual." in key for key in missing)
    image = torch.randn(1, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(hybrid(image), plain(image), atol=0, rtol=0)


def test_residual_block_equals_vitdet_of_transformers():
    theirs = VitDetResBottleneckBlock(VitDetConfig(hidden_size=DIM), DIM, DIM, DIM // 2).eval()
    ours = ResidualConvBlock(DIM).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    randomise(theirs)
    randomise(ours)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, DIM, 7, 9, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(ours(x), theirs(x), atol=1e-5, rtol=1e-5)


def test_sides_that_no_patch_divides_are_zero_padded():
    model = small_vit()
    randomise(model)
    image = torch.randn(1, 3, 37, 50, generator=torch.Generator().manual_seed(1))
    padded = nn.functional.pad(image, (0, 14, 0, 11))
    torch.testing.assert_close(model(image), model(padded), atol=0, rtol=0)
    assert model(torch.zeros(1, 3, 1, 1)).shape == (1, DIM, 1, 1)


def test_absolute_positions_equal_timm_vit():
    """DINO v1 and MAE: absolute positions, no registers, LayerScale or rotary positions, eps 1e-6."""
    from timm.models.vision_transformer import VisionTransformer

    theirs = VisionTransformer(
        img_size=224, patch_size=16, embed_dim=DIM, depth=DEPTH, num_heads=HEADS, num_classes=0, global_pool="",
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    ).eval()  # fmt: skip
    randomise(theirs)
    ours = small_vit(
        num_register_tokens=0, layer_scale_init=None, rope_base=None, use_abs_pos=True,
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )  # fmt: skip
    ours.load_state_dict(theirs.state_dict(), strict=True)
    image = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(1))
    expected = theirs(image)[:, 1:].transpose(1, 2).unflatten(2, (14, 14))
    torch.testing.assert_close(ours(image), expected, atol=1e-4, rtol=0)


def hybrid_vit(**settings) -> ViT:
    return small_vit(window_block_indexes=[0, 1], residual_block_indexes=[2], **settings)


def test_gradient_reaches_every_parameter():
    model = hybrid_vit().train()
    randomise(model)
    model(torch.randn(1, 3, 96, 80)).square().sum().backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


def test_key_bias_gets_no_gradient():
    model = hybrid_vit().train()
    randomise(model)
    model(torch.randn(1, 3, 96, 80)).square().sum().backward()
    for block in model.blocks:
        query, key, value = block.attn.qkv.bias.grad.chunk(3)
        assert key.abs().max() == 0
        assert query.abs().min() > 0
        assert value.abs().min() > 0


def test_activation_checkpointing_changes_no_gradient():
    image = torch.randn(1, 3, 96, 80, generator=torch.Generator().manual_seed(1))
    gradients = []
    for use_act_checkpoint in (False, True):
        model = hybrid_vit(use_act_checkpoint=use_act_checkpoint, drop_path_rate=0.5, rope_rescale=2.0).train()
        randomise(model)
        torch.manual_seed(3)
        model(image).square().sum().backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    torch.testing.assert_close(gradients[0], gradients[1])


def test_rope_rescale_acts_in_training_only():
    model = small_vit(rope_rescale=2.0)
    randomise(model)
    image = torch.randn(1, 3, 96, 80)
    torch.testing.assert_close(model(image), model(image), atol=0, rtol=0)
    model.train()
    torch.manual_seed(0)
    factors = [model.rope_embed.draw_scale() for _ in range(2000)]
    assert 0.5 <= min(factors) < 0.52
    assert 1.95 < max(factors) <= 2
    assert sum(factor < 1 for factor in factors) == pytest.approx(1000, abs=100)  # log-uniform: half of them shrink
    assert (model(image) - model(image)).abs().max() > 1e-4


def test_rotary_tables_stay_float32_under_autocast():
    model = small_vit()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cos, sin = model.rope_embed((5, 7))
    expected = model.rope_embed((5, 7))
    assert cos.dtype == torch.float32
    torch.testing.assert_close((cos, sin), expected, atol=0, rtol=0)


def test_drop_path_rises_to_its_rate():
    model = small_vit(drop_path_rate=0.4)
    assert [block.drop_path.p for block in model.blocks] == [0, 0.2, 0.4]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("shape", [(64, 5), (64, 4, 3, 2)])
def test_stochastic_depth_is_torchvisions(shape, p, training):
    x = torch.randn(shape)
    torch.manual_seed(0)
    ours = StochasticDepth(p).train(training)(x)
    torch.manual_seed(0)
    torch.testing.assert_close(ours, torchvision.ops.stochastic_depth(x, p, "row", training), atol=0, rtol=0)


@pytest.mark.parametrize(
    "settings",
    [{"out_feature": "stage4"}, {"ffn": "glu"}, {"rope_in_windows": "grid"}, {"window_block_indexes": [3]}],
)
def test_impossible_settings_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        small_vit(**settings)


def test_an_unknown_field_is_an_error():
    with pytest.raises(TypeError, match="use_conv"):
        ViT(use_conv=True)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("vits16", 21.6),
        ("vits16plus", 28.7),
        ("vitb16", 85.7),
        ("vitl16", 303.2),
        ("vitl16plus", 403.9),
        ("vith16plus", 840.6),
    ],
)
def test_published_variants_have_their_published_size(name, millions):
    variant = DINOV3_VARIANTS[f"dinov3_{name}"]
    with torch.device("meta"):
        model = ViT(
            in_chans=3, embed_dim=variant.embed_dim, depth=variant.depth, num_heads=variant.num_heads,
            ffn=variant.ffn, mlp_ratio=variant.mlp_ratio,
        )  # fmt: skip
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)


@pytest.mark.parametrize("grid", [(4, 4), (4, 9), (2, 7), (1, 1)])
def test_a_fixed_step_is_centred_and_that_of_the_training_crop(grid):
    rope = RotaryPositions(head_dim=4, step_grid=4)  # one frequency an axis, of period 1
    cos, sin = rope(grid)
    places = [(torch.arange(length) - (length - 1) / 2) * 0.5 for length in grid]  # 4 patches span -1 to 1
    rows, columns = torch.meshgrid(*places, indexing="ij")
    angles = 2 * torch.pi * torch.stack([rows.flatten(), columns.flatten()], dim=1)
    torch.testing.assert_close(cos, angles.cos(), atol=1e-5, rtol=0)
    torch.testing.assert_close(sin, angles.sin(), atol=1e-5, rtol=0)


def test_a_fixed_step_changes_nothing_at_the_training_crop_nor_in_restarted_windows():
    stretched, fixed = RotaryPositions(16), RotaryPositions(16, step_grid=6)
    for ours, theirs in zip(fixed((6, 6)), stretched((6, 6)), strict=True):
        torch.testing.assert_close(ours, theirs, atol=0, rtol=0)
    for ours, theirs in zip(fixed((9, 11), restart=4), stretched((9, 11), restart=4), strict=True):
        torch.testing.assert_close(ours, theirs, atol=0, rtol=0)


@pytest.mark.parametrize(("coordinates", "same"), [("step", True), ("image", False)])
def test_with_a_fixed_step_a_window_looks_the_same_inside_a_large_image(coordinates, same):
    """Attention sees differences of coordinates, so a window's features are those of the window as an image."""
    vit = small_vit(
        rope_coordinates=coordinates, img_size=128, window_size=4, window_block_indexes=range(DEPTH),
        use_cls_token=False, num_register_tokens=0,
    )  # fmt: skip
    randomise(vit)
    image = torch.randn(1, 3, 192, 320, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        whole = vit(image)
        alone = vit(image[..., 64:128, 128:192])
    difference = (whole[..., 4:8, 8:12] - alone).abs().max()
    assert (difference < 1e-4) == same, difference


@pytest.mark.parametrize("rope_in_windows", ["image", "window"])
def test_step_and_rescale_together_train(rope_in_windows):
    vit = small_vit(
        rope_coordinates="step", rope_in_windows=rope_in_windows, rope_rescale=2.0, img_size=64,
        window_block_indexes=[0], layer_scale_init=1.0,
    )  # fmt: skip
    randomise(vit)
    image = torch.randn(1, 3, 160, 96, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert torch.equal(vit(image), vit(image))
        vit.train()
        torch.manual_seed(0)
        assert not torch.allclose(vit(image), vit(image), atol=1e-3)


def test_merged_features_start_as_those_without():
    torch.manual_seed(0)
    plain = small_vit(window_block_indexes=[1], residual_block_indexes=[2])
    randomise(plain)
    merging = small_vit(window_block_indexes=[1], residual_block_indexes=[2], merge_block_indexes=[0, 1])
    missing, unexpected = merging.load_state_dict(plain.state_dict(), strict=False)
    assert {key.split(".")[0] for key in missing} == {"merge"}
    assert not unexpected
    image = torch.randn(2, 3, 96, 80, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert torch.equal(merging(image), plain(image))


def test_merged_features_are_the_sum_of_projected_blocks():
    vit = small_vit(window_block_indexes=[1], residual_block_indexes=[1], merge_block_indexes=[0, 1])
    randomise(vit)
    outputs = []
    for block in vit.blocks:
        block.register_forward_hook(lambda module, inputs, output: outputs.append(output))
    image = torch.randn(2, 3, 96, 80, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        got = vit(image)
        expected = nn.functional.layer_norm(outputs[-1], (DIM,), vit.norm.weight, vit.norm.bias, 1e-5)
        for index in (0, 1):
            tokens = outputs[index].double()
            state = {key: value.double() for key, value in vit.merge[str(index)].state_dict().items()}
            centred = tokens - tokens.mean(-1, keepdim=True)
            normal = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
            normal = normal * state["norm.weight"] + state["norm.bias"]
            expected = expected + normal @ state["proj.weight"].T
    expected = expected[:, 5:].transpose(1, 2).unflatten(2, (6, 5)).float()
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=0)


def test_merging_leaves_the_needed_features_alone():
    vit = small_vit(residual_block_indexes=[2], merge_block_indexes=[0, 2])
    randomise(vit)
    image = torch.randn(2, 3, 128, 112, generator=torch.Generator().manual_seed(1))
    needed = torch.zeros(1, 8, 7, dtype=torch.bool)
    needed[:, 2:4, 3:5] = True
    with torch.inference_mode():
        everywhere, some = vit(image), vit(image, needed=needed)
    torch.testing.assert_close(some[:, :, 2:4, 3:5], everywhere[:, :, 2:4, 3:5], atol=1e-5, rtol=0)
    assert some.isfinite().all()


def test_merging_trains_with_activation_checkpointing():
    gradients = []
    for use_act_checkpoint in (False, True):
        vit = small_vit(merge_block_indexes=[0, 1], use_act_checkpoint=use_act_checkpoint).train()
        randomise(vit)
        vit(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))).square().sum().backward()
        assert all(parameter.grad is not None for parameter in vit.parameters())
        gradients.append([parameter.grad for parameter in vit.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_zero_projections_learn_from_the_first_step():
    vit = small_vit(merge_block_indexes=[0]).train()
    vit(torch.randn(1, 3, 64, 64)).square().sum().backward()
    assert vit.merge["0"].proj.weight.grad.abs().max() > 0


@pytest.mark.parametrize("channels", [3, 4, 6, 8])
def test_patches_in_bfloat16_are_those_of_float32(channels):
    torch.manual_seed(0)
    embed = PatchEmbed(channels, 32, 16)
    image = torch.rand(1, channels, 64, 80)
    patches = image.unfold(2, 16, 16).unfold(3, 16, 16)  # (1, C, 4, 5, 16, 16)
    expected = torch.einsum("bchwij,dcij->bhwd", patches, embed.proj.weight).flatten(1, 2) + embed.proj.bias
    with torch.autocast("cpu", dtype=torch.bfloat16):
        tokens, grid = embed(image)
    assert (tokens.dtype, grid) == (torch.bfloat16, (4, 5))
    assert (tokens.float() - expected).abs().max() <= 0.02 * expected.std()
