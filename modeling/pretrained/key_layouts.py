"""Key layouts of published models, and the name of each key in this project's models.

The backbone uses the names of the official DINOv3 checkpoints, here without "backbone.". Attention that a layout stores
in separate tensors is mapped to the part names `attn.{q,k,v}.{weight,bias}`, which modeling/pretrained/qkv.py joins.
Other parts of whole matting models have ViTMatte's names ("decoder.").
"""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

from modeling.backbone.vgg16 import DEPTHS as VGG16_DEPTHS
from runtime.errors import InputError

_FIELDS = {
    "i": "(?P<i>0|[1-9][0-9]{0,3})",  # index of a block or layer
    "c": "(?:0|[1-9][0-9]{0,3})",  # index of a chunk of blocks, which is ignored
    "p": "(?P<p>weight|bias)",  # parameter of a layer
    "b": "(?P<b>weight|bias|running_mean|running_var|num_batches_tracked)",  # tensor of a batch norm
    "any": "(?P<any>.+)",  # for layouts with this project's names; wrong names are found when tensors are counted
}


@dataclass(frozen=True)
class KeyLayout:
    """Names of the tensors of a ViT in one published layout.

    Args:
        name: "official", "huggingface", "timm", "plain", "mmagic" or "torchvision".
        family: "dinov3" (registers, rotary positions, LayerScale), "dinov2" (absolute positions, LayerScale, perhaps
            registers), "plain" (absolute positions only), "vitmatte" (a whole matting model on ViTDet's backbone with
            absolute and relative positions and windows), "diffmatte" (a whole model with a diffusion decoder, on any of
            its encoders), "vgg16" (an encoder), "dim" (a whole Deep Image Matting model) or "frozen" (DINOv3 with a
            decoder on its features).
        renames: source key -> this project's key. `{i}` stands for an index, `{c}` for an index that is dropped, `{p}`
            for weight or bias, `{b}` for a tensor of a batch norm, `{any}` for any text.
        ignored: pattern of a source key -> reason why the model does not need it.
    """

    name: str
    family: str
    renames: dict[str, str]
    ignored: dict[str, str]

    @cached_property
    def _patterns(self) -> list[tuple[re.Pattern[str], str]]:
        compiled = []
        for source, target in self.renames.items():
            pattern = re.escape(source)
            for field, expression in _FIELDS.items():
                pattern = pattern.replace(rf"\{{{field}\}}", expression)
            compiled.append((re.compile(pattern), target))
        return compiled

    def rename(self, key: str) -> str | None:
        """This project's name for a source key without its prefix, None if this layout has no such key."""
        for pattern, target in self._patterns:
            if match := pattern.fullmatch(key):
                return target.format(**match.groupdict())
        return None

    def reversed(self) -> "KeyLayout":
        """The inverse layout, for a layout with one-to-one renames."""
        return KeyLayout(self.name, self.family, {target: source for source, target in self.renames.items()}, {})

    def ignore_reason(self, key: str) -> str | None:
        """Reason why a source key is dropped, None if it is not on this layout's list."""
        return _first_reason(self.ignored, key)


def _same(*keys: str) -> dict[str, str]:
    return {key: key for key in keys}


_TRUNK = _same(
    "cls_token",
    "patch_embed.proj.{p}",
    "blocks.{i}.norm1.{p}",
    "blocks.{i}.attn.qkv.weight",
    "blocks.{i}.attn.proj.{p}",
    "blocks.{i}.norm2.{p}",
    "norm.{p}",
)
_MLP = _same("blocks.{i}.mlp.fc1.{p}", "blocks.{i}.mlp.fc2.{p}")
_MASK_TOKEN = "the token of hidden patches, used in pre-training only"
_HEAD = "head on top of the backbone"

OFFICIAL = KeyLayout(
    name="official",
    family="dinov3",
    renames={
        **_TRUNK,
        **_MLP,
        **_same(
            "storage_tokens",
            "rope_embed.periods",
            "blocks.{i}.attn.qkv.bias",
            "blocks.{i}.attn.qkv.bias_mask",
            "blocks.{i}.ls1.gamma",
            "blocks.{i}.ls2.gamma",
            "blocks.{i}.mlp.w1.{p}",
            "blocks.{i}.mlp.w2.{p}",
            "blocks.{i}.mlp.w3.{p}",
        ),
    },
    ignored={
        "mask_token": _MASK_TOKEN,
        "local_cls_norm.*": "normalises CLS of small crops, used in pre-training only",
        "head.*": _HEAD,
    },
)

