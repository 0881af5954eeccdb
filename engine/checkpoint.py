"""Checkpoints: `{"model": state_dict, "metadata": {...}, ...}`, read without unpickling and written whole.

Every key a file has too much or too little is accounted for: expected ones are printed, others are an error. A file
with a byte that is not as it was written is refused.
"""

import contextlib
import logging
import re
import shutil
import sys
import zipfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.checkpoint import DetectionCheckpointer
from torch import nn

from data.errors import InputError
from data.files import replacing
from engine.processes.agreement import from_main_process
from modeling.checkpoint_file import write_checkpoint
from modeling.pretrained.input_channels import fit_input_channels
from modeling.pretrained.report import key_pattern

logger = logging.getLogger("dinomatte.checkpoint")

METADATA_TOLERANCE = 1e-6
LAST_CHECKPOINT = "last_checkpoint"
CHECKPOINT_NAME = re.compile(r"model_(?:(\d{7,})|final|best)\.pth")


class DamagedCheckpointError(InputError):
    """A checkpoint file that is missing, cut short or changed since it was written: an earlier one may serve."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint file onto the CPU with `weights_only=True`, every byte of its tensors checked.

    Raises:
        DamagedCheckpointError: missing, truncated, changed by a bit, or no file that torch.save writes.
        InputError: without a "model" entry of tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise DamagedCheckpointError(f"{path}: expected a checkpoint, found no such file")
    try:
        _check_sums(path)
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # bad bytes lead zipfile and torch to RuntimeError, KeyError, struct.error, ...
        reason = " ".join(str(error).split()).split(". ")[0][:160]
        raise DamagedCheckpointError(
            f"{path}: not a readable checkpoint (damaged, truncated, or not made by torch.save): {reason}"
        ) from error
    model = checkpoint.get("model") if isinstance(checkpoint, dict) else None
    if (
        not isinstance(model, dict)
        or not all(isinstance(value, torch.Tensor) for value in model.values())
        or not isinstance(checkpoint.get("metadata", {}), dict)
    ):
        raise InputError(
            f"{path}: expected {{'model': tensors, ...}} as main.py and preprocess.py write it; "
            "convert pretrained weights with preprocess.py first"
        )
    return checkpoint


def _check_sums(path: Path) -> None:
    """Compare every record with its CRC-32, which torch.save writes and torch.load does not check."""
    if not zipfile.is_zipfile(path):
        return  # torch.load says what it is; before version 1.6 checkpoints were no archives and had no sums
    with zipfile.ZipFile(path) as archive:
        record = archive.testzip()
    if record is not None:
        raise zipfile.BadZipFile(f"{record} is not as it was written")


def load_model(model: nn.Module, checkpoint: dict[str, Any], path: str | Path, *, pretrained: bool = False) -> None:
    """Copy the weights of `checkpoint` into `model`, all of them or none.

    Args:
        model: unwrapped (no DDP).
        checkpoint: from `read_checkpoint`.
        path: named in messages.
        pretrained: the file holds a backbone from preprocess.py. Then the decoder, the residual convolutions, merge
            projections and relative positions may be missing (they start fresh), tokens or a final norm that the config
            leaves out may be unused, and the trimap may take more channels than in the file; all are logged.
            Otherwise the keys must match exactly.

    Raises:
        InputError: keys, shapes or preprocessing metadata do not match the model.
    """
    state = {key.removeprefix("module."): value for key, value in checkpoint["model"].items()}
    expected = model.state_dict()
    state = fit_input_channels(state, expected) if pretrained else state
    _check_metadata(model, checkpoint.get("metadata") or {}, path)
    missing = [key for key in expected if key not in state]
    unused = [key for key in state if key not in expected]
    shapes = [
        f"{key} {tuple(state[key].shape)} in the file, {tuple(value.shape)} in the model"
        for key, value in expected.items()
        if key in state and state[key].shape != value.shape
    ]
    fatal_missing = [key for key in missing if not (pretrained and _starts_fresh(key))]
    fatal_unused = [key for key in unused if not (pretrained and _may_be_left_out(key))]
    if fatal_missing or fatal_unused or shapes:
        problems = [
            f"{label}: {_abbreviated(keys)}"
            for label, keys in (("missing", fatal_missing), ("not in the model", fatal_unused), ("other shape", shapes))
            if keys
        ]
        raise InputError(f"{path}: not a checkpoint of this config's model; {'; '.join(problems)}")
    model.load_state_dict(state, strict=False)
    logger.info("%s: loaded %d of %d tensors of the model", path, len(expected) - len(missing), len(expected))
    if missing:
        logger.info("start fresh: %s", _counted(missing))
    if unused:
        logger.info("in the file, left out by the config: %s", _counted(unused))


def model_metadata(model: nn.Module) -> dict[str, Any]:
    """What must agree between weights and model but is not a tensor: pixel statistics and LayerNorm's epsilon."""
    metadata: dict[str, Any] = {}
    for name in ("pixel_mean", "pixel_std"):
        if hasattr(model, name):
            metadata[name] = [round(value, 6) for value in getattr(model, name).flatten().tolist()]
    norm = getattr(getattr(model, "backbone", None), "norm", None)
    if isinstance(norm, nn.LayerNorm):
        metadata["layer_norm_eps"] = norm.eps
    return metadata


