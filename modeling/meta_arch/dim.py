"""Deep Image Matting: a VGG-16 encoder, an unpooling decoder and a refinement network, trained in three stages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from data.images.trimap_tensors import fuse_trimap
from modeling.backbone.vgg16 import VGG16
from modeling.criterion.dim_criterion import DIMCriterion
from modeling.decoder.unpooling import RefinementNetwork, UnpoolingDecoder
from modeling.meta_arch.base import ParameterRoles, System
from modeling.meta_arch.footprint import FLOAT, PICTURE_FLOATS, Footprint
from modeling.meta_arch.trimap_matting import TrimapMatting
from runtime.errors import InputError

UNKNOWN_LEVEL = 128 / 255  # level of unknown pixels for which the published weights were trained
MULTIPLE = 32  # five pools
STARTS = {  # messages by stage
    2: "stage 2 trains the refinement of a trained encoder-decoder: set train.init_checkpoint to stage 1's checkpoint",
    3: "stage 3 trains all that stages 1 and 2 made: set train.init_checkpoint to stage 2's checkpoint",
}


@dataclass(frozen=True)
class Encoded:
    """An encoded batch.

    Attributes:
        features: (B, C, H' / 32, W' / 32).
        places: positions of the maxima of the five pools, the finest first.
        image: (B, 3, H', W') normalised, padded.
        trimap: (B, 1, H, W) of exactly 0, 0.5 and 1.
    """

    features: Tensor
    places: Sequence[Tensor]
    image: Tensor
    trimap: Tensor


class DIM(TrimapMatting):
    """Deep Image Matting (Xu et al., CVPR 2017), as implemented in open-mmlab/mmagic.

    Stage 1 trains encoder and decoder with the losses of alpha and composition. Stage 2 trains the refinement network
    alone; the other parts are in eval mode and without gradient. Stage 3 trains everything with all losses. Stages 2
    and 3 start from a checkpoint of the previous stage.

    An image is padded to multiples of 32 by reflection at the bottom and right. If it is too small for that, its edge
    is repeated.

    Args:
        stage: 1, 2 or 3.
        backbone, decoder: encoder and decoder of equal widths.
        refiner: refinement network of stages 2 and 3; None in stage 1.
        criterion: training losses.
        pixel_mean, pixel_std: see TrimapMatting.
    """

    has_scalable_encoder = False  # the pools of a smaller image would select other pixels
    depends_on_padding = True
    tile_multiple = MULTIPLE

    def __init__(
        self,
        *,
        stage: int,
        backbone: VGG16,
        decoder: UnpoolingDecoder,
        criterion: DIMCriterion,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        refiner: RefinementNetwork | None = None,
    ) -> None:
        super().__init__(backbone, criterion, pixel_mean, pixel_std, MULTIPLE, "value")
        if stage not in (1, 2, 3) or (refiner is None) != (stage == 1):
            found = "without" if refiner is None else "with"
            raise InputError(
                f"DIM: expected stage 1 without a refiner, or stage 2 or 3 with one, got {stage!r} {found}"
            )
        if backbone.widths != decoder.widths:
            raise InputError(
                f"DIM: decoder.widths must be the backbone's {list(backbone.widths)}, got {list(decoder.widths)}"
            )
        self.stage = stage
        self.decoder = decoder
        self.refiner = refiner
        self.targets = ("alpha",) if stage == 2 else ("alpha", "fg", "bg")
        self.learns_composition = stage != 2 and criterion.composition_weight > 0
        self.needs_weights = STARTS.get(stage)
        if stage == 2:
            self.freeze([*backbone.parameters(), *decoder.parameters()])

    def encode(self, inputs: Mapping[str, Tensor], scale: int = 1) -> Encoded:
        image, trimap = inputs["image"], inputs["trimap"]
        self._check_sizes(image, trimap)
        levels = torch.where(trimap == 0.5, UNKNOWN_LEVEL, trimap)
        pixels = _padded(torch.cat([(image - self.pixel_mean) / self.pixel_std, levels], dim=1))
        features, places = self.backbone.with_places(pixels)
        return Encoded(features, places, pixels[:, :3], trimap)

    def decode(self, state: Encoded) -> dict[str, Tensor]:
        height, width = state.trimap.shape[-2:]
        raw, refined = self.raw_alphas(state)
        alpha = (raw if refined is None else refined)[..., :height, :width].sigmoid()
        return {"alpha": fuse_trimap(alpha, state.trimap)}

    def raw_alphas(self, state: Encoded) -> tuple[Tensor, Tensor | None]:
        """Padded alpha before its sigmoid (B, 1, H', W'): that of the decoder, and from stage 2 on the refined one."""
        raw = self.decoder(state.features, state.places)
        return raw, None if self.refiner is None else self.refiner(state.image, raw)

    def losses(self, batch: Mapping[str, Tensor], counts: Mapping[str, Tensor]) -> dict[str, Tensor]:
        height, width = batch["alpha"].shape[-2:]
        raw, refined = (
            None if alpha is None else alpha[..., :height, :width].float().sigmoid()
            for alpha in self.raw_alphas(self.encode(batch))
        )
        return self.criterion(None if self.stage == 2 else raw, refined, batch, counts["unknown_pixels"])

    def starts_fresh(self, key: str) -> bool:
        """Stage 1 may start from an encoder alone, stage 2 without a refinement, stage 3 only from all weights."""
        if self.stage == 1:
            return not key.startswith("backbone.") or key.startswith(("backbone.conv6.", "backbone.bn."))
        return self.stage == 2 and key.startswith("refiner.")

    def check_start(self, description: Mapping[str, Any]) -> None:
        """Accept a checkpoint of the previous stage, of this stage, or without a stage."""
        found = description.get("stage")
        if self.stage > 1 and isinstance(found, int) and found not in (self.stage - 1, self.stage):
            raise InputError(f"it contains a DIM of stage {found}; {self.needs_weights}")

    def may_be_left_out(self, key: str) -> bool:
        return False

    def compile_encoder(self, **options: object) -> None:
        System.compile_encoder(self, **options)  # raises, as no part is called as a module

    def footprint(self) -> Footprint:
        return Footprint(
            picture=FLOAT * PICTURE_FLOATS,
            encoder=FLOAT * self.backbone.peak_floats,
            features=FLOAT * self.backbone.peak_floats,
        )

    def parameter_roles(self) -> ParameterRoles:
        head = [self.decoder] if self.refiner is None else [self.decoder, self.refiner]
        return ParameterRoles.of(self.backbone, nn.ModuleList(head))


def _padded(x: Tensor) -> Tensor:
    """Pad (B, C, H, W) at the bottom and right to multiples of 32 by reflection, or by the edge if too small."""
    for axis, padding in ((-2, lambda size: (0, 0, 0, size)), (-1, lambda size: (0, size, 0, 0))):
        size = -x.shape[axis] % MULTIPLE
        if size:
            x = F.pad(x, padding(size), mode="reflect" if size < x.shape[axis] else "replicate")
    return x
