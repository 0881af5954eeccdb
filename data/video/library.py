"""PyAV, an extra: imported where a video is met, and named where it is missing."""

from types import ModuleType

from runtime.errors import InputError


def import_av() -> ModuleType:
    """The module `av`, its FFmpeg silent: what goes wrong is raised.

    Raises:
        InputError: PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise InputError(
            "video files need PyAV: install it with `pip install -r requirements/video.txt`, or extract the frames to "
            "a folder of images"
        ) from error
    av.logging.set_level(None)
    return av


def careful_scaling() -> int:
    """Flags of FFmpeg's converter that interpolate colours at half resolution; by default it takes the nearest."""
    flags = import_av().video.reformatter.Interpolation
    return flags.BICUBIC | flags.ACCURATE_RND | flags.FULL_CHR_H_INT | flags.FULL_CHR_H_INP