def run_checkpoints(folder: str | Path) -> list[Path]:
    """The checkpoints that training wrote into a run folder, the newest iteration first."""
    paths = [path for path in Path(folder).glob("model_*.pth") if CHECKPOINT_NAME.fullmatch(path.name)]
    return sorted(paths, key=lambda path: (_iteration(path, unknown=-1), path.name), reverse=True)


def numbered_checkpoints(folder: str | Path) -> list[tuple[int, Path]]:
    """Those named after their iteration, with it, the newest first."""
    matches = ((CHECKPOINT_NAME.fullmatch(path.name), path) for path in Path(folder).glob("model_*.pth"))
    return sorted(((int(match[1]), path) for match, path in matches if match and match[1]), reverse=True)


def read_extra(path: str | Path, key: str) -> Any:
    """One entry of a checkpoint that is no tensor, without reading these; None where it or the file is missing."""
    with contextlib.suppress(Exception):  # bad bytes lead torch to errors of many kinds
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True).get(key)
    return None


class MattingCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, with safe reading, strict key accounting and atomic writing.

    The file `last_checkpoint` names the one that a run continues from.
    """

    def save(self, name: str, *, mark_last: bool = True, **kwargs: Any) -> Path:
        """Write `name`.pth to the run folder, then mark it as the last one; on failure both stay as they were.

        Returns:
            its path, also where another process writes it.
        """
        path = self.path_of(name)
        if not self.save_dir or not self.save_to_disk:
            return path
        data = {"model": self.model.state_dict(), "metadata": model_metadata(self.model)}
        data |= {key: value.state_dict() for key, value in self.checkpointables.items()} | kwargs
        write_checkpoint(path, data)
        if mark_last:
            self.tag_last_checkpoint(path.name)
        logger.info("saved %s", path)
        return path

    def path_of(self, name: str) -> Path:
        """Where `save` writes."""
        return Path(self.save_dir) / f"{name}.pth"

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        with replacing(Path(self.save_dir) / LAST_CHECKPOINT, durable=True) as temporary:
            temporary.write_text(last_filename_basename)

    def resume(self) -> int:
        """Load model and checkpointables from the run folder's last checkpoint, or a usable earlier one.

        To be called by all processes; they load what the main one finds usable.

        Returns:
            how many iterations are done, 0 where the folder holds no checkpoint.

        Raises:
            InputError: checkpoints are there but none is readable, or it is of another model or other settings.
        """
        path = from_main_process(self._newest_readable)
        if path is None:
            return 0
        checkpoint = self.load(str(path))
        self.resumed_from = path
        return checkpoint.get("iteration", checkpoint["trainer"]["iteration"]) + 1

    def complete_final(self, iteration: int) -> None:
        """Where `model_final.pth` is missing or damaged, make it from the file just loaded, of the last iteration."""
        final = Path(self.save_dir) / "model_final.pth"
        with contextlib.suppress(DamagedCheckpointError):
            if read_checkpoint(final).get("iteration", -1) >= iteration:
                return
        with replacing(final, durable=True) as temporary:
            shutil.copyfile(self.resumed_from, temporary)
        self.tag_last_checkpoint(final.name)

    def _newest_readable(self) -> Path | None:
        """The checkpoint that `last_checkpoint` names if it can be read, else the newest before it that can."""
        candidates, doubts = self._candidates()
        for path in candidates:
            try:
                read_checkpoint(path)
            except DamagedCheckpointError as error:
                doubts.append(str(error))
                continue
            if doubts:
                logger.warning(
                    "%s; continuing from %s instead: the iterations after it are done again", "; ".join(doubts), path
                )
            return path
        if candidates:
            raise InputError(f"{'; '.join(doubts)}; no checkpoint of {self.save_dir} can be continued from")
        return None

    def _candidates(self) -> tuple[list[Path], list[str]]:
        """What may be continued from, in this order, and what is wrong with `last_checkpoint`."""
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

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load model and checkpointables; with `checkpointables=[]`, a pretrained backbone is enough."""
        if not path:
            logger.info("no checkpoint given: the model starts from random weights")
            return {}
        checkpoint = read_checkpoint(path)
        load_model(self.model, checkpoint, path, pretrained=checkpointables == [])
        for key in self.checkpointables if checkpointables is None else checkpointables:
            if key not in checkpoint:
                raise InputError(f"{path}: cannot resume from it, it holds no {key} state")
            try:
                self.checkpointables[key].load_state_dict(checkpoint[key])
            except (ValueError, RuntimeError, KeyError, TypeError) as error:
                reason = " ".join(str(error).split())
                raise InputError(
                    f"{path}: cannot resume from it with these settings (optimizer and precision must be those of the "
                    f"run): {reason}"
                ) from error
        return checkpoint


