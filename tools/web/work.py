"""Functions behind the web page: uploads, marks on a picture, trimaps, results. They need neither gradio nor a browser.

Data from a browser are untrusted. Uploads are read like any file, every number of the marks is checked, and names are
made safe before they are displayed or used in file names.
"""

import base64
import contextlib
import html
import io
import json
import os
import re
import shutil
import tempfile
import time
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageColor

from data.images.backgrounds import Background
from data.images.files import read_photograph, read_rgb_profile, read_size
from data.images.foreground_colours import composite_over
from data.images.masks import read_mask
from data.images.trimap import BACKGROUND, FOREGROUND, UNKNOWN
from data.images.writing import write_picture
from data.video import count_frames, is_video, open_clip
from engine.inference import ClipJobs, Matting
from runtime.errors import InputError
from runtime.text import printable

PREVIEW_SIDE = 1280  # longest side in pixels of the preview in the browser
LEVELS = {"background": BACKGROUND, "unknown": UNKNOWN, "foreground": FOREGROUND}
COLOURS = {BACKGROUND: (213, 94, 0), UNKNOWN: (240, 228, 66), FOREGROUND: (0, 114, 178)}  # Okabe and Ito's, RGB
OVERLAY_OPACITY = 115  # on the scale 0 to 255
MOST_STROKES, MOST_POINTS, MOST_CLICKS = 2_000, 200_000, 200
LONGEST_MARKS = 2**23  # characters
KEPT_FOR = 3600  # seconds for which results are kept
NUMBERED = "%06d.png"
# Files of a clip by the user's choice: the ends of their names. The composite can be played in every browser.
CLIP_FILES = {
    "webm": {"alpha": "_alpha.mp4", "rgba": "_cutout.webm", "composite": "_composite.mp4"},
    "mov": {"alpha": "_alpha.mov", "rgba": "_cutout.mov", "composite": "_composite.mp4"},
    "frames": {"alpha": f"_alpha/{NUMBERED}", "rgba": f"_cutout/{NUMBERED}", "composite": "_composite.mp4"},
}
PLAYED = (".mp4", ".webm")  # by browsers
Step = Callable[[float, str], Any]


@dataclass(frozen=True)
class Limits:
    """Limits of one request.

    Args:
        megapixels: largest size of a picture, or of a frame.
        upload: largest size of a file in bytes.
        clip_frames: largest number of frames of a clip.
    """

    megapixels: float = 24
    upload: int = 50 * 10**6
    clip_frames: int = 300


class Stroke(NamedTuple):
    """A stroke of the brush. Points are (N, 2) float x, y in pixels of the whole picture."""

    level: int
    radius: float
    points: np.ndarray


class Marks(NamedTuple):
    """Marks of a user: strokes, a box (left, top, right, bottom), clicks on the subject and outside it."""

    strokes: Sequence[Stroke] = ()
    box: tuple[int, int, int, int] | None = None
    inside: Sequence[tuple[int, int]] = ()
    outside: Sequence[tuple[int, int]] = ()

    @property
    def points_at_subject(self) -> bool:
        return self.box is not None or bool(self.inside or self.outside)


class Results(NamedTuple):
    """Results of one request: files by their kinds in `TITLES`, remarks for the user, and the subject's position.

    Attributes:
        centre: x, y of the subject's centre as fractions of the picture's width and height.
    """

    files: Mapping[str, Path]
    remarks: Sequence[str]
    centre: tuple[float, float]


class Progress(NamedTuple):
    """Frames of a clip that are done, of how many, and the estimated seconds until the last one; None at the start."""

    done: int
    frames: int
    seconds_left: float | None


TITLES = {"alpha": "Alpha", "cutout": "Cut-out", "composite": "Composite", "trimap": "Trimap"}


# ---- uploads


class Upload(NamedTuple):
    """An uploaded photograph, or the first frame of an uploaded clip.

    Attributes:
        picture: (H, W, 3) uint8.
        profile: ICC profile of the picture; None without one.
        note: remark for the user with the size and any unusual properties.
        is_clip: whether it is a video.
    """

    picture: np.ndarray
    profile: bytes | None
    note: str
    is_clip: bool


def read_upload(path: str | None, limits: Limits) -> Upload:
    """Read an uploaded photograph or clip.

    Raises:
        InputError: no file was uploaded, or it is neither a picture nor a video, or exceeds the limits. The message has
            the file's name without its folder on the server.
    """
    if path is None:
        raise InputError("expected a picture or a clip, got none; choose a file first")
    with _without_folders(Path(path).parent):
        _check_file(path, limits)
        return _read_clip(path, limits) if is_video(path) else _read_picture(path, limits)


