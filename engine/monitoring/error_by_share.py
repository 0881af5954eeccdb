"""Error of alpha in the unknown region by the unknown share of a sample."""

from typing import Any

import numpy as np
import torch
from detectron2.engine import HookBase
from detectron2.utils import comm
from torch import Tensor

from engine.monitoring.periods import is_due

BINS = 10  # number of bins of equal width over the share of unknown pixels


class ErrorByUnknownShare(HookBase):
    """Log the mean absolute error of alpha in the unknown region for samples of similar unknown share.

    The samples are those since the last time, in all processes. There is a scalar `unknown_error/share_10-20` for
    samples of which 10 to 20 percent are unknown, with equal weights, and a histogram of their errors under the same
    name. Samples without unknown pixels are excluded. Of several micro-batches only the last is used. Nothing is read
    back from a GPU in between.

    The hook runs in every process. It logs the system's `sample_errors`, and nothing if the system has none.

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
        """Samples of the main process since the last time; those of other processes are lost in a resume."""
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
