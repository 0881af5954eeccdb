"""Export of a trained model in the layout of transformers' VitMatteForImageMatting."""

import json
import os
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from modeling.backbone import ViT
from modeling.backbone.blocks import Mlp
from modeling.meta_arch import ViTMatte
from modeling.pretrained.convert import TARGET_PREFIX
from modeling.pretrained.key_layouts import HUGGINGFACE_VITMATTE
from runtime.errors import InputError
from runtime.files import replacing


def export_huggingface(model: ViTMatte, folder: str | os.PathLike) -> None:
    """Write model.safetensors, config.json and preprocessor_config.json into `folder`, which is created if necessary.

    `VitMatteForImageMatting.from_pretrained(folder)` predicts the same alpha from the same input, and
    `VitMatteImageProcessor` prepares this input.

    Raises:
        InputError: transformers does not have such a model, or the files cannot be written.
    """
    _check_expressible(model)
    tensors = _rename(model.state_dict())
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: expected a folder to write into: {error.strerror}") from error
    with replacing(folder / "model.safetensors") as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    for name, content in (("config.json", _config(model)), ("preprocessor_config.json", _preprocessor_config(model))):
        with replacing(folder / name) as temporary:
            temporary.write_text(json.dumps(content, indent=2) + "\n")


def _check_expressible(model: ViTMatte) -> None:
    backbone: ViT = model.backbone
    first = backbone.blocks[0]
    if first.attn.rel_pos_h is None or backbone.pos_embed is None:
        raise InputError(
            "Hugging Face's VitMatte has the original backbone only (absolute and relative positions, as in "
            "configs/ViTMatte_S_dino.py); this config's backbone, such as a DINOv3 one, cannot be exported"
        )
    problems = {
        "a final norm": not isinstance(backbone.norm, nn.Identity),
        "LayerScale": not isinstance(first.ls1, nn.Identity),
        "feed-forward layer like this one (GELU, a whole multiple of the width)": not isinstance(first.mlp, Mlp)
        or first.mlp.fc1.out_features % backbone.embed_dim != 0,
        "window_padding other than 'zeros'": any(
            block.attn.window_size and not block.attn.pad_windows for block in backbone.blocks
        ),
        "a colour prior": model.colour_prior is not None,
        "one-hot trimap": model.trimap_input == "one_hot",
        "features of several blocks": bool(backbone.merge),
    }
    if found := [name for name, present in problems.items() if present]:
        raise InputError(
            f"Hugging Face's VitMatte has no {', no '.join(found)}; this config's model cannot be exported"
        )


def _rename(state: dict[str, Tensor]) -> dict[str, Tensor]:
    layout = HUGGINGFACE_VITMATTE.reversed()
    renamed = {layout.rename(key.removeprefix(TARGET_PREFIX)): tensor.contiguous() for key, tensor in state.items()}
    if None in renamed:
        raise InputError("the model has tensors that Hugging Face's VitMatte has no name for; it cannot be exported")
    return renamed


def _config(model: ViTMatte) -> dict[str, Any]:
    backbone, decoder = model.backbone, model.decoder
    return {
        "architectures": ["VitMatteForImageMatting"],
        "model_type": "vitmatte",
        "hidden_size": backbone.embed_dim,
        "batch_norm_eps": decoder.convstream.convs[0].bn.eps,
        "convstream_hidden_sizes": [stage.conv.out_channels for stage in decoder.convstream.convs],
        "fusion_hidden_sizes": [stage.conv.conv.out_channels for stage in decoder.fusion_blks],
        "backbone_config": _backbone_config(backbone),
    }


def _backbone_config(backbone: ViT) -> dict[str, Any]:
    first = backbone.blocks[0]
    positions_side = round((backbone.pos_embed.shape[1] - 1) ** 0.5)
    return {
        "model_type": "vitdet",
        "hidden_size": backbone.embed_dim,
        "num_hidden_layers": len(backbone.blocks),
        "num_attention_heads": first.attn.num_heads,
        "mlp_ratio": first.mlp.fc1.out_features // backbone.embed_dim,
        "hidden_act": "gelu",
        "layer_norm_eps": first.norm1.eps,
        "image_size": backbone.img_size,
        "pretrain_image_size": positions_side * backbone.patch_size,
        "patch_size": backbone.patch_size,
        "num_channels": backbone.patch_embed.proj.in_channels,
        "qkv_bias": first.attn.qkv.bias is not None,
        "window_size": backbone.window_size,
        "window_block_indices": sorted(backbone.window_block_indexes),
        "residual_block_indices": [i for i, block in enumerate(backbone.blocks) if block.residual is not None],
        "use_absolute_position_embeddings": True,
        "use_relative_position_embeddings": True,
        "out_features": [f"stage{len(backbone.blocks)}"],
    }


def _preprocessor_config(model: ViTMatte) -> dict[str, Any]:
    mean, std = (
        [round(value, 6) for value in statistic.flatten().tolist()] for statistic in (model.pixel_mean, model.pixel_std)
    )
    return {
        "image_processor_type": "VitMatteImageProcessor",
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": mean,
        "image_std": std,
        "do_pad": True,
        "size_divisor": model.size_divisibility,
    }
