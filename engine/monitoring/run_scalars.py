"""Scalars about the run itself: speed, waiting, memory, and the learning rate of every part of the model."""

import re
import time

from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import nn
from torch.optim import Optimizer

from engine.monitoring.periods import is_due
from runtime.device import gpu_utilisation
from runtime.memory import gpu_gib, peak_gib, peak_gpu_gib, resident_gib


class RunScalars(HookBase):
    """Log the speed, waiting time, memory and learning rates of a job since the last log, over all processes.

    - `samples_per_second`: speed of the whole job, without evaluations and the writing of checkpoints;
    - `data_wait_share`: share of this time that the slowest process waited for its batches;
    - `memory/process_gib`, `memory/gpu_gib`: peak since the start, of the process with the most memory;
      `memory/process_now_gib`, `memory/gpu_now_gib`: current memory of that process;
    - `utilisation/cpu`: cores used by the busiest training process, without its loading processes;
      `utilisation/gpu`: busy share of the least used GPU, 0 to 1, if pynvml is installed;
    - `lr/...`: each distinct learning rate, named by the parts of the model that have it.

    Register this hook in every process, before the hook that changes the learning rates. `trainer.batches` must be an
    ObservedBatches.

    Args:
        period: iterations between logs.
    """

    def __init__(self, period: int) -> None:
        self.period = period

    def before_train(self) -> None:
        self._seconds, self._samples, self._waited, self._cpu = 0.0, 0, 0.0, 0.0

    def before_step(self) -> None:
        self._step_started, self._cpu_started = time.perf_counter(), time.process_time()

    def after_step(self) -> None:
        self._seconds += time.perf_counter() - self._step_started
        self._cpu += time.process_time() - self._cpu_started
        if not is_due(self.trainer, self.period):
            return
        batches = self.trainer.batches
        samples, waited = batches.num_samples - self._samples, batches.waited - self._waited
        most = {
            "data_wait_share": waited / self._seconds,
            "utilisation/cpu": self._cpu / self._seconds,
            "memory/process_gib": peak_gib(),
            "memory/process_now_gib": resident_gib(),
            "memory/gpu_gib": peak_gpu_gib(),
            "memory/gpu_now_gib": gpu_gib(),
        }
        everyone = comm.gather((self._seconds, samples, gpu_utilisation(), most))
        self._seconds, self._samples, self._waited, self._cpu = 0.0, batches.num_samples, batches.waited, 0.0
        if comm.is_main_process():
            self._log(*zip(*everyone, strict=True))

    def _log(self, seconds: tuple, samples: tuple, busy: tuple, of_each: tuple[dict[str, float | None]]) -> None:
        values = {
            "samples_per_second": sum(samples) / max(seconds),
            "utilisation/gpu": None if None in busy else min(busy),
        }
        for name in of_each[0]:
            numbers = [each[name] for each in of_each]
            values[name] = None if None in numbers else max(numbers)
        values |= {f"lr/{name}": lr for name, lr in learning_rates(self.trainer.optimizer, self.trainer.unwrapped)}
        for name, value in values.items():
            if value is not None:
                self.trainer.storage.put_scalar(name, value, smoothing_hint=False)


def learning_rates(optimizer: Optimizer, model: nn.Module) -> list[tuple[str, float]]:
    """Distinct current learning rates, each with the names of the parts of `model` (without wrappers) that have it.

    Names are "backbone.block_03", "decoder", or several names joined by "+". If several blocks share a rate, the whole
    backbone is named "backbone".
    Parameters that differ only in weight decay share a rate.
    """
    parts_of = {parameter: _part(name) for name, parameter in model.named_parameters()}
    rates: dict[float, tuple[float, set[str]]] = {}
    for group in optimizer.param_groups:
        _, parts = rates.setdefault(group.get("initial_lr", group["lr"]), (group["lr"], set()))
        parts.update(parts_of.get(parameter, "other") for parameter in group["params"])
    named: dict[str, float] = {}
    for lr, parts in rates.values():
        name = base = _joined(parts)
        repetition = 2
        while name in named:
            name, repetition = f"{base}_{repetition}", repetition + 1
        named[name] = lr
    return list(named.items())


def _part(name: str) -> str:
    """Name of the part of the model to which a parameter belongs."""
    pieces = name.split(".")
    if pieces[0] != "backbone":
        return pieces[0]
    if "residual" in pieces:
        return "backbone.residual"
    block = re.match(r"backbone\.blocks\.(\d+)\.", name)
    if block:
        return f"backbone.block_{int(block[1]):02d}"
    return (
        "backbone.embeddings"
        if pieces[1] in ("patch_embed", "cls_token", "storage_tokens", "pos_embed")
        else (f"backbone.{pieces[1]}")
    )


def _joined(parts: set[str]) -> str:
    if sum(part.startswith("backbone.block_") for part in parts) > 1:
        parts = {"backbone"} | {part for part in parts if not part.startswith("backbone.")}
    return "+".join(sorted(parts))
