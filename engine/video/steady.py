"""Temporal steadiness: exponential means along the object's motion, of probabilities, and of alpha where it is unknown.

Averaging takes away what changes from frame to frame without cause: sensor noise, and the edges of a segmentation that
wander. What changes with cause, by motion that the flow misses or by a cut, is followed at once.
"""

import cv2
import numpy as np

from data.images.trimap import UNKNOWN
from engine.video.motion import CUT_IOU, Moved, mask_iou


class SteadyMean:
    """An exponential mean along the motion of an object; one plane in memory.

    Where the flow is not trusted, at the first frame and after a cut, the mean is the new frame.

    Args:
        weight: of the new frame where the flow is trusted, in (0, 1]; 1 leaves all as it is.
        tolerance: difference from the mean that counts as a change by 1 - 1 / e, as a fraction of the full range.
    """

    def __init__(self, weight: float, tolerance: float) -> None:
        self.weight, self.tolerance = weight, tolerance
        self._mean: np.ndarray | None = None

    def step(self, plane: np.ndarray, moved: Moved | None) -> np.ndarray:
        """The mean after a frame.

        Args:
            plane: (H, W) float32 in [0, 1]: the object's alpha or probability.
            moved: how this frame follows from that of the last call; None where it does not.
        """
        if moved is None or self._mean is None or self._mean.shape != plane.shape:
            self._mean = plane
            return plane
        moved = moved.of_object(plane)
        change = moved.pulled(self._mean) - plane
        trust = moved.trust_at(plane.shape) * np.exp(-((change / self.tolerance) ** 2))
        self._mean = plane + (1 - self.weight) * trust * change
        return self._mean


class SteadyProbability(SteadyMean):
    """`SteadyMean` of a segmentation's probabilities, begun again where the mask becomes another one.

    See `continues`, by which a caller ends other means too.
    """

    def __init__(self, weight: float = 0.6, tolerance: float = 0.3) -> None:
        super().__init__(weight, tolerance)

    def continues(self, plane: np.ndarray) -> bool:
        """Whether the mask of (H, W) float32 probabilities overlaps that of the mean by `CUT_IOU` or more.

        True where there is no mean yet.
        """
        if self._mean is None or self._mean.shape != plane.shape:
            return True
        return mask_iou(plane >= 0.5, self._mean >= 0.5) >= CUT_IOU

    def step(self, plane: np.ndarray, moved: Moved | None) -> np.ndarray:
        """See `SteadyMean.step`."""
        return super().step(plane, moved if self.continues(plane) else None)


class SteadyAlpha(SteadyMean):
    """`SteadyMean` of alpha, within the unknown region alone: known pixels stay as the trimap has them."""

    def __init__(self, weight: float = 0.4, tolerance: float = 0.4) -> None:
        super().__init__(weight, tolerance)

    def matte(self, alpha: np.ndarray, trimap: np.ndarray, moved: Moved | None) -> np.ndarray:
        """(H, W) uint8 alpha of a frame, steadied where (H, W) uint8 `trimap` is 128."""
        plane = alpha.astype(np.float32) / 255
        mean = self.step(plane, moved)
        self._mean = np.where(trimap == UNKNOWN, mean, plane)
        return cv2.convertScaleAbs(self._mean, alpha=255)  # rounds to the nearest
