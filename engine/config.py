"""Loading a LazyConfig file, overriding it from the command line, building what it describes.

Config files are Python and run when loaded: they are trusted, unlike weights and images.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from detectron2.config import LazyConfig, instantiate
from omegaconf import DictConfig, OmegaConf

from data.errors import InputError


def load_config(path: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Load `path` and apply `key=value` overrides.

    Raises:
        InputError: no such file, not a LazyConfig, a malformed override, or a key the config does not have.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: expected a config file such as configs/ViTMatte_S_10ep.py, found none")
    try:
        config = LazyConfig.load(path)
    except (SyntaxError, ImportError, AssertionError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a usable config: {error}") from error
    if not isinstance(config, DictConfig) or "model" not in config:
        raise InputError(f"{path}: expected a LazyConfig that defines `model`, found none")
    for override in overrides:
        _check_override(config, override, path)
    try:
        return LazyConfig.apply_overrides(config, list(overrides))
    except Exception as error:  # hydra and omegaconf raise many kinds; all mean a value that cannot be read
        raise InputError(f"override {' '.join(overrides)}: {_one_line(error)}") from error


def build(node: DictConfig) -> Any:
    """Instantiate a LazyCall node; a wrong setting inside is one clear line.

    Raises:
        InputError: an argument the class does not take, or a value it refuses.
    """
    try:
        return instantiate(node)
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"config: {_one_line(error)}") from error


def _check_override(config: DictConfig, override: str, path: str) -> None:
    """Refuse a key that would be added silently. Arguments of a LazyCall may be new: the class checks them."""
    key, separator, _ = override.partition("=")
    if not separator or not key or key.startswith("-"):
        raise InputError(f"override {override!r}: expected key=value, for example train.device=cpu")
    if key.startswith(("+", "~")):  # hydra's explicit "add" and "delete"
        return
    parent_key, _, name = key.rpartition(".")
    parent = OmegaConf.select(config, parent_key) if parent_key else config
    if isinstance(parent, DictConfig) and (name in parent or "_target_" in parent):
        return
    known = ", ".join(sorted(map(str, parent))) if isinstance(parent, DictConfig) else "no such section"
    raise InputError(f"override {override!r}: {path} has no key {key!r} ({parent_key or 'top level'}: {known})")


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
