"""Mattes of the frames of a clip, steadied over time, from a segmentation of the frames or from key frames."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
from tqdm import tqdm

from data.images.files import images_by_stem
from data.images.trimap import UNKNOWN
from data.video import open_clip
from engine.inference.auto_matte import AutoMatte
from engine.inference.predict import Arrays
from engine.inference.subjects import Subject
from engine.video.key_frames import KeyFrame, Way, carry_key_frames, check_key_frames, find_scenes
from engine.video.motion import Link, Motion, Moved
from engine.video.steady import REACH, is_same_subject, steadied
from runtime.errors import InputError

OPAQUE_FROM = 128  # 8-bit alpha that counts as the subject in a mask


@dataclass(eq=False)
class _Frame:
    """A frame in the window of frames that are in memory.

    Attributes:
        number: number of the frame in the clip, from 0.
        sample: inputs of the frame; empty once it has been matted.
        link: motion between this frame and the one before.
        found: intermediate results by name, or the error that occurred.
        remark: remark for the user on these results.
    """

    number: int
    sample: Mapping[str, Any]
    link: Link | None
    found: dict[str, Any] = field(default_factory=dict)
    remark: str = ""


class ClipMatte(AutoMatte):
    """`AutoMatte` for the frames of one clip, in their order.

    The probabilities of the subject and alpha are averaged with those of `REACH` frames on either side (see
    `engine.video.steady`). If a sample contains a "trimap", the subject of this frame is not searched for. A sample may
    contain the samples of the next `look_ahead` frames under "following"; without them, only earlier frames are
    averaged.

    A result depends on at most `look_back` earlier frames. A run that begins within a clip therefore passes the samples
    of these frames as "preceding" with its first sample, and gives each sample its "number" from 0.

    Args:
        segment_every: 1 to segment every frame; N to segment frames 0, N, 2 N and the first after each cut, and to
            carry their trimaps to the next frames along the motion.
        arguments, settings: arguments of `AutoMatte`.
    """

    def __init__(self, *arguments: Any, segment_every: int = 1, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        if segment_every < 1:
            raise InputError(f"--seg-every: expected 1 or more, got {segment_every}")
        self.segment_every = segment_every
        self._motion = Motion()
        self._frames: list[_Frame] = []
        self._count = 0

    look_ahead = 2 * REACH  # later frames that a matte depends on: `REACH` alphas, whose trimaps need as many more

    @property
    def look_back(self) -> int:
        """Number of earlier frames that a matte depends on."""
        return REACH + max(REACH, self.segment_every - 1)

    def _matte(self, sample: Mapping[str, Any]) -> Arrays:
        self._follow([*sample.get("preceding", ()), sample, *sample.get("following", ())])
        index = next(i for i, frame in enumerate(self._frames) if frame.sample.get("image") is sample["image"])
        try:
            alpha, (mask, trimap) = self._required("steady alpha", index), self._required("regions", index)
            self.remark = self._frames[index].remark
            mask = alpha >= OPAQUE_FROM if mask is None else mask
            return self._results(sample["image"], mask, trimap, alpha)
        finally:
            for earlier in self._frames[: index + 1]:
                earlier.sample = {}
            del self._frames[: max(0, index + 1 - REACH)]

    # ---- the window: each intermediate result is computed once, when this frame or a neighbour needs it

    def _follow(self, samples: Sequence[Mapping[str, Any]]) -> None:
        known = {id(frame.sample["image"]) for frame in self._frames if frame.sample}
        for sample in samples:
            if id(sample["image"]) not in known:
                with self.watch.part("motion"):
                    link = self._motion.step(sample["image"])
                self._count = sample.get("number", self._count)
                self._frames.append(_Frame(self._count, sample, link))
                self._count += 1

    def _of(self, name: str, index: int) -> Any:
        """Intermediate result of the frame at an index of the window; None if it failed."""
        frame = self._frames[index]
        if name not in frame.found:
            try:
                frame.found[name] = self._makers[name](self, index)
            except InputError as error:
                frame.found[name] = InputError(str(error))  # its traceback would keep arrays alive
        found = frame.found[name]
        return None if isinstance(found, InputError) else found

    def _required(self, name: str, index: int) -> Any:
        """Intermediate result of a frame; see `_of`.

        Raises:
            InputError: it failed.
        """
        found = self._of(name, index)
        if found is None:
            raise self._frames[index].found[name]
        return found

    def _subject(self, index: int) -> Subject:
        with self.watch.part("segmentation"):
            return self.subjects(self._frames[index].sample)

    def _segmented(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        subject = self._required("subject", index)
        if self.segment_every == 1:
            with self.watch.part("steadying"):
                probability = steadied(subject.probability, self._neighbours("probability", index))
            subject = subject._replace(probability=probability)
        return self._noting(index, "trimap", lambda: self._regions(subject))

    def _way(self, index: int) -> tuple[Way, np.ndarray, int]:
        """Motion from a frame back to the last segmented frame, the trimap of that frame, and the number of frames
        between.
        """
        frame = self._frames[index]
        goes_on = index > 0 and frame.link is not None and frame.number % self.segment_every != 0
        before = self._of("way", index - 1) if goes_on else None
        if before is not None:
            way, key, steps = before
            with self.watch.part("trimap"):
                return way.further(frame.link.back), key, steps + 1
        _, trimap = self._required("segmented", index)
        return Way.none(trimap, self._motion.shape), trimap, 0

    def _regions_of(self, index: int) -> tuple[np.ndarray | None, np.ndarray]:
        """Mask and trimap of a frame. The mask is None if it follows from alpha."""
        given = self._frames[index].sample.get("trimap")
        if given is not None:
            return None, given
        if self.segment_every == 1:
            return self._required("segmented", index)
        way, key, steps = self._required("way", index)
        if steps == 0:
            return self._required("segmented", index)
        with self.watch.part("trimap"):
            return None, way.trimap(key)

    def _alpha(self, index: int) -> np.ndarray:
        image, (_, trimap) = self._frames[index].sample["image"], self._required("regions", index)
        return self._noting(index, "matting", lambda: self.alpha_of(image, trimap))

    def _noting(self, index: int, part: str, make: Callable[[], Any]) -> Any:
        """Return the result of `make`, and record its time and its remark for the frame."""
        self.remark = ""
        with self.watch.part(part):
            result = make()
        self._frames[index].remark = self.remark or self._frames[index].remark
        return result

    def _steady_alpha(self, index: int) -> np.ndarray:
        alpha, (_, trimap) = self._required("alpha", index), self._required("regions", index)
        unknown = trimap == UNKNOWN
        if not unknown.any():
            return alpha
        neighbours = self._neighbours("alpha plane", index)
        with self.watch.part("steadying"):
            plane = steadied(self._required("alpha plane", index), neighbours, unknown)
            return np.where(unknown, cv2.convertScaleAbs(plane, alpha=255), alpha)  # rounds to the nearest

    _makers: ClassVar[Mapping[str, Callable[["ClipMatte", int], Any]]] = {
        "subject": _subject,
        "probability": lambda self, index: self._required("subject", index).probability,
        "segmented": _segmented,
        "way": _way,
        "regions": _regions_of,
        "alpha": _alpha,
        "alpha plane": lambda self, index: self._required("alpha", index).astype(np.float32) / 255,
        "steady alpha": _steady_alpha,
    }

    # ---- neighbouring frames

    def _neighbours(self, name: str, index: int) -> list[tuple[np.ndarray, Moved]]:
        """Planes of the neighbouring frames, with the motion of the object to each; up to a cut or a failed frame."""
        found = []
        for side in (-1, 1):
            moved = None
            for at in range(index, index + REACH * side, side):
                step = self._step(name, at, side)
                if step is None:
                    break
                moved = step if moved is None else moved.then(step)
                found.append((self._of(name, at + side), moved))
        return found

    def _step(self, name: str, index: int, side: int) -> Moved | None:
        """Motion of a plane's object to the next frame on one side; None if there is none or it is unknown."""
        other = index + side
        if not 0 <= other < len(self._frames):
            return None
        frame, key = self._frames[index], f"{name} to {side}"
        if key not in frame.found:
            frame.found[key] = self._motion_of(name, index, other)
        return frame.found[key]

    def _motion_of(self, name: str, index: int, other: int) -> Moved | None:
        link = self._frames[max(index, other)].link
        plane, beside = self._of(name, index), self._of(name, other)
        if link is None or plane is None or beside is None or not self._is_same_subject(index, other):
            return None
        with self.watch.part("steadying"):
            return (link.back if other < index else link.forth).of_object(plane)

    def _is_same_subject(self, *indices: int) -> bool:
        if any("subject" not in self._frames[index].found for index in indices):
            return True
        planes = [self._of("probability", index) for index in indices]
        return any(plane is None for plane in planes) or is_same_subject(*planes)