_TIMM = {
    **_TRUNK,
    "reg_token": "storage_tokens",
    "blocks.{i}.attn.q_bias": "blocks.{i}.attn.q.bias",
    "blocks.{i}.attn.v_bias": "blocks.{i}.attn.v.bias",
    "blocks.{i}.gamma_1": "blocks.{i}.ls1.gamma",
    "blocks.{i}.gamma_2": "blocks.{i}.ls2.gamma",
}
TIMM_MLP = KeyLayout("timm", "dinov3", {**_TIMM, **_MLP}, {"head.*": _HEAD})
TIMM_SWIGLU = KeyLayout(
    name="timm",
    family="dinov3",
    renames={
        **_TIMM,
        "blocks.{i}.mlp.fc1_g.{p}": "blocks.{i}.mlp.w1.{p}",
        "blocks.{i}.mlp.fc1_x.{p}": "blocks.{i}.mlp.w2.{p}",
        "blocks.{i}.mlp.fc2.{p}": "blocks.{i}.mlp.w3.{p}",
    },
    ignored={"head.*": _HEAD},
)


def _huggingface(feed_forward: dict[str, str]) -> KeyLayout:
    """Layout of transformers' DINOv3ViTModel: `layer.i` in files, `model.layer.i` in memory since version 5."""
    block = {
        "norm1.{p}": "norm1.{p}",
        "attention.q_proj.{p}": "attn.q.{p}",
        "attention.k_proj.weight": "attn.k.weight",
        "attention.v_proj.{p}": "attn.v.{p}",
        "attention.o_proj.{p}": "attn.proj.{p}",
        "layer_scale1.lambda1": "ls1.gamma",
        "norm2.{p}": "norm2.{p}",
        "layer_scale2.lambda1": "ls2.gamma",
        **feed_forward,
    }
    renames = {
        "embeddings.cls_token": "cls_token",
        "embeddings.register_tokens": "storage_tokens",
        "embeddings.patch_embeddings.{p}": "patch_embed.proj.{p}",
        "norm.{p}": "norm.{p}",
    }
    for stem in ("layer", "model.layer"):
        renames |= {f"{stem}.{{i}}.{source}": f"blocks.{{i}}.{target}" for source, target in block.items()}
    return KeyLayout("huggingface", "dinov3", renames, {"embeddings.mask_token": _MASK_TOKEN, "classifier.*": _HEAD})


HUGGINGFACE_MLP = _huggingface({"mlp.up_proj.{p}": "mlp.fc1.{p}", "mlp.down_proj.{p}": "mlp.fc2.{p}"})
HUGGINGFACE_SWIGLU = _huggingface(
    {"mlp.gate_proj.{p}": "mlp.w1.{p}", "mlp.up_proj.{p}": "mlp.w2.{p}", "mlp.down_proj.{p}": "mlp.w3.{p}"}
)

PLAIN = KeyLayout(
    name="plain",
    family="plain",
    renames={**_TRUNK, **_MLP, **_same("pos_embed", "blocks.{i}.attn.qkv.bias")},
    ignored={
        "mask_token": _MASK_TOKEN,
        "decoder_*": "MAE's pixel decoder, used in pre-training only",
        "head.*": _HEAD,
    },
)

_DINOV2_BLOCK = (
    *("norm1.{p}", "attn.qkv.{p}", "attn.proj.{p}", "ls1.gamma"),
    *("norm2.{p}", "mlp.fc1.{p}", "mlp.fc2.{p}", "ls2.gamma"),
)
_DINOV2 = {
    **_same("cls_token", "pos_embed", "patch_embed.proj.{p}", "norm.{p}"),
    **{f"blocks.{{i}}.{key}": f"blocks.{{i}}.{key}" for key in _DINOV2_BLOCK},
}
OFFICIAL_DINOV2 = KeyLayout(
    name="official",
    family="dinov2",
    renames={
        **_DINOV2,
        "register_tokens": "storage_tokens",
        **{f"blocks.{{c}}.{{i}}.{key}": f"blocks.{{i}}.{key}" for key in _DINOV2_BLOCK},  # blocks stored in chunks
    },
    ignored={"mask_token": _MASK_TOKEN, "head.*": _HEAD},
)
TIMM_DINOV2 = KeyLayout("timm", "dinov2", _DINOV2, {"head.*": _HEAD})
TIMM_DINOV2_REGISTERS = KeyLayout(  # the class token includes the positions' row of the class token
    "timm",
    "dinov2",
    {**_DINOV2, "pos_embed": "pos_embed.patches", "reg_token": "storage_tokens"},
    {"head.*": _HEAD},
)


