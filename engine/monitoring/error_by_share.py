"""Error of alpha in the unknown region, grouped by the share of unknown pixels of a sample."""

from typing import Any

import numpy as np
import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import Tensor

from engine.monitoring.periods import is_due

BINS = 10  # number of bins of equal width over the share of unknown pixels


class ErrorByUnknownShare(HookBase):
    """Log the mean absolute error of alpha in the unknown region, grouped by the share of unknown pixels.

    The errors are those of all samples since the last log, in all processes. For example, the scalar
    `unknown_error/share_10-20` is the mean over the samples with 10 to 20 percent unknown pixels, with equal weights. A
    histogram of these errors has the same name. Samples without unknown pixels are excluded. If an iteration has
    several micro-batches, only the last one is used. Between logs, no value is copied from a GPU.

    Register this hook in every process. The errors come from the system's `sample_errors`. If the system has none,
    nothing is logged.

    Args:
        period: iterations between logs.
    """

    def __init__(self, period: int) -> None:
        self.period = period
        self._seen: list[Tensor] = []

    def after_step(self) -> None:
        seen = self.trainer.unwrapped.sample_errors()
        if seen is not None:
            self._seen.append(torch.stack(seen))  # (2, B)
        if not is_due(self.trainer, self.period):
            return
        own = torch.cat(self._seen, dim=1).cpu().numpy() if self._seen else np.empty((2, 0), np.float32)
        self._seen.clear()
        everyone = comm.gather(own)
        if comm.is_main_process():
            self._log(*np.concatenate(everyone, axis=1))

    def state_dict(self) -> dict[str, Any]:
        """Errors of the main process since the last log. Those of other processes are lost in a resume."""
        return {"seen": torch.cat(self._seen, dim=1).cpu()} if self._seen else {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if comm.is_main_process():
            self._seen = [state["seen"].to(next(self.trainer.unwrapped.parameters()).device)]

    def _log(self, shares: np.ndarray, errors: np.ndarray) -> None:
        storage = self.trainer.storage
        for name, values in errors_by_share(shares, errors).items():
            storage.put_scalar(f"unknown_error/{name}", values.mean(), smoothing_hint=False)
            if values.min() < values.max():
                storage.put_histogram(f"unknown_error/{name}", torch.from_numpy(values), bins=30)


def errors_by_share(shares: np.ndarray, errors: np.ndarray) -> dict[str, np.ndarray]:
    """Sort the errors (N,) of samples into `BINS` by their unknown shares (N,) in [0, 1].

    Returns:
        "share_00-10" and so on, in percent -> the errors. Bins without a sample and samples of share 0 are excluded.
    """
    numbers = np.minimum((shares * BINS).astype(int), BINS - 1)
    width = 100 // BINS
    sorted_errors = {}
    for number in range(BINS):
        chosen = errors[(numbers == number) & (shares > 0)]
        if chosen.size:
            sorted_errors[f"share_{number * width:02d}-{(number + 1) * width}"] = chosen
    return sorted_errors
