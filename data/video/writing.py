"""Writing of videos as H.264, ProRes 4444, VP9 or a folder of PNG frames. A video appears only when it is complete.

Timestamps are those of the source. The suffix determines the kind of file, and the written pictures determine whether
it has transparency. Numbered frames can be resumed: until they are complete, they are in FOLDER.part, with the settings
of their run.
"""

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from data.images.files import opened_image, write_png
from data.video.library import careful_scaling, import_av
from data.video.reading import Clip, open_container
from runtime.errors import InputError
from runtime.files import replacing, replacing_folder

PATTERN = re.compile(r"[^%]*%(0\d+)?d[^%]*\.png", re.IGNORECASE)  # pattern of numbered frames, in FFmpeg's notation
TIMESTAMPS = "timestamps.txt"  # file beside numbered frames: milliseconds, in mkvmerge's format v2
PART = ".part"  # suffix of a folder whose frames are not complete
_SETTINGS, _FAILED = "settings.json", "failed.txt"  # in this folder: settings of the run, numbers of failed frames
_BT709 = 1  # FFmpeg's number for matrix, primaries and transfer
_LIMITED = 1  # luma from 16 to 235, which every player expects


@dataclass(frozen=True)
class Encoding:
    """The contents of files with one suffix: a container, an encoder, and pixel formats.

    Attributes:
        opaque, odd, transparent: FFmpeg's pixel formats for pictures without alpha, for those with an odd side, and for
            those with alpha, if supported.
    """

    container: str
    encoder: str
    opaque: str
    odd: str
    transparent: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    muxing: Mapping[str, str] = field(default_factory=dict)


_INDEX_FIRST = {"movflags": "+faststart"}  # so that a browser can start before it has the whole file
_H264 = {"crf": "14", "preset": "medium"}
ENCODINGS = {
    ".mp4": Encoding("mp4", "libx264", "yuv420p", "yuv444p", options=_H264, muxing=_INDEX_FIRST),
    ".mov": Encoding(
        "mov", "prores_ks", "yuv444p10le", "yuv444p10le", "yuva444p10le", {"profile": "4444"}, _INDEX_FIRST
    ),
    ".webm": Encoding(
        "webm", "libvpx-vp9", "yuv420p", "yuv420p", "yuva420p", {"crf": "18", "b": "0", "row-mt": "1", "cpu-used": "4"}
    ),
}


class FrameWriter:
    """Writer for the pictures of a clip, in their order. `frame_writer` creates it.

    Attributes:
        remarks: remarks for the user about the file, such as dropped sound.
        done: number of frames that an earlier run has written.
    """

    done = 0

    def __init__(self) -> None:
        self.remarks: list[str] = []
        self._last: np.ndarray | None = None
        self._waiting: list[tuple[int, int]] = []  # frames that failed before there was a picture to repeat

    def write(self, picture: np.ndarray, pts: int, duration: int = 0) -> None:
        """Write a picture.

        Args:
            picture: (H, W) gray, (H, W, 3) RGB, or (H, W, 4) RGB and alpha, not premultiplied; uint8.
            pts, duration: time and duration in units of the clip's time base.

        Raises:
            InputError: the picture has alpha and the format does not support it, or the disk is full.
        """
        for waiting in self._waiting:
            self._add(np.zeros_like(picture), *waiting, failed=True)
        self._waiting.clear()
        self._last = picture
        self._add(picture, pts, duration)

    def repeat(self, pts: int, duration: int = 0) -> None:
        """Write the last picture again in place of a failed frame. If the first frame failed, it becomes black."""
        if self._last is None:
            self._waiting.append((pts, duration))
        else:
            self._add(self._last, pts, duration, failed=True)

    def go_on_after(self, frames: int) -> int:
        """Accept the first `frames` frames, at most `done`, as an earlier run wrote them.

        Returns:
            the number of these frames that failed.
        """
        assert frames <= self.done
        return 0

    def _add(self, picture: np.ndarray, pts: int, duration: int, failed: bool = False) -> None:
        raise NotImplementedError

    def finish(self) -> None:
        """Write pending pictures. No further picture may be written."""

    def close(self) -> None:
        """Release the resources of the writer, whether it is finished or not."""