def read_upload_mask(path: str, limits: Limits) -> np.ndarray:
    """Read an uploaded mask as (H, W) float32 in [0, 1].

    Raises:
        InputError: see `read_upload` and `data.images.masks.read_mask`.
    """
    with _without_folders(Path(path).parent):
        _check_file(path, limits)
        _check_size(path, read_size(path), limits)
        return read_mask(path).values


def safe_name(path: str) -> str:
    """Name of an upload without its suffix, made safe for file names: at most 40 letters, digits and `._-`."""
    name = re.sub(r"[^\w.-]+", "_", Path(path).stem, flags=re.ASCII).strip("._-")
    return name[:40] or "picture"


def _read_picture(path: str, limits: Limits) -> Upload:
    _check_size(path, read_size(path), limits)
    picture, remark = read_photograph(path)
    note = f"{_size_text(picture)}{remark and '; it '}{remark}. Mark the subject."
    return Upload(picture, read_rgb_profile(path), note, is_clip=False)


def _read_clip(path: str, limits: Limits) -> Upload:
    with open_clip(path) as clip:
        picture, rate = next(iter(clip)).image, float(clip.rate)
    _check_size(path, picture.shape[:2], limits)
    frames = count_frames(path, limits.clip_frames)
    if frames > limits.clip_frames:
        raise InputError(
            f"{path}: is over this page's limit of {limits.clip_frames} frames; cut it shorter, or use "
            "tools/auto_matte.py"
        )
    note = f"{_size_text(picture)}, {frames} frames, {frames / rate:.1f} s. Mark the subject in the first frame."
    return Upload(picture, None, note, is_clip=True)


def _size_text(picture: np.ndarray) -> str:
    return f"{picture.shape[1]} x {picture.shape[0]} pixels"


def _check_file(path: str, limits: Limits) -> None:
    if not os.path.isfile(path):
        raise InputError(f"{path}: is no longer on the server, which keeps uploads for an hour; upload it again")
    if os.path.getsize(path) > limits.upload:
        raise InputError(f"{path}: is over the limit of {limits.upload / 1e6:g} MB; make it smaller")


def _check_size(path: str, size: tuple[int, int], limits: Limits) -> None:
    height, width = size
    if height * width > limits.megapixels * 1e6:
        raise InputError(
            f"{path}: {width} x {height} pixels are over this page's limit of {limits.megapixels:g} megapixels; make "
            "it smaller, or use inference.py"
        )


@contextlib.contextmanager
def _without_folders(*folders: Path) -> Iterator[None]:
    """Take the names of folders on the server out of the messages of errors."""
    try:
        yield
    except InputError as error:
        raise InputError(_shown_without(str(error), *folders)) from None


def _shown_without(text: str, *folders: Path) -> str:
    text = printable(text)
    for folder in folders:
        text = text.replace(printable(str(folder / "_"))[:-1], "")
    return text


# ---- marks from the browser


def parse_marks(text: str | None, size: tuple[int, int]) -> Marks:
    """Parse and check the marks that the browser sends.

    Args:
        text: JSON with `strokes` (level, radius, points), `box`, `inside` and `outside`; None or "" for no marks.
        size: (height, width) of the picture. The marks are in its pixels.

    Raises:
        InputError: the text is anything else.
    """
    if not text:
        return Marks()
    try:
        if len(text) > LONGEST_MARKS:
            raise ValueError("too long")
        found = json.loads(text)
        if found.get("width") is None:
            return Marks()
        if (found["height"], found["width"]) != size:
            raise InputError("the marks are for another picture; clear them and mark this one")
        return _marks_of(found["marks"], size)
    except InputError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError) as error:
        raise InputError("expected marks on the picture, got something else; reload the page") from error


def _marks_of(found: Mapping[str, Any], size: tuple[int, int]) -> Marks:
    strokes = [_stroke_of(stroke, size) for stroke in found["strokes"][:MOST_STROKES]]
    if len(found["strokes"]) > MOST_STROKES or sum(len(stroke.points) for stroke in strokes) > MOST_POINTS:
        raise InputError("too much is painted for one request; use fewer strokes, or upload a mask")
    height, width = size
    box = found["box"]
    if box is not None:
        left, top, right, bottom = (round(float(side)) for side in box)
        left, right = sorted((min(max(left, 0), width), min(max(right, 0), width)))
        top, bottom = sorted((min(max(top, 0), height), min(max(bottom, 0), height)))
        box = (left, top, right, bottom)
    inside, outside = (
        [(min(max(int(x), 0), width - 1), min(max(int(y), 0), height - 1)) for x, y in found[name][:MOST_CLICKS]]
        for name in ("inside", "outside")
    )
    return Marks(strokes, box, inside, outside)


