"""Mixed precision as set in the config."""

import contextlib

import torch

from runtime.errors import InputError

DTYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


class Precision:
    """Autocast and loss scaling of a run: off, bf16 (no scaling needed) or fp16 (scaled gradients).

    Args:
        enabled: whether mixed precision is used; False for float32 throughout.
        dtype: "fp16" or "bf16".
        device: device of the model.
    """

    def __init__(self, enabled: bool, dtype: str, device: torch.device) -> None:
        if dtype not in DTYPES:
            raise InputError(f"train.amp.dtype: expected fp16 or bf16, got {dtype!r}")
        self.dtype = DTYPES[dtype] if enabled else None
        self.device_type = device.type
        self.scaler = torch.amp.GradScaler(device.type, enabled=enabled and dtype == "fp16")

    def autocast(self) -> contextlib.AbstractContextManager:
        if self.dtype is None:
            return contextlib.nullcontext()
        return torch.autocast(self.device_type, dtype=self.dtype)
