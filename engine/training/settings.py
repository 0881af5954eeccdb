"""The settings a run was begun with, kept in its checkpoints: continuing with others is told or refused."""

import logging
from collections.abc import Iterator
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf

logger = logging.getLogger("dinomatte.settings")

DECISIVE = (
    "optimizer", "lr_multiplier", "dataloader.train", "train.max_iter", "train.seed", "train.clip_grad_norm",
    "train.accumulate", "train.freeze_batch_norm", "train.sync_batch_norm",
)  # fmt: skip
HARMLESS = ("num_workers", "pin_memory", "cache", "start_iteration", "start_sample")  # in dataloader.train
FIXED = "optimizer."  # loaded from the checkpoint, so another value would have no effect


class RunSettings:
    """A part of every checkpoint: the settings that decide what the iterations to come will do.

    Args:
        config: of the run as it starts or continues.
    """

    def __init__(self, config: DictConfig) -> None:
        self.values = {
            key: value
            for section in DECISIVE
            for key, value in _leaves(section, OmegaConf.select(config, section))
            if key.rpartition(".")[2] not in HARMLESS
        }

    def state_dict(self) -> dict[str, Any]:
        return {"values": self.values}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Compare with the settings of the checkpoint.

        Raises:
            ValueError: one that the checkpoint fixes has another value now.
        """
        before = state["values"]
        changed = [
            f"{key} {before.get(key)} -> {self.values.get(key)}"
            for key in sorted(before.keys() | self.values.keys())
            if before.get(key) != self.values.get(key)
        ]
        fixed = [line for line in changed if line.startswith(FIXED)]
        if fixed:
            raise ValueError(
                f"{', '.join(fixed)}; to train on with these, start a new run from it by train.init_checkpoint"
            )
        if changed:
            logger.warning(
                "continuing with other settings than before, so not as the run began: %s", ", ".join(changed)
            )


def _leaves(key: str, node: Any) -> Iterator[tuple[str, Any]]:
    """The numbers, texts and nulls below a node by their full keys; anything else by its name.

    Classes by their own name alone: a config holds torch.optim.AdamW itself, the run folder's config.yaml its path.
    """
    if isinstance(node, DictConfig):
        for name in node:
            yield from _leaves(f"{key}.{name}", node[name])
    elif isinstance(node, ListConfig):
        for index, item in enumerate(node):
            yield from _leaves(f"{key}[{index}]", item)
    elif key.endswith("_target_"):
        yield key, str(getattr(node, "__qualname__", node)).rpartition(".")[2]
    else:
        plain = node is None or type(node) in (bool, int, float, str)
        yield key, node if plain else getattr(node, "__qualname__", str(type(node)))
