"""The chain from a clip to mattes: steadied over time, from a segmentation of each frame or from a few key frames."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from data.images.files import images_by_stem
from data.images.trimap import FOREGROUND
from data.video import open_clip
from engine.inference.auto_matte import AutoMatte
from engine.inference.predict import Arrays
from engine.video.key_frames import KeyFrame, carry_key_frames, check_key_frames, find_scenes
from engine.video.motion import Motion, Moved
from engine.video.steady import SteadyAlpha, SteadyProbability
from runtime.errors import InputError

OPAQUE_FROM = 128  # 8-bit alpha that counts as the subject in a mask


class ClipMatte(AutoMatte):
    """`AutoMatte` of the frames of one clip, in their order.

    Probabilities of the subject and alpha are averaged along its motion, see `engine.video.steady`. A frame that comes
    with a "trimap" is not searched for the subject. Arguments are those of `AutoMatte`.
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._motion, self._moved = Motion(), None
        self._probabilities, self._alphas = SteadyProbability(), SteadyAlpha()

    def _matte(self, sample: Mapping[str, np.ndarray]) -> Arrays:
        self._moved: Moved | None = self._motion.step(sample["image"])
        try:
            result = super()._matte(sample)
        except InputError:
            self._motion = Motion()  # the next frame does not follow the last one that was matted
            raise
        if "trimap" in sample:
            result["mask"] = (result["alpha"] >= OPAQUE_FROM).astype(np.uint8)
        return result

    def _found(self, sample: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        if "trimap" in sample:
            return sample["trimap"] == FOREGROUND, sample["trimap"]
        subject = self.subjects(sample)
        if not self._probabilities.continues(subject.probability):
            self._moved = None  # another subject: neither mean goes on
        subject = subject._replace(probability=self._probabilities.step(subject.probability, self._moved))
        return self._regions(subject)

    def alpha_of(self, image: np.ndarray, trimap: np.ndarray) -> np.ndarray:
        """See `AutoMatte.alpha_of`; steadied."""
        return self._alphas.matte(super().alpha_of(image, trimap), trimap, self._moved)


def carried_trimaps(path: Path, keys: Mapping[int, KeyFrame]) -> Iterator[dict[str, np.ndarray]]:
    """The "trimap" of each frame of a clip, from those of some.

    Reads the clip twice: at once for its scenes and the number of its frames, so that key frames that do not fit are
    refused before any matting, and again as the trimaps are taken.

    Raises:
        InputError: see `check_key_frames`, and `carry_key_frames` later.
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
    """Key frames by their index: a file is of the first frame, those of a folder have the frame's number, from 1.

    Args:
        read: the trimap of a file; called when the key frame is used.

    Raises:
        InputError: no files, a name that does not end in a number, or a number of two files.
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
    """(H, W, 3) uint8 RGB."""
    with open_clip(path) as clip:
        return next(iter(clip)).image
