"""What every section is given, and how it measures: device, sizes, precision, time and memory."""

import contextlib
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from runtime.memory import GIB
from runtime.precision import DTYPES


class Cost(NamedTuple):
    """Median milliseconds of a call, and the most GiB of the device that tensors held meanwhile; None on a CPU."""

    milliseconds: float
    gib: float | None

    def __str__(self) -> str:
        digits = 0 if self.milliseconds >= 100 else 1
        memory = "" if self.gib is None else f" and {self.gib:.2f} GiB"
        return f"{self.milliseconds:.{digits}f} ms{memory}"

    def speed_against(self, other: "Cost") -> str:
        """How many times as fast as the other: 2.35 x."""
        return f"{other.milliseconds / self.milliseconds:.2f} x"


@dataclass(frozen=True)
class Settings:
    """Where the sections run, and whether at full size.

    Attributes:
        device: "cuda", or "cpu" for the rehearsal.
        tiny: sizes for seconds on a CPU, each time measured once.
    """

    device: str
    tiny: bool

    def sized(self, full: Any, tiny: Any) -> Any:
        """The one of two settings that goes with the run."""
        return tiny if self.tiny else full

    def autocast(self, precision: str) -> contextlib.AbstractContextManager:
        """The context of a forward pass in "fp32", "bf16" or "fp16"."""
        if precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device, dtype=DTYPES[precision])

    def synchronise(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def measure(self, function: Callable[[], Any], repeats: int = 5, warm_up: int = 2, seconds: float = 1.5) -> Cost:
        """Time `function` after a warm-up, at most `repeats` times and for about `seconds` at most.

        Memory includes whatever else the process holds: weights, inputs, results.
        """
        if self.tiny:
            repeats, warm_up = 1, 0
        for _ in range(warm_up):
            function()
        self.synchronise()
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        times: list[float] = []
        while len(times) < repeats and sum(times) < seconds:
            started = time.perf_counter()
            function()
            self.synchronise()
            times.append(time.perf_counter() - started)
        peak = torch.cuda.max_memory_allocated() / GIB if self.device == "cuda" else None
        return Cost(1e3 * statistics.median(times), peak)


@contextlib.contextmanager
def exact_float32() -> Iterator[None]:
    """Within, no TF32: matrix products and convolutions of float32 are float32's."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
