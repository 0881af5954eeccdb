"""Logging of scalars, pictures and histograms to Weights & Biases, whose package is needed only if it is enabled."""

import logging
import secrets
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from detectron2.utils.events import EventStorage, EventWriter, get_event_storage
from omegaconf import DictConfig, ListConfig

from engine.monitoring.metrics_file import new_scalars
from runtime.errors import InputError
from runtime.files import replacing
from runtime.text import one_line

logger = logging.getLogger("dinomatte.monitoring")

ID_FILE = "wandb_id"


class WandbWriter(EventWriter):
    """Log to one W&B run for each run folder; a resumed run continues it.

    The horizontal axis is "iteration", because W&B's own step cannot go back, as a resumed run does. This writer comes
    before the one that clears the storage's pictures. Problems while logging give one warning.

    Args:
        config: config of the whole run, which W&B shows.
        project, name: names in W&B; without a name it makes one up.

    Raises:
        InputError: the package is missing.
    """

    def __init__(self, config: DictConfig, project: str, name: str | None = None) -> None:
        self._wandb = _import_wandb()
        self._config, self._project, self._name = config, project, name
        self._run: Any = None
        self._last_iteration = -1

    def start(self, iteration: int, first_logged: int) -> None:
        """Begin a W&B run, or continue that of the folder. Values that are logged again are the same.

        Raises:
            InputError: W&B does not start.
        """
        output_dir = Path(self._config.train.output_dir)
        run_id = _run_id(output_dir / ID_FILE, new=iteration == 0)
        try:
            self._run = self._wandb.init(
                project=self._project,
                name=self._name,
                id=run_id,
                resume="allow",
                dir=str(output_dir),
                config=plain(self._config),
            )
            self._run.define_metric("iteration")
            self._run.define_metric("*", step_metric="iteration")
        except Exception as error:  # W&B's own errors: no account, no network, a project of others
            raise InputError(
                f"train.wandb: W&B does not start ({' '.join(str(error).split())}); run `wandb login`, set "
                "WANDB_MODE=offline, or train.wandb.enabled=False"
            ) from error

    def write(self) -> None:
        if self._run is None:
            return
        try:
            self._log(get_event_storage())
        except Exception as error:
            logger.warning("W&B takes nothing more from this run: %s", one_line(error))
            self._run = None

    def close(self) -> None:
        if self._run is None:
            return
        try:
            self._run.finish()
        except Exception as error:
            logger.warning("W&B may lack the end of this run: %s", one_line(error))

    def _log(self, storage: EventStorage) -> None:
        logged = new_scalars(storage, self._last_iteration)
        self._last_iteration = max(logged, default=self._last_iteration)
        for name, picture, iteration in storage._vis_data:  # detectron2 has no other access to them
            logged.setdefault(iteration, {})[name] = self._wandb.Image(_height_width_channels(picture))
        for histogram in storage._histograms:
            edges = [histogram["min"], *histogram["bucket_limits"]]
            value = self._wandb.Histogram(np_histogram=(histogram["bucket_counts"], edges))
            logged.setdefault(histogram["global_step"], {})[f"{histogram['tag']}/histogram"] = value
        for iteration, values in sorted(logged.items()):
            self._run.log({**values, "iteration": iteration})


def plain(node: Any) -> Any:
    """A config as dicts, lists, numbers and strings. Other objects are printed by Python."""
    if isinstance(node, DictConfig | dict):
        return {str(key): plain(value) for key, value in node.items()}
    if isinstance(node, ListConfig | list | tuple):
        return [plain(value) for value in node]
    return node if node is None or isinstance(node, bool | int | float | str) else str(node)


def _import_wandb() -> ModuleType:
    try:
        import wandb
    except ImportError as error:
        raise InputError(
            "train.wandb.enabled: expected the package wandb, found none; pip install -r requirements/wandb.txt, or "
            "set train.wandb.enabled=False"
        ) from error
    return wandb


def _run_id(path: Path, new: bool) -> str:
    """The W&B run of this folder, stored in a file."""
    if not new and path.exists():
        return path.read_text().strip()
    run_id = secrets.token_hex(4)
    with replacing(path) as temporary:
        temporary.write_text(run_id)
    return run_id


def _height_width_channels(picture: np.ndarray | torch.Tensor) -> np.ndarray:
    return np.ascontiguousarray(np.asarray(picture).transpose(1, 2, 0))
