"""The training step, on Detectron2's loop and hooks."""

import contextlib
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

import numpy as np
import torch
import torch.distributed as dist
from detectron2.engine import TrainerBase
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from engine.training.averaging import WeightAverage
from engine.training.interruption import Interruption
from modeling.meta_arch import System
from runtime.command_line import one_line
from runtime.errors import InputError
from runtime.precision import Precision

Batch = dict[str, Any]


class NonFiniteLossError(InputError):
    """A loss or gradient became NaN or infinite. The message names the iteration, the losses and the faulty samples."""


class BadBatchError(InputError):
    """A sample of this iteration cannot be made, because its files cannot be read. The iteration is not started."""


class SystemTrainer(TrainerBase):
    """Training loop of forward, backward and step; everything else is a hook.

    One iteration uses `accumulate` batches in each process. Losses are divided by the system's counts over all of them
    (`System.counts`), so the objective does not depend on how batches are distributed over processes and micro-batches.
    BatchNorm is the exception: it sees one micro-batch at a time, and without SyncBatchNorm only that of its own
    process.

    Random draws inside the model (drop path, coordinate rescaling) are seeded from (seed, rank, iteration) at every
    step, so the random state of a run is a function of its iteration, and a resumed run draws the same numbers.

    Args:
        model: a system, possibly wrapped in DDP.
        optimizer: optimizer of the model's parameters.
        precision: autocast and loss scaling.
        seed: seed of the model's random draws.
        clip_grad_norm: largest norm of the full gradient, None for no clipping.
        accumulate: number of micro-batches for each step of the optimizer.
        average: running average of the weights, or None.
        freeze_batch_norm_from: iteration from which BatchNorm uses its running statistics without updating them.

    Attributes:
        batches: endless iterable, set before training; its start is known only after resuming.
        interruption: signals, on which the processes agree at each iteration, see `stop_signal`; or None.
        stop_signal: number of the signal that asked any process to stop, 0 for none; the same in all processes.
        num_samples: number of samples that the job has trained on.
        num_redrawn: number of samples that were redrawn because of unusable files.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        precision: Precision,
        seed: int = 0,
        clip_grad_norm: float | None = None,
        accumulate: int = 1,
        average: WeightAverage | None = None,
        freeze_batch_norm_from: int | None = None,
    ) -> None:
        super().__init__()
        self.model = model
        self.batches: Iterable[Batch] = ()
        self.optimizer = optimizer
        self.precision = precision
        self.seed = seed
        self.clip_grad_norm = clip_grad_norm
        self.accumulate = accumulate
        self.average = average
        self.freeze_batch_norm_from = freeze_batch_norm_from
        self.interruption: Interruption | None = None
        self.stop_signal = 0
        self.num_samples = self.num_redrawn = 0
        self._iterator: Iterator[Batch] | None = None

    @property
    def unwrapped(self) -> System:
        """The model without DDP."""
        return self.model.module if isinstance(self.model, DistributedDataParallel) else self.model

    @property
    def scored(self) -> System:
        """The evaluated and saved model: the average of the weights if there is one."""
        return self.unwrapped if self.average is None else self.average.model

    def frozen_names(self) -> list[str]:
        """Names of the frozen parameters."""
        return [name for name, parameter in self.unwrapped.named_parameters() if not parameter.requires_grad]

    def before_train(self) -> None:
        self.model.train()
        self._iterator = iter(self.batches)
        super().before_train()

    def run_step(self) -> None:
        """Run one iteration.

        Raises:
            NonFiniteLossError: in every process, before the weights are updated.
            BadBatchError: in the process with the unreadable file.
        """
        started = time.perf_counter()
        try:
            batches = [next(self._iterator) for _ in range(self.accumulate)]
        except InputError as error:
            raise BadBatchError(one_line(error)) from error
        data_time = time.perf_counter() - started

        torch.manual_seed(_step_seed(self.seed, comm.get_rank(), self.iter))
        self.unwrapped.iteration = self.iter
        if self.freeze_batch_norm_from is not None and self.iter >= self.freeze_batch_norm_from:
            _freeze_batch_norm(self.unwrapped)
        self.optimizer.zero_grad(set_to_none=True)
        losses = self._accumulate_gradients(batches)
        self._agree(losses, data_time, batches)

        scaler = self.precision.scaler
        scaler.unscale_(self.optimizer)
        norm = float(self._clip_gradients())
        if not scaler.is_enabled() and not math.isfinite(norm):  # a scaler skips such a step and reduces its scale
            self._raise_non_finite(f"gradient is not finite at iteration {self.iter}", losses, batches)
        scaler.step(self.optimizer)
        scaler.update()
        if self.average is not None:
            self.average.update(self.unwrapped)
        get_event_storage().put_scalar("grad_norm", norm)

    def state_dict(self) -> dict[str, Any]:
        state = super().state_dict()
        state["optimizer"] = self.optimizer.state_dict()
        state["scaler"] = self.precision.scaler.state_dict()
        state |= {"num_samples": self.num_samples, "num_redrawn": self.num_redrawn}
        if self.average is not None:  # the average is saved as the model
            frozen = set(self.frozen_names())
            state["weights"] = {k: v for k, v in self.unwrapped.state_dict().items() if k not in frozen}
            state["average_updates"] = self.average.updates
        return state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if ("weights" in state) != (self.average is not None):
            raise ValueError(
                "train.ema_decay: the run was started " + ("with" if "weights" in state else "without") + " it"
            )
        super().load_state_dict(state)
        self.optimizer.load_state_dict(state["optimizer"])
        self.precision.scaler.load_state_dict(state["scaler"])
        self.num_samples, self.num_redrawn = state["num_samples"], state["num_redrawn"]
        if self.average is not None:
            frozen = {name: self.unwrapped.state_dict()[name] for name in self.frozen_names()}
            self.unwrapped.load_state_dict({**state["weights"], **frozen})
            self.average.updates = state["average_updates"]

    def _clip_gradients(self) -> Tensor:
        """Norm of the full gradient before clipping; the gradient is then clipped."""
        if self.clip_grad_norm is not None:
            return torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_grad_norm)
        gradients = [parameter.grad for parameter in self.model.parameters() if parameter.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)

    def _accumulate_gradients(self, batches: list[Batch]) -> dict[str, float]:
        """Run forward and backward for all micro-batches, and return the losses of this process."""
        prepare = self.unwrapped.prepare
        prepared = [prepare(batch) for batch in batches] if len(batches) == 1 else map(prepare, batches)
        # One micro-batch at a time is on the device, so they are prepared twice.
        counts = self._mean_counts(prepared if len(batches) == 1 else map(prepare, batches), len(batches))
        sums: dict[str, Tensor] = {}
        for number, batch in enumerate(prepared, start=1):
            with self._gradients_shared(number == len(batches)):
                with self.precision.autocast():
                    losses = self.model(batch, counts)
                self.precision.scaler.scale(sum(losses.values()) / len(batches)).backward()
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0) + loss.detach() / len(batches)
        values = torch.stack(list(sums.values())).cpu().tolist()
        return dict(zip(sums, values, strict=True))

    def _mean_counts(self, prepared: Iterable[Batch], num_batches: int) -> dict[str, Tensor]:
        """Divisors of the losses, averaged over all micro-batches and processes, as scalars on the device.

        They are tensors, because a compiled model would be compiled again for each value of a Python number.
        """
        counts = [self.unwrapped.counts(batch) for batch in prepared]
        if not counts[0]:
            return {}
        total = torch.stack([torch.stack(list(of_batch.values())) for of_batch in counts]).sum(dim=0)
        if comm.get_world_size() > 1:
            dist.all_reduce(total)
        return dict(zip(counts[0], total / (comm.get_world_size() * num_batches), strict=True))

    def _gradients_shared(self, shared: bool) -> contextlib.AbstractContextManager:
        """Context in which DDP averages gradients over the processes only once, in the last micro-batch."""
        if shared or not isinstance(self.model, DistributedDataParallel):
            return contextlib.nullcontext()
        return self.model.no_sync()

    def _agree(self, losses: dict[str, float], data_time: float, batches: list[Batch]) -> None:
        """Exchange results between processes: log mean losses and the longest wait for data, and stop together."""
        signal = self.interruption.signal if self.interruption else 0
        samples = sum(len(batch["image"]) for batch in batches)
        redrawn = sum(int(torch.as_tensor(batch.get("redrawn", 0)).sum()) for batch in batches)
        own = [data_time, signal, samples, redrawn, *losses.values()]
        everyone = _gathered(own, next(self.model.parameters()).device)  # (processes, 4 + losses)
        waited, signals, samples, redrawn, *values = everyone.T
        self.stop_signal = int(signals.max())
        if not np.isfinite(values).all():
            rank = int(np.argmin(np.isfinite(values).all(axis=0)))
            of_rank = dict(zip(losses, everyone[rank, 4:].tolist(), strict=True))
            self._raise_non_finite(f"loss is not finite at iteration {self.iter} (process {rank})", of_rank, batches)
        self.num_samples += int(samples.sum())
        self.num_redrawn += int(redrawn.sum())
        means = np.mean(values, axis=1).tolist()
        storage = get_event_storage()
        storage.put_scalar("data_time", waited.max())
        storage.put_scalar("redrawn_samples", self.num_redrawn, smoothing_hint=False)
        storage.put_scalars(**dict(zip(losses, means, strict=True)), total_loss=sum(means))

    def _raise_non_finite(self, what: str, losses: dict[str, float], batches: list[Batch]) -> NoReturn:
        """Raise in all processes, after they have exchanged information about their data."""
        listed = ", ".join(f"{name}={value:g}" for name, value in losses.items())
        names = self.unwrapped.inputs + self.unwrapped.targets
        faults = comm.all_gather(_faulty_samples(batches, names))
        faulty = "; ".join(fault for of_process in faults for fault in of_process)
        cause = (
            f"samples that are not finite: {faulty}; fix or remove these files"
            if faulty
            else "the data is finite: lower the learning rate, clip gradients, or use bf16 instead of fp16"
        )
        raise NonFiniteLossError(f"{what}: {listed}; {cause}; earlier checkpoints are kept")


def _gathered(own: list[float], device: torch.device) -> np.ndarray:
    """Numbers of all processes, (processes, numbers) float64."""
    if comm.get_world_size() == 1:
        return np.array([own])
    mine = torch.tensor(own, dtype=torch.float64, device=device)
    parts = [torch.empty_like(mine) for _ in range(comm.get_world_size())]
    dist.all_gather(parts, mine)
    return torch.stack(parts).cpu().numpy()


def _faulty_samples(batches: list[Batch], names: Sequence[str]) -> list[str]:
    """Entries with values that are not finite: "image of NAME" for each such sample."""
    return [
        f"{key} of {batch['name'][index]}"
        for batch in batches
        for key in names
        for index in range(len(batch[key]))
        if not torch.isfinite(batch[key][index]).all()
    ]


def _freeze_batch_norm(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            module.eval()


def _step_seed(seed: int, rank: int, iteration: int) -> int:
    return int(np.random.SeedSequence([seed, rank, iteration]).generate_state(1, np.uint64)[0] >> np.uint64(1))
