"""Import of the packages that only ONNX needs, with a one-line message if they are missing."""

import importlib
from types import ModuleType

from runtime.errors import InputError


def onnx_package(name: str) -> ModuleType:
    """Import `name`, one of the packages of requirements/onnx.txt or a module of theirs.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise InputError(f"{package} is not installed; run: pip install -r requirements/onnx.txt") from error
