"""Maps of several blocks against transformers' hidden states and timm's intermediate layers, after our conversion."""

import re

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import DINOv3ViTConfig, DINOv3ViTModel, ViTConfig, ViTModel

from modeling.backbone import ViT
from modeling.pretrained import Architecture, convert
from runtime.errors import InputError

DEPTH = 5
ODD = (75, 131)  # no patch size divides either side
BLOCKS = [3, 0, 4]  # neither sorted nor all


@torch.no_grad()
def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Draw every tensor, LayerScale, norms and tokens included, so that no default can hide a mistake."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if re.search(r"gamma|lambda1|norm\w*\.weight$", name):
            parameter.uniform_(0.5, 1.5, generator=generator)
        elif parameter.ndim == 1:
            parameter.normal_(0, 0.2, generator=generator)
        else:
            parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
    return model.eval()


def converted(reference: nn.Module, config: dict | None = None) -> ViT:
    conversion = convert(reference.state_dict(), config=config)
    vit = ViT(**Architecture.from_metadata(conversion.metadata).vit_arguments())
    vit.load_state_dict({key.removeprefix("backbone."): tensor for key, tensor in conversion.model.items()})
    return vit.eval()


def image(size: tuple[int, int]) -> Tensor:
    return torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))


def padded(x: Tensor, patch: int) -> Tensor:
    """The references cut incomplete patches off; this backbone fills them with zeros."""
    return F.pad(x, (0, -x.shape[-1] % patch, 0, -x.shape[-2] % patch))