def _huggingface_dinov2() -> KeyLayout:
    """Layout of transformers' Dinov2Model and Dinov2WithRegistersModel, in files and in memory since version 5."""
    block = {
        **_same("norm1.{p}", "norm2.{p}", "mlp.fc1.{p}", "mlp.fc2.{p}"),
        "layer_scale1.lambda1": "ls1.gamma",
        "layer_scale2.lambda1": "ls2.gamma",
        "attention.output.dense.{p}": "attn.proj.{p}",
        "attention.o_proj.{p}": "attn.proj.{p}",
    }
    for part in ("query", "key", "value"):
        block |= {
            f"attention.attention.{part}.{{p}}": f"attn.{part[0]}.{{p}}",
            f"attention.{part[0]}_proj.{{p}}": f"attn.{part[0]}.{{p}}",
        }
    renames = {
        "embeddings.cls_token": "cls_token",
        "embeddings.position_embeddings": "pos_embed",
        "embeddings.register_tokens": "storage_tokens",
        "embeddings.patch_embeddings.projection.{p}": "patch_embed.proj.{p}",
        "layernorm.{p}": "norm.{p}",
        **{f"encoder.layer.{{i}}.{source}": f"blocks.{{i}}.{target}" for source, target in block.items()},
    }
    return KeyLayout("huggingface", "dinov2", renames, {"embeddings.mask_token": _MASK_TOKEN, "classifier.*": _HEAD})


HUGGINGFACE_DINOV2 = _huggingface_dinov2()

_VITMATTE_BLOCK = (
    *("norm1.{p}", "norm2.{p}", "mlp.fc1.{p}", "mlp.fc2.{p}"),
    *(f"residual.{name}" for name in ("conv1.weight", "conv2.weight", "conv3.weight")),
    *(f"residual.{name}" for name in ("norm1.{p}", "norm2.{p}", "norm3.{p}")),
)
_VITMATTE_ATTENTION = ("qkv.{p}", "proj.{p}", "rel_pos_h", "rel_pos_w")


def _vitmatte(
    name: str, *, positions: str, patches: str, blocks: str, attention: str, fusion: str, batch_norm: str
) -> KeyLayout:
    """Layout of a whole ViTMatte model. The arguments are the names that differ between the two publishers."""
    renames = {f"backbone.{positions}": "pos_embed", f"backbone.{patches}.{{p}}": "patch_embed.proj.{p}"}
    for key in _VITMATTE_BLOCK:
        renames[f"backbone.{blocks}.{{i}}.{key}"] = f"blocks.{{i}}.{key}"
    for key in _VITMATTE_ATTENTION:
        renames[f"backbone.{blocks}.{{i}}.{attention}.{key}"] = f"blocks.{{i}}.attn.{key}"
    for source, target in (("convstream.convs.{i}", "convstream.convs.{i}"), (fusion, "fusion_blks.{i}.conv")):
        renames[f"decoder.{source}.conv.weight"] = f"decoder.{target}.conv.weight"
        renames[f"decoder.{source}.{batch_norm}.{{b}}"] = f"decoder.{target}.bn.{{b}}"
    renames |= _same(*(f"decoder.matting_head.matting_convs.{layer}" for layer in ("0.{p}", "1.{b}", "3.{p}")))
    return KeyLayout(name, "vitmatte", renames, {})


VITMATTE = _vitmatte(
    "official",
    positions="pos_embed",
    patches="patch_embed.proj",
    blocks="blocks",
    attention="attn",
    fusion="fusion_blks.{i}.conv",
    batch_norm="bn",
)
HUGGINGFACE_VITMATTE = _vitmatte(
    "huggingface",
    positions="embeddings.position_embeddings",
    patches="embeddings.projection",
    blocks="encoder.layer",
    attention="attention",
    fusion="fusion_blocks.{i}.conv",
    batch_norm="batch_norm",
)
DIFFMATTE = KeyLayout("official", "diffmatte", {"backbone.{any}": "{any}", "decoder.{any}": "decoder.{any}"}, {})
MMAGIC_DIM = KeyLayout(
    name="mmagic",
    family="dim",
    renames={
        "backbone.encoder.{any}": "{any}",
        "backbone.decoder.{any}": "decoder.{any}",
        "refiner.{any}": "refiner.{any}",
    },
    ignored={},
)


