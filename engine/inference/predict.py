"""Predictor: predictions for arrays, in a mode that fits in memory."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from data.images.trimap import UNKNOWN
from data.images.trimap_tensors import fuse_trimap, trimap_to_tensor
from engine.inference.tiles import predict_in_tiles
from engine.inference.views import VIEWS, predict_views
from modeling.meta_arch.base import System
from runtime.errors import InputError, require_choice
from runtime.memory import amount_text, free_bytes, return_freed_memory
from runtime.precision import DTYPES

Arrays = dict[str, np.ndarray]

MODES = ("auto", "whole", "reduced", "tiles")
SCALES = (2, 3, 4, 6, 8)  # divisors of the encoder's input in mode "reduced"; the first that fits is used
TILE_SIZES = (2048, 1536, 1024, 768, 512, 256)
EXACT = ("alpha", "foreground")  # predictions that can be written with more than 8 bits
OVERLAP = 128  # overlap of tiles in pixels, at most a quarter of a tile
# Attention costs the square of the tokens. Above this number "auto" does not encode the whole image.
MAX_TOKENS = {"cpu": 4096 * 4096 // 256}
ACCELERATOR_MAX_TOKENS = 8192 * 8192 // 256  # an estimate: some 20 s in float32

logger = logging.getLogger("dinomatte.inference")


class OutOfMemoryError(InputError):
    """Memory is exhausted although the plan was expected to fit."""


@dataclass(frozen=True)
class Plan:
    """A mode for images of one size.

    Attributes:
        mode: "whole", "reduced" or "tiles".
        scale: divisor of the encoder's input size in mode "reduced", else 1.
        tile: side of a tile in pixels in mode "tiles", else 0.
        nbytes: estimated peak memory, without model and program.
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
    """Prediction of a system on images, within a memory budget.

    Args:
        model: system in eval mode, on its device.
        mode: "whole", "reduced" (a smaller image for the encoder, details at full resolution), "tiles" (overlapping,
            blended), or "auto" for the first of these modes that fits. If a system has `encoder_side`, "auto" uses
            "whole" up to this size only.
        max_memory: memory limit for predicting in bytes; None for 80 % of the memory that is free before each image.
        batch_size: largest number of images of one padded shape in a batch, if they fit in memory.
        views: name in `VIEWS` of the views that are averaged.
        precision: "fp32", "bf16" or "fp16".
        sharers: number of processes that divide the free memory, including this one.
        probabilities: whether a mask is returned with the "probabilities" of its classes, (H, W, K) float32.
        exact: whether alpha and foreground are float32 in [0, 1] instead of 8-bit levels, for files with more bits.

    Attributes:
        used_plan: plan of the last call, which is smaller than the given plan if memory was exhausted.
        remark: remark for the user about the last call; always empty here, see `AutoMatte`.

    Example:
        >>> from modeling.weights.system_file import read_system
        >>> image = np.zeros((48, 64, 3), np.uint8)
        >>> image[:, 32:] = 255  # white at the right
        >>> trimap = np.full((48, 64), 128, np.uint8)
        >>> trimap[:, :24], trimap[:, 40:] = 0, 255
        >>> predictor = Predictor(read_system(), max_memory=6 * 10**9)  # the model in the box
        >>> alpha = predictor.one({"image": image, "trimap": trimap})["alpha"]
        >>> alpha.shape, alpha.dtype, int(alpha[0, 0]), int(alpha[0, 63])
        ((48, 64), dtype('uint8'), 0, 255)
    """

    look_back = look_ahead = 0  # frames of a clip beside its own that a prediction depends on

    def __init__(
        self,
        model: System,
        *,
        mode: str = "auto",
        max_memory: int | None = None,
        batch_size: int = 1,
        views: str = "none",
        precision: str = "fp32",
        sharers: int = 1,
        probabilities: bool = False,
        exact: bool = False,
    ) -> None:
        require_choice("mode", mode, MODES)
        require_choice("views", views, tuple(VIEWS))
        require_choice("precision", precision, ("fp32", *DTYPES))
        if batch_size < 1:
            raise InputError(f"batch size: expected 1 or more, got {batch_size}")
        if mode == "reduced" and not model.has_scalable_encoder:
            raise InputError(f"mode reduced: {type(model).__name__} has no encoder that could see a smaller image")
        self.model = model
        self.mode = mode
        self.max_memory = max_memory
        self.batch_size = batch_size
        self.views = VIEWS[views]
        self.dtype = DTYPES.get(precision)
        self.sharers = sharers
        self.probabilities = probabilities
        self.exact = exact
        self.device = model.device
        self.footprint = model.footprint()
        self.used_plan: Plan | None = None
        self.remark = ""
        self._last_shape = None

    def plan(self, height: int, width: int) -> Plan:
        """Return the first plan that is expected to fit for an image of this size.

        Raises:
            InputError: no allowed plan fits.
        """
        return self._fitting_plans(height, width)[0]

    def padded_shape(self, height: int, width: int) -> tuple[int, int]:
        """Size to which the model pads an image. Images with the same padded shape can share a batch."""
        if self.views != VIEWS["none"]:  # in a mirrored or resized view, the padding would be in another place
            return height, width
        if self.model.depends_on_padding:
            return height, width
        multiple = self.model.size_divisibility
        return height + -height % multiple, width + -width % multiple

    def batch_size_for(self, shape: tuple[int, int]) -> int:
        """Number of images of a padded shape that fit in memory at once."""
        if self.batch_size == 1:
            return 1
        try:
            plan = self.plan(*shape)
        except InputError:  # reported when the image is predicted
            return 1
        if plan.mode != "whole":
            return 1
        return max(1, min(self.batch_size, self._budget() // plan.nbytes))

    def one(self, sample: Mapping[str, np.ndarray]) -> Arrays:
        """Predict one sample; see `__call__`."""
        return self([sample])[0]

    def __call__(self, samples: Sequence[Mapping[str, np.ndarray]], plan: Plan | None = None) -> list[Arrays]:
        """Predict samples with the same padded shape.

        Args:
            samples: the model's inputs by name: "image" (H, W, 3) uint8 RGB, "trimap" (H, W) uint8 of 0, 128, 255.
                Other entries are ignored.
            plan: plan to use; by default the result of `plan` for the first image's size. If memory is exhausted in
                mode "auto", a single sample is predicted again with the next smaller plan.

        Returns:
            The model's predictions by name: "alpha" (H, W) and "foreground" (H, W, 3) uint8, rounded to the nearest
            level; "mask" (H, W) uint8 class indexes, on request with their "probabilities"; "steps" (H, W, 2 N) uint8
            of a system that samples. Alpha is exactly 0 and 255 where the trimap is known. With `exact`, alpha and
            foreground are float32, and known alpha is exactly 0 and 1.

        Raises:
            OutOfMemoryError: memory is exhausted, and there is no smaller plan.
            InputError: the model's output is not finite.
        """
        shape = samples[0]["image"].shape[:2]
        plan = plan or self.plan(*shape)
        self.used_plan = plan
        padded = self.padded_shape(*shape)
        if self.device.type == "cpu" and padded != self._last_shape:
            return_freed_memory()
        self._last_shape = padded
        results = [self._known(sample) for sample in samples]
        wanted = [index for index, known in enumerate(results) if known is None]
        if wanted:
            predicted = self._predict_or_fall_back([samples[index] for index in wanted], plan)
            for index, outputs in zip(wanted, predicted, strict=True):
                results[index] = outputs
        return results

    def _known(self, sample: Mapping[str, np.ndarray]) -> Arrays | None:
        """Result for a trimap without unknown pixels; None if there is something to predict."""
        if "trimap" not in self.model.inputs or self.model.outputs != ("alpha",) or (sample["trimap"] == UNKNOWN).any():
            return None
        return {"alpha": sample["trimap"] / np.float32(255) if self.exact else sample["trimap"].copy()}

    def _predict_or_fall_back(self, samples: Sequence[Mapping[str, np.ndarray]], plan: Plan) -> list[Arrays]:
        while True:
            failure = None
            try:
                return self._predict(samples, plan)
            except OutOfMemoryError as error:
                failure = str(error)  # only the text, because the traceback keeps the tensors of the attempt alive
            smaller = self._smaller_plan(*samples[0]["image"].shape[:2], plan) if len(samples) == 1 else None
            if smaller is None:
                raise OutOfMemoryError(failure)
            self._release()
            logger.info("out of memory, predicting %s; trying again %s", plan, smaller)
            plan = self.used_plan = smaller

    def _smaller_plan(self, height: int, width: int, plan: Plan) -> Plan | None:
        if self.mode != "auto":
            return None
        plans = self._plans(*self.padded_shape(height, width))
        return next((other for other in plans if other.nbytes < plan.nbytes), None)

    def _release(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        return_freed_memory()

    def _predict(self, samples: Sequence[Mapping[str, np.ndarray]], plan: Plan) -> list[Arrays]:
        sizes = [sample["image"].shape[:2] for sample in samples]
        with torch.inference_mode():
            try:
                outputs = self._run(plan, self._tensors(samples))
                arrays = {name: _to_arrays(name, output, self.exact) for name, output in outputs.items()}
                if self.probabilities and "mask" in outputs:
                    arrays["probabilities"] = outputs["mask"].float().permute(0, 2, 3, 1).cpu().numpy()
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                advice = "free memory, or make the image smaller" if plan.mode == "tiles" else "give --mode tiles"
                raise OutOfMemoryError(f"out of memory, predicting {plan}; {advice}") from error
        return [
            {name: batch[index][:height, :width] for name, batch in arrays.items()}
            for index, (height, width) in enumerate(sizes)
        ]

    def _tensors(self, samples: Sequence[Mapping[str, np.ndarray]]) -> dict[str, Tensor]:
        readers = {"image": (_image_tensor, self.model.padding_colour), "trimap": (trimap_to_tensor, torch.zeros(1))}
        return {
            name: _joined([to_tensor(sample[name]) for sample in samples], padding).to(self.device)
            for name, (to_tensor, padding) in readers.items()
            if name in self.model.inputs
        }

    def _run(self, plan: Plan, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        def predict(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
            with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
                return self.model.decode(self.model.encode(inputs, plan.scale))

        def predict_all_views(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return predict_views(predict, inputs, self.views, self.model.min_side)

        def predict_canvas(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
            with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not None):
                return self.model.decode(self.model.encode_in_tiles(inputs, plan.tile, overlap))

        overlap = min(OVERLAP, plan.tile // 4)
        if plan.mode == "tiles" and self.model.has_tiled_encoder:
            outputs = predict_views(predict_canvas, inputs, self.views, self.model.min_side)
        elif plan.mode == "tiles":
            return predict_in_tiles(predict_all_views, inputs, plan.tile, overlap, self.model.tile_multiple)
        else:
            outputs = predict_all_views(inputs)
        if "trimap" in inputs and "alpha" in outputs:
            outputs["alpha"] = fuse_trimap(outputs["alpha"], inputs["trimap"])
        return outputs

    def _budget(self) -> int:
        return free_bytes(self.device) // self.sharers if self.max_memory is None else self.max_memory

    def _fitting_plans(self, height: int, width: int) -> list[Plan]:
        plans = self._plans(*self.padded_shape(height, width))
        budget = self._budget()
        if plans[0].nbytes > budget and self.max_memory is None and self.device.type == "cpu":
            return_freed_memory()  # freed blocks that this process has kept count as used
            budget = self._budget()
        fitting = [plan for plan in plans if plan.nbytes <= budget]
        if not fitting:
            least = min(plans, key=lambda plan: plan.nbytes)
            raise InputError(
                f"{width} x {height} pixels take about {amount_text(least.nbytes)} {least}, and "
                f"{amount_text(budget)} may be used; raise --max-memory, or make the image smaller"
            )
        return fitting

    def _plans(self, height: int, width: int) -> list[Plan]:
        """Plans that the mode allows, the best first."""
        growth = max(view.scale for view in self.views) ** 2  # ratio of the model's input to the image, in pixels
        pixels = round(growth * height * width)
        possible = most_pixels = MAX_TOKENS.get(self.device.type, ACCELERATOR_MAX_TOKENS) * self.footprint.token_pixels
        if self.mode == "auto" and self.model.encoder_side is not None:
            most_pixels = min(possible, self.model.encoder_side**2)
        plans = []
        if self.mode == "whole" or (self.mode == "auto" and pixels <= most_pixels):
            plans.append(Plan("whole", nbytes=self.footprint.whole(pixels)))
        if self.mode == "reduced" or (self.mode == "auto" and self.model.has_scalable_encoder):
            plans += [
                Plan("reduced", scale=scale, nbytes=self.footprint.whole(pixels, scale))
                for scale in SCALES  # the last one also beyond `encoder_side`, since tiles have the full size
                if pixels <= (possible if scale == SCALES[-1] else most_pixels) * scale**2
            ]
        if self.mode in ("tiles", "auto"):
            for side in TILE_SIZES:
                # Views apply to each tile, or to the whole canvas, whose tiles keep their size.
                tiled = self.model.has_tiled_encoder
                canvas, seen = (pixels, side**2) if tiled else (height * width, round(growth * side**2))
                plans.append(Plan("tiles", tile=side, nbytes=self.footprint.tiles(canvas, min(seen, pixels))))
        return plans


def predict_alpha(model: System, image: np.ndarray, trimap: np.ndarray) -> np.ndarray:
    """Alpha (H, W) uint8 of one image as a whole, by a `Predictor` with default settings."""
    return Predictor(model, mode="whole").one({"image": image, "trimap": trimap})["alpha"]


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)  # on a CPU


def _to_arrays(name: str, output: Tensor, exact: bool = False) -> np.ndarray:
    """Convert a batch to uint8: levels or class indexes (B, H, W), or colours or steps (B, H, W, N).

    With `exact`, alpha and foreground are float32 in [0, 1].

    Raises:
        InputError: a value is not finite.
    """
    if not torch.isfinite(output).all():
        raise InputError("the model predicts NaN: its checkpoint is from a run that diverged, or fp16 overflows")
    if name == "mask":
        return output.argmax(dim=1).to(torch.uint8).cpu().numpy()
    if exact and name in EXACT:
        levels = output.float().clamp(0, 1).cpu()
    else:
        levels = (output * 255).round_().to(torch.uint8).cpu()
    return (levels[:, 0] if name == "alpha" else levels.permute(0, 2, 3, 1)).numpy()


def _image_tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div_(255)


def _joined(pictures: Sequence[Tensor], padding: Tensor) -> Tensor:
    """Stack (C, h, w) pictures to (B, C, H, W), padded at the bottom and right with a colour (C,)."""
    if len({picture.shape for picture in pictures}) == 1:
        return torch.stack(list(pictures)) if len(pictures) > 1 else pictures[0][None]
    size = [max(picture.shape[axis] for picture in pictures) for axis in (1, 2)]
    joined = padding.view(1, -1, 1, 1).expand(len(pictures), -1, *size).clone()
    for canvas, picture in zip(joined, pictures, strict=True):
        canvas[:, : picture.shape[1], : picture.shape[2]] = picture
    return joined
