"""Pictures of one scored image: its inputs, its prediction, and the error."""

import base64
import io
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image

from data.images.files import read_rgb, to_uint8
from data.images.mattes import read_gray_exact, read_trimap
from data.images.trimap import UNKNOWN
from metrics.matching import Case
from metrics.reading import read_truth
from runtime.errors import InputError

LONG_SIDE = 320  # pixels of the longer side of an overview
WINDOW = 128  # side of the crop at the resolution of the file
TOO_OPAQUE = (190, 30, 45)
TOO_TRANSPARENT = (25, 95, 180)
NO_ERROR = (255, 255, 255)
NOT_SCORED = (208, 208, 208)  # colour that is mixed in outside the scored region
NOT_SCORED_SHARE = 0.7


class Window(NamedTuple):
    """A rectangle of pixels; (x, y) is the top left one."""

    x: int
    y: int
    width: int
    height: int


class Picture(NamedTuple):
    """One layer of a case as data URIs of PNG files, or the reason why it is missing.

    Attributes:
        title: "image", "trimap", "truth", "prediction" or "error map".
        overview: the whole layer, at most `LONG_SIDE` pixels long; None if it cannot be shown.
        overview_size: (width, height) of the overview.
        crop: the pixels in the window of the case; None if there is no window.
        problem: one-line message for the reader if the layer cannot be shown.
    """

    title: str
    overview: str | None = None
    overview_size: tuple[int, int] = (0, 0)
    crop: str | None = None
    problem: str = ""


class CasePictures(NamedTuple):
    """Pictures of a case in reading order.

    Attributes:
        pictures: image (if photographs are given), trimap (if scored by one), truth, prediction, error map.
        size: (width, height) of the truth, (0, 0) if it cannot be read any more.
        window: window with the largest scored error; None if there is no error, or if the overview shows every pixel.
    """

    pictures: list[Picture]
    size: tuple[int, int]
    window: Window | None


def picture_case(
    case: Case, *, quantise_trimaps: bool = False, photographs: dict[str, Path] | None = None
) -> CasePictures:
    """Read the files of a case again and make its pictures. A file that cannot be read is replaced by a message.

    Args:
        case: the scored files.
        quantise_trimaps: setting with which the set was scored.
        photographs: name -> file; None for no photographs.
    """
    layers = _read_mattes(case, quantise_trimaps)
    scored_error = _scored_error(layers)
    window = None if isinstance(scored_error, str) else _telling_window(scored_error)
    pictures = [_picture(title, layer, window) for title, layer in layers.items()]
    pictures.append(_picture("error map", _error_layer(layers), window))
    truth = layers["truth"]
    size = (0, 0) if isinstance(truth, str) else (truth.shape[1], truth.shape[0])
    if photographs is not None:
        del layers, scored_error  # frees them first, as the photograph is the largest array
        pictures.insert(0, _picture("image", _read_photograph(case.name, photographs), window, size))
    return CasePictures(pictures, size, window)


