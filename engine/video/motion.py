"""Motion between consecutive frames: dense flow, its reliability, and the cuts of a clip."""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

FLOW_SIDE = 512  # longest side in pixels of the pictures from which flow is computed
CUT_DISTANCE = 0.5  # distance of histograms, from 0 to 1, above which there is a cut
CUT_IOU = 0.3  # overlap of consecutive masks below which there is a cut
_LEVELS = 8  # bins of the histograms for each channel
_STEADY = 1.0  # disagreement of forward and backward flow in pixels at which trust is 1 / e
_ALIKE = 0.06  # difference of blurred gray, as a fraction of white, at which the trust is 1 / e
_REACH = 8.0  # pixels by which the motion of an object extends beyond it, a standard deviation
# Ratio of the squared differences without the flow to those along it, for an object at rest and for a moving one. With
# noise alone the ratio is 1.0 to 1.12 over an object and 0.8 to 1.8 within `_REACH`. A motion of half a pixel gives 1.4
# and more over an object.
_MOVES_AS_A_WHOLE, _MOVES_NEARBY = (1.15, 1.35), (1.6, 2.2)
_FAINT = 1e-4  # weight of untrusted flow, which counts far from any trusted flow


@dataclass(frozen=True)
class Moved:
    """The motion from one frame to another.

    Attributes:
        flow: (h, w, 2) float32 x and y, at the size of `FLOW_SIDE`: the displacement of each pixel of this frame in the
            other.
        trust: (h, w) float32 in [0, 1]; 0 where the pixel is hidden in the other frame or the flow is wrong.
        error: (h, w) float32, the disagreement in pixels between the forward and the backward flow.
        unlike: (h, w, 2) float32, squared differences between the frames' gray without the flow and along it; None if
            unknown.
    """

    flow: np.ndarray
    trust: np.ndarray
    error: np.ndarray
    unlike: np.ndarray | None = None

    def of_object(self, plane: np.ndarray) -> "Moved":
        """The motion of an object, extended over its edge and a little around it.

        At an edge the flow is that of the object or of the background, and alpha moves with the object. If the object
        matches equally well without the flow, it is taken to be at rest, because the flow of noise would make its edge
        tremble.

        Args:
            plane: alpha or probability of the object in this frame, (H, W) float32 in [0, 1].
        """
        size = self.flow.shape[1::-1]
        weight = cv2.resize(plane, size, interpolation=cv2.INTER_AREA) * (self.trust + _FAINT) + _FAINT**2
        total = _spread(weight)
        flow = _spread(self.flow * weight[..., None]) / total[..., None]
        if self.unlike is not None:
            unlike = self.unlike * weight[..., None]
            nearby = _share_between(_ratio(*cv2.split(_spread(unlike) / total[..., None])), *_MOVES_NEARBY)
            whole = _share_between(_ratio(*(unlike.sum(axis=(0, 1)) / weight.sum())), *_MOVES_AS_A_WHOLE)
            flow *= np.maximum(nearby, whole)[..., None]
        return Moved(flow, _spread(self.trust * weight) / total, _spread(self.error * weight) / total)

    def then(self, further: "Moved") -> "Moved":
        """This motion followed by a further motion, from the frame that this one leads to."""
        return Moved(
            self.flow + pulled(further.flow, self.flow),
            self.trust * pulled(further.trust, self.flow),
            self.error + pulled(further.error, self.flow),
        )

    def at_size(self, shape: tuple[int, int]) -> "Moved":
        """The motion at another size (H, W), in pixels of that size."""
        if self.flow.shape[:2] == shape:
            return self
        scale = np.float32([shape[1] / self.flow.shape[1], shape[0] / self.flow.shape[0]])
        flow, trust, error = (
            cv2.resize(plane, shape[::-1], interpolation=cv2.INTER_LINEAR)
            for plane in (self.flow, self.trust, self.error)
        )
        return Moved(flow * scale, trust, error * scale.mean())

    def pulled(self, plane: np.ndarray) -> np.ndarray:
        """A plane (H, W) or (H, W, C) float32 of the other frame, resampled at the pixels of this frame."""
        return pulled(plane, self.at_size(plane.shape[:2]).flow)


class Link(NamedTuple):
    """The motion between a frame and the one before it, in both directions.

    Attributes:
        back: motion from the frame to the one before.
        forth: motion from the one before to the frame.
    """

    back: Moved
    forth: Moved


