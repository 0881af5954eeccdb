"""Mattes of pictures without a trimap: find the subject, make a trimap, and predict alpha around the subject."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from data.images.classes import Classes
from data.images.foreground_colours import estimate_foreground
from data.images.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from engine.inference.predict import Arrays, Plan, Predictor
from engine.inference.sinks import COLOURED, seen_colours
from engine.inference.stopwatch import Stopwatch
from engine.inference.subjects import Subject
from runtime.errors import InputError

MARGIN, LEAST_MARGIN = 0.1, 32  # margin around the subject: share of its size, and smallest number of pixels
KINDS = ("mask", "trimap", "alpha", "rgba", "composite")


class AutoMatte:
    """Mattes of pictures without a trimap. `run_jobs` accepts it in place of a `Predictor`.

    Alpha is predicted only in the part of the picture around the subject, at full resolution. The rest is background.
    If the trimap has no unknown pixel, it is the matte.

    Args:
        subjects: function that finds the subject in the arrays of a job.
        matting: predictor of a system that predicts alpha, with a trimap or without.
        width: width of the unknown band (see `data.images.mask_to_trimap`); None to compute it.
        kinds: kinds of results that are needed, names in `KINDS`.

    Attributes:
        watch: stopwatch with the seconds of each part.

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

    # ---- the interface of a predictor and its model that the pipeline and the sinks use

    inputs = ("image",)
    outputs = ("alpha", "mask", "trimap")

    @property
    def model(self) -> "AutoMatte":
        return self

    @property
    def device(self) -> torch.device:
        """Device of the matting system."""
        return self.matting.device

    def plan(self, height: int, width: int) -> Plan:
        """The whole picture. The part around the subject gets its own plan in `alpha_of`, once the subject is known."""
        return Plan("whole")

    def padded_shape(self, height: int, width: int) -> tuple[int, int]:
        """Size of the picture itself, because pictures are processed one by one."""
        return height, width

    def one(self, arrays: Mapping[str, np.ndarray]) -> Arrays:
        """Matte one picture; see `__call__`."""
        return self([arrays])[0]

    def __call__(self, samples: Sequence[Mapping[str, np.ndarray]], plan: Plan | None = None) -> list[Arrays]:
        """Matte pictures.

        Args:
            samples: "image" (H, W, 3) uint8 RGB, and inputs from which the subject is found, such as "mask" (H, W)
                float32. "deep_colours" of a picture, see `data.images.inputs`, become those of the foreground.
            plan: not used, because the part around the subject has its own plan.

        Returns:
            "mask" (H, W) uint8 of 0 and 1; "trimap" and "alpha" (H, W) uint8; and, if a kind needs it, "foreground"
            (H, W, 3) uint8. Alpha and foreground are float32 in [0, 1] if the matting is `exact`.
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
        return self._results(seen_colours(sample), mask, trimap, alpha)

    def _results(self, image: np.ndarray, mask: np.ndarray, trimap: np.ndarray, alpha: np.ndarray) -> Arrays:
        """Results that the kinds need; see `__call__`."""
        self._judge(trimap)
        result = {"mask": mask.astype(np.uint8), "trimap": trimap, "alpha": alpha}
        if not COLOURED & set(self.kinds):
            return result
        with self.watch.part("colours"):
            result["foreground"] = estimate_foreground(image, alpha)
        return result

    def _regions(self, subject: Subject) -> tuple[np.ndarray, np.ndarray]:
        """Mask and trimap of a subject. Regions that the trimap leaves out are removed from the mask too."""
        trimap = subject.trimap(self.width)
        mask = subject.mask()
        left_out = np.count_nonzero(mask & (trimap == BACKGROUND))
        if left_out:
            self.remark = f"small regions beside the subject were removed, {left_out} pixels; see --smallest-island"
        return (mask & (trimap != BACKGROUND)) | (trimap == FOREGROUND), trimap

    def _judge(self, trimap: np.ndarray) -> None:
        """Set a remark if the trimap has no unknown pixel."""
        if (trimap == UNKNOWN).any():
            return
        if not trimap.any():
            self.remark = "no subject was found, the matte is empty"
        else:
            self.remark = "the subject has no edge in the picture, the matte is its trimap"

    def alpha_of(self, image: np.ndarray, trimap: np.ndarray) -> np.ndarray:
        """Predict alpha (H, W) around the subject only: uint8, or float32 in [0, 1] if the matting is `exact`."""
        known = trimap / np.float32(255) if self.matting.exact else trimap.copy()
        if not (trimap == UNKNOWN).any():
            return known
        window = around(trimap != BACKGROUND)
        part = {"image": np.ascontiguousarray(image[window]), "trimap": np.ascontiguousarray(trimap[window])}
        plan = self.matting.plan(*part["trimap"].shape)
        (predicted,) = self.matting([part], plan)
        if self.matting.used_plan != plan:
            self.remark = f"memory ran out, predicting {plan}; predicted {self.matting.used_plan}"
        known[window] = np.where(part["trimap"] == UNKNOWN, predicted["alpha"], known[window])
        return known


def around(subject: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of a subject (H, W) boolean, with a margin of a tenth of its size and at least 32 pixels."""
    window = []
    for axis in (1, 0):
        places = np.flatnonzero(subject.any(axis=axis))
        first, last = int(places[0]), int(places[-1]) + 1
        margin = max(LEAST_MARGIN, round(MARGIN * (last - first)))
        window.append(slice(max(0, first - margin), min(subject.shape[1 - axis], last + margin)))
    return window[0], window[1]
