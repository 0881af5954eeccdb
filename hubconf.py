"""The project in other programs: the entry points of torch.hub, and the module `dinomatte` of the wheel.

    matting = torch.hub.load(FOLDER_OF_THE_CLONE, "matting", source="local")

    from dinomatte import Matting  # or another name of `engine.inference`

The packages of the project have common names (data, engine, modeling, ...), which saved configs and checkpoints
contain. They are on Python's path only while they are imported, so nothing else is found in their place. A program with
packages of these names cannot load this project in the same process. See docs/python.md.
"""

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

dependencies = ["torch", "numpy", "cv2", "PIL", "safetensors", "tqdm"]

_HERE = Path(__file__).resolve().parent
_PROJECT = _HERE / "project" if (_HERE / "project").is_dir() else _HERE  # in the wheel, and in a clone
_PACKAGES = ("data", "engine", "metrics", "modeling", "runtime")


def matting(checkpoint=None, device=None, **settings):
    """Load the model in the box, or another checkpoint: an `engine.inference.Matting`.

    Args:
        checkpoint: .pth of a run or .json of a shipped model; None for the model in the box.
        device: "cpu", "cuda", "cuda:N" or "mps"; None for the best available.
        settings: see `engine.inference.Matting`.

    Returns:
        An object with `predict(image, trimap)`: arrays or PIL images in, alpha (H, W) float32 in [0, 1] out.

    Raises:
        ImportError: the calling program has loaded a package with the name of one of this project's.
    """
    return _inference().Matting(checkpoint, device, **settings)


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_inference(), name)


def _inference() -> ModuleType:
    """Import `engine.inference`, and the other packages, which import their modules when they need them."""
    _refuse_others()
    sys.path.insert(0, str(_PROJECT))
    try:
        for name in _PACKAGES:
            importlib.import_module(name)
        return importlib.import_module("engine.inference")
    finally:
        sys.path.remove(str(_PROJECT))


def _refuse_others() -> None:
    """Refuse a package of the calling program that has the name of a package of this project."""
    for name in _PACKAGES:
        places = list(getattr(sys.modules.get(name), "__path__", []))
        file = getattr(sys.modules.get(name), "__file__", None)
        for place in places or ([file] if file else []):
            if _PROJECT not in Path(place).resolve().parents:
                raise ImportError(
                    f"{name}: expected the package of {_PROJECT}, found {place}; call from another program"
                )
