"""Choice of the device that a program runs on."""

import torch

from runtime.errors import InputError


def resolve_device(name: str | None = None) -> torch.device:
    """The named device, or for None or "auto" the best available (cuda, else mps, else cpu).

    Raises:
        InputError: the name is unknown or the device is not available.
    """
    if name in (None, "", "auto"):
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InputError(f"device {name!r}: expected cpu, cuda, cuda:N, mps or auto") from error
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, False):
        raise InputError(f"device {name!r} is not available here; use one of {_available_names()} or leave it out")
    return device


def gpu_utilisation() -> float | None:
    """Share of recent time in which this process's GPU was busy, 0 to 1; None without a GPU or without pynvml."""
    if not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    try:
        return torch.cuda.utilization() / 100
    except Exception:  # pynvml is not installed, or its driver raises its own errors
        return None


def synchronise(device: torch.device) -> None:
    """Wait for the queued work of a device, so that a clock read afterwards includes it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _available_names() -> list[str]:
    names = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    return names + (["mps"] if torch.backends.mps.is_available() else [])
