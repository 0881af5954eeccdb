"""Matting from Python: a model that is loaded once and called with arrays or PIL images."""

import copy
import os
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from data.images.arrays import Picture, deep_colours_of, mask_of, rgb_of, trimap_of
from data.images.backgrounds import Background
from data.images.foreground_colours import estimate_foreground
from data.images.trimap import UNKNOWN
from data.images.writing import DEPTHS, quantised
from engine.inference.auto_matte import KINDS, AutoMatte
from engine.inference.clip_matte import ClipMatte, carried_trimaps, first_frame
from engine.inference.clips import ClipJobs, clip_jobs
from engine.inference.jobs import Job, Outcome, clip_job, needs_exact
from engine.inference.pipeline import run_jobs
from engine.inference.predict import Predictor
from engine.inference.sinks import kinds_of
from engine.inference.subjects import GivenMasks, Point, PointedSubjects, SegmentedSubjects, Subject
from engine.video.key_frames import KeyFrame
from modeling.meta_arch.base import System
from runtime.device import resolve_device
from runtime.errors import InputError, require_choice

Box = tuple[int, int, int, int]  # left, top, right, bottom


class Matte(NamedTuple):
    """A matte with the colours of its subject.

    Attributes:
        alpha: (H, W) float32 in [0, 1].
        foreground: (H, W, 3) float32 in [0, 1], not premultiplied. `alpha * foreground + (1 - alpha) * background`
            composes the subject over another background without a fringe of the old one.
    """

    alpha: np.ndarray
    foreground: np.ndarray


