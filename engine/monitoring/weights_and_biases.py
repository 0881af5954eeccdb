"""Weights & Biases: a writer that lets W&B read TensorBoard's event files. The package is only needed if enabled."""

import logging
import os
from pathlib import Path
from typing import Any

from detectron2.utils.events import EventWriter
from omegaconf import DictConfig, ListConfig

from runtime.errors import InputError
from runtime.files import replacing
from runtime.text import one_line

logger = logging.getLogger("dinomatte.monitoring")

ID_FILE = "wandb_id"


class WandbWriter(EventWriter):
    """Log the events of a run folder to one W&B run. A resumed training continues this W&B run.

    W&B only reads event files that are opened after it has started. This writer must therefore start before
    TensorBoard's writer and close after it.

    Args:
        config: config of the whole run, which is stored in W&B.
        project, name: project and name of the run in W&B. Without a name, W&B generates one.

    Raises:
        InputError: the package is missing, or W&B's own files would be inside the run folder. W&B copies the event
            files to its folder and would read these copies again.
    """

    def __init__(self, config: DictConfig, project: str, name: str | None = None) -> None:
        try:
            import wandb
        except ImportError as error:
            raise InputError(
                "train.wandb.enabled: expected the package wandb, found none; pip install -r requirements/wandb.txt, "
                "or set train.wandb.enabled=False"
            ) from error
        self._output_dir = Path(config.train.output_dir)
        folder = Path(os.environ.get("WANDB_DIR") or ".").resolve()
        if folder.is_relative_to(self._output_dir.resolve()):
            raise InputError(
                f"train.wandb: expected W&B's files outside the run folder {self._output_dir}, found them in {folder}; "
                "set WANDB_DIR to another folder"
            )
        self._wandb, self._run = wandb, None
        self._project, self._name, self._config = project, name, plain(config)

    def start(self, iteration: int, first_logged: int) -> None:
        """Start a W&B run, or continue the run of this folder.

        After a resume, some iterations are logged again, with the same values.

        Raises:
            InputError: W&B does not start.
        """
        id_file = self._output_dir / ID_FILE
        try:
            self._run = self._wandb.init(
                project=self._project,
                name=self._name,
                config=self._config,
                id=id_file.read_text().strip() if iteration and id_file.exists() else None,
                resume="allow",
                sync_tensorboard=True,
            )
        except Exception as error:  # W&B raises its own errors, for example without an account or a network
            raise InputError(
                f"train.wandb: W&B does not start ({one_line(error)}); run `wandb login`, set WANDB_MODE=offline, or "
                "train.wandb.enabled=False"
            ) from error
        with replacing(id_file) as temporary:
            temporary.write_text(self._run.id)

    def write(self) -> None:
        """Do nothing, because W&B reads the event files itself."""

    def close(self) -> None:
        """Wait until W&B has read all events. Call this after TensorBoard's writer is closed."""
        try:
            if self._run is not None:
                self._run.finish()
        except Exception as error:
            logger.warning("W&B may lack the end of this run: %s", one_line(error))


def plain(node: Any) -> Any:
    """Convert a config to dicts, lists, numbers and strings. Other objects are converted by `str`."""
    if isinstance(node, DictConfig | dict):
        return {str(key): plain(value) for key, value in node.items()}
    if isinstance(node, ListConfig | list | tuple):
        return [plain(value) for value in node]
    return node if node is None or isinstance(node, bool | int | float | str) else str(node)