def _iteration(path: Path, unknown: int) -> int:
    """The last iteration that a checkpoint has seen, `unknown` where neither its name nor its content tells."""
    match = CHECKPOINT_NAME.fullmatch(path.name)
    iteration = int(match[1]) if match and match[1] else read_extra(path, "iteration")
    return iteration if isinstance(iteration, int) else unknown


def _check_metadata(model: nn.Module, metadata: dict[str, Any], path: str | Path) -> None:
    for name, ours in model_metadata(model).items():
        theirs = metadata.get(name)
        if theirs is None:
            continue
        if not _agree(theirs, ours):
            value = str(theirs).replace(" ", "")
            is_eps = name == "layer_norm_eps"
            setting = (
                f"norm_layer=partial(nn.LayerNorm, eps={value}) in its backbone" if is_eps else f"model.{name}={value}"
            )
            raise InputError(f"{path}: its weights need {name} {value}, the config has {ours}; set {setting}")


def _agree(theirs: Any, ours: Any) -> bool:
    try:
        return bool(np.allclose(theirs, ours, rtol=METADATA_TOLERANCE, atol=0))
    except (TypeError, ValueError):  # not numbers, or not as many
        return False


def _starts_fresh(key: str) -> bool:
    new = (".residual.", ".attn.rel_pos_", "backbone.merge.")
    return not key.startswith("backbone.") or any(piece in key for piece in new)


def _may_be_left_out(key: str) -> bool:
    pieces = ("backbone.cls_token", "backbone.storage_tokens", "backbone.pos_embed", "backbone.norm.")
    return key.startswith(pieces)


def _counted(names: Iterable[str]) -> str:
    """All of the names, those that differ by an index only counted together."""
    return ", ".join(f"{pattern} x{count}" for pattern, count in Counter(map(key_pattern, names)).items())


def _abbreviated(names: Iterable[str], limit: int = 4) -> str:
    names = list(names)
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"
