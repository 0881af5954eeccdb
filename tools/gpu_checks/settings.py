"""Settings and measurements of the sections: device, sizes, precision, time and memory."""

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
    """Median milliseconds of a call, and the peak of tensors on the device in GiB, None on a CPU."""

    milliseconds: float
    gib: float | None

    def __str__(self) -> str:
        digits = 0 if self.milliseconds >= 100 else 1
        memory = "" if self.gib is None else f" and {self.gib:.2f} GiB"
        return f"{self.milliseconds:.{digits}f} ms{memory}"

    def speed_against(self, other: "Cost") -> str:
        """Ratio of the speeds, such as 2.35 x."""
        return f"{other.milliseconds / self.milliseconds:.2f} x"


@dataclass(frozen=True)
class Settings:
    """Device and sizes of the sections.

    Attributes:
        device: "cuda", or "cpu" for tiny sizes.
        tiny: whether sizes are chosen for seconds on a CPU, with a single measurement.
    """

    device: str
    tiny: bool

    def sized(self, full: Any, tiny: Any) -> Any:
        """One of two settings, depending on the size of the run."""
        return tiny if self.tiny else full

    def autocast(self, precision: str) -> contextlib.AbstractContextManager:
        """The context of a forward pass in "fp32", "bf16" or "fp16"."""
        if precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device, dtype=DTYPES[precision])

    def synchronise(self) -> None:
        """Wait until the device has finished its work."""
        if self.device == "cuda":
            torch.cuda.synchronize()

    def measure(self, function: Callable[[], Any], repeats: int = 5, warm_up: int = 2, seconds: float = 1.5) -> Cost:
        """Time `function` after a warm-up, at most `repeats` times and for about `seconds` seconds.

        Memory includes everything that the process holds: weights, inputs, results.
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
    """Disable TF32 in this context, so that matrix products and convolutions are exact float32."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = False
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