def _stroke_of(found: Mapping[str, Any], size: tuple[int, int]) -> Stroke:
    points = np.array(found["points"], np.float64).reshape(-1, 2)
    radius = float(found["radius"])
    if not (np.isfinite(points).all() and 0 < radius <= max(size) and len(points)):
        raise ValueError("a stroke of no size")
    longest = max(size)
    return Stroke(LEVELS[found["level"]], radius, points.clip(-longest, 2 * longest))


def paint(trimap: np.ndarray, strokes: Sequence[Stroke]) -> np.ndarray:
    """Paint strokes in their order over a copy of a trimap (H, W)."""
    painted = trimap.copy()
    for stroke in strokes:
        points = np.rint(stroke.points * 16).astype(np.int32).reshape(1, -1, 2)  # in sixteenths of a pixel
        thickness = max(1, round(2 * stroke.radius))
        if len(stroke.points) > 1:
            cv2.polylines(painted, points, False, stroke.level, thickness, cv2.LINE_8, shift=4)
        for x, y in (stroke.points[0], stroke.points[-1]):
            cv2.circle(painted, (round(x), round(y)), max(0, round(stroke.radius)), stroke.level, -1)
    return painted


# ---- trimaps and mattes


def trimap_for(
    matting: Matting,
    picture: np.ndarray,
    marks: Marks,
    mask: np.ndarray | None = None,
    automatic: bool = False,
    rest: str = "background",
    width: float | None = None,
) -> np.ndarray | None:
    """Make a trimap from a mask, from a box and clicks, or automatically, and paint the strokes over it.

    Args:
        mask: (H, W) float32 in [0, 1].
        automatic: whether a segmentation finds the subject.
        rest: name in `LEVELS` of the unpainted part, if there are only strokes.
        width: width of the unknown band in pixels; None to compute it from the size of the subject.

    Returns:
        (H, W) uint8 of 0, 128 and 255; None if nothing is marked and the system needs no trimap.

    Raises:
        InputError: several ways to find the subject, or none; see `Matting.trimap`.
    """
    ways = {"a mask": mask is not None, "a box or clicks": marks.points_at_subject, "the automatic chain": automatic}
    given = [name for name, is_given in ways.items() if is_given]
    if len(given) > 1:
        raise InputError(f"expected one way to find the subject, got {' and '.join(given)}; clear one of them")
    if mask is not None:
        found = matting.trimap(picture, mask=mask, width=width)
    elif marks.points_at_subject:
        found = matting.trimap(
            picture, box=marks.box, clicks=marks.inside, clicks_outside=marks.outside, width=width
        )  # fmt: skip
    elif automatic:
        found = matting.trimap(picture, width=width)
    elif marks.strokes:
        found = np.full(picture.shape[:2], LEVELS[rest], np.uint8)
    elif matting.needs_trimap:
        raise InputError("the subject is not marked; draw a box around it, click on it, paint, or give a mask")
    else:
        return None
    return paint(found, marks.strokes)


def cut_out(
    matting: Matting,
    picture: np.ndarray,
    trimap: np.ndarray | None,
    background: str,
    folder: Path,
    name: str,
    step: Step = lambda share, text: None,
    profile: bytes | None = None,
) -> Results:
    """Predict the matte of a picture, and write alpha, cut-out, composite and trimap as PNG files.

    Args:
        background: background colour of the composite, such as "#1e90ff".
        folder: folder in which a folder for the results is created.
        name: start of the file names.
        step: function that is called with the finished share and a description of the next step.
        profile: ICC profile of the picture, which the files get; see `read_rgb_profile`.

    Raises:
        InputError: `background` is not a colour; see `Matting.predict`.
    """
    colour = Background(colour_of(background)).of_size(*picture.shape[:2], profile)
    remarks = remarks_on(trimap)
    step(0.3, "Matting")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about a trimap without unknown pixels; there is a remark
        matte = matting.predict(picture, trimap, crop=True, foreground=True)
    alpha, colours = (np.rint(values * 255).astype(np.uint8) for values in matte)
    step(0.85, "Writing files")
    pictures = {
        "alpha": alpha,
        "cutout": np.dstack([colours, alpha]),
        "composite": composite_over(picture, alpha, colour, colours),
    }
    if trimap is not None:
        pictures["trimap"] = trimap
    place = Path(tempfile.mkdtemp(dir=folder))
    files = {kind: place / f"{name}_{kind}.png" for kind in pictures}
    for kind, file in files.items():
        write_picture(file, pictures[kind], profile=profile)
    return Results(files, remarks, centre_of(alpha))