def _torchvision_vgg16(spacing: int) -> KeyLayout:
    """torchvision's `features`. A convolution with its activation has `spacing` modules, and a pool has one."""
    renames, index = {}, 0
    for stage, depth in enumerate(VGG16_DEPTHS, start=1):
        for module in range(spacing * depth):
            renames[f"features.{index}.{{b}}"] = f"layer{stage}.{module}.{{b}}"
            index += 1
        index += 1
    return KeyLayout("torchvision", "vgg16", renames, {"classifier.*": _HEAD})


TORCHVISION_VGG16, TORCHVISION_VGG16_BN = _torchvision_vgg16(2), _torchvision_vgg16(3)
_UNPOOLING_DECODER = re.compile(r"(.*?)backbone\.decoder\.deconv[1-6]")
_VGG_FEATURES = re.compile(r"(.*?)features\.0\.weight$")
FROZEN = KeyLayout(  # nikhiliit/Dinov3_matting
    name="official",
    family="frozen",
    renames={
        **{f"encoder.dinov3.{source}": target for source, target in OFFICIAL.renames.items()},
        "decoder.{any}": "decoder.{any}",
        "boundary_refiner.{any}": "decoder.boundary_refiner.{any}",
    },
    ignored={f"encoder.dinov3.{pattern}": reason for pattern, reason in OFFICIAL.ignored.items()},
)
_FEATURE_DECODER = re.compile(r"(.*?)decoder\.(?:decoder_blocks|upsample_blocks|input_proj)\.")
_DIFFUSION_DECODER = re.compile(r"(.*?)decoder\.(?:down_blks|mid_blk|up_blks|time_embed)\.")
_MATTING_DECODER = re.compile(r"(.*?)decoder\.(?:convstream|matting_head)\.")
_RELATIVE_POSITIONS = re.compile(r".*\.(?:attn|attention)\.rel_pos_[hw]")

_OUTSIDE = {
    "n_averaged": "count of torch.optim.swa_utils.AveragedModel",
    "*dino_head.*": "DINO's projection head, used in pre-training only",
    "*ibot_head.*": "iBOT's projection head, used in pre-training only",
    "*dino_loss.*": "state of a pre-training loss",
    "*ibot_patch_loss.*": "state of a pre-training loss",
    "head.*": _HEAD,
    "*.head.*": _HEAD,
    "classifier.*": _HEAD,
    "student.*": "the student of a training checkpoint; the teacher is used",
    "module.student.*": "the student of a training checkpoint; the teacher is used",
    "gram_teacher.*": "the Gram teacher of a training checkpoint; the teacher is used",
}


def ignore_reason_outside(key: str) -> str | None:
    """Reason why a key outside the backbone's prefix is dropped, None if it is on no list."""
    return _first_reason(_OUTSIDE, key)


def find_prefix(keys: Iterable[str]) -> str:
    """Prefix of every backbone key ("", "backbone.", "module.backbone.", ...), determined from the class token.

    If a training checkpoint has several backbones, the teacher's is used. For a whole ViTMatte or DiffMatte model, the
    prefix is the text before "backbone." and "decoder.", determined from the names of the decoder.

    Raises:
        InputError: no class token, or several of equal rank.
    """
    keys = list(keys)
    if is_frozen(keys):
        return next(match[1] for key in keys if (match := _FEATURE_DECODER.match(key)))
    if is_diffmatte(keys):
        return next(match[1] for key in keys if (match := _DIFFUSION_DECODER.match(key)))
    if is_vitmatte(keys):
        return next(match[1] for key in keys if (match := _MATTING_DECODER.match(key)))
    for pattern in (_UNPOOLING_DECODER, _VGG_FEATURES):
        if match := next(filter(None, map(pattern.match, keys)), None):
            return match[1]
    anchors = [key for key in keys if key == "cls_token" or key.endswith(".cls_token")]
    prefixes = sorted({anchor.removesuffix("cls_token").removesuffix("embeddings.") for anchor in anchors})
    if not prefixes:
        raise InputError(f"{_EXPECTED}, found {len(keys)} tensors ({_sample(keys)}) and no cls_token")
    if len(prefixes) > 1:
        teachers = [prefix for prefix in prefixes if prefix.removeprefix("module.").startswith("teacher.")]
        if len(teachers) != 1:
            raise InputError(
                f"expected one backbone, found {len(prefixes)} (under {_sample(prefixes)}); save one alone"
            )
        prefixes = teachers
    return prefixes[0]


