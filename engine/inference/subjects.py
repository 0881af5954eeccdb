"""Subjects of pictures: from a segmentation, from a user's mask, or from a box and clicks.

Each class is called with the arrays of a job and returns a `Subject`, from which a trimap is made.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from data.images.mask_to_trimap import KEEP_ALL, SEGMENTATION, Cleaning, trimap_from_mask, trimap_from_probability
from data.images.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from engine.inference.predict import Predictor
from runtime.errors import InputError

GRABCUT_ROUNDS = 5
GRABCUT_SIDE = 1024  # pixels; larger pictures are reduced to this size, so their cells are larger than a pixel
CLICK_SHARE = 0.015  # radius of a click for GrabCut, as a share of the picture's longer side
SURE_SHARE = 0.005  # radius of a click that alpha keeps: one aims to about 4 pixels in a view of 800
REACH_SHARE = 0.15  # without a box: radius around a click on the subject that is probably subject too
FRAME_SHARE = 0.02  # width of the border that is probably background if the box covers the picture
Point = tuple[int, int]  # x, y


class Subject(NamedTuple):
    """A subject before its trimap is made.

    Attributes:
        probability: (H, W) float32 in [0, 1].
        cell: side in pixels of the cells of the grid on which the subject was found; None to detect it from the mask.
        is_sharp: whether the probabilities are 0 and 1 only.
        cleaning: sizes of regions that do not belong to the subject.
        clicked: (H, W) uint8 trimap of what the user has marked, unknown elsewhere; None for nothing.
    """

    probability: np.ndarray
    cell: float | None
    is_sharp: bool
    cleaning: Cleaning = KEEP_ALL
    clicked: np.ndarray | None = None

    def mask(self) -> np.ndarray:
        """Mask (H, W) boolean: probabilities of 0.5 and above."""
        return self.probability >= 0.5

    def trimap(self, width: float | None) -> np.ndarray:
        """Trimap (H, W) uint8; see `data.images.mask_to_trimap`. Marked pixels are known, also within the band."""
        if self.is_sharp:
            trimap = trimap_from_mask(self.mask(), width, self.cell, self.cleaning)
        else:
            trimap = trimap_from_probability(self.probability, width, self.cell or 1.0, self.cleaning)
        return trimap if self.clicked is None else np.where(self.clicked == UNKNOWN, trimap, self.clicked)


class SegmentedSubjects:
    """Subjects from a segmentation: by default all classes except the first, the background.

    Args:
        predictor: predictor of a system that predicts a mask, with its `probabilities`.
        names: names of the classes that are the subject.
        cleaning: sizes of regions that are too small to be the subject.

    Raises:
        InputError: the system predicts no mask, or has no class of that name.
    """

    def __init__(self, predictor: Predictor, names: Sequence[str] = (), cleaning: Cleaning = SEGMENTATION) -> None:
        model = predictor.model
        if "mask" not in model.outputs:
            raise InputError(
                f"--seg: expected a system that predicts a mask, got a {type(model).__name__} "
                f"({', '.join(model.outputs)})"
            )
        unknown = [name for name in names if name not in model.classes.names]
        if unknown:
            raise InputError(f"--classes: expected some of {', '.join(model.classes.names)}, got {', '.join(unknown)}")
        self.predictor, self.cleaning = predictor, cleaning
        self.indices = [model.classes.names.index(name) for name in names] or list(range(1, model.num_classes))

    def __call__(self, arrays: Mapping[str, np.ndarray]) -> Subject:
        probabilities = self.predictor.one(arrays)["probabilities"]
        cell = self.predictor.model.mask_cell(*probabilities.shape[:2])
        return Subject(probabilities[..., self.indices].sum(axis=2), cell, is_sharp=False, cleaning=self.cleaning)


@dataclass(frozen=True)
class GivenMasks:
    """Subjects from the user's masks: the "mask" of a job, (H, W) float32 in [0, 1].

    Args:
        cleaning: sizes of regions that are too small to be the subject.
    """

    cleaning: Cleaning = KEEP_ALL

    def __call__(self, arrays: Mapping[str, np.ndarray]) -> Subject:
        mask = arrays["mask"]
        return Subject(mask, None, is_sharp=bool(((mask == 0) | (mask == 1)).all()), cleaning=self.cleaning)


@dataclass(frozen=True)
class PointedSubjects:
    """Subjects from a box, clicks, or both, by GrabCut (Rother et al., SIGGRAPH 2004), which needs no trained model.

    The pixels around a click are known in the trimap.

    Args:
        box: left, top, right and bottom in pixels; without it, the subject may be anywhere.
        inside, outside: (x, y) of clicks on the subject and on the background.
        cleaning: sizes of regions that are too small to be the subject.

    Raises:
        InputError: there is neither a box nor a click on the subject.
    """

    box: tuple[int, int, int, int] | None = None
    inside: Sequence[Point] = ()
    outside: Sequence[Point] = ()
    cleaning: Cleaning = SEGMENTATION

    def __post_init__(self):
        if self.box is None and not self.inside:
            raise InputError("expected a box around the subject, or a click on it")
        if self.box is not None and (self.box[0] >= self.box[2] or self.box[1] >= self.box[3]):
            raise InputError(f"box: expected LEFT TOP RIGHT BOTTOM with some area, got {self.box}")

    def __call__(self, arrays: Mapping[str, np.ndarray]) -> Subject:
        image = arrays["image"]
        height, width = image.shape[:2]
        self._check(height, width)
        scale = min(1.0, GRABCUT_SIDE / max(height, width))
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        small = np.ascontiguousarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA)[..., ::-1])  # BGR
        labels = self._marked(size, scale)
        outside = np.isin(labels, (cv2.GC_BGD, cv2.GC_PR_BGD))
        if outside.any() and not outside.all():  # GrabCut needs samples of both
            cv2.setRNGSeed(0)  # its colour clusters are drawn
            models = np.zeros((1, 65)), np.zeros((1, 65))
            cv2.grabCut(small, labels, None, *models, GRABCUT_ROUNDS, cv2.GC_INIT_WITH_MASK)
        inside = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
        mask = cv2.resize(inside, (width, height), interpolation=cv2.INTER_NEAREST).astype(np.float32)
        return Subject(mask, 1 / scale, is_sharp=True, cleaning=self.cleaning, clicked=self._clicked(height, width))

    def _clicked(self, height: int, width: int) -> np.ndarray:
        clicked = np.full((height, width), UNKNOWN, np.uint8)
        self._dab(clicked, self.inside, 1.0, SURE_SHARE * max(height, width), FOREGROUND)
        self._dab(clicked, self.outside, 1.0, SURE_SHARE * max(height, width), BACKGROUND)
        return clicked

    def _marked(self, size: tuple[int, int], scale: float) -> np.ndarray:
        """Labels (h, w) uint8 from which GrabCut starts."""
        width, height = size
        longer = max(size)
        labels = np.full((height, width), cv2.GC_PR_BGD if self.box is None else cv2.GC_BGD, np.uint8)
        if self.box is None:
            self._dab(labels, self.inside, scale, REACH_SHARE * longer, cv2.GC_PR_FGD)
        else:
            left, top, right, bottom = (round(side * scale) for side in self.box)
            labels[max(0, top) : max(bottom, top + 1), max(0, left) : max(right, left + 1)] = cv2.GC_PR_FGD
            frame = max(1, round(FRAME_SHARE * longer))
            if not (labels == cv2.GC_BGD).any() and min(size) > 2 * frame:
                labels[:frame] = labels[-frame:] = labels[:, :frame] = labels[:, -frame:] = cv2.GC_PR_BGD
        self._dab(labels, self.inside, scale, CLICK_SHARE * longer, cv2.GC_FGD)
        self._dab(labels, self.outside, scale, CLICK_SHARE * longer, cv2.GC_BGD)
        return labels

    @staticmethod
    def _dab(labels: np.ndarray, points: Sequence[Point], scale: float, radius: float, label: int) -> None:
        for x, y in points:
            cv2.circle(labels, (round(x * scale), round(y * scale)), max(1, round(radius)), int(label), -1)

    def _check(self, height: int, width: int) -> None:
        if self.box is not None:
            left, top, right, bottom = self.box
            if left < 0 or top < 0 or right > width or bottom > height:
                raise InputError(
                    f"box: expected LEFT TOP RIGHT BOTTOM within 0 0 {width} {height}, got {left} {top} {right} "
                    f"{bottom}"
                )
        for x, y in (*self.inside, *self.outside):
            if not (0 <= x < width and 0 <= y < height):
                raise InputError(f"a click: expected pixels within {width} x {height}, got {x}, {y}")
