"""transformers' VitMatte with every tensor random, and its tensors under the original's names."""

import torch
from torch import nn
from transformers import VitDetConfig, VitMatteConfig, VitMatteForImageMatting

from modeling.backbone import ViT
from modeling.criterion import MattingCriterion
from modeling.decoder import DetailCapture
from modeling.meta_arch import ViTMatte
from modeling.pretrained import MattingArchitecture

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
SMALL = {
    "hidden_size": 32, "num_attention_heads": 2, "num_hidden_layers": 4, "image_size": 128, "pretrain_image_size": 64,
    "window_size": 3, "window_block_indices": [0, 2], "residual_block_indices": [1, 3], "out_features": ["stage4"],
}  # fmt: skip
SMALL_DECODER = {"convstream_hidden_sizes": [8, 12, 16], "fusion_hidden_sizes": [24, 16, 12, 8], "hidden_size": 32}
PUBLISHED_S = {
    "hidden_size": 384, "num_attention_heads": 6, "num_hidden_layers": 12, "image_size": 512,
    "pretrain_image_size": 224, "window_size": 14, "window_block_indices": [0, 1, 3, 4, 6, 7, 9, 10],
    "residual_block_indices": [2, 5, 8, 11], "out_features": ["stage12"],
}  # fmt: skip
PUBLISHED_DECODER = {"convstream_hidden_sizes": [48, 96, 192], "fusion_hidden_sizes": [256, 128, 64, 32]}


def huggingface_vitmatte(backbone: dict | None = None, decoder: dict | None = None) -> VitMatteForImageMatting:
    """A VitMatte of the given sizes (SMALL by default), relative positions, norms, statistics and biases random."""
    backbone_config = VitDetConfig(
        num_channels=4, use_relative_position_embeddings=True, use_absolute_position_embeddings=True, qkv_bias=True,
        hidden_act="gelu", **(SMALL if backbone is None else backbone),
    )  # fmt: skip
    model = VitMatteForImageMatting(
        VitMatteConfig(backbone_config=backbone_config, **(SMALL_DECODER if decoder is None else decoder))
    )
    randomise(model)
    return model.eval()


@torch.no_grad()
def randomise(model: nn.Module, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name.endswith("num_batches_tracked"):
            tensor.fill_(7)
        elif name.endswith("running_var") or (tensor.ndim == 1 and name.endswith("weight")):
            tensor.uniform_(0.5, 1.5, generator=generator)
        elif tensor.ndim == 1:
            tensor.normal_(0, 0.3, generator=generator)
        elif "position" in name or "rel_pos" in name or "pos_embed" in name:
            tensor.normal_(0, 0.2, generator=generator)
        else:
            tensor.normal_(0, 1.5 * tensor[0].numel() ** -0.5, generator=generator)


def original_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors of a VitMatteForImageMatting under hustvl/ViTMatte's names, independently of the converter."""
    words = {
        "embeddings.position_embeddings": "pos_embed",
        "embeddings.projection": "patch_embed.proj",
        "encoder.layer.": "blocks.",
        ".attention.": ".attn.",
        ".batch_norm.": ".bn.",
        "fusion_blocks": "fusion_blks",
    }
    renamed = {}
    for key, tensor in state.items():
        for theirs, ours in words.items():
            key = key.replace(theirs, ours)
        renamed[key] = tensor.clone()
    return renamed


def our_vitmatte(metadata: dict, model: dict[str, torch.Tensor]) -> ViTMatte:
    """This project's model of a converted checkpoint, loaded strictly."""
    architecture = MattingArchitecture.from_metadata(metadata)
    ours = ViTMatte(
        backbone=ViT(**architecture.vit_arguments()),
        decoder=DetailCapture(**architecture.decoder_arguments()),
        criterion=MattingCriterion(),
        pixel_mean=metadata["pixel_mean"],
        pixel_std=metadata["pixel_std"],
    )
    ours.load_state_dict(model, strict=True)
    return ours.eval()


@torch.inference_mode()
def unknown_alphas(
    ours: ViTMatte, theirs: VitMatteForImageMatting, batch: dict[str, torch.Tensor]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Alpha of both models in the unknown pixels of a batch; for transformers normalised, padded and cropped here."""
    image, trimap = batch["image"], batch["trimap"]
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    height, width = image.shape[-2:]
    inputs = nn.functional.pad(torch.cat([(image - mean) / std, trimap], 1), (0, -width % 32, 0, -height % 32))
    expected = theirs(pixel_values=inputs).alphas[..., :height, :width]
    return ours(batch)["phas"][trimap == 0.5], expected[trimap == 0.5]


def random_batch(size: tuple[int, int], batch: int = 1, seed: int = 1) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    trimap = torch.randint(0, 3, (batch, 1, *size), generator=generator) / 2
    return {"image": torch.rand(batch, 3, *size, generator=generator), "trimap": trimap}
