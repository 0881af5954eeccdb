"""The chain from a picture to a matte: find the subject, make a trimap, matte what matters."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from data.images.classes import Classes
from data.images.foreground_colours import estimate_foreground
from data.images.trimap import BACKGROUND, FOREGROUND, UNKNOWN, fuse_with_trimap
from engine.inference.predict import Arrays, Plan, Predictor
from engine.inference.sinks import COLOURED
from engine.inference.stopwatch import Stopwatch
from engine.inference.subjects import Subject
from runtime.errors import InputError

MARGIN, LEAST_MARGIN = 0.1, 32  # around the subject: a share of its size, pixels
KINDS = ("mask", "trimap", "alpha", "rgba", "composite")


class AutoMatte:
    """Pictures to mattes without a trimap. `run_jobs` takes it in the place of a Predictor.

    Only the part of the picture around the subject is matted, at full resolution; the rest is background. Where the
    trimap has no unknown pixel, it is the matte.

    Args:
        subjects: finds the subject in the arrays of a job.
        matting: predictor of a system that gives an alpha, with a trimap or without.
        width: of the unknown band, see `data.images.mask_to_trimap`; None sizes it.
        kinds: names in `KINDS` of what is wanted.

    Attributes:
        watch: seconds of the parts of each picture.

    Example:
        >>> from engine.inference.subjects import PointedSubjects
        >>> from modeling.weights.system_file import read_system
        >>> image = np.zeros((64, 96, 3), np.uint8)
        >>> image[16:48, 24:72] = (230, 120, 40)  # an orange rectangle on black
        >>> chain = AutoMatte(PointedSubjects(box=(20, 12, 76, 52)), Predictor(read_system()))
        >>> alpha = chain.one({"image": image})["alpha"]
        >>> alpha.shape, int(alpha[32, 48]), int(alpha[2, 2])
        ((64, 96), 255, 0)
    """

    batch_size = 1
    look_back = look_ahead = 0
    num_classes = 2
    classes = Classes.numbered(2)

    def __init__(
        self,
        subjects: Callable[[Mapping[str, np.ndarray]], Subject],
        matting: Predictor,
        width: float | None = None,
        kinds: Sequence[str] = ("alpha",),
    ) -> None:
        if "alpha" not in matting.model.outputs:
            raise InputError(
                f"--matting: expected a system that predicts alpha, got a {type(matting.model).__name__} "
                f"({', '.join(matting.model.outputs)})"
            )
        self.subjects, self.matting, self.width = subjects, matting, width
        self.kinds = tuple(kinds)
        self.used_plan: Plan | None = None
        self.remark = ""
        self.watch = Stopwatch(matting.device)

    # ---- what the pipeline and the sinks ask of a predictor and its model

    inputs = ("image",)
    outputs = ("alpha", "mask", "trimap")

    @property
    def model(self) -> "AutoMatte":
        return self

    @property
    def device(self) -> torch.device:
        """The device that the matting runs on."""
        return self.matting.device

    def plan(self, height: int, width: int) -> Plan:
        """The whole picture: the part to matte is known only when the subject is found; see `alpha_of`."""
        return Plan("whole")

    def padded_shape(self, height: int, width: int) -> tuple[int, int]:
        """Pictures go one by one."""
        return height, width

    def one(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        """Matte one picture; see `__call__`."""
        return self([arrays])[0]

    def __call__(self, samples: Sequence[Mapping[str, np.ndarray]], plan: Plan | None = None) -> list[Arrays]:
        """Matte pictures.

        Args:
            samples: "image" (H, W, 3) uint8 RGB, and what the subjects are found by: "mask" (H, W) float32.
            plan: not used; the part around the subject has a plan of its own.

        Returns:
            "mask" (H, W) uint8 of 0 and 1, "trimap" and "alpha" (H, W) uint8, and where kinds need it "foreground"
            (H, W, 3) uint8.
        """
        self.used_plan, self.remark = plan, ""
        results = []
        for sample in samples:
            results.append(self._matte(sample))
            self.watch.lap()
        return results

    def _matte(self, sample: Mapping[str, np.ndarray]) -> Arrays:
        with self.watch.part("segmentation"):
            subject = self.subjects(sample)
        with self.watch.part("trimap"):
            mask, trimap = self._regions(subject)
        with self.watch.part("matting"):
            alpha = self.alpha_of(sample["image"], trimap)
        return self._results(sample["image"], mask, trimap, alpha)

    def _results(self, image: np.ndarray, mask: np.ndarray, trimap: np.ndarray, alpha: np.ndarray) -> Arrays:
        """All that is wanted; see `__call__`."""
        self._judge(trimap)
        result = {"mask": mask.astype(np.uint8), "trimap": trimap, "alpha": alpha}
        if not COLOURED & set(self.kinds):
            return result
        with self.watch.part("colours"):
            result["foreground"] = estimate_foreground(image, alpha)
        return result

    def _regions(self, subject: Subject) -> tuple[np.ndarray, np.ndarray]:
        """The mask and the trimap of a subject, which agree about what was left out of it."""
        trimap = subject.trimap(self.width)
        mask = subject.mask()
        left_out = float((mask & (trimap == BACKGROUND)).mean())
        if left_out:
            self.remark = f"small regions of the segmentation were removed, {left_out:.2%} of the picture"
        return (mask & (trimap != BACKGROUND)) | (trimap == FOREGROUND), trimap

    def _judge(self, trimap: np.ndarray) -> None:
        """Remark on a trimap that leaves nothing to matting."""
        if (trimap == UNKNOWN).any():
            return
        if not trimap.any():
            self.remark = "no subject was found, the matte is empty"
        else:
            self.remark = "the subject has no edge in the picture, the matte is its trimap"

    def alpha_of(self, image: np.ndarray, trimap: np.ndarray) -> np.ndarray:
        """(H, W) uint8 alpha of a picture and its trimap, predicted around the subject only."""
        if not (trimap == UNKNOWN).any():
            return trimap.copy()
        window = around(trimap != BACKGROUND)
        part = {"image": np.ascontiguousarray(image[window]), "trimap": np.ascontiguousarray(trimap[window])}
        alpha = np.zeros_like(trimap)
        plan = self.matting.plan(*part["trimap"].shape)
        (predicted,) = self.matting([part], plan)
        if self.matting.used_plan != plan:
            self.remark = f"memory ran out, predicting {plan}; predicted {self.matting.used_plan}"
        alpha[window] = fuse_with_trimap(predicted["alpha"], part["trimap"])
        return alpha


def around(subject: np.ndarray) -> tuple[slice, slice]:
    """The rows and columns of a subject (H, W) boolean with a margin of a tenth of its size, 32 pixels at least."""
    window = []
    for axis in (1, 0):
        places = np.flatnonzero(subject.any(axis=axis))
        first, last = int(places[0]), int(places[-1]) + 1
        margin = max(LEAST_MARGIN, round(MARGIN * (last - first)))
        window.append(slice(max(0, first - margin), min(subject.shape[1 - axis], last + margin)))
    return window[0], window[1]
