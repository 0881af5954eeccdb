"""The training step, on Detectron2's loop and hooks."""

import time
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from detectron2.engine import TrainerBase
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn

from engine.precision import Precision


class NonFiniteLossError(RuntimeError):
    """A loss became NaN or infinite; the message names the iteration and the losses."""


class MattingTrainer(TrainerBase):
    """Forward, backward, step; everything else is a hook.

    Random draws inside the model (drop path, coordinate rescaling) are seeded from (seed, rank, iteration) at every
    step, so the random state of a run is a function of its iteration and a resumed run draws what it would have drawn.

    Args:
        model: maps a batch to named losses in training mode; may be wrapped in DDP.
        batches: endless, or None until `self.batches` is set: only after resuming is it known where they start.
        optimizer: over the model's parameters.
        precision: autocast and loss scaling.
        seed: of the model's random draws.
        clip_grad_norm: largest norm of the whole gradient, None for no clipping.
    """

    def __init__(
        self,
        model: nn.Module,
        batches: Iterable[dict[str, Any]] | None,
        optimizer: torch.optim.Optimizer,
        *,
        precision: Precision,
        seed: int = 0,
        clip_grad_norm: float | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.batches = batches
        self.optimizer = optimizer
        self.precision = precision
        self.seed = seed
        self.clip_grad_norm = clip_grad_norm
        self._iterator = None

    def before_train(self) -> None:
        self.model.train()
        self._iterator = iter(self.batches)
        super().before_train()

    def run_step(self) -> None:
        """One iteration.

        Raises:
            NonFiniteLossError: before the weights are touched.
        """
        started = time.perf_counter()
        batch = next(self._iterator)
        data_time = time.perf_counter() - started

        torch.manual_seed(_step_seed(self.seed, comm.get_rank(), self.iter))
        self.optimizer.zero_grad(set_to_none=True)
        with self.precision.autocast():
            losses = self.model(batch)
        total = sum(losses.values())
        self._check_finite(total, losses)

        scaler = self.precision.scaler
        scaler.scale(total).backward()
        if self.clip_grad_norm is not None:
            scaler.unscale_(self.optimizer)
            norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_grad_norm)
            get_event_storage().put_scalar("grad_norm", float(norm))
        scaler.step(self.optimizer)
        scaler.update()
        self._write_metrics(losses, total, data_time)

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        state["optimizer"] = self.optimizer.state_dict()
        state["scaler"] = self.precision.scaler.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        super().load_state_dict(state)
        self.optimizer.load_state_dict(state["optimizer"])
        self.precision.scaler.load_state_dict(state["scaler"])

    def _check_finite(self, total: Tensor, losses: dict[str, Tensor]) -> None:
        if torch.isfinite(total):
            return
        listed = ", ".join(f"{name}={value.item():g}" for name, value in losses.items())
        raise NonFiniteLossError(
            f"loss is not finite at iteration {self.iter} (process {comm.get_rank()}): {listed}; earlier "
            "checkpoints are kept; lower the learning rate, use bf16 instead of fp16, or inspect the data"
        )

    def _write_metrics(self, losses: dict[str, Tensor], total: Tensor, data_time: float) -> None:
        """Log the losses averaged over processes, and the longest wait for data."""
        names = [*losses, "total_loss"]
        values = torch.stack([*losses.values(), total]).detach().cpu().tolist()
        gathered = comm.gather((values, data_time))
        if not comm.is_main_process():
            return
        storage = get_event_storage()
        storage.put_scalar("data_time", max(waited for _, waited in gathered))
        means = np.mean([values for values, _ in gathered], axis=0)
        storage.put_scalars(**dict(zip(names, means.tolist(), strict=True)))


def _step_seed(seed: int, rank: int, iteration: int) -> int:
    return int(np.random.SeedSequence([seed, rank, iteration]).generate_state(1, np.uint64)[0] >> np.uint64(1))
