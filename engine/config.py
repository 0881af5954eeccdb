"""Configs: loading a LazyConfig file, overriding it from the command line, building its objects.

Config files are Python and run when loaded, so they are trusted, unlike weights and images.
"""

import dis
import logging
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, NamedTuple

from omegaconf import DictConfig, ListConfig, OmegaConf

from modeling.weights.checkpoint_file import CONFIG_ENTRY
from modeling.weights.plain_config import plain_config
from runtime.errors import InputError
from runtime.moved import RENAMED_SETTINGS, current_name
from runtime.text import one_line

try:
    from detectron2.config import LazyConfig, instantiate
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.core.override_parser.types import Quote, QuotedString
    from hydra.errors import HydraException
except ModuleNotFoundError as missing:
    raise InputError(
        f"configs need {missing.name}, which is not installed; omit --config-file if the checkpoint is of a run and so "
        "describes its model, or run `make set-up` in a clone"
    ) from missing

logger = logging.getLogger("dinomatte.config")

# It logs a traceback of errors that `build` reports in one line.
logging.getLogger("detectron2.config.instantiate").disabled = True

NUMBER = (int, float)


class Kind(NamedTuple):
    """Allowed values of a setting: instances of `types`, at least `least`. `expected` describes them in messages."""

    types: type | tuple
    expected: str
    least: float = -math.inf
    not_empty: bool = False

    def allows(self, value: Any) -> bool:
        if not isinstance(value, self.types) or (isinstance(value, bool) and self.types is not bool):
            return False
        if self.not_empty and not value:
            return False
        return not isinstance(value, NUMBER) or value >= self.least  # false for NaN


TEXT_OR_NULL = (str, type(None))
COUNT = Kind(int, "a whole number of at least 1", 1)
COUNT_OR_ZERO = Kind(int, "a whole number of at least 0", 0)
FLAG = Kind(bool, "true or false")
RUN_SETTINGS = {
    "train.output_dir": Kind(str, "a folder", not_empty=True),
    "train.init_checkpoint": Kind(str, "a file, or empty"),
    "train.max_iter": COUNT,
    "train.seed": COUNT_OR_ZERO,
    "train.device": Kind(TEXT_OR_NULL, "cpu, cuda, mps or null"),
    "train.amp.enabled": FLAG,
    "train.clip_grad_norm": Kind((*NUMBER, type(None)), "a positive number or null", 1e-12),
    "train.accumulate": COUNT,
    "train.cache_features": Kind(TEXT_OR_NULL, "a folder or null"),
    "train.ema_decay": Kind((*NUMBER, type(None)), "a number from 0 to 1 or null", 0),
    "train.freeze_batch_norm": Kind(NUMBER, "a number from 0 to 1", 0),
    "train.sync_batch_norm": FLAG,
    "train.compile": FLAG,
    "train.checkpointer.period": COUNT,
    "train.checkpointer.max_to_keep": Kind((int, type(None)), "a whole number of at least 1 or null", 1),
    "train.checkpointer.best_metric": Kind((*TEXT_OR_NULL, ListConfig), "a metric, a list of metrics, or null"),
    "train.eval_period": COUNT_OR_ZERO,
    "train.num_panels": COUNT_OR_ZERO,
    "train.num_train_panels": COUNT_OR_ZERO,
    "train.log_period": COUNT,
    "train.wandb.enabled": FLAG,
    "optimizer.lr": Kind(NUMBER, "a number of at least 0", 0),
    "optimizer.weight_decay": Kind(NUMBER, "a number of at least 0", 0),
}

# Names in configs of ViTDet and of the original ViTMatte -> their equivalents in this project
LAYER_DECAY = (
    "the layer-wise decay of learning rates is optimizer.params.layer_decay here, see configs/common/optimizer.py"
)
ADVICE = {
    r"get_vit_lr_decay_rate|lr_factor_func|detectron2\.modeling\.backbone\.vit\b|Model Zoo": LAYER_DECAY,
    r"'modeling[.']": "ViT is in modeling.backbone, DetailCapture in modeling.decoder, MattingCriterion in "
    "modeling.criterion and ViTMatte in modeling.meta_arch, see configs/common/model.py",
    r"'data[.']": "the training set is CompositionDataset of data.training.dim_dataset, see "
    "configs/common/dataloader.py",
}