def cut_out_clip(
    matting: Matting,
    path: str,
    trimap: np.ndarray | None,
    background: str,
    files: str,
    folder: Path,
    limits: Limits,
) -> Iterator[Progress | Results]:
    """Predict the mattes of a clip, and write alpha, cut-out and composite. Closing the iterator stops the prediction.

    Args:
        trimap: (H, W) uint8 of the first frame; None if a segmentation finds the subject in each frame.
        background: background colour of the composite.
        files: name in `CLIP_FILES` of the kind of files.
        folder: folder in which a folder for the results is created.

    Yields:
        The progress after each frame, then the results.

    Raises:
        InputError: see `Matting.predict_clip`.
    """
    if files not in CLIP_FILES:
        raise InputError(f"files of a clip: expected one of {', '.join(CLIP_FILES)}, got {files!r}")
    colour = Background(colour_of(background))
    place, name = Path(tempfile.mkdtemp(dir=folder)), safe_name(path)
    outputs = {kind: place / f"{name}{end}" for kind, end in CLIP_FILES[files].items()}
    folders = Path(path).parent, place
    total, start, frames = count_frames(path, limits.clip_frames), time.monotonic(), None
    try:
        yield Progress(0, total, None)
        with (
            _without_folders(*folders),
            contextlib.closing(matting.predict_clip(path, outputs, trimap=trimap, background=colour)) as run,
        ):
            for frames in run:
                done = frames.written + frames.failed
                if done > limits.clip_frames:
                    raise InputError(f"{path}: is over this page's limit of {limits.clip_frames} frames")
                total = max(total, done)
                yield Progress(done, total, (time.monotonic() - start) * (total - done) / done)
        shown = {"cutout" if kind == "rgba" else kind: _whole_file(output) for kind, output in outputs.items()}
        remarks = [_shown_without(line, *folders) for line in (*remarks_on(trimap), *_remarks_of(frames))]
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    yield Results(shown, remarks, (0.5, 0.5) if trimap is None else centre_of(trimap))


def _remarks_of(frames: ClipJobs) -> list[str]:
    """Remarks for the user on a clip that is done."""
    failed = [f"{frames.failed} frames failed and repeat the one before: {frames.failures[0]}"] if frames.failed else []
    return [*failed, *frames.warnings[:1], *frames.notes()]


def _whole_file(output: Path) -> Path:
    """The file itself, or the archive of a folder of numbered frames, which it replaces."""
    if output.name != NUMBERED:
        return output
    frames, archive = output.parent, output.parent.with_name(f"{output.parent.name}.zip")
    with zipfile.ZipFile(archive, "w") as writer:  # stored, because PNG is compressed
        for file in sorted(frames.iterdir()):
            writer.write(file, f"{frames.name}/{file.name}")
    shutil.rmtree(frames)
    return archive


def centre_of(alpha: np.ndarray) -> tuple[float, float]:
    """Centre (x, y) of the region that is not transparent, as fractions of the picture; (0.5, 0.5) if there is none."""
    left, top, width, height = cv2.boundingRect(alpha)
    if not width:
        return 0.5, 0.5
    return (left + width / 2) / alpha.shape[1], (top + height / 2) / alpha.shape[0]


def remarks_on(trimap: np.ndarray | None) -> list[str]:
    """Remarks for the user on a trimap."""
    if trimap is None or (trimap == UNKNOWN).any():
        return []
    if not trimap.any():
        return ["No subject was found: the matte is empty. Paint or mark the subject."]
    return ["Nothing is unknown: the matte is the trimap. Paint the soft edge as unknown, or widen the band."]


