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
from engine.inference.box_prior import Box, opponent_colours, subject_probability
from engine.inference.predict import Predictor
from runtime.errors import InputError

GRABCUT_ROUNDS = 5
NEAR_ROUNDS = 3  # fewer, as the start is closer to the subject
GRABCUT_SIDE = 1024  # pixels; larger pictures are reduced to this size, so their cells are larger than a pixel
STRIP_SHARE = 0.1  # width of the strip around a box that GrabCut sees, as a share of the box's size
START_BLUR = 2.0  # pixels: standard deviation of the smoothing of the probabilities from which GrabCut starts
LARGEST_SLACK = 0.2  # distance of a subject from a side of its box, as a share of the box's width or height
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
        if self.clicked is None:
            return trimap
        marked = self.clicked != UNKNOWN
        contrary = marked & (trimap != UNKNOWN) & (trimap != self.clicked)  # as in a region that was too small to keep
        if contrary.any():
            distance = cv2.distanceTransform((~contrary).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
            trimap[distance <= CLICK_SHARE * max(trimap.shape)] = UNKNOWN  # there is an edge around the click
        return np.where(marked, self.clicked, trimap)


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

    The original GrabCut starts with all of the box as the subject, and learns the background from the whole picture
    outside. Here it starts with the pixels of the box that are probably the subject (`subject_probability`), and sees
    the box and a strip around it only, because the background in a box resembles what is next to it. A user's box is
    touched by its subject on all sides (Lempitsky et al., ICCV 2009). If the result is not, and the original GrabCut
    reaches the sides better, its result is used. The pixels around a click are known in the trimap.

    Args:
        box: left, top, right and bottom in pixels; without it, the subject may be anywhere.
        inside, outside: (x, y) of clicks on the subject and on the background.
        cleaning: sizes of regions that are too small to be the subject.

    Raises:
        InputError: there is neither a box nor a click on the subject.
    """

    box: Box | None = None
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
        has_surroundings = self.box is not None and tuple(self.box) != (0, 0, width, height)
        found, cell = self._mask(image, near=has_surroundings)
        if has_surroundings and slack(found, self.box) > LARGEST_SLACK:
            original, original_cell = self._mask(image, near=False)
            if slack(original, self.box) < slack(found, self.box):
                found, cell = original, original_cell
        return Subject(found, cell, is_sharp=True, cleaning=self.cleaning, clicked=self._clicked(height, width))

    def _mask(self, image: np.ndarray, near: bool) -> tuple[np.ndarray, float]:
        """Mask (H, W) float32 of 0 and 1, and its cell: near the box, or of the original GrabCut."""
        height, width = image.shape[:2]
        left, top, right, bottom = self._near_box(height, width) if near else (0, 0, width, height)
        columns, rows = right - left, bottom - top
        scale = min(1.0, GRABCUT_SIDE / max(columns, rows))
        size = max(1, round(columns * scale)), max(1, round(rows * scale))
        seen = cv2.resize(image[top:bottom, left:right], size, interpolation=cv2.INTER_AREA)
        colours = opponent_colours(seen) if near else np.ascontiguousarray(seen[..., ::-1])
        labels = self._marked(size, (left, top), scale, max(height, width))
        if near:
            self._leave_out_improbable(labels, colours, (left, top), scale)
        background = np.isin(labels, (cv2.GC_BGD, cv2.GC_PR_BGD))
        if background.any() and not background.all():  # GrabCut needs samples of both
            cv2.setRNGSeed(0)  # its colour clusters are drawn
            models = np.zeros((1, 65)), np.zeros((1, 65))
            rounds = NEAR_ROUNDS if near else GRABCUT_ROUNDS
            cv2.grabCut(colours, labels, None, *models, rounds, cv2.GC_INIT_WITH_MASK)
        inside = np.isin(labels, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
        mask = np.zeros((height, width), np.float32)
        mask[top:bottom, left:right] = cv2.resize(inside, (columns, rows), interpolation=cv2.INTER_NEAREST)
        return mask, 1 / scale

    def _clicked(self, height: int, width: int) -> np.ndarray:
        clicked = np.full((height, width), UNKNOWN, np.uint8)
        self._dab(clicked, self.inside, 1.0, SURE_SHARE * max(height, width), FOREGROUND)
        self._dab(clicked, self.outside, 1.0, SURE_SHARE * max(height, width), BACKGROUND)
        return clicked

    def _near_box(self, height: int, width: int) -> Box:
        """The box, clicks on the subject beside it, and a strip around them."""
        left, top, right, bottom = self.box
        columns, rows = [left, right, *(x for x, _ in self.inside)], [top, bottom, *(y for _, y in self.inside)]
        strip = max(1, round(STRIP_SHARE * np.sqrt((right - left) * (bottom - top))))
        return (
            max(0, min(columns) - strip), max(0, min(rows) - strip),
            min(width, max(columns) + strip), min(height, max(rows) + strip),
        )  # fmt: skip

    def _marked(self, size: tuple[int, int], corner: Point, scale: float, picture_side: int) -> np.ndarray:
        """Labels (h, w) uint8 from which GrabCut starts, in a part of the picture with this top left corner."""
        labels = np.full(size[::-1], cv2.GC_PR_BGD if self.box is None else cv2.GC_BGD, np.uint8)
        inside, outside = (
            [(x - corner[0], y - corner[1]) for x, y in points] for points in (self.inside, self.outside)
        )
        side = picture_side * scale
        if self.box is None:
            self._dab(labels, inside, scale, REACH_SHARE * side, cv2.GC_PR_FGD)
        else:
            left, top, right, bottom = self._box_in(labels.shape, corner, scale)
            labels[top:bottom, left:right] = cv2.GC_PR_FGD
            frame = max(1, round(FRAME_SHARE * max(size)))
            if not (labels == cv2.GC_BGD).any() and min(size) > 2 * frame:
                labels[:frame] = labels[-frame:] = labels[:, :frame] = labels[:, -frame:] = cv2.GC_PR_BGD
        self._dab(labels, inside, scale, CLICK_SHARE * side, cv2.GC_FGD)
        self._dab(labels, outside, scale, CLICK_SHARE * side, cv2.GC_BGD)
        return labels

    def _leave_out_improbable(self, labels: np.ndarray, colours: np.ndarray, corner: Point, scale: float) -> None:
        """Label the pixels of the box that are probably not the subject as background."""
        box = self._box_in(labels.shape, corner, scale)
        if box == (0, 0, *labels.shape[::-1]):  # the surroundings are narrower than a pixel
            return
        probability = cv2.GaussianBlur(subject_probability(colours, box), (0, 0), START_BLUR)
        labels[(labels == cv2.GC_PR_FGD) & (probability < 0.5)] = cv2.GC_PR_BGD

    def _box_in(self, shape: tuple[int, int], corner: Point, scale: float) -> Box:
        """The box in a part of the picture with this shape, in its pixels; at least one pixel."""
        left, top, right, bottom = (round((side - corner[axis % 2]) * scale) for axis, side in enumerate(self.box))
        left, top = min(left, shape[1] - 1), min(top, shape[0] - 1)
        return left, top, max(right, left + 1), max(bottom, top + 1)

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


def slack(mask: np.ndarray, box: Box) -> float:
    """Largest distance of a mask from a side of its box, as a share of the box's width or height; 1 if it is empty.

    Example:
        >>> mask = np.zeros((20, 30), np.uint8)
        >>> mask[5:15, 4:20] = 1
        >>> slack(mask, (0, 5, 20, 15))
        0.2
    """
    left, top, right, bottom = box
    rows, columns = (np.flatnonzero(mask[top:bottom, left:right].any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return 1.0
    height, width = bottom - top, right - left
    return float(max(rows[0] / height, 1 - (rows[-1] + 1) / height, columns[0] / width, 1 - (columns[-1] + 1) / width))
