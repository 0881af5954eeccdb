"""Import of PyAV, an optional dependency, when a video is used."""

from types import ModuleType

from runtime.errors import InputError


def import_av() -> ModuleType:
    """Import the module `av` and silence FFmpeg's messages, because errors are raised.

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
    """Flags with which FFmpeg's converter interpolates colours at half resolution; its default is the nearest one."""
    flags = import_av().video.reformatter.Interpolation
    return flags.BICUBIC | flags.ACCURATE_RND | flags.FULL_CHR_H_INT | flags.FULL_CHR_H_INP
