"""How much GPU memory a process has held at most."""

import torch

from data.resident_memory import GIB


def peak_gpu_gib() -> float | None:
    """The most that tensors have held of this process's GPU so far, GiB; None without one."""
    if not torch.cuda.is_available() or not torch.cuda.is_initialized():
        return None
    return torch.cuda.max_memory_allocated() / GIB
