"""Motion between consecutive frames: dense flow, how far it can be trusted, and where a clip is cut."""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

FLOW_SIDE = 512  # pixels, the longest side of the pictures that flow is computed of
CUT_DISTANCE = 0.5  # of histograms, from 0 to 1
CUT_IOU = 0.3  # of consecutive masks, below which a scene is another
_LEVELS = 8  # a channel of the histograms
_STEADY = 1.0  # pixels that there and back may disagree and still be trusted by 1 / e
_ALIKE = 0.06  # difference of blurred gray, as a fraction of white, that is trusted by 1 / e
_REACH = 8.0  # pixels that an object's motion is spread beyond it, a standard deviation
# Squared differences without the flow over those along it, of an object that stands still and of one that moves. Noise
# alone gives 1.0 to 1.12 over an object and 0.8 to 1.8 within `_REACH`; half a pixel gives 1.4 and more over an object.
_MOVES_AS_A_WHOLE, _MOVES_NEARBY = (1.15, 1.35), (1.6, 2.2)
_FAINT = 1e-4  # weight of flow that is not trusted, for places far from any that is


@dataclass(frozen=True)
class Moved:
    """The motion from one frame to another.

    Attributes:
        flow: (h, w, 2) float32, at the size of `FLOW_SIDE`: where a pixel of this frame is in the other, relative to
            its place, x then y.
        trust: (h, w) float32 in [0, 1]: 0 where it was hidden or the flow is wrong.
        error: (h, w) float32, pixels that the flow there and back disagrees by.
        unlike: (h, w, 2) float32, squared differences of the frames' gray without the flow and along it; None where
            they are not known.
    """

    flow: np.ndarray
    trust: np.ndarray
    error: np.ndarray
    unlike: np.ndarray | None = None

    def of_object(self, plane: np.ndarray) -> "Moved":
        """The motion of an object alone, spread over its edge and a little around it.

        At an edge the flow is that of the object or of what is behind it, and alpha moves with the object. Where the
        object looks the same without the flow, it stands still: the flow of noise would make its edge tremble.

        Args:
            plane: (H, W) float32 in [0, 1], its alpha or probability in this frame.
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
        """This motion and that of the frame it leads to, as one."""
        return Moved(
            self.flow + pulled(further.flow, self.flow),
            self.trust * pulled(further.trust, self.flow),
            self.error + pulled(further.error, self.flow),
        )

    def at_size(self, shape: tuple[int, int]) -> "Moved":
        """The motion at another size (H, W), in that size's pixels."""
        if self.flow.shape[:2] == shape:
            return self
        scale = np.float32([shape[1] / self.flow.shape[1], shape[0] / self.flow.shape[0]])
        flow, trust, error = (
            cv2.resize(plane, shape[::-1], interpolation=cv2.INTER_LINEAR)
            for plane in (self.flow, self.trust, self.error)
        )
        return Moved(flow * scale, trust, error * scale.mean())

    def pulled(self, plane: np.ndarray) -> np.ndarray:
        """The plane (H, W) or (H, W, C) float32 of the frame it leads to, in the places of this one."""
        return pulled(plane, self.at_size(plane.shape[:2]).flow)


class Link(NamedTuple):
    """The motion between a frame and the one before it.

    Attributes:
        back: of the frame to the one before.
        forth: of the one before to the frame.
    """

    back: Moved
    forth: Moved


class Motion:
    """Follows a clip, one frame in memory.

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
        """(h, w) of the flow."""
        return self._gray.shape

    def step(self, image: np.ndarray) -> Link | None:
        """The motion between (H, W, 3) uint8 `image` and the image of the last call."""
        gray, colours = small_gray(image), histogram(image)
        before, colours_before = self._gray, self._colours
        self._gray, self._colours = gray, colours
        if before is None or before.shape != gray.shape or histogram_distance(colours, colours_before) > CUT_DISTANCE:
            return None
        return linked(before, gray, self._dis)


def linked(before: np.ndarray, gray: np.ndarray, dis: cv2.DISOpticalFlow | None = None) -> Link:
    """The motion between two frames of `small_gray`, both ways.

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
    """The plane (H, W) or (H, W, C) sampled at x + flow(x), linearly; beyond the border as at it.

    Example:
        >>> pulled(np.float32([[0, 10, 20]]), np.full((1, 3, 2), (1, 0), np.float32)).tolist()
        [[10.0, 20.0, 20.0]]
    """
    return cv2.remap(plane, places(flow.shape[:2]) + flow, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def places(shape: tuple[int, int]) -> np.ndarray:
    """(H, W, 2) float32: the x and y of each pixel."""
    return np.stack(np.meshgrid(*(np.arange(side, dtype=np.float32) for side in shape[::-1])), axis=2)


def small_gray(image: np.ndarray) -> np.ndarray:
    """(h, w) uint8 gray of at most `FLOW_SIDE` pixels a side, of (H, W, 3) uint8 RGB."""
    gray = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    scale = FLOW_SIDE / max(gray.shape)
    if scale >= 1:
        return gray
    size = [max(1, round(side * scale)) for side in gray.shape[::-1]]
    return cv2.resize(gray, size, interpolation=cv2.INTER_AREA)


def histogram(image: np.ndarray) -> np.ndarray:
    """Shares of colours in (H, W, 3) uint8 `image`, of 8 x 8 x 8 levels."""
    counts = cv2.calcHist([image], [0, 1, 2], None, [_LEVELS] * 3, [0, 256] * 3)
    return counts.ravel() / counts.sum()


def histogram_distance(first: np.ndarray, second: np.ndarray) -> float:
    """Half the sum of absolute differences: 0 for equal shares, 1 for colours that have nothing in common."""
    return float(np.abs(first - second).sum() / 2)


def mask_iou(first: np.ndarray, second: np.ndarray) -> float:
    """Intersection over union of two boolean masks; 1 where both are empty."""
    union = (first | second).sum()
    return float((first & second).sum() / union) if union else 1.0


def _ratio(still: np.ndarray, along: np.ndarray) -> np.ndarray:
    return (still + _FAINT**2) / (along + _FAINT**2)


def _share_between(values: np.ndarray, lowest: float, highest: float) -> np.ndarray:
    return np.clip((values - lowest) / (highest - lowest), 0, 1)


def _spread(plane: np.ndarray) -> np.ndarray:
    return cv2.GaussianBlur(plane, (0, 0), _REACH)
