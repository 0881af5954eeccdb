"""Reading of video files frame by frame, upright and with exact timestamps.

Files are untrusted. FFmpeg may open one local file in one of a few containers, no playlist and no network address, and
decodes no picture of more than `MAX_FRAME_PIXELS`.
"""

import contextlib
import os
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data.video.library import careful_scaling, import_av
from runtime.errors import InputError
from runtime.files import kind_of

VIDEO_SUFFIXES = {
    ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".3gp", ".wmv", ".flv",
    ".ogv",
}  # fmt: skip
_CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,asf,flv,ogg,h264,hevc,gif"
MAX_FRAME_PIXELS = 2**26  # twice 8K; a frame in RGB is then 200 MB
HD_HEIGHT = 720  # players read unlabelled colours as BT.709 from this number of rows on, and as BT.601 below
_BT709, _UNSPECIFIED = 1, 2  # FFmpeg's numbers of colour matrices
SLACK = Fraction(1, 2)  # seconds by which a complete clip may be shorter than its header states
_USUAL_RATE = Fraction(25)  # frames per second if the file does not state it; only encoders use it


def is_video(path: str | os.PathLike) -> bool:
    """Return whether a file is a video, by its suffix or as a GIF of several frames."""
    suffix = Path(path).suffix.lower()
    if suffix != ".gif":
        return suffix in VIDEO_SUFFIXES
    try:
        with Image.open(path, formats=["GIF"]) as image:
            return image.is_animated
    except Exception:  # for bad bytes Pillow raises errors of many kinds; the reader of pictures reports the file
        return False


@dataclass(frozen=True, eq=False)
class Frame:
    """A frame of a clip.

    Attributes:
        image: (H, W, 3) uint8 RGB, upright.
        pts: time at which it is shown, in units of the clip's time base; increases from frame to frame.
        duration: duration in the same units; 0 if the file does not state it.
    """

    image: np.ndarray
    pts: int
    duration: int


class Clip:
    """An open video file. It can be iterated once and yields its frames.

    Attributes:
        path: path of the file.
        height, width: size of the upright frames in pixels.
        rate: mean number of frames per second as an exact fraction (30000/1001 for 29.97); single frames may differ.
        time_base: seconds per unit of the timestamps, as an exact fraction.
        num_frames: number of frames in the header; 0 if it does not state one.
        pixel_aspect: width of a pixel divided by its height.
        has_sound: whether there is an audio stream.
        damaged: number of frames so far that could not be decoded completely.
        ends_early: reason why there are fewer frames than the header states, a truncated file or a change of the frame
            size; empty if there are not.

    Example:
        with open_clip("clip.mp4") as clip:
            seconds = [float(frame.pts * clip.time_base) for frame in clip]
    """

    def __init__(self, path: Path, container: Any) -> None:
        self.path = path
        self.damaged = 0
        self.ends_early = ""
        self._missing_at_end = 0
        self._container = container
        self._lock, self._closed = threading.Lock(), False
        if not container.streams.video:
            found = "only sound" if container.streams.audio else "none"
            raise InputError(f"{path}: expected a video with pictures, found {found}")
        self._stream = container.streams.video[0]
        if self._stream.codec_context is None:
            raise InputError(
                f"{path}: this PyAV has no decoder for its pictures; convert it, for example to H.264, or extract the "
                "frames to a folder of images"
            )
        _check_size(path, self._stream.height, self._stream.width)
        self._stream.codec_context.options = {"max_pixels": str(MAX_FRAME_PIXELS)}
        self._stream.thread_type = "AUTO"
        self.time_base = Fraction(self._stream.time_base)
        self.rate = Fraction(self._stream.average_rate or self._stream.guessed_rate or _USUAL_RATE)
        self.num_frames = self._stream.frames
        self.has_sound = bool(container.streams.audio)
        self._decoded = self._decode()
        self._first = next(self._decoded, None)
        if self._first is None:
            raise InputError(
                f"{path}: expected a video, found no frame that can be decoded; the file is damaged or empty"
            )
        self.height, self.width = self._first.image.shape[:2]
        self.pixel_aspect = Fraction(self._stream.sample_aspect_ratio or 1) or Fraction(1)
        if self._is_turned:
            self.pixel_aspect = 1 / self.pixel_aspect

    def __iter__(self) -> Iterator[Frame]:
        if self._first is None:
            return
        first, self._first = self._first, None
        yield first
        yield from self._decoded

    def close(self) -> None:
        """Stop reading. A thread that decodes ahead completes its current frame and then ends."""
        with self._lock:
            self._closed = True
            self._container.close()

    def missing(self) -> int:
        """Number of frames that could not be decoded. Those after an early end are estimated from the header."""
        return self.damaged + self._missing_at_end

    def _decode(self) -> Iterator[Frame]:
        error = import_av().error
        pts, end, stored = None, Fraction(0), None
        packets = self._container.demux(self._stream)
        while True:
            try:
                with self._lock:
                    if self._closed:
                        return
                    packet = next(packets)
                    decoded = packet.decode()
            except (StopIteration, error.EOFError):
                break
            except error.FFmpegError:  # a damaged packet, or a part of the file that is not there
                self.damaged += 1
                if self.damaged > 1000 and pts is None:
                    break
                continue
            for picture in decoded:
                if (picture.height, picture.width) != (stored := stored or (picture.height, picture.width)):
                    self.ends_early = (
                        f"expected frames of {stored[1]} x {stored[0]}, found one of {picture.width} x "
                        f"{picture.height} at {float(end):.2f} s; cut the clip there"
                    )
                    self._missing_at_end = max(1, round((self._due() - end) * self.rate))
                    return
                frame = self._frame(picture, pts)
                pts, end = frame.pts, (frame.pts + frame.duration) * self.time_base
                self.damaged += bool(picture.is_corrupt)
                yield frame
        self._compare_with_header(end)

    def _frame(self, picture: Any, last_pts: int | None) -> Frame:
        _check_size(self.path, picture.height, picture.width)
        step = max(1, round(1 / (self.rate * self.time_base)))
        pts = picture.pts
        if pts is None or (last_pts is not None and pts <= last_pts):  # raw streams and broken ones
            pts = 0 if last_pts is None else last_pts + (step if pts is None else 1)
        colours = _BT709 if picture.colorspace == _UNSPECIFIED and picture.height >= HD_HEIGHT else None
        rgb = picture.reformat(format="rgb24", src_colorspace=colours, interpolation=careful_scaling()).to_ndarray()
        matrix = _display_matrix(picture)
        self._is_turned = abs(matrix[1]) > abs(matrix[0])
        return Frame(_upright(rgb, matrix), pts, picture.duration or 0)

    def _compare_with_header(self, end: Fraction) -> None:
        due = self._due()
        if due - end > SLACK + 2 / self.rate:
            self.ends_early = f"ends at {float(end):.2f} s, its header says {float(due):.2f} s; the file is truncated"
            self._missing_at_end = round((due - end) * self.rate)

    def _due(self) -> Fraction:
        """End of the last frame in seconds according to the header; 0 if it does not state it."""
        stream = self._stream
        start = (stream.start_time or 0) * self.time_base
        if stream.duration is not None:
            return start + stream.duration * self.time_base
        stated = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))  # Matroska's
        if stated is None:
            return Fraction(0)
        hours, minutes, seconds = map(Fraction, stated.groups())
        return start + 3600 * hours + 60 * minutes + seconds


