"""Trimaps of a few key frames, carried to the other frames along the flow, forwards and backwards.

Each frame samples its key frame once, along the accumulated motion, so repeated resampling does not blur the trimap.
The accumulated disagreement between forward and backward flow estimates the position error. A known pixel stays known
only if its distance to other regions is larger than this error. Between two key frames both are carried, and pixels on
which they disagree become unknown.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from data.images.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from engine.video.motion import (
    CUT_DISTANCE,
    Moved,
    histogram,
    histogram_distance,
    moved_between,
    places,
    pulled,
    small_gray,
)
from runtime.errors import InputError
from runtime.text import NAMED_AT_MOST

_LEAST_DRIFT = 0.15  # error in pixels per frame, at the size of the flow, if forward and backward flow agree
_LOST = 12.0  # error in pixels, at the size of the flow, beyond which a pixel is unknown


@dataclass
class Way:
    """The accumulated motion from a frame back to its key frame, at the size of the flow.

    Attributes:
        place: (h, w, 2) x and y in the key frame.
        drift: (h, w) estimated error of the place in pixels.
        key: (h, w) trimap of the key frame from 0 to 1; high values are the object.
    """

    place: np.ndarray
    drift: np.ndarray
    key: np.ndarray

    @classmethod
    def none(cls, key: np.ndarray, shape: tuple[int, int]) -> "Way":
        small = cv2.resize(key, shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255
        return cls(places(shape), np.zeros(shape, np.float32), small)

    def further(self, moved: Moved) -> "Way":
        """The motion of the next frame on either side, given its motion to this one."""
        moved = moved.of_object(pulled(self.now(), moved.flow))
        drift = pulled(self.drift, moved.flow) + moved.error + _LEAST_DRIFT
        return Way(pulled(self.place, moved.flow), drift, self.key)

    def trimap(self, key: np.ndarray) -> np.ndarray:
        """The key frame's (H, W) trimap, carried to this frame; see `carried_trimap`."""
        return carried_trimap(key, self.place, self.drift)

    def now(self) -> np.ndarray:
        """The key frame's trimap, carried to this frame, from 0 to 1 at the size of the flow."""
        return cv2.remap(self.key, self.place, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)


@dataclass(frozen=True)
class KeyFrame:
    """The trimap of one frame. It is read each time it is used and not kept in memory.

    Attributes:
        source: path of the file, for messages.
        read: function that returns the (H, W) uint8 trimap of 0, 128 and 255.
    """

    source: str
    read: Callable[[], np.ndarray]

    @classmethod
    def given(cls, trimap: np.ndarray, source: str = "the key frame") -> "KeyFrame":
        """A trimap that is in memory."""
        return cls(source, lambda: trimap)


def find_scenes(images: Iterable[np.ndarray]) -> list[range]:
    """Indices of the frames of each scene. There is a cut where histograms differ by more than `CUT_DISTANCE`.

    Args:
        images: frames in order, (H, W, 3) uint8 RGB; one is in memory at a time.

    Example:
        >>> black, white = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 255, np.uint8)
        >>> find_scenes([black, black, white])
        [range(0, 2), range(2, 3)]
    """
    starts, before, count = [0], None, 0
    for image in images:
        colours = histogram(image)
        if before is not None and histogram_distance(colours, before) > CUT_DISTANCE:
            starts.append(count)
        before = colours
        count += 1
    return [range(first, stop) for first, stop in pairwise([*starts, count]) if stop > first]


def check_key_frames(
    keys: Mapping[int, KeyFrame], scenes: Sequence[range], shape: tuple[int, int], clip: str = "the clip"
) -> None:
    """Refuse key frames that cannot be carried to every frame, before matting starts. Each is read once.

    Args:
        keys: trimaps by the index of their frame, from 0. Messages count frames from 1.
        scenes: see `find_scenes`.
        shape: (H, W) of the frames.
        clip: path of the clip, for messages.

    Raises:
        InputError: there are no key frames, a key frame has another size or is after the end of the clip, or a scene
            has no key frame.
    """
    if not keys:
        raise InputError(f"{clip}: expected at least one key frame, got none")
    num_frames = scenes[-1].stop if scenes else 0
    for index, key in sorted(keys.items()):
        if index >= num_frames:
            raise InputError(
                f"{key.source}: is for frame {index + 1}, but {clip} has {num_frames} frames; remove it, or name it by "
                "its frame"
            )
    without = [scene for scene in scenes if not any(index in scene for index in keys)]
    if without:
        some = ", ".join(f"{scene.start + 1} to {scene.stop}" for scene in without[:NAMED_AT_MOST])
        more = f" and {len(without) - NAMED_AT_MOST} more" if len(without) > NAMED_AT_MOST else ""
        raise InputError(
            f"{clip}: expected a key frame in each scene, found none in frames {some}{more} (a scene begins where the "
            f"picture changes abruptly); add one for frame {without[0].start + 1}, or cut the clip there"
        )
    for index, key in sorted(keys.items()):
        found = key.read().shape
        if found != shape:
            raise InputError(
                f"{key.source}: expected {shape[1]} x {shape[0]} like frame {index + 1} of {clip}, got {found[1]} x "
                f"{found[0]}; make it at the frame's size"
            )


