"""What detectron2 v0.6, installed as pure Python, needs before its first import on current libraries.

Does nothing where detectron2 is compiled (upstream's main) or absent.
"""

import importlib.util
import sys
import types
import warnings


def apply() -> None:
    """Supply what v0.6 expects: an (unused) `detectron2._C` and Pillow's former `Image.LINEAR`."""
    try:
        compiled = importlib.util.find_spec("detectron2._C") is not None
    except ModuleNotFoundError:  # no detectron2, for those who use the library alone
        return
    except ValueError:  # our own empty module, registered by an earlier call, has no spec
        return
    if compiled:
        return
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")  # v0.6 scripts a box helper
    warnings.filterwarnings("ignore", message="TypedStorage is deprecated")  # v0.6's gather
    sys.modules["detectron2._C"] = types.ModuleType("detectron2._C")  # imported by layers/deform_conv.py, never used
    from PIL import Image

    if not hasattr(Image, "LINEAR"):
        Image.LINEAR = Image.BILINEAR  # a default argument in data/transforms/transform.py
