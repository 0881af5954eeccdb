"""From arrays to mattes, by the way of working that fits into memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from data.images.trimap import UNKNOWN, fuse_with_trimap
from data.images.trimap_tensors import trimap_to_tensor
from engine.inference.footprint import Footprint
from engine.inference.tiles import predict_in_tiles
from engine.inference.views import VIEWS, predict_views
from runtime.errors import InputError
from runtime.memory import amount_text, free_bytes, return_freed_memory
from runtime.precision import DTYPES

MODES = ("auto", "whole", "reduced", "tiles")
SCALES = (2, 3, 4, 6, 8)  # of a reduced encoder, the first that fits is taken
TILE_SIZES = (2048, 1536, 1024, 768, 512, 256)
OVERLAP = 128  # of tiles, pixels; a quarter of the smallest tile at most
MAX_TOKENS = 4096 * 4096 // 256  # attention costs the square of them: above, auto does not encode the whole image


@dataclass(frozen=True)
class Plan:
    """A way of working on images of one size.

    Attributes:
        mode: "whole", "reduced" or "tiles".
        scale: by which the encoder's input is smaller, 1 but in mode "reduced".
        tile: side of a tile in pixels, 0 but in mode "tiles".
        nbytes: what it is reckoned to need at its peak, model and program excluded.
    """

    mode: str
    scale: int = 1
    tile: int = 0
    nbytes: int = 0

    def __str__(self) -> str:
        how = {
            "whole": "as a whole",
            "reduced": f"with the encoder at 1/{self.scale}",
            "tiles": f"in tiles of {self.tile} pixels",
        }
        return how[self.mode]


class Predictor:
    """Predicts mattes of one model within a budget of memory.

    Args:
        model: in eval mode, on its device; maps a batch to {"phas"}. For mode "reduced" it must be a ViTMatte.
        mode: "whole", "reduced" (the encoder sees a smaller image, the details stay at full resolution), "tiles"
            (overlapping, blended), or "auto": the first of these that fits.
        max_memory: bytes that predicting may take; None for most of what is free when an image's turn comes.
        batch_size: images of one padded shape that go through the model together, where memory allows.
        views: name in `VIEWS` of the views that are averaged.
        precision: "fp32", "bf16" or "fp16".
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        mode: str = "auto",
        max_memory: int | None = None,
        batch_size: int = 1,
        views: str = "none",
        precision: str = "fp32",
    ) -> None:
        _check_choice("mode", mode, MODES)
        _check_choice("views", views, tuple(VIEWS))
        _check_choice("precision", precision, ("fp32", *DTYPES))
        if batch_size < 1:
            raise InputError(f"batch size: expected 1 or more, got {batch_size}")
        if mode == "reduced" and not hasattr(model, "predict"):
            raise InputError(f"mode reduced: {type(model).__name__} has no encoder that could see a smaller image")
        self.model = model
        self.mode = mode
        self.max_memory = max_memory
        self.batch_size = batch_size
        self.views = VIEWS[views]
        self.dtype = DTYPES.get(precision)
        self.device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self._last_shape = None
        self.footprint = getattr(model, "footprint", None) or Footprint.of(model)  # an ONNX file brings its own

    def plan(self, height: int, width: int) -> Plan:
        """How an image of this size will be worked on.

        Raises:
            InputError: no way that the mode allows fits.
        """
        plans = self._plans(*self.padded_shape(height, width))
        budget = self._budget()
        if plans[0].nbytes > budget and self.max_memory is None and self.device.type == "cpu":
            return_freed_memory()  # what this process has kept counts as taken
            budget = self._budget()
        plan = next((plan for plan in plans if plan.nbytes <= budget), None)
        if plan is None:
            least = min(plans, key=lambda plan: plan.nbytes)
            raise InputError(
                f"{width} x {height} pixels take about {amount_text(least.nbytes)} {least}, and "
                f"{amount_text(budget)} may be used; raise --max-memory, or make the image smaller"
            )
        return plan

    def padded_shape(self, height: int, width: int) -> tuple[int, int]:
        """The size that the model pads an image to; images that agree in it can share a batch."""
        if self.views != VIEWS["none"]:  # mirrored or resized, an image's padding would not be where the model's is
            return height, width
        if getattr(self.model, "colour_prior", None) is not None:  # its coarsest scale is the mean of the image
            return height, width
        multiple = getattr(self.model, "size_divisibility", 1)
        return height + -height % multiple, width + -width % multiple

    def batch_size_for(self, shape: tuple[int, int]) -> int:
        """How many images of a padded shape fit at once."""
        if self.batch_size == 1:
            return 1
        try:
            plan = self.plan(*shape)
        except InputError:  # told when the image's turn comes
            return 1
        if plan.mode != "whole":
            return 1
        return max(1, min(self.batch_size, self._budget() // plan.nbytes))

    def __call__(
        self, images: Sequence[np.ndarray], trimaps: Sequence[np.ndarray], plan: Plan | None = None
    ) -> list[np.ndarray]:
        """Predict the mattes of images whose padded shapes agree, known regions taken from the trimaps.

        Args:
            images: each (H, W, 3) uint8 RGB.
            trimaps: each (H, W) uint8 of 0, 128 and 255.
            plan: how; by default what `plan` says for the first image's size.

        Returns:
            each (H, W) uint8 alpha, rounded to the nearest level.

        Raises:
            InputError: the model's output is not finite, or memory ran out in spite of the plan.
        """
        plan = plan or self.plan(*trimaps[0].shape)
        shape = self.padded_shape(*trimaps[0].shape)
        if self.device.type == "cpu" and shape != self._last_shape:
            return_freed_memory()
        self._last_shape = shape
        wanted = [index for index, trimap in enumerate(trimaps) if (trimap == UNKNOWN).any()]
        alphas = [trimap.copy() for trimap in trimaps]
        if wanted:
            predicted = self._predict([images[i] for i in wanted], [trimaps[i] for i in wanted], plan)
            for index, alpha in zip(wanted, predicted, strict=True):
                alphas[index] = fuse_with_trimap(alpha, trimaps[index])
        return alphas

    def _predict(self, images: Sequence[np.ndarray], trimaps: Sequence[np.ndarray], plan: Plan) -> list[np.ndarray]:
        with torch.inference_mode():
            try:
                batch = _joined([_image_tensor(image) for image in images], _padding_colour(self.model))
                trimap_batch = _joined([trimap_to_tensor(trimap) for trimap in trimaps], torch.zeros(1))
                phas = self._run(plan, batch.to(self.device), trimap_batch.to(self.device))
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                raise InputError(f"out of memory, predicting {plan}; give --max-memory, or --mode tiles") from error
            if not torch.isfinite(phas).all():
                raise InputError(
                    "the model predicts NaN: its checkpoint is from a run that diverged, or fp16 overflows"
                )
            levels = (phas[:, 0] * 255).round_().to(torch.uint8).cpu().numpy()
        return [level[: image.shape[0], : image.shape[1]] for level, image in zip(levels, images, strict=True)]

    def _run(self, plan: Plan, image: Tensor, trimap: Tensor) -> Tensor:
        def predict(image: Tensor, trimap: Tensor) -> Tensor:
            with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
                if plan.scale > 1:
                    return self.model.predict(image, trimap, encoder_scale=plan.scale)
                return self.model({"image": image, "trimap": trimap})["phas"]

        if plan.mode == "tiles":
            overlap = min(OVERLAP, plan.tile // 4)
            return predict_in_tiles(
                lambda *tile: predict_views(predict, *tile, self.views), image, trimap, plan.tile, overlap
            )
        return predict_views(predict, image, trimap, self.views)

    def _budget(self) -> int:
        return free_bytes(self.device) if self.max_memory is None else self.max_memory

    def _plans(self, height: int, width: int) -> list[Plan]:
        """The plans that the mode allows, the best first."""
        growth = max(view.scale for view in self.views) ** 2  # of what the model sees
        pixels = round(growth * height * width)
        plans = []
        if self.mode == "whole" or (self.mode == "auto" and pixels // 256 <= MAX_TOKENS):
            plans.append(Plan("whole", nbytes=self.footprint.whole(pixels)))
        if self.mode == "reduced" or (self.mode == "auto" and hasattr(self.model, "predict")):
            plans += [
                Plan("reduced", scale=scale, nbytes=self.footprint.whole(pixels, scale))
                for scale in SCALES
                if pixels // (256 * scale**2) <= MAX_TOKENS
            ]
        if self.mode in ("tiles", "auto"):
            for side in TILE_SIZES:
                seen = min(round(growth * side**2), pixels)
                plans.append(Plan("tiles", tile=side, nbytes=self.footprint.tiles(height * width, seen)))
        return plans


def predict_alpha(model: nn.Module, image: np.ndarray, trimap: np.ndarray) -> np.ndarray:
    """Predict the matte of one image as a whole: `Predictor` with its plainest settings."""
    return Predictor(model, mode="whole")([image], [trimap])[0]


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)  # on a CPU


def _image_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div_(255)


def _padding_colour(model: nn.Module) -> Tensor:
    """What the model's own padding, zeros after normalisation, is as a colour."""
    return model.pixel_mean.flatten().cpu() if hasattr(model, "pixel_mean") else torch.zeros(3)


def _joined(pictures: Sequence[Tensor], padding: Tensor) -> Tensor:
    """Stack (C, h, w) pictures to (B, C, H, W), padded at the bottom and right with a colour (C,)."""
    if len({picture.shape for picture in pictures}) == 1:
        return torch.stack(list(pictures)) if len(pictures) > 1 else pictures[0][None]
    size = [max(picture.shape[axis] for picture in pictures) for axis in (1, 2)]
    joined = padding.view(1, -1, 1, 1).expand(len(pictures), -1, *size).clone()
    for canvas, picture in zip(joined, pictures, strict=True):
        canvas[:, : picture.shape[1], : picture.shape[2]] = picture
    return joined


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise InputError(f"{name}: expected one of {', '.join(choices)}, got {value!r}")
