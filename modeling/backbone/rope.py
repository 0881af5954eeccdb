"""Rotary position embedding of image patches, as DINOv3 uses it."""

import math

import torch
from torch import Tensor, nn

from runtime.errors import InputError


class RotaryPositions(nn.Module):
    """Angles for axial rotary embedding over normalised patch coordinates (Siméoni et al., "DINOv3", 2025).

    Each axis of the patch grid is mapped to (-1, 1) by its own length, so angles depend on the position of a patch in
    the image and not on the number of pixels. `periods` is a persistent buffer: the official checkpoints contain it
    (rounded to bfloat16 in the distilled ones), and the features depend on it.

    Args:
        head_dim: channels per attention head, a multiple of 4.
        base: ratio of the longest to the shortest period (before rounding down).
        rescale: range of a random scale in training mode: all coordinates are multiplied by one factor drawn
            log-uniformly from [1 / rescale, rescale] (DINOv3 was trained with 2). None for no scaling.
        step_grid: number of patches per side of the grid whose step between neighbouring patches is used for every
            grid. Every grid is then centred on 0 and spans (-1, 1) only at that length. None maps each axis to (-1, 1).
    """

    def __init__(
        self,
        head_dim: int,
        base: float = 100.0,
        rescale: float | None = None,
        step_grid: int | None = None,
    ) -> None:
        super().__init__()
        if head_dim % 4:
            raise InputError(f"head_dim must be a multiple of 4 for two rotary axes, got {head_dim}")
        if rescale is not None and rescale < 1:
            raise InputError(f"rescale must be at least 1, got {rescale}")
        frequencies = head_dim // 4
        # on the CPU: for arithmetic on the meta device PyTorch loads its compiler
        exponents = 2 * torch.arange(frequencies, dtype=torch.float32, device="cpu") / (head_dim // 2)
        self.register_buffer("periods", torch.tensor((base**exponents).tolist(), dtype=torch.float32))
        self.rescale = rescale
        self.step_grid = step_grid

    def draw_scale(self) -> float:
        """Draw the coordinate factor of one forward pass. It is 1 outside training."""
        if not self.training or self.rescale is None:
            return 1.0
        limit = math.log(self.rescale)
        return math.exp(torch.empty(()).uniform_(-limit, limit).item())

    def forward(
        self,
        grid: tuple[int, int],
        restart: int | None = None,
        scale: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """Return cosines and sines, each (rows * columns, head_dim / 2) float32, patches in row-major order.

        Args:
            grid: rows and columns of patches to cover.
            restart: side of the squares of patches in which the coordinates restart, as if each were an image. Their
                step is 2 / restart for every grid and `step_grid`.
            scale: factor on all coordinates, from `draw_scale`.
        """
        device = self.periods.device
        with torch.autocast(device.type, enabled=False):
            axes = []
            for length in grid:
                index = torch.arange(length, dtype=torch.float32, device=device)
                span, centre = length, 1.0
                if restart is not None:
                    index, span = index % restart, restart
                elif self.step_grid is not None:
                    span, centre = self.step_grid, length / self.step_grid
                axes.append(scale * (2 * (index + 0.5) / span - centre))
            rows, columns = torch.meshgrid(*axes, indexing="ij")
            coordinates = torch.stack([rows, columns], dim=-1)  # (H, W, 2)
            angles = 2 * math.pi * coordinates[..., None] / self.periods.float()  # (H, W, 2, head_dim / 4)
            angles = angles.flatten(2).flatten(0, 1)  # (HW, head_dim / 2): y block, then x block
            return angles.cos(), angles.sin()


def rotate(vectors: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the last len(cos) of (B, heads, N, head_dim) vectors; the prefix tokens before them are unchanged.

    Channel i is paired with channel i + head_dim / 2. The arithmetic is in float32 for every input, because a bfloat16
    table changes DINOv3's features noticeably. The result has the dtype of the input.
    """
    num_prefix = vectors.shape[2] - len(cos)
    first, second = vectors[:, :, num_prefix:].float().chunk(2, dim=-1)  # (B, heads, HW, head_dim / 2) each
    rotated = torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1).to(vectors.dtype)
    return torch.cat([vectors[:, :, :num_prefix], rotated], dim=2) if num_prefix else rotated