class Matting:
    """A matting system that is loaded once and called with pictures.

    Several threads may call one object. Each call has its own arrays, and the network runs for one call at a time,
    because it uses all cores or the GPU and plans its memory from the free memory.

    Args:
        checkpoint: checkpoint of a run (.pth) or shipped model (.json); None for the model in the box.
        device: "cpu", "cuda", "cuda:N" or "mps"; None for the best available.
        segmentation: checkpoint of a segmentation that finds the subject if a call does not give it.
        mode, max_memory, views, precision, sharers: see `engine.inference.predict.Predictor`.
        bits: depth of the results, 8, 16 or 32. With 8 and 16 bits the values are rounded to 256 or 65536 levels, as in
            PNG and TIFF files of this depth. With 32 bits they are the network's own.

    Raises:
        InputError: a file cannot be read or has another kind of system, the device is not available, or a setting is
            not one of its choices.

    Example:
        >>> matting = Matting(device="cpu")
        >>> image = np.zeros((48, 64, 3), np.uint8)
        >>> image[12:36, 16:48] = 200
        >>> trimap = np.zeros((48, 64), np.uint8)
        >>> trimap[8:40, 12:52] = 128
        >>> trimap[16:32, 20:44] = 255
        >>> alpha = matting.predict(image, trimap)
        >>> alpha.shape, alpha.dtype, float(alpha[20, 30]), float(alpha[0, 0])
        ((48, 64), dtype('float32'), 1.0, 0.0)
    """

    def __init__(
        self,
        checkpoint: str | os.PathLike | None = None,
        device: str | None = None,
        *,
        segmentation: str | os.PathLike | None = None,
        mode: str = "auto",
        max_memory: int | None = None,
        views: str = "none",
        precision: str = "fp32",
        bits: int = 8,
        sharers: int = 1,
    ) -> None:
        from modeling.weights.shipped import BOX  # imports torchvision's networks, which takes a second
        from modeling.weights.system_file import read_system

        require_choice("bits", bits, DEPTHS)
        where = resolve_device(device)
        model = read_system(BOX if checkpoint is None else checkpoint, where)
        self._bits = bits
        settings = {"mode": mode, "max_memory": max_memory, "views": views, "precision": precision, "sharers": sharers}
        self._predictor = Predictor(model, **settings, exact=bits > 8)
        self._frame_predictor = Predictor(model, **settings)  # the frames of videos have 8 bits
        AutoMatte(GivenMasks(), self._predictor)  # refuses a system that gives no alpha
        self._segmented = None
        if segmentation is not None:
            finder = read_system(segmentation, where)
            self._segmented = SegmentedSubjects(
                Predictor(finder, max_memory=max_memory, sharers=sharers, probabilities=True)
            )
        self._one_at_a_time = threading.Lock()

    @property
    def model(self) -> System:
        """The system, in eval mode on its device."""
        return self._predictor.model

    @property
    def needs_trimap(self) -> bool:
        """Return whether the system reads a trimap, given or made from a mask, a box, clicks or a segmentation."""
        return "trimap" in self.model.inputs

    def predict(
        self,
        image: Picture,
        trimap: Picture | None = None,
        *,
        mask: Picture | None = None,
        box: Box | None = None,
        clicks: Sequence[Point] = (),
        clicks_outside: Sequence[Point] = (),
        width: float | None = None,
        crop: bool = False,
        foreground: bool = False,
    ) -> np.ndarray | Matte:
        """Predict the matte of one picture.

        With a trimap, the network receives the whole picture, as in inference.py. With a mask, or with a box and
        clicks, a trimap is made first and the part around the subject is predicted, as in tools/auto_matte.py. The
        values are those that these programs write with the same `bits`. A trimap without unknown pixels is returned as
        the matte, with a warning.

        Args:
            image: (H, W, 3) RGB, (H, W, 4) whose alpha is ignored, or (H, W) gray, of uint8, uint16 or float in [0, 1];
                or a PIL image in any mode, whose EXIF orientation is applied. H and W are 1 or more.
            trimap: (H, W) of uint8 (0 background, 128 unknown, 255 foreground), uint16, or float (0, 0.5, 1); or a PIL
                image.
            mask: (H, W) mask of the subject instead of a trimap, bool, integer or float in [0, 1]; or a PIL image.
            box: left, top, right and bottom of a box around the subject, in pixels of the upright image.
            clicks, clicks_outside: (x, y) of pixels on the subject, and of pixels outside it.
            width: width in pixels of the unknown band on each side of the edge; None for a width that depends on the
                size of the subject.
            crop: whether only the part around the subject is predicted when a trimap is given, which is faster for a
                small subject. A system without a trimap then accepts one, and its alpha is used in the unknown region.
            foreground: whether the subject's colours are estimated too. With more than 8 bits they keep the depth of an
                image of uint16 or floats.

        Returns:
            alpha (H, W) float32 in [0, 1]; with `foreground`, a `Matte` of alpha and colours.

        Raises:
            InputError: an argument has another shape, type, range or size; several ways to find the subject are given,
                or none although the system needs a trimap; the picture does not fit in memory.

        Example:
            >>> image = np.random.default_rng(0).random((40, 60, 3))
            >>> alpha, colours = Matting(device="cpu").predict(image, box=(20, 10, 40, 30), foreground=True)
            >>> alpha.shape, colours.shape
            ((40, 60), (40, 60, 3))
        """
        pixels = rgb_of(image)
        given = _way_given(trimap, mask, box, clicks, clicks_outside)
        if trimap is not None and not (self.needs_trimap or crop):
            raise InputError(f"{type(self._predictor.model).__name__} takes no trimap; omit it")
        band = None
        if trimap is not None:
            band = _of_size(trimap_of(trimap), pixels, "trimap")
            if not (band == UNKNOWN).any():
                warnings.warn("trimap: no unknown pixel; the matte is the trimap", stacklevel=2)
        elif given or self.needs_trimap or self._segmented is not None:
            band, crop = self._trimap(pixels, mask, box, clicks, clicks_outside, width), True
        alpha = self._of_subject(pixels, band) if crop and band is not None else self._of_whole(pixels, band)
        matte = _as_floats(alpha, self._bits)
        if not foreground:
            return matte
        colours = deep_colours_of(image) if self._bits > 8 else pixels
        return Matte(matte, _as_floats(estimate_foreground(colours, alpha), self._bits))

    def trimap(
        self,
        image: Picture,
        *,
        mask: Picture | None = None,
        box: Box | None = None,
        clicks: Sequence[Point] = (),
        clicks_outside: Sequence[Point] = (),
        width: float | None = None,
    ) -> np.ndarray:
        """Return the trimap that `predict` makes from the same arguments, to inspect or correct it.

        Returns:
            (H, W) uint8: 0 background, 128 unknown, 255 foreground.

        Raises:
            InputError: as `predict`.
        """
        return self._trimap(rgb_of(image), mask, box, clicks, clicks_outside, width)

    def predict_clip(
        self,
        clip: str | os.PathLike,
        outputs: Mapping[str, str | os.PathLike],
        *,
        trimap: Picture | None = None,
        mask: Picture | None = None,
        box: Box | None = None,
        clicks: Sequence[Point] = (),
        clicks_outside: Sequence[Point] = (),
        width: float | None = None,
        background: Background | None = None,
    ) -> Iterator[ClipJobs]:
        """Write the mattes of a video as tools/auto_matte.py does, with the subject given in the first frame.

        The trimap of the first frame is carried along the motion. Without any of `trimap`, `mask`, `box` and `clicks`,
        the segmentation finds the subject in each frame. The files appear when the iterator has ended. If it is closed
        before, nothing is written. Other threads may call this object between two frames.

        Args:
            clip: video file.
            outputs: files by their kinds, of "alpha", "rgba" (the cut-out), "composite", "trimap" and "mask": NAME.mp4,
                NAME.mov, NAME.webm or FOLDER/%06d.png, see docs/video.md. The files have 8 bits.
            trimap, mask, box, clicks, clicks_outside, width: of the first frame, see `predict`.
            background: background of composites, see `data.images.backgrounds.read_background`; None for white.

        Yields:
            After each frame the state of the run: `written` and `failed` frames, and the open `clip` with its
            `num_frames` (0 if the file does not say). At the end, `notes()` has remarks for the user.

        Raises:
            InputError: see `predict`, `open_clip` and `frame_writer`; or the subject is given by one frame, and the
                clip has a cut.

        Example:
            for frames in Matting().predict_clip("clip.mp4", {"rgba": "cutout.webm"}, box=(120, 40, 780, 990)):
                print(frames.written, "of", frames.clip.num_frames)
        """
        path = Path(clip)
        job = clip_job(path, {kind: Path(output) for kind, output in outputs.items()}, background)
        band = self._trimap_of_clip(path, trimap, mask, box, clicks, clicks_outside, width)
        if band is None and self._segmented is None:
            chain = self._frame_predictor
        else:
            chain = ClipMatte(self._segmented, self._frame_predictor, width, list(outputs))
        for kind in outputs:
            require_choice("outputs", kind, [known for known in KINDS if known in kinds_of(chain.model)])
        beside = None if band is None else carried_trimaps(path, {0: KeyFrame.given(band, "the first frame")})
        with (
            clip_jobs(job, beside, chain.look_back, chain.look_ahead) as frames,
            closing(run_jobs(chain, frames)) as outcomes,
        ):
            while True:
                with self._one_at_a_time:
                    outcome = next(outcomes, None)
                if outcome is None:
                    break
                frames.count(outcome)
                yield frames
            frames.require_some()

    def _trimap_of_clip(
        self,
        path: Path,
        trimap: Picture | None,
        mask: Picture | None,
        box: Box | None,
        clicks: Sequence[Point],
        clicks_outside: Sequence[Point],
        width: float | None,
    ) -> np.ndarray | None:
        """The trimap of the first frame; None if the subject is not given in it."""
        given = _way_given(trimap, mask, box, clicks, clicks_outside)
        if trimap is not None:
            return _of_size(trimap_of(trimap), first_frame(path), "trimap")
        if given or (self.needs_trimap and self._segmented is None):
            return self._trimap(first_frame(path), mask, box, clicks, clicks_outside, width)
        return None

    def run_jobs(self, jobs: Sequence[Job], skip_existing: bool = False) -> list[Outcome]:
        """Read pictures, predict them and write the results, as inference.py does.

        Args:
            jobs: jobs of `plan_files`, fitted to `model` by `fit_to`.
            skip_existing: whether jobs whose outputs exist are skipped.

        Returns:
            The outcome of each job. A file that cannot be read does not stop the other jobs; its outcome is "failed",
            with the reason.

        Raises:
            InputError: a file cannot be written.

        Example:
            >>> import tempfile
            >>> from PIL import Image
            >>> from engine.inference import fit_to, plan_files
            >>> matting = Matting(device="cpu")
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     for name in ("photo", "trimap"):
            ...         Image.new("L", (64, 48), 128).save(f"{folder}/{name}.png")
            ...     jobs = plan_files(f"{folder}/photo.png", f"{folder}/trimap.png", f"{folder}/matte.png")
            ...     [outcome] = matting.run_jobs(fit_to(jobs, matting.model))
            ...     outcome.status, Image.open(f"{folder}/matte.png").size
            ('written', (64, 48))
        """
        with self._one_at_a_time:
            predictor = copy.copy(self._predictor)
            predictor.exact = needs_exact(jobs)
            return list(run_jobs(predictor, jobs, skip_existing=skip_existing))

    def _of_whole(self, pixels: np.ndarray, trimap: np.ndarray | None) -> np.ndarray:
        """Alpha (H, W) as in inference.py: uint8, or float32 for more than 8 bits."""
        sample = {"image": pixels} if trimap is None else {"image": pixels, "trimap": trimap}
        with self._one_at_a_time:
            return self._predictor.one(sample)["alpha"]

    def _of_subject(self, pixels: np.ndarray, trimap: np.ndarray) -> np.ndarray:
        """Alpha (H, W) as in tools/auto_matte.py: uint8, or float32 for more than 8 bits."""
        with self._one_at_a_time:
            return AutoMatte(GivenMasks(), self._predictor).alpha_of(pixels, trimap)

    def _trimap(
        self,
        pixels: np.ndarray,
        mask: Picture | None,
        box: Box | None,
        clicks: Sequence[Point],
        clicks_outside: Sequence[Point],
        width: float | None,
    ) -> np.ndarray:
        given = _way_given(None, mask, box, clicks, clicks_outside)
        if mask is not None:
            subject = GivenMasks()({"mask": _of_size(mask_of(mask), pixels, "mask")})
        elif given:
            numbers = None if box is None else _whole_numbers("box: expected left, top, right, bottom", box, 4)
            inside, outside = (
                [_whole_numbers(f"{name}: expected pairs x, y", click, 2) for click in points]
                for name, points in (("clicks", clicks), ("clicks_outside", clicks_outside))
            )
            subject = PointedSubjects(numbers, inside, outside)({"image": pixels})
        else:
            subject = self._found(pixels)
        return subject.trimap(width)

    def _found(self, pixels: np.ndarray) -> Subject:
        """Find the subject by the segmentation."""
        if self._segmented is None:
            raise InputError(
                f"{type(self._predictor.model).__name__} needs a trimap: give trimap, mask, box or clicks, or load "
                "Matting with a segmentation"
            )
        with self._one_at_a_time:
            return self._segmented({"image": pixels})


