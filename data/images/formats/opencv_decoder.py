"""Decoding of picture files by OpenCV, for kinds of 16 bits that Pillow cuts to 8 bits or misreads."""

import os
import threading

import numpy as np

from runtime.errors import InputError

LOG_LEVEL = threading.Lock()  # the level is that of the whole process


def decode_by_opencv(path: str | os.PathLike) -> np.ndarray | None:
    """Decode a picture with its own depth. A TIFF is turned by its orientation, other files are not.

    The caller checks the result, because OpenCV misreads some files without an error. Its log is not shown, but the
    warnings of libpng are.

    Returns:
        (H, W), (H, W, 3) RGB or (H, W, 4) RGBA of the stored depth; None for a file that OpenCV cannot decode.

    Raises:
        InputError: OpenCV is not installed.
    """
    try:
        import cv2  # here, because plain mattes are written without it
    except ImportError as error:
        raise InputError(f"{path}: pictures of this kind need OpenCV; install opencv-python-headless") from error

    with open(path, "rb") as file:
        encoded = np.frombuffer(file.read(), np.uint8)
    with LOG_LEVEL:
        level = cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
        try:
            values = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
        except cv2.error:
            return None
        finally:
            cv2.utils.logging.setLogLevel(level)
    if values is None or values.ndim == 2:
        return values
    return np.ascontiguousarray(values[..., [2, 1, 0, 3][: values.shape[2]]])