@contextlib.contextmanager
def open_clip(path: str | os.PathLike) -> Iterator[Clip]:
    """Open a video file and decode its first frame.

    Raises:
        InputError: the file is missing, empty, damaged, not a video or without pictures, or its pictures have more than
            `MAX_FRAME_PIXELS`.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: expected a video file, found {kind_of(path)}")
    if path.stat().st_size == 0:
        raise InputError(f"{path}: expected a video file, found an empty one")
    container = open_container(path)
    try:
        clip = Clip(path, container)
    except BaseException:
        container.close()
        raise
    try:
        yield clip
    finally:
        clip.close()


def count_frames(path: str | os.PathLike, at_most: int) -> int:
    """Count the frames of a video by its packets, without decoding them and without using its header.

    Args:
        at_most: number of frames after which counting ends; the result is then `at_most` + 1. A damaged file is counted
            up to the damage.

    Raises:
        InputError: see `open_container`.
    """
    count, damage = 0, import_av().error.FFmpegError
    with contextlib.closing(open_container(Path(path))) as container, contextlib.suppress(damage):
        for packet in container.demux(container.streams.video):
            count += packet.size > 0
            if count > at_most:
                break
    return count


def open_container(path: Path) -> Any:
    """Open a local file with PyAV. Only kinds of files that do not refer to other files are accepted.

    Raises:
        InputError: FFmpeg does not recognise the file, or the file ends before its index.
    """
    av = import_av()
    limits = {"format_whitelist": _CONTAINERS, "protocol_whitelist": "file", "max_pixels": str(MAX_FRAME_PIXELS)}
    try:
        return av.open(f"file:{os.path.abspath(path)}", options=limits, metadata_errors="replace")
    except av.error.FFmpegError as error:
        raise InputError(
            f"{path}: expected a video file, found a file that is not a video, is damaged, or ends before its index "
            f"({error.strerror})"
        ) from error


def _check_size(path: Path, height: int, width: int) -> None:
    if height * width > MAX_FRAME_PIXELS:
        raise InputError(
            f"{path}: {width} x {height} pixels, at most {MAX_FRAME_PIXELS} are read; scale the video down"
        )


def _display_matrix(picture: Any) -> tuple[int, int, int, int]:
    """FFmpeg's display matrix (a, b, c, d): pixel (x, y) is shown at (a x + c y, b x + d y)."""
    for data in picture.side_data:
        if data.type.name == "DISPLAYMATRIX":
            a, b, _, c, d = np.frombuffer(bytes(data), np.int32)[:5].tolist()
            return a, b, c, d
    return 1, 0, 0, 1


def _upright(image: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Rotate and mirror (H, W, 3) pixels by the display matrix, rounded to quarter turns."""
    a, b, c, d = matrix
    if abs(b) > abs(a):
        image, across, down = image.transpose(1, 0, 2), c, b
    else:
        across, down = a, d
    return np.ascontiguousarray(image[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1])
