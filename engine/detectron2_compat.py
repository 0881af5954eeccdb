"""Compatibility of detectron2 v0.6, installed as pure Python, with current libraries.

This does nothing if detectron2 is compiled (upstream's main) or not installed.
"""

import importlib.util
import sys
import types
import warnings
from importlib.machinery import PathFinder


def apply() -> None:
    """Add what v0.6 expects: an (unused) `detectron2._C` and Pillow's former `Image.LINEAR`."""
    if "detectron2._C" in sys.modules:  # compiled and imported, or added by an earlier call
        return
    package = importlib.util.find_spec("detectron2")
    if package is None:  # without detectron2, the other packages can still be used
        return
    # find_spec of a submodule would import the package, and torch with it.
    if PathFinder.find_spec("detectron2._C", package.submodule_search_locations) is not None:
        return
    warnings.filterwarnings("ignore", message=r"`torch\.jit\.script` is deprecated")  # v0.6 scripts a box helper
    warnings.filterwarnings("ignore", message="TypedStorage is deprecated")  # v0.6's gather
    sys.modules["detectron2._C"] = types.ModuleType("detectron2._C")  # imported by layers/deform_conv.py, never used
    from PIL import Image

    if not hasattr(Image, "LINEAR"):
        Image.LINEAR = Image.BILINEAR  # a default argument in data/transforms/transform.py