def load_config(path: str, overrides: Sequence[str] = ()) -> DictConfig:
    """Load `path` and apply `key=value` overrides, in hydra's grammar.

    If the current value is a text or null, a new value that the grammar does not read as another type is a plain
    string. File names therefore need no quotes: `train.init_checkpoint=~/runs (1)/a,b=1.pth`.

    Raises:
        InputError: no such file, not a LazyConfig, a malformed override, or a key that the config does not have.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: expected a config file such as configs/ViTMatte_S_10ep.py, found none")
    try:
        config = LazyConfig.load(path)
    except Exception as error:  # a config is a program, and may fail in any way
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise InputError(f"{path}: not a usable config: {reason}{_advice(error)}") from error
    if isinstance(config, DictConfig):
        _use_current_names(config)
    if not isinstance(config, DictConfig) or "model" not in config:
        raise InputError(f"{path}: expected a LazyConfig that defines `model`, found none")
    if OmegaConf.select(config, "optimizer.params.lr_factor_func") is not None:
        raise InputError(f"{path}: optimizer.params.lr_factor_func: {LAYER_DECAY}")
    for override in overrides:
        _check_override(config, override, path)
    try:
        config = LazyConfig.apply_overrides(config, [_with_text_quoted(config, override) for override in overrides])
    except Exception as error:  # hydra and omegaconf raise many kinds of errors for values that cannot be read
        raise InputError(f"override {' '.join(overrides)}: {one_line(error)}") from error
    _check_run_settings(config, path)
    return config


def _advice(error: Exception) -> str:
    """Advice for a config of a related project: the equivalent of a missing name; "" for any other error."""
    if not isinstance(error, ImportError | RuntimeError):
        return ""
    return next((f"; {advice}" for pattern, advice in ADVICE.items() if re.search(pattern, str(error))), "")


def build(node: DictConfig) -> Any:
    """Instantiate a LazyCall node. A wrong setting is reported in one line; other errors keep their traceback.

    A TypeError or ValueError counts as a wrong setting in two cases: the call itself failed (an unknown or a missing
    argument), or a `raise` statement of the constructor, or of a base class's constructor, refused a value. Functions
    that a constructor calls refuse values with InputError. Every other error is passed on.

    Raises:
        InputError: an argument that the class does not have, or a value that it refuses.
    """
    try:
        return instantiate(node)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        if not _is_wrong_setting(error):
            raise
        raise InputError(f"config: {one_line(error)}") from error


def _use_current_names(node: DictConfig | ListConfig) -> None:
    """Replace each `_target_` of a saved config, and the names of its settings, by the current names, in place."""
    for key in range(len(node)) if isinstance(node, ListConfig) else list(node):
        value = node._get_node(key)
        if isinstance(value, DictConfig | ListConfig):
            _use_current_names(value)
        elif key == "_target_" and isinstance(value._value(), str):
            node[key] = current_name(value._value())
            for old, new in RENAMED_SETTINGS.get(node[key], {}).items():
                if old in node and new not in node:
                    node[new] = node._get_node(old)
                    del node[old]


def describe_model(node: DictConfig) -> dict[str, Any]:
    """Entries that describe the model in a checkpoint, so that inference needs no config; empty if impossible."""
    try:
        return {CONFIG_ENTRY: plain_config(OmegaConf.to_container(node, resolve=True))}
    except ValueError as error:
        logger.warning("checkpoints of this run need --config-file, because the model's config contains %s", error)
        return {}


def _is_wrong_setting(error: TypeError | ValueError) -> bool:
    """Return whether the call of a node's class or function failed, or its own `raise` statement refused a value."""
    steps = list(_steps(error.__traceback__))
    calls = [index for index, step in enumerate(steps) if step.tb_frame.f_code is instantiate.__code__]
    own = steps[calls[-1] + 1 :]  # below the innermost call
    if not own:
        return True
    return _raises(own[-1]) and all(_same_construction(own[0].tb_frame, step.tb_frame) for step in own[1:])


def _steps(traceback: TracebackType | None) -> Iterator[TracebackType]:
    while traceback is not None:
        yield traceback
        traceback = traceback.tb_next


def _raises(step: TracebackType) -> bool:
    """Return whether the error came from a `raise` statement of this frame."""
    return step.tb_frame.f_code.co_code[step.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def _same_construction(first: FrameType, other: FrameType) -> bool:
    """Return whether both frames are constructors of one object, that of its class and that of a base class."""
    both = [frame for frame in (first, other) if frame.f_code.co_name == "__init__" and frame.f_code.co_argcount]
    if len(both) < 2:
        return False
    ours, theirs = (frame.f_locals[frame.f_code.co_varnames[0]] for frame in both)
    return ours is theirs


def _check_run_settings(config: DictConfig, path: str) -> None:
    """Refuse a setting of the run that is missing or of the wrong kind, before it is used."""
    for key, kind in RUN_SETTINGS.items():
        if config.get("train") is None:  # a config for inference alone
            return
        value = OmegaConf.select(config, key)
        if not kind.allows(value):
            raise InputError(f"{path}: {key} must be {kind.expected}, got {value!r}")


def _check_override(config: DictConfig, override: str, path: str) -> None:
    """Refuse a key that would be added silently. Arguments of a LazyCall may be new, because the class checks them."""
    if override.startswith("+"):  # hydra's explicit "add"
        return
    key, separator, _ = override.partition("=")
    if not separator or not key or key.startswith("-"):
        raise InputError(f"override {override!r}: expected key=value, for example train.device=cpu")
    parent_key, _, name = key.rpartition(".")
    parent = OmegaConf.select(config, parent_key) if parent_key else config
    if isinstance(parent, DictConfig) and (name in parent or "_target_" in parent):
        return
    known = ", ".join(sorted(map(str, parent))) if isinstance(parent, DictConfig) else "no such section"
    raise InputError(f"override {override!r}: {path} has no key {key!r} ({parent_key or 'top level'}: {known})")


def _with_text_quoted(config: DictConfig, override: str) -> str:
    """The override, with its value in quotes if it is meant as a plain string."""
    key, _, text = override.partition("=")
    held = OmegaConf.select(config, key.lstrip("+"))
    if held is not None and not isinstance(held, str):
        return override
    try:
        parsed = OverridesParser.create().parse_override(override)
        is_text = parsed.is_sweep_override() or _is_name_like_a_number(parsed.value(), text, key, held)
    except HydraException:  # a name with characters that the grammar reserves
        is_text = True
    return f"{key}={QuotedString(text, Quote.single).with_quotes()}" if is_text else override


def _is_name_like_a_number(value: Any, text: str, key: str, held: str | None) -> bool:
    """Return whether a number such as 2026_11_26 or 1e5 takes the place of a text."""
    kind = RUN_SETTINGS.get(key)
    takes_text_only = kind is not None and kind.types in (str, TEXT_OR_NULL)
    is_number = isinstance(value, NUMBER) and not isinstance(value, bool)
    return is_number and (held is not None or takes_text_only or "_" in text)
