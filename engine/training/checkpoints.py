"""Checkpoints of training runs: listing, saving, and resuming from the newest readable one."""

import contextlib
import logging
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer

from engine.processes.agreement import from_main_process
from modeling.meta_arch import System
from modeling.weights.checkpoint_file import (
    CONFIG_ENTRY,
    DamagedCheckpointError,
    read_checkpoint,
    read_extra,
    write_checkpoint,
)
from modeling.weights.frozen import FROZEN_ENTRY, found_entry, frozen_entry
from modeling.weights.loading import load_model
from modeling.weights.shipped import read_model_file
from runtime.errors import InputError
from runtime.files import replacing
from runtime.text import one_line

logger = logging.getLogger("dinomatte.checkpoint")

LAST_CHECKPOINT = "last_checkpoint"
CHECKPOINT_NAME = re.compile(r"model_(?:(\d{7,})|final|best(?:_\w+)?)\.pth")


def run_checkpoints(folder: str | Path) -> list[Path]:
    """Checkpoints of training in a run folder, the newest iteration first."""
    paths = [path for path in Path(folder).glob("model_*.pth") if CHECKPOINT_NAME.fullmatch(path.name)]
    return sorted(paths, key=lambda path: (_iteration(path, unknown=-1), path.name), reverse=True)


def numbered_checkpoints(folder: str | Path) -> list[tuple[int, Path]]:
    """Checkpoints named after their iteration, with the iteration, the newest first."""
    matches = ((CHECKPOINT_NAME.fullmatch(path.name), path) for path in Path(folder).glob("model_*.pth"))
    return sorted(((int(match[1]), path) for match, path in matches if match and match[1]), reverse=True)


class RunCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, with safe reading, strict key accounting and atomic writing.

    The file `last_checkpoint` names the checkpoint from which a run continues.

    Args:
        model: model to save, without wrappers.
        save_dir: run folder.
        description: further entries of every checkpoint, such as the config of the model.
        checkpointables: other objects to save and resume, by name.

    Attributes:
        frozen: entry of the checkpoints for frozen weights that came from a file, see `modeling.weights.frozen`.
    """

    def __init__(
        self, model: System, save_dir: str = "", *, description: Mapping[str, Any] | None = None, **checkpointables: Any
    ) -> None:
        super().__init__(model, save_dir, **checkpointables)
        self.description = dict(description or {})
        self.frozen: dict[str, Any] | None = None

    def save(self, name: str, *, mark_last: bool = True, **kwargs: Any) -> Path:
        """Write `name`.pth to the run folder and mark it as the last one. If this fails, both are unchanged.

        Returns:
            Its path, also if another process writes it.
        """
        path = self.path_of(name)
        if not self.save_dir or not self.save_to_disk:
            return path
        data = {"model": self.model.state_dict(), "metadata": self.model.metadata(), **self.description}
        if self.frozen is not None:
            data[FROZEN_ENTRY] = self.frozen
            data["model"] = {key: value for key, value in data["model"].items() if key not in self.frozen["keys"]}
        data |= {key: value.state_dict() for key, value in self.checkpointables.items()} | kwargs
        write_checkpoint(path, data)
        if mark_last:
            self.tag_last_checkpoint(path.name)
        logger.info("saved %s", path)
        return path

    def path_of(self, name: str) -> Path:
        """Path to which `save` writes."""
        return Path(self.save_dir) / f"{name}.pth"

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        with replacing(Path(self.save_dir) / LAST_CHECKPOINT, durable=True) as temporary:
            temporary.write_text(last_filename_basename)

    def resume(self) -> int:
        """Load model and checkpointables from the run folder's last checkpoint, or a usable earlier one.

        All processes call this and load the checkpoint that the main one finds usable.

        Returns:
            The number of completed iterations, 0 if the folder has no checkpoint.

        Raises:
            InputError: no checkpoint is readable, or the checkpoint is of another model or other settings.
        """
        path = from_main_process(self._newest_readable)
        if path is None:
            return 0
        checkpoint = self.load(str(path))
        self.resumed_from = path
        return checkpoint.get("iteration", checkpoint["trainer"]["iteration"]) + 1

    def complete_final(self, iteration: int) -> None:
        """Make `model_final.pth`, if it is missing or damaged, from the loaded file of the last iteration."""
        final = Path(self.save_dir) / "model_final.pth"
        with contextlib.suppress(DamagedCheckpointError):
            if read_checkpoint(final).get("iteration", -1) >= iteration:
                return
        with replacing(final, durable=True) as temporary:
            shutil.copyfile(self.resumed_from, temporary)
        self.tag_last_checkpoint(final.name)

    def _newest_readable(self) -> Path | None:
        """The checkpoint in `last_checkpoint` if it can be read, else the newest earlier one that can."""
        candidates, doubts = self._candidates()
        for path in candidates:
            try:
                read_checkpoint(path)
            except DamagedCheckpointError as error:
                doubts.append(str(error))
                continue
            if doubts:
                logger.warning(
                    "%s; continuing from %s instead: the iterations after it are repeated", "; ".join(doubts), path
                )
            return path
        if candidates:
            raise InputError(f"{'; '.join(doubts)}; no checkpoint of {self.save_dir} can be resumed")
        return None

    def _candidates(self) -> tuple[list[Path], list[str]]:
        """Checkpoints to continue from, in order of preference, and problems of `last_checkpoint`."""
        checkpoints = run_checkpoints(self.save_dir)
        mark = Path(self.save_dir) / LAST_CHECKPOINT
        try:
            last = Path(self.save_dir) / mark.read_text().strip()
            if last.is_file() or CHECKPOINT_NAME.fullmatch(last.name):
                limit = _iteration(last, unknown=sys.maxsize)
                return [last, *(path for path in checkpoints if path != last and _iteration(path, -1) <= limit)], []
            return checkpoints, [f"{mark}: expected the name of a checkpoint, found {str(last.name)[:60]!r}"]
        except FileNotFoundError:
            return checkpoints, [f"{mark}: expected the name of a checkpoint, found no such file"]
        except (OSError, ValueError) as error:
            return checkpoints, [f"{mark}: not readable: {error}"]

    def load_initial(self, path: str, frozen: Sequence[str] = ()) -> None:
        """Load the initial weights: a pretrained encoder, a trained checkpoint, or nothing for an empty path.

        Args:
            frozen: names of the frozen parameters. Those that come from the file are not stored in the run's
                checkpoints.

        Raises:
            InputError: the path is empty and the system does not start from random weights, or the file does not match.
        """
        if not path and self.model.needs_weights:
            raise InputError(f"train.init_checkpoint is empty; {self.model.needs_weights}")
        if frozen and not path:
            logger.warning(
                "train.freeze: no train.init_checkpoint is given; %d frozen parameters keep random weights",
                len(frozen),
            )
        loaded = self.load(path, checkpointables=[])
        description = loaded.get(CONFIG_ENTRY)
        try:
            self.model.check_start(description if isinstance(description, dict) else {})
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        earlier = found_entry(loaded, path)
        if earlier is not None and set(earlier["keys"]) <= set(frozen):
            self.frozen = earlier  # weights that the earlier run left in a file stay there
            return
        from_file = [name for name in frozen if name in loaded.get("model", ())]
        if from_file:
            self.frozen = frozen_entry(path, from_file)

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load model and checkpointables. With `checkpointables=[]`, a pretrained encoder is sufficient."""
        if not path:
            logger.info("no checkpoint given: the model starts from random weights")
            return {}
        checkpoint = read_model_file(path)
        load_model(self.model, checkpoint, path, pretrained=checkpointables == [])
        if checkpointables is None:
            self.frozen = found_entry(checkpoint, path)
        for key in self.checkpointables if checkpointables is None else checkpointables:
            if key not in checkpoint:
                raise InputError(f"{path}: cannot resume from it, it contains no {key} state")
            try:
                self.checkpointables[key].load_state_dict(checkpoint[key])
            except (ValueError, RuntimeError, KeyError, TypeError) as error:
                reason = one_line(error)
                raise InputError(
                    f"{path}: cannot resume from it with these settings (model, optimizer and precision must be those "
                    f"of the run): {reason}"
                ) from error
        return checkpoint


def _iteration(path: Path, unknown: int) -> int:
    """Last iteration of a checkpoint, `unknown` if neither its name nor its content states it."""
    match = CHECKPOINT_NAME.fullmatch(path.name)
    iteration = int(match[1]) if match and match[1] else read_extra(path, "iteration")
    return iteration if isinstance(iteration, int) else unknown