def is_pattern(path: Path) -> bool:
    """Return whether a name is a pattern for numbered PNG frames, such as "frames/%06d.png"."""
    return PATTERN.fullmatch(path.name) is not None


def is_written(path: Path) -> bool:
    """Return whether a video exists: the file, or in the case of numbered frames the folder with their timestamps."""
    return (path.parent / TIMESTAMPS if is_pattern(path) else path).is_file()


def check_video_output(path: Path, transparent: bool = False) -> None:
    """Refuse a name to which no video can be written, before a long computation.

    Raises:
        InputError: the suffix is unknown, the folder of a pattern contains files, or the format lacks transparency.
    """
    if is_pattern(path):
        folder = path.parent
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(f"{folder}: expected a new or empty folder for the frames; name another")
        return
    encoding = ENCODINGS.get(path.suffix.lower())
    if encoding is None:
        raise InputError(
            f"{path}: expected a name that ends in {', '.join(ENCODINGS)}, or numbered frames such as frames/%06d.png"
        )
    if transparent and not encoding.transparent:
        raise InputError(f"{path}: {path.suffix} does not support transparency; name it .mov, .webm or DIR/%06d.png")
    if path.is_dir():
        raise InputError(f"{path}: expected the name of a video, found a folder; remove it, or choose another name")
    av = import_av()
    try:
        av.codec.Codec(encoding.encoder, "w")
    except ValueError as error:
        raise InputError(
            f"{path}: this PyAV has no encoder {encoding.encoder}; install the one of requirements/video.txt, or write "
            "frames/%06d.png"
        ) from error


@contextlib.contextmanager
def frame_writer(
    path: str | os.PathLike,
    clip: Clip,
    sound: bool = True,
    settings: Mapping[str, str] | None = None,
    resume: bool = False,
) -> Iterator[FrameWriter]:
    """Open a writer for pictures of a clip's size. The file or folder appears when the block ends.

    Args:
        path: NAME.mp4, NAME.mov, NAME.webm, or FOLDER/%06d.png.
        clip: source of the size, rate, time base and sound.
        sound: whether the clip's audio packets are copied, without encoding them again.
        settings: settings of the run. With them, numbered frames are kept in FOLDER.part if the block raises an error,
            so that a later run can continue. With None nothing is kept.
        resume: whether to continue after the frames in FOLDER.part. Otherwise an existing FOLDER.part is refused.

    Raises:
        InputError: see `check_video_output` and `FrameWriter.write`; nothing appears in these cases. Or FOLDER.part
            exists and `resume` is False or its settings differ.
    """
    path = Path(path)
    check_video_output(path)
    if not is_pattern(path):
        whole = replacing(path)
    else:
        whole = _dropped_folder(path) if settings is None else _kept_folder(path, settings, resume)
    with whole as temporary:
        if is_pattern(path):
            writer = _Frames(temporary, path.name, clip)
        else:
            writer = _Video(path, temporary, clip, sound and clip.has_sound)
        try:
            yield writer
            writer.finish()
        finally:
            writer.close()


@contextlib.contextmanager
def _dropped_folder(path: Path) -> Iterator[Path]:
    """Yield a folder that gets its name at the end of the block. After an error it is removed."""
    with replacing_folder(path.parent) as folder:
        yield folder
        (folder / _FAILED).unlink(missing_ok=True)


@contextlib.contextmanager
def _kept_folder(path: Path, settings: Mapping[str, str], resume: bool) -> Iterator[Path]:
    """Yield FOLDER.part. It is renamed to FOLDER at the end of the block, and kept with its frames after an error."""
    folder, part = path.parent, part_of(path)
    stated = part / _SETTINGS
    if stated.is_file():
        if not resume:
            raise InputError(
                f"{part}: contains frames of a run that was stopped; continue with --skip-existing, or remove it"
            )
        _require_same(part, json.loads(stated.read_text(encoding="utf-8")), settings)
        for torn in part.glob(".*.part"):  # of a process that was killed
            torn.unlink()
    elif part.exists():
        raise InputError(f"{part}: expected nothing or frames of a run that was stopped, found something else; move it")
    else:
        with _writing(folder):
            part.mkdir(parents=True)
            with replacing(stated) as temporary:
                temporary.write_text(json.dumps(dict(settings), indent=1), encoding="utf-8")
    try:
        yield part
        for name in (_SETTINGS, _FAILED):
            (part / name).unlink(missing_ok=True)
        with _writing(folder):
            os.replace(part, folder)
    except BaseException:
        if not any(part.glob("*.png")):
            shutil.rmtree(part, ignore_errors=True)
        raise


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path}: cannot write: {error.strerror}") from error


