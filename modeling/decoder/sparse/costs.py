"""Costs of decoding by kind of device: the constants that choose between the sparse and the dense decoder.

They are times in units of one multiplication of the dense decoder, so a faster device has larger constants where it
waits for memory or for the host. tools/benchmark_decoder.py measures them on a CPU, tools/check_gpu.py on a GPU.
"""

from typing import NamedTuple

import torch


class Costs(NamedTuple):
    """Costs of one kind of device.

    Attributes:
        dense_pixel: for a pixel of full resolution in the dense decoder, what is not multiplications.
        sparse_product: for a multiplication of the dense decoder that the sparse one saves or does otherwise.
        sparse_pixel: for a pixel of full resolution in an active tile: indices, gathering, resampling.
        sparse_call: for a call of the sparse decoder.
        dense_limit: pixels; above, the dense decoder's memory decides, up to 700 bytes for each. None for no limit.
        chunk_values: intermediate values of the tiles computed together.
        chunk_blocks: blocks of 4 x 4 pixels multiplied together in the steps of a diffusion.
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
        chunk_values=2**21,  # they should stay in the cache
        chunk_blocks=256,
    ),
}
# Fitted by tools/check_gpu.py on an NVIDIA H100 (docs/benchmarks.md): a sparse multiplication costs twelve dense ones,
# and a call the several hundred kernels that it starts. Bands bound the dense decoder's memory.
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
    """The costs of a device's kind."""
    return COSTS.get(device.type, ACCELERATOR)
