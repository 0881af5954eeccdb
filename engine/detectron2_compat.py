"""What detectron2 v0.6, installed as pure Python, needs before its first import on current libraries.

Does nothing where detectron2 is compiled (upstream's main) or absent.
"""

import importlib.util
import sys
import types
import warnings
from importlib.machinery import PathFinder


def apply() -> None:
    """Supply what v0.6 expects: an (unused) `detectron2._C` and Pillow's former `Image.LINEAR`."""
    if "detectron2._C" in sys.modules:  # compiled and imported, or ours from an earlier call
        return
    package = importlib.util.find_spec("detectron2")
    if package is None:  # no detectron2, for those who use the library alone
        return
    # the usual find_spec would import the package to look inside, and torch with it
    if PathFinder.find_spec("detectron2._C", package.submodule_search_locations) is not None:
        return
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")  # v0.6 scripts a box helper
    warnings.filterwarnings("ignore", message="TypedStorage is deprecated")  # v0.6's gather
    sys.modules["detectron2._C"] = types.ModuleType("detectron2._C")  # imported by layers/deform_conv.py, never used
    from PIL import Image

    if not hasattr(Image, "LINEAR"):
        Image.LINEAR = Image.BILINEAR  # a default argument in data/transforms/transform.py
