"""Settings of a run in its checkpoints: continuing with other settings is refused or reported."""

import functools
import inspect
import logging
from collections.abc import Iterator, Mapping
from typing import Any

from detectron2.utils.registry import locate
from omegaconf import DictConfig, ListConfig, OmegaConf

logger = logging.getLogger("dinomatte.settings")

DECISIVE = (
    "model", "optimizer", "lr_multiplier", "dataloader.train", "train.max_iter", "train.seed", "train.clip_grad_norm",
    "train.accumulate", "train.amp.enabled", "train.amp.dtype", "train.ema_decay", "train.freeze_batch_norm",
    "train.sync_batch_norm", "train.freeze", "train.cache_features",
)  # fmt: skip
HARMLESS = {  # last names of settings that do not change the iterations
    "num_workers", "prefetch_factor", "persistent_workers", "pin_memory", "cache", "start_iteration", "start_sample",
    "use_act_checkpoint", "sparse_decoding",
    "sample_strategy", "sample_seed", "clamp_known_each_step", "max_side",
}  # fmt: skip

# Settings fixed by the checkpoint. The optimizer's settings and the loss scale are loaded from it, so other values
# would have no effect, or a partial one; its weights belong to one network in one precision, frozen or trained.
FIXED = ("optimizer", "model", "train.amp", "train.freeze")
# Exceptions that act in training alone and may change during a run.
TRAINING_ONLY = "model.criterion"
REGULARISERS = {  # last names
    "drop_path_rate", "rope_rescale", "self_align_stage1_step", "self_align_stage2_step", "self_align_prob",
}  # fmt: skip

Values = dict[str, Any]


class RunSettings:
    """Part of every checkpoint: the settings that determine the remaining iterations.

    A missing setting has its default, so a config that states a default explicitly is not a different config. A section
    is not compared if the checkpoint was saved before that section was recorded.

    Args:
        config: config of the run as it starts or continues.
    """

    def __init__(self, config: DictConfig) -> None:
        self.values: Values = {}
        self.defaults: dict[str, Values] = {}  # optional argument: its settings
        for section in DECISIVE:
            node = OmegaConf.select(config, section)
            self.values |= _kept(_leaves(section, node))
            for argument, default in _defaults(section, node):
                self.defaults[argument] = _kept(_leaves(argument, default))
        if not self.values["train.amp.enabled"]:
            self.values["train.amp.dtype"] = None  # has no meaning
        self.values["train.cache_features"] = bool(self.values["train.cache_features"])  # their folder does not matter

    def state_dict(self) -> dict[str, Any]:
        return {"values": self.values}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Compare with the settings of the checkpoint.

        Raises:
            ValueError: a setting that the checkpoint fixes has another value now.
        """
        known = [section for section in DECISIVE if any(_is_within(key, section) for key in state["values"])]
        before, now = self._complete(state["values"], known), self._complete(self.values, known)
        changed = {
            key: f"{key} {before.get(key)} -> {now.get(key)}"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key)
        }
        fixed = [line for key, line in changed.items() if _is_fixed(key)]
        if fixed:
            raise ValueError(
                f"{', '.join(fixed)}; to use these settings, start a new run from the checkpoint "
                "with train.init_checkpoint"
            )
        if changed:
            logger.warning(
                "continuing with other settings than before, so the remaining iterations differ: %s",
                ", ".join(changed.values()),
            )

    def _complete(self, values: Values, sections: list[str]) -> Values:
        """The settings in `sections`, with the defaults of arguments that are not in `values`."""
        complete = {key: value for key, value in values.items() if any(_is_within(key, each) for each in sections)}
        for argument, default in self.defaults.items():
            within = any(_is_within(argument, section) for section in sections)
            if within and not any(_is_within(key, argument) for key in values):
                complete |= default
        return complete


def _is_fixed(key: str) -> bool:
    if _is_within(key, TRAINING_ONLY) or _last_name(key) in REGULARISERS:
        return False
    return any(_is_within(key, section) for section in FIXED)


def _kept(leaves: Iterator[tuple[str, Any]]) -> Values:
    return {key: value for key, value in leaves if _last_name(key) not in HARMLESS}


def _last_name(key: str) -> str:
    return key.rpartition(".")[2].partition("[")[0]


def _is_within(key: str, section: str) -> bool:
    return key == section or key.startswith((f"{section}.", f"{section}["))


def _leaves(key: str, node: Any) -> Iterator[tuple[str, Any]]:
    """Numbers, strings and nulls below a node by their full keys; other objects by their name.

    Classes are given by their own name alone, because a config has torch.optim.AdamW itself and config.yaml has its
    path.
    """
    if isinstance(node, Mapping | ListConfig | list | tuple) and not node:
        yield key, None  # it is given, so the default does not apply
    elif isinstance(node, Mapping):
        for name in node:
            yield from _leaves(f"{key}.{name}", node[name])
    elif isinstance(node, ListConfig | list | tuple):
        for index, item in enumerate(node):
            yield from _leaves(f"{key}[{index}]", item)
    elif key.endswith("_target_"):
        yield key, str(getattr(node, "__qualname__", node)).rpartition(".")[2]
    elif isinstance(node, functools.partial):  # a layer with its settings
        yield from _leaves(f"{key}._target_", node.func)
        yield from _leaves(key, node.keywords)
    else:
        plain = node is None or type(node) in (bool, int, float, str)
        yield key, node if plain else getattr(node, "__qualname__", str(type(node)))


def _defaults(key: str, node: Any) -> Iterator[tuple[str, Any]]:
    """Arguments with a default of all calls in a node: their full keys and defaults."""
    if isinstance(node, ListConfig):
        for index, item in enumerate(node):
            yield from _defaults(f"{key}[{index}]", item)
    if not isinstance(node, DictConfig):
        return
    for name in node:
        yield from _defaults(f"{key}.{name}", node[name])
    if "_target_" in node:
        for name, parameter in _parameters(node["_target_"]).items():
            if parameter.default is not parameter.empty:
                yield f"{key}.{name}", parameter.default


def _parameters(target: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(locate(target) if isinstance(target, str) else target).parameters
    except (ImportError, ValueError):  # building it reports errors; some functions in C have no signature
        return {}
