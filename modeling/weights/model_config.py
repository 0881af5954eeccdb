"""Description of a model in a checkpoint: plain values that can only name networks of this project.

A checkpoint may come from a stranger. Its config names classes by their import path. A name is only accepted for a
subclass of `torch.nn.Module` in `modeling` or `torch.nn.modules`, so no other code can be called. The network is first
built without memory and within limits. It must then have exactly the tensors of the file, whose sizes must match their
shapes.
"""

import contextlib
import functools
import importlib
import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn.modules.module import register_module_module_registration_hook

from modeling.meta_arch import System
from modeling.outline import outlines
from modeling.weights.checkpoint_file import CONFIG_ENTRY
from modeling.weights.fitting import fit_pretrained
from modeling.weights.frozen import FROZEN_ENTRY, with_frozen_weights
from modeling.weights.plain_config import PARTIAL, TARGET
from runtime.errors import InputError
from runtime.moved import current_name
from runtime.text import one_line

PACKAGES = ("modeling.", "torch.nn.modules.")
NOT_SETTINGS = ("device", "dtype")  # they would allocate memory for the outline of a network
MOST_SETTINGS = 10_000
MOST_MODULES = 5_000  # a ViT of 40 blocks has some 600
LARGEST_NUMBER = 2**20  # the largest settings of a model are iterations
LONGEST_LIST = 2**10
LONGEST_TEXT = 2**8
DEEPEST = 8


def build_model(checkpoint: Mapping[str, Any], path: Any) -> System:
    """Network that a checkpoint describes, without its weights.

    Args:
        checkpoint: result of `read_checkpoint`.
        path: path for messages.

    Raises:
        InputError: the checkpoint has no description, or describes something other than a network of this project, or a
            network with other tensors.
    """
    if CONFIG_ENTRY not in checkpoint:
        raise InputError(f"{path}: does not describe its model; give --config-file too")
    checkpoint = with_frozen_weights(checkpoint, path)
    try:
        with outlines(), _few_modules():
            outline = _Builder().build(checkpoint[CONFIG_ENTRY])
        _check_outline(outline, checkpoint["model"], fit=FROZEN_ENTRY in checkpoint)
        return _Builder().build(checkpoint[CONFIG_ENTRY])
    except MemoryError:
        raise
    except Exception as error:  # a hostile config may make constructors fail in any way
        reason = one_line(error)[:200]
        raise InputError(f"{path}: its config describes no usable model: {reason or type(error).__name__}") from error


def _check_outline(outline: Any, tensors: Mapping[str, Tensor], fit: bool) -> None:
    if not isinstance(outline, System):
        raise ValueError(f"expected a system of this project, got a {type(outline).__name__}")
    model = outline.state_dict()
    expected = {key: tuple(value.shape) for key, value in model.items()}
    tensors = {key.removeprefix("module."): value for key, value in tensors.items()}
    tensors = fit_pretrained(tensors, model) if fit else tensors
    found = {key: tuple(value.shape) for key, value in tensors.items()}
    wrong = [key for key in {**found, **expected} if expected.get(key) != found.get(key)]
    if wrong:
        raise ValueError(f"the file holds {wrong[0]} {found.get(wrong[0])}, the model has {expected.get(wrong[0])}")
    hollow = [key for key, value in tensors.items() if value.untyped_storage().nbytes() < value.nbytes]
    if hollow:
        raise ValueError(f"{hollow[0]} contains fewer numbers than its shape requires")


@contextlib.contextmanager
def _few_modules() -> Iterator[None]:
    """Limit the number of modules built inside this context to `MOST_MODULES`."""
    counted = itertools.count(1)

    def count(*_: Any) -> None:
        if next(counted) > MOST_MODULES:
            raise ValueError(f"more than {MOST_MODULES} modules")

    hook = register_module_module_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


class _Builder:
    """Builder of a description. It counts the settings, because a small file can repeat a part any number of times."""

    def __init__(self) -> None:
        self.num_settings = 0

    def build(self, node: Any, depth: int = DEEPEST) -> Any:
        self.num_settings += 1
        if depth == 0 or self.num_settings > MOST_SETTINGS:
            raise ValueError("nested too deeply, or too many settings")
        if isinstance(node, Mapping):
            return self._build_mapping(node, depth)
        if isinstance(node, list):
            if len(node) > LONGEST_LIST:
                raise ValueError(f"a list of {len(node)} items is over the limit of {LONGEST_LIST}")
            return [self.build(item, depth - 1) for item in node]
        if isinstance(node, str) and len(node) <= LONGEST_TEXT:
            return node
        if node is None or isinstance(node, bool) or (isinstance(node, int | float) and abs(node) <= LARGEST_NUMBER):
            return node
        raise ValueError(f"a setting of {str(node)[:40]!r} is not allowed")

    def _build_mapping(self, node: Mapping, depth: int) -> Any:
        if not all(isinstance(key, str) and key not in NOT_SETTINGS for key in node):
            raise ValueError(f"expected names of settings to be text, and none of {', '.join(NOT_SETTINGS)}")
        keywords = {key: self.build(value, depth - 1) for key, value in node.items() if key not in (TARGET, PARTIAL)}
        if TARGET in node:
            return _network_class(node[TARGET])(**keywords)
        if PARTIAL in node:
            return functools.partial(_network_class(node[PARTIAL]), **keywords)
        return keywords


def _network_class(name: Any) -> type[nn.Module]:
    """Network class at an import path. Any other object is refused."""
    name = current_name(name) if isinstance(name, str) else name
    if not isinstance(name, str) or not name.startswith(PACKAGES) or not name.replace(".", "_").isidentifier():
        raise ValueError(f"{str(name)[:80]!r} is not a network of this project")
    module_name, _, class_name = name.rpartition(".")
    if any(part.startswith("_") for part in name.split(".")):
        raise ValueError(f"{name[:80]!r} is not a network of this project")
    try:
        found = vars(importlib.import_module(module_name)).get(class_name)
    except ImportError:
        found = None
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(f"{name[:80]!r} is not a network of this project; give --config-file if it is one of yours")
    return found