def error_map(pred_alpha: np.ndarray, alpha: np.ndarray, trimap: np.ndarray | None = None) -> np.ndarray:
    """Colours of the signed error: red where the prediction is too opaque, blue where it is too transparent.

    A colour grows from white with the square root of the error, so that faint errors in hair are visible. Colours are
    dimmed where the trimap is not 128.

    Args:
        pred_alpha, alpha: (H, W) uint8.
        trimap: (H, W) uint8; None if every pixel is scored.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    entry = pred_alpha.astype(np.int16) - alpha + np.int16(255)
    if trimap is not None:
        entry += (trimap != UNKNOWN) * np.int16(511)
    return _error_colours()[entry]


def signed_ramp(height: int = 8) -> tuple[np.ndarray, np.ndarray]:
    """Prediction and truth, (height, 510) uint8, whose error goes from -1 to 1, for the legend of the error map."""
    rising = np.arange(1, 256, dtype=np.uint8)
    flat = np.zeros(255, np.uint8)
    row = np.concatenate([flat, rising]), np.concatenate([rising[::-1], flat])
    return np.tile(row[0], (height, 1)), np.tile(row[1], (height, 1))


def _error_colours() -> np.ndarray:
    """Colours (1022, 3) uint8 of the errors -255..255 in the scored region, then outside it."""
    error = np.arange(-255, 256)[:, None] / 255
    strength = np.sqrt(np.abs(error))
    scored = (1 - strength) * np.array(NO_ERROR) + strength * np.where(error > 0, TOO_OPAQUE, TOO_TRANSPARENT)
    dimmed = (1 - NOT_SCORED_SHARE) * scored + NOT_SCORED_SHARE * np.array(NOT_SCORED)
    return np.rint(np.concatenate([scored, dimmed])).astype(np.uint8)


def worst_window(error: np.ndarray, side: int = WINDOW) -> Window | None:
    """Find the window with the largest sum of errors.

    Of several windows with the same sum, as around a single wrong pixel, the one centred on the error is chosen.

    Args:
        error: (H, W) uint8, zero at pixels that are not scored.
        side: side of the window; the window is smaller in smaller images.

    Returns:
        The window, entirely inside the image; None if there is no error.
    """
    if not error.any():
        return None
    height, width = (min(side, length) for length in error.shape)
    # Each sum belongs to the window that starts there; in int32 it is exact.
    sums = cv2.boxFilter(error, cv2.CV_32S, (width, height), anchor=(0, 0), normalize=False,
                         borderType=cv2.BORDER_CONSTANT)  # fmt: skip
    sums = sums[: error.shape[0] - height + 1, : error.shape[1] - width + 1]
    ys, xs = np.nonzero(sums == sums.max())
    moments = cv2.moments(error[ys[0] : ys[0] + height, xs[0] : xs[0] + width])
    centre_x = xs[0] + moments["m10"] / moments["m00"]
    centre_y = ys[0] + moments["m01"] / moments["m00"]
    off_centre = (xs + (width - 1) / 2 - centre_x) ** 2 + (ys + (height - 1) / 2 - centre_y) ** 2
    best = int(np.argmin(off_centre))
    return Window(int(xs[best]), int(ys[best]), width, height)


def shrink(image: np.ndarray, long_side: int = LONG_SIDE) -> np.ndarray:
    """Reduce (H, W) or (H, W, 3) uint8 by area averaging until no side exceeds `long_side`. It is never enlarged."""
    height, width = image.shape[:2]
    if max(height, width) <= long_side:
        return image
    factor = long_side / max(height, width)
    return cv2.resize(
        image, (max(1, round(width * factor)), max(1, round(height * factor))), interpolation=cv2.INTER_AREA
    )


def png_uri(image: np.ndarray) -> str:
    """Encode (H, W) or (H, W, 3) uint8 as a PNG in a data URI."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, format="PNG", compress_level=9)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _read_mattes(case: Case, quantise_trimaps: bool) -> dict[str, np.ndarray | str]:
    """Read trimap, truth and prediction, rounded to 8 bits; a string is the reason why a file cannot be read."""
    layers: dict[str, np.ndarray | str] = {}
    if case.trimap_file is not None:
        layers["trimap"] = _attempt(read_trimap if quantise_trimaps else read_gray_exact, case.trimap_file)
    layers["truth"] = _attempt(lambda _: read_truth(case), case.alpha_file)
    layers["prediction"] = _attempt(read_gray_exact, case.pred_file)
    return layers


def _read_photograph(name: str, photographs: dict[str, Path]) -> np.ndarray | str:
    return _attempt(read_rgb, photographs[name]) if name in photographs else "no photograph of this name"


def _attempt(read: Callable[..., np.ndarray], file: Path, **options) -> np.ndarray | str:
    try:
        values = read(file, **options)
        return to_uint8(values, 65535) if values.dtype == np.uint16 else values
    except InputError as error:
        return str(error)
    except (OSError, MemoryError) as error:
        return f"{file}: cannot be read ({error or 'not enough memory'})"


def _misfit(layers: dict[str, np.ndarray | str]) -> str:
    """Reason why the layers cannot be compared, or an empty string."""
    if any(isinstance(layer, str) for layer in layers.values()):
        return "needs every file beside it"
    if len({layer.shape for layer in layers.values()}) > 1:
        return "the files were changed since they were scored: their sizes differ"
    return ""


def _scored_error(layers: dict[str, np.ndarray | str]) -> np.ndarray | str:
    """|prediction - truth| as (H, W) uint8, zero outside the scored region, or the reason why it is missing."""
    if misfit := _misfit(layers):
        return misfit
    error = cv2.absdiff(layers["prediction"], layers["truth"])
    return error if "trimap" not in layers else error * (layers["trimap"] == UNKNOWN)


def _error_layer(layers: dict[str, np.ndarray | str]) -> np.ndarray | str:
    return _misfit(layers) or error_map(layers["prediction"], layers["truth"], layers.get("trimap"))


def _telling_window(scored_error: np.ndarray) -> Window | None:
    return worst_window(scored_error) if max(scored_error.shape) > WINDOW else None


def _picture(title: str, layer: np.ndarray | str, window: Window | None, size: tuple[int, int] = (0, 0)) -> Picture:
    """Encode a layer. Its (width, height) must be `size`, so that the window is at the same position in it."""
    if isinstance(layer, str):
        return Picture(title, problem=layer)
    overview = shrink(layer)
    picture = Picture(title, png_uri(overview), (overview.shape[1], overview.shape[0]))
    found = (layer.shape[1], layer.shape[0])
    if size not in ((0, 0), found):
        return picture._replace(problem=f"{found[0]} x {found[1]} pixels, the truth {size[0]} x {size[1]}")
    if window is None:
        return picture
    return picture._replace(crop=png_uri(np.ascontiguousarray(_cut(layer, window))))


def _cut(layer: np.ndarray, window: Window) -> np.ndarray:
    return layer[window.y : window.y + window.height, window.x : window.x + window.width]
