"""Checkpoints: `{"model": state_dict, "metadata": {...}, ...}`, read without unpickling and written whole.

Every key a file has too much or too little is accounted for: expected ones are printed, others are an error.
"""

import logging
import pickle
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
from modeling.checkpoint_file import write_checkpoint
from modeling.pretrained.report import key_pattern

logger = logging.getLogger("dinomatte.checkpoint")

METADATA_TOLERANCE = 1e-6


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Load a checkpoint file onto the CPU with `weights_only=True`.

    Raises:
        InputError: missing, truncated, foreign, or without a "model" entry of tensors.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: expected a checkpoint, found no such file")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, zipfile.BadZipFile, EOFError, OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split()).split(". ")[0][:160]
        raise InputError(
            f"{path}: not a readable checkpoint (truncated, or not made by torch.save): {reason}"
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


def load_model(model: nn.Module, checkpoint: dict[str, Any], path: str | Path, *, pretrained: bool = False) -> None:
    """Copy the weights of `checkpoint` into `model`, all of them or none.

    Args:
        model: unwrapped (no DDP).
        checkpoint: from `read_checkpoint`.
        path: named in messages.
        pretrained: the file holds a backbone from preprocess.py. Then the decoder, the residual convolutions and
            relative positions may be missing (they start fresh), and tokens or a final norm that the config leaves
            out may be unused; both are logged. Otherwise the keys must match exactly.

    Raises:
        InputError: keys, shapes or preprocessing metadata do not match the model.
    """
    state = {key.removeprefix("module."): value for key, value in checkpoint["model"].items()}
    expected = model.state_dict()
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


class MattingCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, with safe reading, strict key accounting and atomic writing."""

    def save(self, name: str, **kwargs: Any) -> None:
        """Write `name`.pth to the run folder, then mark it as the last one; on failure both stay as they were."""
        if not self.save_dir or not self.save_to_disk:
            return
        data = {"model": self.model.state_dict(), "metadata": model_metadata(self.model)}
        data |= {key: value.state_dict() for key, value in self.checkpointables.items()} | kwargs
        path = Path(self.save_dir) / f"{name}.pth"
        write_checkpoint(path, data)
        self.tag_last_checkpoint(path.name)
        logger.info("saved %s", path)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        with replacing(Path(self.save_dir) / "last_checkpoint") as temporary:
            temporary.write_text(last_filename_basename)

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Load the run folder's last checkpoint if there is one and `resume` is set, else the weights in `path`."""
        try:
            return super().resume_or_load(path, resume=resume)
        except InputError as error:
            last = Path(self.get_checkpoint_file()) if resume and self.has_checkpoint() else None
            others = sorted(p.name for p in Path(self.save_dir).glob("model_*.pth") if p != last) if last else []
            if not others:
                raise
            choice = f"write the name of another into {last.parent / 'last_checkpoint'}: {', '.join(others[-3:])}"
            raise InputError(f"{error}; to continue from an earlier checkpoint, {choice}") from error

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
    return not key.startswith("backbone.") or ".residual." in key or ".attn.rel_pos_" in key


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