def carry_key_frames(
    images: Iterable[np.ndarray], keys: Mapping[int, KeyFrame], scenes: Sequence[range]
) -> Iterator[np.ndarray]:
    """Yield a trimap for each frame. Those of key frames are unchanged.

    After the last key frame of a scene, each trimap is yielded when its frame has been read. Frames before a key frame
    wait for it, because it is also carried backwards. Until then, their gray pictures at the size of the flow and, if
    there is an earlier key frame, their trimaps are PNG files in a temporary folder. At most two key frames are in
    memory.

    Args:
        images: frames in order, (H, W, 3) uint8 RGB.
        keys: trimaps by the index of their frame, from 0; see `check_key_frames`.
        scenes: see `find_scenes`.

    Raises:
        InputError: there are more or fewer frames than in `scenes`, or a key frame cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="key-frames-") as folder:
        yield from _Carrier(Path(folder), images).run(keys, scenes)


class _Carrier:
    """The stretches between key frames and cuts. Each frame is read once; `gray` belongs to the last one."""

    def __init__(self, folder: Path, images: Iterable[np.ndarray]) -> None:
        self.folder = folder
        self.grays = map(small_gray, images)
        self.gray: np.ndarray | None = None

    def run(self, keys: Mapping[int, KeyFrame], scenes: Sequence[range]) -> Iterator[np.ndarray]:
        for scene in scenes:
            self._step()
            first, key = scene.start, None  # start of the stretch, and the key frame that is carried forwards
            for index in sorted(index for index in keys if index in scene):
                next_key = keys[index].read()
                if index > first:
                    yield from self._before(first, key, index, next_key)
                first, key = index, next_key
            yield from self._after(key, scene.stop - first)
        if next(self.grays, None) is not None:
            raise InputError(f"the clip has more frames than the {scenes[-1].stop} that were found; run again")

    def _step(self) -> None:
        self.gray = next(self.grays, None)
        if self.gray is None:
            raise InputError("the clip has fewer frames than were found; run again")

    def _after(self, key: np.ndarray, count: int) -> Iterator[np.ndarray]:
        """The last key frame of a scene, carried to the `count` frames up to the end of the scene."""
        way = Way.none(key, self.gray.shape)
        yield key
        for _ in range(count - 1):
            before = self.gray
            self._step()
            way = way.further(moved_between(before, self.gray))
            yield way.trimap(key)

    def _before(self, first: int, key: np.ndarray | None, last: int, next_key: np.ndarray) -> Iterator[np.ndarray]:
        """Frames `first` to `last` - 1, where `next_key` is frame `last` and `key`, if any, is frame `first`."""
        inner = range(first if key is None else first + 1, last)
        way = None if key is None else Way.none(key, self.gray.shape)
        for index in range(first, last):
            if index in inner:
                _keep(self._waiting(index, "gray"), self.gray)
            if index in inner and way is not None:
                _keep(self._waiting(index, "trimap"), way.trimap(key))
            before = self.gray
            self._step()
            if way is not None and index + 1 in inner:
                way = way.further(moved_between(before, self.gray))
        way, gray = Way.none(next_key, self.gray.shape), self.gray
        for index in reversed(inner):
            before = _kept(self._waiting(index, "gray"))
            way, gray = way.further(moved_between(gray, before)), before
            trimap = way.trimap(next_key)
            if key is not None:
                trimap = agreed(_kept(self._waiting(index, "trimap")), trimap)
            _keep(self._waiting(index, "trimap"), trimap)
            self._waiting(index, "gray").unlink()
        if key is not None:
            yield key
        for index in inner:
            yield _kept(self._waiting(index, "trimap"))
            self._waiting(index, "trimap").unlink()

    def _waiting(self, index: int, kind: str) -> Path:
        return self.folder / f"{index}.{kind}.png"


def _keep(path: Path, plane: np.ndarray) -> None:
    """Write (H, W) uint8 as PNG with little compression, because this happens for every frame."""
    content = cv2.imencode(".png", plane, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1]
    try:
        path.write_bytes(content)
    except OSError as error:
        raise InputError(
            f"{path.parent}: cannot write frames that wait for the next key frame: {error.strerror}; set TMPDIR to a "
            "folder with more space"
        ) from error


def _kept(path: Path) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_GRAYSCALE)


def carried_trimap(key: np.ndarray, place: np.ndarray, drift: np.ndarray) -> np.ndarray:
    """A key frame's trimap, carried to another frame. Its band grows by the estimated error of the motion.

    Args:
        key: (H, W) uint8 of 0, 128 and 255.
        place: (h, w, 2) float32, x and y in the key frame for each pixel of the frame, at the size of the flow.
        drift: (h, w) float32, estimated error in pixels at the size of the flow.

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
    """Combine two trimaps: known where both agree, or where one is known and the other unknown.

    Where they disagree, the result is unknown. This region is extended by half the width of the disagreement.

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