def colour_of(text: str) -> np.ndarray:
    """Parse a colour (name, #RRGGBB or rgb(...), as colour pickers send it) to (3,) uint8.

    Raises:
        InputError: the text is not a colour.
    """
    whole = re.sub(r"\d+\.\d+", lambda number: str(round(float(number[0]))), str(text)[:60])
    try:
        return np.array(ImageColor.getrgb(re.sub(r"^rgba\((.*),[^,]*\)$", r"rgb(\1)", whole))[:3], np.uint8)
    except ValueError:
        raise InputError(f"background: expected a colour such as #1e90ff, got {text!r}") from None


def sweep(folder: Path, kept_for: float = KEPT_FOR) -> None:
    """Remove the results in a folder that are older than `kept_for` seconds."""
    for place in folder.iterdir():
        if place.is_dir() and time.time() - place.stat().st_mtime > kept_for:
            shutil.rmtree(place, ignore_errors=True)


# ---- data for the browser


def surface_of(picture: np.ndarray, profile: bytes | None = None) -> str:
    """JSON value of the drawing surface for a new picture, with its size and a preview with its ICC profile."""
    height, width = picture.shape[:2]
    preview = _data_url(_shrunk(picture), "JPEG", quality=90, icc_profile=profile)
    return json.dumps({"height": height, "width": width, "picture": preview})


def surface_with_trimap(trimap: np.ndarray) -> str:
    """JSON value of the drawing surface that shows a trimap over its picture."""
    small = _shrunk(trimap)
    overlay = np.zeros((*small.shape, 4), np.uint8)
    for level, colour in COLOURS.items():
        overlay[small == level] = (*colour, OVERLAY_OPACITY)
    return json.dumps({"overlay": _data_url(overlay, "PNG")})


def shown_results(results: Results, url_of: Callable[[Path], str]) -> str:
    """HTML of the results: pictures or clips on a checkerboard with a zoom, and download links."""
    figures, links = [], []
    for kind in ("cutout", "composite", "alpha"):
        title, view = TITLES[kind], _view_of(results.files[kind], TITLES[kind], url_of)
        if view:
            figures.append(
                f'<figure><figcaption>{title}</figcaption><div class="window" tabindex="0" role="group" '
                f'aria-label="{title}, scrolls when it is zoomed">{view}</div></figure>'
            )
    for kind, file in results.files.items():
        title = TITLES[kind] if file.suffix == ".png" else f"{TITLES[kind]} ({file.suffix})"
        name = html.escape(file.name, quote=True)
        links.append(f'<a href="{html.escape(url_of(file), quote=True)}" download="{name}">{title}</a>')
    x, y = results.centre
    return (
        f'<div class="results" style="--zoom: 1" data-x="{x:.4f}" data-y="{y:.4f}">'
        f'<p class="downloads">Download: {" ".join(links)}</p>'
        f'<label>Zoom <input type="range" min="1" max="8" step="0.5" value="1"></label>'
        f'<div class="figures">{"".join(figures)}</div></div>'
    )


def _view_of(file: Path, title: str, url_of: Callable[[Path], str]) -> str:
    """HTML of a file that browsers can show; empty for others."""
    url = html.escape(url_of(file), quote=True)
    if file.suffix == ".png":
        return f'<img src="{url}" alt="{title} of your picture">'
    if file.suffix in PLAYED:
        return f'<video src="{url}" aria-label="{title} of your clip" controls muted loop playsinline></video>'
    return ""


def progress_bar(progress: Progress) -> str:
    """HTML of the progress of a clip."""
    done, frames, seconds = progress
    left = "" if seconds is None else f", about {duration(seconds)} left"
    text = f"Frame {done} of {frames}{left}"
    return f'<div class="message"><label>{text} <progress max="{frames}" value="{done}"></progress></label></div>'


def duration(seconds: float) -> str:
    """Text for a time, in a suitable unit.

    Example:
        >>> duration(42.4), duration(200), duration(7300)
        ('42 s', '3 min', '2 h 2 min')
    """
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def message(lines: Sequence[str], is_error: bool = False) -> str:
    """HTML of a message that screen readers announce."""
    kind = "error" if is_error else "note"
    text = "<br>".join(html.escape(printable(line)) for line in lines)
    return f'<p class="message {kind}" role="{"alert" if is_error else "status"}">{text}</p>'


def _shrunk(picture: np.ndarray) -> np.ndarray:
    height, width = picture.shape[:2]
    scale = PREVIEW_SIDE / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA if picture.ndim == 3 else cv2.INTER_NEAREST)


def _data_url(picture: np.ndarray, kind: str, **options: Any) -> str:
    written = io.BytesIO()
    Image.fromarray(picture).save(written, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(written.getvalue()).decode()}"