class Motion:
    """Motion of a clip, frame by frame. One frame is in memory.

    Example:
        >>> motion = Motion()
        >>> motion.step(np.zeros((32, 32, 3), np.uint8)) is None  # the first frame; also after a cut
        True
    """

    def __init__(self) -> None:
        self._gray: np.ndarray | None = None
        self._colours: np.ndarray | None = None
        self._dis = _dis()

    @property
    def shape(self) -> tuple[int, int]:
        """Size (h, w) of the flow."""
        return self._gray.shape

    def step(self, image: np.ndarray) -> Link | None:
        """Motion between `image` (H, W, 3) uint8 and the image of the last call; None after a cut and for the first
        image.
        """
        gray, colours = small_gray(image), histogram(image)
        before, colours_before = self._gray, self._colours
        self._gray, self._colours = gray, colours
        if before is None or before.shape != gray.shape or histogram_distance(colours, colours_before) > CUT_DISTANCE:
            return None
        return linked(before, gray, self._dis)


def linked(before: np.ndarray, gray: np.ndarray, dis: cv2.DISOpticalFlow | None = None) -> Link:
    """Motion between two frames of `small_gray`, in both directions.

    The flow is that of Kroeger et al., "Fast Optical Flow using Dense Inverse Search", ECCV 2016.
    """
    dis = dis or _dis()
    before, gray = np.ascontiguousarray(before), np.ascontiguousarray(gray)
    flow, forwards = dis.calc(gray, before, None), dis.calc(before, gray, None)
    smooth, smooth_before = (cv2.GaussianBlur(plane.astype(np.float32) / 255, (0, 0), 1.5) for plane in (gray, before))
    return Link(_moved(flow, forwards, smooth, smooth_before), _moved(forwards, flow, smooth_before, smooth))


def moved_between(before: np.ndarray, gray: np.ndarray) -> Moved:
    """The motion of `gray` from `before`, two frames of `small_gray`; see `linked`."""
    return linked(before, gray).back


def _moved(flow: np.ndarray, reverse: np.ndarray, smooth: np.ndarray, smooth_before: np.ndarray) -> Moved:
    error = np.linalg.norm(flow + pulled(reverse, flow), axis=2)
    unlike = np.stack([smooth - smooth_before, smooth - pulled(smooth_before, flow)], axis=2) ** 2
    trust = np.exp(-((error / _STEADY) ** 2) - unlike[..., 1] / _ALIKE**2)
    return Moved(flow, trust.astype(np.float32), error, unlike)


def _dis() -> cv2.DISOpticalFlow:
    return cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)


def pulled(plane: np.ndarray, flow: np.ndarray) -> np.ndarray:
    """A plane (H, W) or (H, W, C) sampled linearly at x + flow(x). Beyond the border the last pixel is repeated.

    Example:
        >>> pulled(np.float32([[0, 10, 20]]), np.full((1, 3, 2), (1, 0), np.float32)).tolist()
        [[10.0, 20.0, 20.0]]
    """
    return cv2.remap(plane, places(flow.shape[:2]) + flow, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def places(shape: tuple[int, int]) -> np.ndarray:
    """Coordinates x and y of each pixel, (H, W, 2) float32."""
    return np.stack(np.meshgrid(*(np.arange(side, dtype=np.float32) for side in shape[::-1])), axis=2)


def small_gray(image: np.ndarray) -> np.ndarray:
    """Gray picture (h, w) uint8 of (H, W, 3) uint8 RGB, with sides of at most `FLOW_SIDE` pixels."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    scale = FLOW_SIDE / max(gray.shape)
    if scale >= 1:
        return gray
    size = [max(1, round(side * scale)) for side in gray.shape[::-1]]
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA)


def histogram(image: np.ndarray) -> np.ndarray:
    """Histogram of the colours of `image` (H, W, 3) uint8 with 8 x 8 x 8 bins, as shares."""
    counts = cv2.calcHist([image], [0, 1, 2], None, [_LEVELS] * 3, [0, 256] * 3)
    return counts.ravel() / counts.sum()


def histogram_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Half the sum of absolute differences: 0 for equal histograms, 1 without any common colour."""
    return float(np.abs(first - second).sum() / 2)


def mask_iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two boolean masks; 1 if both are empty."""
    union = (first | second).sum()
    return float((first & second).sum() / union) if union else 1.0


def _ratio(still: np.ndarray, along: np.ndarray) -> np.ndarray:
    return (still + _FAINT**2) / (along + _FAINT**2)


def _share_between(values: np.ndarray, lowest: float, highest: float) -> np.ndarray:
    return np.clip((values - lowest) / (highest - lowest), 0, 1)


def _spread(plane: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(plane, (0, 0), _REACH)
