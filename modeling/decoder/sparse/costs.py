"""Costs of decoding for each kind of device: constants for the choice between the sparse and the dense decoder.

Costs are times in units of one multiplication of the dense decoder, so a faster device has larger constants for work
that waits for memory or for the host. tools/benchmark_decoder.py measures them on a CPU, tools/check_gpu.py on a GPU.
"""

from typing import NamedTuple

import torch


class Costs(NamedTuple):
    """Costs of one kind of device.

    Attributes:
        dense_pixel: cost of a pixel of full resolution in the dense decoder, without multiplications.
        sparse_product: cost of a multiplication in the sparse decoder.
        sparse_pixel: cost of a pixel of full resolution in an active tile: indices, gathering, resampling.
        sparse_call: cost of a call of the sparse decoder.
        dense_limit: number of pixels above which the sparse decoder is used because of memory; the dense decoder takes
            up to 700 bytes per pixel. None for no limit.
        chunk_values: number of intermediate values of the tiles that are computed together.
        chunk_blocks: number of blocks of 4 x 4 pixels that are multiplied together in the steps of a diffusion.
    """

    dense_pixel: float
    sparse_product: float
    sparse_pixel: float
    sparse_call: float
    dense_limit: int | None
    chunk_values: int
    chunk_blocks: int


COSTS = {
    "cpu": Costs(
        dense_pixel=4_000,
        sparse_product=0.7,
        sparse_pixel=15_000,
        sparse_call=5e8,
        dense_limit=512 * 512,
        chunk_values=2**21,  # small enough for the cache
        chunk_blocks=256,
    ),
}
# Fitted by tools/check_gpu.py on an NVIDIA H100 (docs/benchmarks.md): a sparse multiplication costs as much as twelve
# dense ones, and a call starts several hundred kernels. Bands limit the memory of the dense decoder.
ACCELERATOR = Costs(
    dense_pixel=0,
    sparse_product=12.0,
    sparse_pixel=0,
    sparse_call=7e11,
    dense_limit=None,
    chunk_values=2**26,  # 256 MiB in float32: few, large kernels
    chunk_blocks=1024,
)


def costs_on(device: torch.device) -> Costs:
    """Costs of the device's kind."""
    return COSTS.get(device.type, ACCELERATOR)
