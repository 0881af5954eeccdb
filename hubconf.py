"""Entry points of torch.hub, for a clone of this repository.

    matting = torch.hub.load(FOLDER_OF_THE_CLONE, "matting", source="local")
    alpha = matting.predict(image, trimap)

The packages of a clone have common names (data, engine, modeling, ...). A program with packages of these names cannot
load this project in the same process. See docs/python.md.
"""

import sys
from pathlib import Path

dependencies = ["torch", "torchvision", "numpy", "cv2", "PIL", "safetensors", "tqdm"]

_ROOT = Path(__file__).resolve().parent
_PACKAGES = ("data", "engine", "metrics", "modeling", "runtime")


def matting(checkpoint=None, device=None, **settings):
    """Load the model in the box, or another checkpoint: an `engine.inference.Matting`.

    Args:
        checkpoint: .pth of a run or .json of a shipped model; None for the model in the box.
        device: "cpu", "cuda", "cuda:N" or "mps"; None for the best available.
        settings: see `engine.inference.Matting`.

    Returns:
        An object with `predict(image, trimap)`: arrays or PIL images in, alpha (H, W) float32 in [0, 1] out.
    """
    _refuse_others()
    from engine.inference import Matting

    return Matting(checkpoint, device, **settings)


def _refuse_others() -> None:
    """Refuse a package of the calling program that has the name of a package of this project."""
    for name in _PACKAGES:
        places = list(getattr(sys.modules.get(name), "__path__", []))
        file = getattr(sys.modules.get(name), "__file__", None)
        for place in places or ([file] if file else []):
            if _ROOT not in Path(place).resolve().parents:
                raise ImportError(f"{name}: expected the package of {_ROOT}, found {place}; call from another program")