def part_of(path: Path) -> Path:
    """The folder of numbered frames that are not complete yet."""
    return path.parent.with_name(path.parent.name + PART)


def _require_same(part: Path, found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
    differ = [name for name in {**found, **wanted} if found.get(name) != wanted.get(name)]
    if differ:
        name = differ[0]
        raise InputError(
            f"{part}: its frames were made with {name} {found.get(name)}, this run has {wanted.get(name)}; run with "
            "the same settings, or remove it"
        )


class _Frames(FrameWriter):
    """Numbered PNG files, and the milliseconds at which they are shown."""

    def __init__(self, folder: Path, pattern: str, clip: Clip) -> None:
        super().__init__()
        self.folder, self.pattern, self.time_base = folder, pattern, clip.time_base
        self.number = 0
        lines = self._lines(TIMESTAMPS)
        while self.done < len(lines) - 1 and self._path(self.done + 1).is_file():
            self.done += 1
        self.times = open(folder / TIMESTAMPS, "a", encoding="ascii")  # noqa: SIM115  closed by `close`
        if not lines:
            self.times.write("# timestamp format v2\n")

    def go_on_after(self, frames: int) -> int:
        """See `FrameWriter.go_on_after`."""
        self.number = frames
        self.times.close()
        kept = self._lines(TIMESTAMPS)[: frames + 1]
        failed = [line for line in self._lines(_FAILED) if int(line) <= frames]
        for name, lines in ((TIMESTAMPS, kept), (_FAILED, failed)):
            with replacing(self.folder / name) as temporary:
                temporary.write_text("".join(lines), encoding="ascii")
        self.times = open(self.folder / TIMESTAMPS, "a", encoding="ascii")  # noqa: SIM115
        if frames:
            with opened_image(self._path(frames)) as image:
                self._last = np.array(image)
        return len(failed)

    def _add(self, picture: np.ndarray, pts: int, duration: int, failed: bool = False) -> None:
        self.number += 1
        write_png(self._path(self.number), picture)
        if failed:
            with open(self.folder / _FAILED, "a", encoding="ascii") as numbers:
                numbers.write(f"{self.number}\n")
        self.times.write(f"{float(1000 * pts * self.time_base):.6f}\n")
        self.times.flush()  # after the picture: a line stands for a frame that is there

    def close(self) -> None:
        self.times.close()

    def _path(self, number: int) -> Path:
        return self.folder / (self.pattern % number)

    def _lines(self, name: str) -> list[str]:
        """Complete lines of a file in the folder."""
        path = self.folder / name
        lines = path.read_text(encoding="ascii").splitlines(keepends=True) if path.is_file() else []
        return [line for line in lines if line.endswith("\n")]


class _Video(FrameWriter):
    """A file with the packets of an encoder and of the source's sound."""

    def __init__(self, path: Path, temporary: Path, clip: Clip, sound: bool) -> None:
        super().__init__()
        self.path, self.clip = path, clip
        self.encoding = ENCODINGS[path.suffix.lower()]
        self.av = import_av()
        self.output = self._calling(
            self.av.open, str(temporary), "w", format=self.encoding.container, container_options=self.encoding.muxing
        )
        self.durations: dict[int, int] = {}  # of frames in the encoder, by pts
        self.sound = _Sound(clip, self.output, self.remarks) if sound else None
        self.stream = None

    def _add(self, picture: np.ndarray, pts: int, duration: int, failed: bool = False) -> None:
        if self.stream is None:
            self.stream = self._calling(self._open_stream, picture)
        frame = self._frame(picture)
        frame.pts, frame.time_base = pts, self.clip.time_base
        self.durations[pts] = duration
        self._calling(self._mux, self.stream.encode(frame))

    def finish(self) -> None:
        if self.stream is None:
            raise InputError(f"{self.path}: no frame was written")
        self._calling(self._mux, self.stream.encode(None))
        if self.sound is not None:
            self._calling(self.sound.copy_until, None)
        self._calling(self.output.close)

    def close(self) -> None:
        if self.sound is not None:
            self.sound.close()
        with contextlib.suppress(self.av.error.FFmpegError, OSError):
            self.output.close()

    def _open_stream(self, picture: np.ndarray) -> Any:
        height, width = picture.shape[:2]
        check_video_output(self.path, transparent=_has_alpha(picture))
        odd = height % 2 or width % 2
        pixels = (
            self.encoding.transparent if _has_alpha(picture) else self.encoding.odd if odd else self.encoding.opaque
        )
        if odd and pixels != self.encoding.opaque and not _has_alpha(picture):
            self.remarks.append(
                f"{self.path}: {width} x {height} has an odd side, so colours are written at full resolution (4:4:4), "
                "which some players refuse"
            )
        stream = self.output.add_stream(self.encoding.encoder, rate=self.clip.rate, options=dict(self.encoding.options))
        context = stream.codec_context
        context.width, context.height, context.pix_fmt = width, height, pixels
        context.time_base = stream.time_base = self.clip.time_base
        context.sample_aspect_ratio = self.clip.pixel_aspect
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        if self.sound is not None:
            self.sound.add_streams()
        return stream

    def _frame(self, picture: np.ndarray) -> Any:
        if picture.ndim == 2:
            picture = np.repeat(picture[..., None], 3, axis=2)
        layout = "rgba" if _has_alpha(picture) else "rgb24"
        frame = self.av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=layout)
        return frame.reformat(
            format=self.stream.codec_context.pix_fmt,
            dst_colorspace="ITU709",
            dst_color_range="MPEG",
            interpolation=careful_scaling(),
        )

    def _mux(self, packets: list[Any]) -> None:
        for packet in packets:
            packet.duration = self.durations.pop(packet.pts, 0) or packet.duration  # encoders put the mean there
            if self.sound is not None:
                self.sound.copy_until(packet.dts * packet.time_base)
            self.output.mux(packet)

    def _calling(self, function: Any, *arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except self.av.error.FFmpegError as error:
            raise InputError(f"{self.path}: cannot write: {error.strerror}") from error


class _Sound:
    """The audio packets of a clip, copied in step with the pictures so that few wait in memory."""

    def __init__(self, clip: Clip, output: Any, remarks: list[str]) -> None:
        self.output, self.remarks, self.path = output, remarks, clip.path
        self.source = open_container(clip.path)
        self.streams: dict[int, Any] = {}
        self.packets: Iterator[Any] = iter(())
        self.next: Any = None

    def add_streams(self) -> None:
        """Add an audio stream to the output for each of the source that its container can hold."""
        audio = []
        for stream in self.source.streams.audio:
            codec = "of an unknown codec" if stream.codec_context is None else stream.codec_context.name
            if codec in self.output.supported_codecs:
                self.streams[stream.index] = self.output.add_stream_from_template(stream)
                audio.append(stream)
            else:
                self.remarks.append(
                    f"{self.path}: its sound ({codec}) cannot be copied into {self.output.format.name}; written without"
                )
        if audio:
            self.packets = self.source.demux(*audio)

    def copy_until(self, seconds: Any) -> None:
        """Copy the packets up to a time; None for all that are left."""
        while True:
            self.next = self.next or next(self.packets, None)
            if self.next is None:
                return
            if self.next.dts is not None:  # None at the end of a stream
                if seconds is not None and self.next.dts * self.next.time_base > seconds:
                    return
                self.next.stream = self.streams[self.next.stream.index]
                self.output.mux(self.next)
            self.next = None

    def close(self) -> None:
        self.source.close()


def _has_alpha(picture: np.ndarray) -> bool:
    return picture.ndim == 3 and picture.shape[2] == 4
