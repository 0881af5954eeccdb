"""Trimaps or masks at a few key frames, carried to the frames between along the flow, forwards and backwards.

The key frame is sampled once for each frame, through the sum of all motion since, so that nothing blurs on the way. The
sum of the disagreements between the flow there and back bounds how far a pixel may be off: a known pixel stays known
only if it is farther than that from what is not. Between two key frames both are carried, and where they disagree the
trimap is unknown.
"""

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from data.images.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from engine.video.motion import CUT_DISTANCE, histogram, histogram_distance, moved_between, places, pulled, small_gray
from runtime.errors import InputError

_LEAST_DRIFT = 0.15  # pixels a frame at the flow's size, where the flow there and back agrees
_LOST = 12.0  # pixels at the flow's size beyond which nothing is known


@dataclass
class _Way:
    """From a frame back to its key frame, at the flow's size.

    Attributes:
        place: (h, w, 2) x and y in the key frame.
        drift: (h, w) pixels that the place may be off.
        key: (h, w) the key frame's trimap from 0 to 1; the object is where this is high.
    """

    place: np.ndarray
    drift: np.ndarray
    key: np.ndarray

    @classmethod
    def none(cls, key: np.ndarray, shape: tuple[int, int]) -> "_Way":
        small = cv2.resize(key, shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        return cls(places(shape), np.zeros(shape, np.float32), small)

    def further(self, gray: np.ndarray, next_gray: np.ndarray) -> "_Way":
        """The way of the next frame, on either side."""
        moved = moved_between(gray, next_gray)
        moved = moved.of_object(pulled(self.now(), moved.flow))
        drift = pulled(self.drift, moved.flow) + moved.error + _LEAST_DRIFT
        return _Way(pulled(self.place, moved.flow), drift, self.key)

    def now(self) -> np.ndarray:
        """The key frame's trimap as this frame has it."""
        return cv2.remap(self.key, self.place, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


def carry_key_frames(images: Iterable[np.ndarray], keys: Mapping[int, np.ndarray]) -> Iterator[np.ndarray]:
    """Yield a trimap for each frame, those of key frames as they are given.

    What is waited for until the next key frame is kept on disk, in gray at the flow's size: memory does not grow with a
    clip.

    Args:
        images: (H, W, 3) uint8 RGB, the frames in order.
        keys: index of a frame -> (H, W) uint8 trimap of 0, 128 and 255.

    Raises:
        InputError: no key frames, one of another size than its frame, or a scene without one.
    """
    if not keys:
        raise InputError("key frames: expected at least one trimap, got none")
    with tempfile.TemporaryDirectory(prefix="key-frames-") as folder:
        yield from _Carrier(Path(folder), keys).run(images)


class _Carrier:
    """Stretches of frames between key frames and cuts: each is read forwards, then carried backwards from its end."""

    def __init__(self, folder: Path, keys: Mapping[int, np.ndarray]) -> None:
        self.folder, self.keys = folder, keys
        self.shape: tuple[int, int] = (0, 0)  # of the frames
        self.used: set[int] = set()

    def run(self, images: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        start, index, colours = 0, -1, None  # of the stretch that waits; its first may be a key frame
        for index, image in enumerate(images):
            self.shape = image.shape[:2]
            gray, now = small_gray(image), histogram(image)
            if colours is not None and histogram_distance(now, colours) > CUT_DISTANCE:
                yield from self._stretch(start, index - 1)
                start = index
            colours = now
            np.save(self._gray(index), gray)
            if index in self.keys and index > start:
                yield from self._stretch(start, index, with_last=False)
                start = index
        if index < 0:
            return
        yield from self._stretch(start, index)
        unused = sorted(set(self.keys) - self.used)
        if unused:
            raise InputError(f"key frame {unused[0]}, counted from 0: the clip has {index + 1} frames")

    def _stretch(self, first: int, last: int, with_last: bool = True) -> Iterator[np.ndarray]:
        """Trimaps of frames first to last, between which there is neither cut nor key frame."""
        if first not in self.keys and last not in self.keys:
            raise InputError(
                f"frames {first} to {last}, counted from 0: expected a key frame in each scene, found none; give one "
                f"for frame {first}"
            )
        for index, carried in self._carried(range(first, last + 1)):
            np.save(self._trimap(index), carried)
        if last > first:
            for index, carried in self._carried(range(last, first - 1, -1)):
                if first in self.keys and self._trimap(index).exists():
                    carried = agreed(np.load(self._trimap(index)), carried)
                np.save(self._trimap(index), carried)
        for index in range(first, last + with_last):
            yield self._key(index) if index in self.keys else np.load(self._trimap(index))
            self._trimap(index).unlink(missing_ok=True)
            self._gray(index).unlink()

    def _carried(self, indices: range) -> Iterator[tuple[int, np.ndarray]]:
        """The key frame that a stretch begins with, carried through it; nothing where it begins with none."""
        key = self._key(indices[0])
        if key is None:
            return
        gray = np.load(self._gray(indices[0]))
        way = _Way.none(key, gray.shape)
        yield indices[0], key
        for index in indices[1:]:
            next_gray = np.load(self._gray(index))
            way = way.further(gray, next_gray)
            gray = next_gray
            yield index, carried_trimap(key, way.place, way.drift)

    def _key(self, index: int) -> np.ndarray | None:
        if index not in self.keys:
            return None
        key = self.keys[index]
        self.used.add(index)
        if key.shape != self.shape:
            raise InputError(
                f"key frame {index}, counted from 0: expected a trimap of {self.shape[1]} x {self.shape[0]} like the "
                f"frames, got {key.shape[1]} x {key.shape[0]}"
            )
        return key

    def _gray(self, index: int) -> Path:
        return self.folder / f"{index}.gray.npy"

    def _trimap(self, index: int) -> Path:
        return self.folder / f"{index}.trimap.npy"


def carried_trimap(key: np.ndarray, place: np.ndarray, drift: np.ndarray) -> np.ndarray:
    """A key frame's trimap as another frame has it, its band widened by what the motion may be off.

    Args:
        key: (H, W) uint8 of 0, 128 and 255.
        place: (h, w, 2) float32: x and y in the key frame of each of the frame's pixels, at the flow's size.
        drift: (h, w) float32 pixels at the flow's size.

    Returns:
        (H, W) uint8 of 0, 128 and 255.
    """
    height, width = key.shape
    scale = np.float32([width / place.shape[1], height / place.shape[0]])
    at = cv2.resize((place + 0.5) * scale - 0.5, (width, height), interpolation=cv2.INTER_LINEAR)
    drift = cv2.resize(drift, (width, height), interpolation=cv2.INTER_LINEAR)
    outside = (at < -0.5).any(axis=2) | (at[..., 0] > width - 0.5) | (at[..., 1] > height - 0.5)
    lost = outside | (drift > _LOST)
    drift = drift * scale.mean()
    trimap = np.full(key.shape, UNKNOWN, np.uint8)
    for value in (BACKGROUND, FOREGROUND):
        share = cv2.remap(
            (key == value).astype(np.float32), at, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        known = share > 0.99
        if not known.all():
            known &= cv2.distanceTransform(known.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) > drift
        trimap[known & ~lost] = value
    return trimap


def agreed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Two trimaps as one: known where both say the same, or where one knows and the other does not.

    A disagreement is unknown, and so is what is nearer to it than it is wide.

    Example:
        >>> agreed(np.uint8([[0, 0, 128, 255]]), np.uint8([[0, 128, 128, 255]])).tolist()
        [[0, 0, 128, 255]]
    """
    joined = np.where(first == UNKNOWN, second, first)
    apart = (first != second) & (first != UNKNOWN) & (second != UNKNOWN)
    if apart.any():
        inside = cv2.distanceTransform(apart.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        away = cv2.distanceTransform((~apart).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        joined = np.where(away <= inside.max(), np.uint8(UNKNOWN), joined)
    return joined.astype(np.uint8)