def transformers_maps(model: nn.Module, final_norm: nn.Module, x: Tensor, patch: int, prefix: int, **options) -> list:
    """The final norm applied to the hidden states after every block, as maps."""
    x = padded(x, patch)
    grid = [side // patch for side in x.shape[-2:]]
    states = model(x, output_hidden_states=True, **options).hidden_states[1:]  # the first is the embedding
    assert len(states) == DEPTH
    return [final_norm(state)[:, prefix:].unflatten(1, grid).permute(0, 3, 1, 2) for state in states]


def assert_same(maps: list[Tensor], expected: list[Tensor]) -> None:
    assert len(maps) == len(expected)
    for ours, theirs in zip(maps, expected, strict=True):
        assert theirs.std() > 0.1
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


# --- DINOv3 ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def dinov3() -> tuple[DINOv3ViTModel, ViT]:
    config = DINOv3ViTConfig(
        hidden_size=64, num_hidden_layers=DEPTH, num_attention_heads=4, intermediate_size=256, num_register_tokens=4
    )
    theirs = randomise(DINOv3ViTModel(config))
    return theirs, converted(theirs, theirs.config.to_dict())


@pytest.mark.parametrize("size", [(96, 160), ODD])
@torch.no_grad()
def test_dinov3_gives_the_normed_hidden_states_of_transformers(dinov3, size):
    theirs, ours = dinov3
    expected = transformers_maps(theirs, theirs.norm, image(size), 16, prefix=5)
    assert_same(ours.features(image(size), list(range(DEPTH))), expected)
    assert_same(ours.features(image(size), BLOCKS), [expected[index] for index in BLOCKS])
    assert_same([ours(image(size))], expected[-1:])


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("size", [(96, 160), ODD])
@torch.no_grad()
def test_dinov3_gives_the_intermediates_of_timm(size, norm):
    theirs = randomise(timm.create_model("vit_small_patch16_dinov3_qkvb", depth=DEPTH), 2)
    ours = converted(theirs)
    options = {"indices": BLOCKS, "norm": norm, "intermediates_only": True}
    expected = theirs.forward_intermediates(padded(image(size), 16), **options)  # in the order of the blocks
    assert_same(ours.features(image(size), BLOCKS, norm=norm), [expected[sorted(BLOCKS).index(i)] for i in BLOCKS])


# --- DINO --------------------------------------------------------------------------------------------------------


def timm_dino(patch: int, **settings) -> nn.Module:
    settings = {"depth": DEPTH, "embed_dim": 384, "num_heads": 6, "num_classes": 0, "patch_size": patch, **settings}
    return randomise(timm.create_model("vit_small_patch16_224", **settings), 3)


def transformers_vit(source: dict[str, Tensor], patch: int) -> ViTModel:
    """transformers' ViT with the weights of timm's, renamed by hand: it resizes positions as this project does."""
    config = ViTConfig(
        hidden_size=384, num_hidden_layers=DEPTH, num_attention_heads=6, intermediate_size=1536, image_size=224,
        patch_size=patch, layer_norm_eps=1e-6, hidden_act="gelu",
    )  # fmt: skip
    model = ViTModel(config, add_pooling_layer=False).eval()
    names = {
        "embeddings.cls_token": "cls_token", "embeddings.position_embeddings": "pos_embed",
        "embeddings.patch_embeddings.projection": "patch_embed.proj", "layernorm_before": "norm1",
        "layernorm_after": "norm2", "intermediate.dense": "mlp.fc1", "attention.output.dense": "attn.proj",
        "attention.o_proj": "attn.proj", "output.dense": "mlp.fc2", "layernorm": "norm",
    }  # fmt: skip
    state = {}
    for key in model.state_dict():
        stem = re.sub(r"^(encoder\.layer|layers)\.", "blocks.", key)
        joint = re.fullmatch(r"(blocks\.\d+)\.attention\.(?:attention\.)?(query|key|value|[qkv]_proj)\.(\w+)", stem)
        if joint:
            part = "qkv".index(joint[2][0])
            state[key] = source[f"{joint[1]}.attn.qkv.{joint[3]}"].chunk(3)[part]
            continue
        for theirs, ours in names.items():
            stem = stem.replace(theirs, ours)
        state[key] = source[stem]
    model.load_state_dict(state)
    return model


@pytest.mark.parametrize("patch", [8, 16])
@pytest.mark.parametrize("norm", [True, False])
@torch.no_grad()
def test_dino_gives_the_intermediates_of_timm_on_its_own_grid(patch, norm):
    theirs = timm_dino(patch)
    ours = converted(theirs)
    x = image((224, 224))[:1]
    expected = theirs.forward_intermediates(x, indices=BLOCKS, norm=norm, intermediates_only=True)
    assert_same(ours.features(x, BLOCKS, norm=norm), [expected[sorted(BLOCKS).index(index)] for index in BLOCKS])


@pytest.mark.parametrize("patch", [8, 16])
@torch.no_grad()
def test_dino_gives_the_normed_hidden_states_of_transformers_at_odd_sizes(patch):
    source = timm_dino(patch)
    theirs, ours = transformers_vit(source.state_dict(), patch), converted(source)
    options = {"prefix": 1, "interpolate_pos_encoding": True}
    expected = transformers_maps(theirs, theirs.layernorm, image(ODD), patch, **options)
    assert_same(ours.features(image(ODD), BLOCKS), [expected[index] for index in BLOCKS])
    assert_same([ours(image(ODD))], expected[-1:])


# --- what is asked for -------------------------------------------------------------------------------------------


@torch.no_grad()
def test_negative_indexes_count_from_the_last_block_and_repeats_are_kept(dinov3):
    theirs, ours = dinov3
    expected = transformers_maps(theirs, theirs.norm, image((48, 80)), 16, prefix=5)
    maps = ours.features(image((48, 80)), [-1, 1, -DEPTH, 1])
    assert_same(maps, [expected[index] for index in (4, 1, 0, 1)])


@pytest.mark.parametrize(("blocks", "calls"), [([2, 0], 3), ([-1], DEPTH), ([0], 1), ([], 0)])
@torch.no_grad()
def test_blocks_behind_the_last_one_asked_for_do_not_run(dinov3, blocks, calls):
    _, ours = dinov3
    ran = []
    hooks = [
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
        for index, block in enumerate(ours.blocks)
    ]
    maps = ours.features(image((48, 80)), blocks)
    for hook in hooks:
        hook.remove()
    assert ran == list(range(calls))
    assert len(maps) == len(blocks)


@pytest.mark.parametrize("blocks", [[DEPTH], [0, -DEPTH - 1]])
def test_a_block_that_is_not_there_is_refused_by_its_number(dinov3, blocks):
    with pytest.raises(InputError, match=rf"blocks from -5 to 4, got \[{blocks[-1]}\]"):
        dinov3[1].features(image((48, 80)), blocks)