def _way_given(
    trimap: Picture | None,
    mask: Picture | None,
    box: Box | None,
    clicks: Sequence[Point],
    clicks_outside: Sequence[Point],
) -> str:
    """Name of the way to find the subject that is given; empty for none.

    Raises:
        InputError: several are given.
    """
    pointed = box is not None or len(clicks) + len(clicks_outside) > 0
    ways = {"trimap": trimap is not None, "mask": mask is not None, "box or clicks": pointed}
    given = [name for name, is_given in ways.items() if is_given]
    if len(given) > 1:
        raise InputError(f"expected one way to find the subject, got {' and '.join(given)}")
    return "".join(given)


def _whole_numbers(expected: str, given: Sequence[int], count: int) -> tuple[int, ...]:
    """Convert coordinates to a tuple of `count` integers."""
    values = np.asarray(given)
    if values.shape != (count,) or not np.issubdtype(values.dtype, np.number) or (values != np.rint(values)).any():
        raise InputError(f"{expected} in whole pixels, got {given!r}")
    return tuple(int(value) for value in values)


def _of_size(plane: np.ndarray, pixels: np.ndarray, name: str) -> np.ndarray:
    """Return the plane (H, W). It is refused if its size differs from the picture's."""
    if plane.shape != pixels.shape[:2]:
        sizes = [f"{array.shape[1]} x {array.shape[0]}" for array in (plane, pixels)]
        raise InputError(f"{name}: is {sizes[0]}, its image is {sizes[1]}; make the {name} at the image's size")
    return plane


def _as_floats(values: np.ndarray, bits: int) -> np.ndarray:
    """Round uint8 levels or floats in [0, 1] to a depth, and return float32 in [0, 1]."""
    levels = quantised(values, bits)
    return levels if bits == 32 else levels.astype(np.float32) / np.float32(2**bits - 1)