def is_vitmatte(keys: Iterable[str]) -> bool:
    """Return whether the keys belong to a whole ViTMatte model with its original backbone: a decoder, and relative
    positions.
    """
    keys = list(keys)
    return any(map(_MATTING_DECODER.match, keys)) and any(map(_RELATIVE_POSITIONS.match, keys))


def is_diffmatte(keys: Iterable[str]) -> bool:
    """Return whether the keys belong to a whole DiffMatte model; the head of its decoder has ViTMatte's names."""
    return any(map(_DIFFUSION_DECODER.match, keys))


def is_frozen(keys: Iterable[str]) -> bool:
    """Return whether the keys belong to a decoder on DINOv3's features."""
    return any(map(_FEATURE_DECODER.match, keys))


def detect_layout(keys: Collection[str]) -> KeyLayout:
    """Detect the layout from keys without their prefix.

    Raises:
        InputError: an unsupported ViT; the message names it if it is known.
    """
    keys = set(keys)
    if is_frozen(keys):
        return FROZEN
    if is_diffmatte(keys):
        return DIFFMATTE
    if is_vitmatte(keys):
        return HUGGINGFACE_VITMATTE if _any(keys, "backbone.encoder.*") else VITMATTE
    if any(map(_UNPOOLING_DECODER.match, keys)):
        return MMAGIC_DIM
    if "features.0.weight" in keys:
        return TORCHVISION_VGG16_BN if _any(keys, "features.*.running_mean") else TORCHVISION_VGG16
    if "embeddings.cls_token" in keys:
        if "embeddings.position_embeddings" in keys:
            if _any(keys, "encoder.layer.*.layer_scale1.*"):
                _refuse_giant(keys, "encoder.layer.*.mlp.weights_in.*")
                return HUGGINGFACE_DINOV2
            raise InputError(f"{_EXPECTED}, found transformers' ViT with absolute positions; {_REMEDY}")
        return HUGGINGFACE_SWIGLU if _any(keys, "*layer.*.mlp.gate_proj.*") else HUGGINGFACE_MLP
    if _any(keys, "blocks.*.attn.rel_pos_h"):
        raise InputError(
            "a ViTMatte or ViTDet backbone alone (relative positions, no matting decoder); convert the whole ViTMatte "
            "model, or the DINO or MAE weights it was trained from"
        )
    if "pos_embed" in keys:
        if _any(keys, "blocks.*.ls1.gamma"):
            _refuse_giant(keys, "blocks.*.mlp.w12.*")
            if "reg_token" in keys:
                return TIMM_DINOV2_REGISTERS
            return OFFICIAL_DINOV2 if keys & {"mask_token", "register_tokens"} else TIMM_DINOV2
        return PLAIN
    if keys & {"storage_tokens", "rope_embed.periods"}:
        return OFFICIAL
    if "reg_token" in keys:
        return TIMM_SWIGLU if _any(keys, "blocks.*.mlp.fc1_g.*") else TIMM_MLP
    raise InputError(
        f"{_EXPECTED}, found neither register tokens nor positions among {len(keys)} tensors; a DINOv3 ViT without "
        f"registers can be converted from transformers' files, which mark this case"
    )


def _refuse_giant(keys: Iterable[str], pattern: str) -> None:
    if _any(keys, pattern):
        raise InputError(
            "DINOv2 ViT-g/14 is not supported (its feed-forward layer is different); use ViT-L/14 or smaller"
        )


_EXPECTED = "expected the weights of a DINOv3, DINOv2, DINO or MAE ViT, of VGG-16, ViTMatte, DiffMatte or DIM"
_REMEDY = "use DINOv3 or DINOv2 weights, or the authors' .pth of DINO or MAE"


def _any(keys: Iterable[str], pattern: str) -> bool:
    return any(fnmatchcase(key, pattern) for key in keys)


def _first_reason(reasons: dict[str, str], key: str) -> str | None:
    return next((reason for pattern, reason in reasons.items() if fnmatchcase(key, pattern)), None)


def _sample(names: list[str], limit: int = 3) -> str:
    shown = ", ".join(name[:80] or '""' for name in names[:limit])
    return shown + (", ..." if len(names) > limit else "")