def carried_trimaps(path: Path, keys: Mapping[int, KeyFrame]) -> Iterator[dict[str, np.ndarray]]:
    """Yield the "trimap" of each frame of a clip, carried from key frames.

    The clip is read twice. The first reading finds its scenes and its number of frames at once, so that unsuitable key
    frames are refused before matting starts. The second happens as the trimaps are used.

    Raises:
        InputError: see `check_key_frames` and, during the iteration, `carry_key_frames`.
    """
    with open_clip(path) as clip:
        frames = tqdm(clip, "finding scenes", clip.num_frames or None, unit="frame", disable=None)
        scenes = find_scenes(frame.image for frame in frames)
        check_key_frames(keys, scenes, (clip.height, clip.width), str(path))
    return _carried(path, keys, scenes)


def _carried(path: Path, keys: Mapping[int, KeyFrame], scenes: Sequence[range]) -> Iterator[dict[str, np.ndarray]]:
    with open_clip(path) as clip:
        for trimap in carry_key_frames((frame.image for frame in clip), keys, scenes):
            yield {"trimap": trimap}


def key_frames_of(path: str | os.PathLike, read: Callable[[Path], np.ndarray]) -> dict[int, KeyFrame]:
    """Key frames by the index of their frame. A file is for the first frame; names in a folder end in a number from 1.

    Args:
        read: function that reads the trimap of a file; called when the key frame is used.

    Raises:
        InputError: there is no file, a name does not end in a number, or two files have the same number.
    """
    path = Path(path)
    if not path.is_dir():
        return {0: KeyFrame(str(path), partial(read, path))}
    keys: dict[int, KeyFrame] = {}
    for file in images_by_stem(path).values():
        number = re.search(r"(\d+)$", file.stem)
        if number is None or int(number[1]) < 1 or int(number[1]) - 1 in keys:
            raise InputError(
                f"{file}: expected a name that ends in the number of a frame, from 1, such as 000025.png, each once"
            )
        keys[int(number[1]) - 1] = KeyFrame(str(file), partial(read, file))
    if not keys:
        raise InputError(f"{path}: expected key frames, found no picture")
    return keys


def first_frame(path: Path) -> np.ndarray:
    """First frame of a clip, (H, W, 3) uint8 RGB."""
    with open_clip(path) as clip:
        return next(iter(clip)).image
