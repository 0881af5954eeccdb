"""A model file that tools/export_onnx.py wrote, as a system: nothing of PyTorch's model code is needed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from engine.onnx.file import INPUTS, OnnxFile
from modeling.meta_arch.base import System
from modeling.meta_arch.footprint import Footprint


@dataclass(frozen=True)
class OnnxFootprint(Footprint):
    """Peak memory of a file's graph: its decoder is dense, and its attention holds the weights of all pairs of patches.

    Attributes:
        attention: bytes a squared pixel.
    """

    attention: float = 0

    def whole(self, pixels: int, encoder_scale: int = 1) -> int:
        return super().whole(pixels, encoder_scale) + int(self.attention * (pixels / encoder_scale**2) ** 2)


class OnnxModel(System):
    """Maps {"image": (B, 3, H, W) float RGB in [0, 1], "trimap": (B, 1, H, W) of 0, 0.5, 1} to {"phas"} on the CPU.

    Any H, W >= 1; padding, normalising and the fusion with the trimap are in the file.

    Args:
        path: written by tools/export_onnx.py.
        threads: of onnxruntime; None for as many as PyTorch takes.
        device: "cpu", "cuda", or None for the best that the installed onnxruntime has.
        gpu: index of the GPU on "cuda".

    Raises:
        InputError: onnxruntime is not installed or lacks the device, or the file is not what that tool writes.
    """

    def __init__(self, path: str | Path, threads: int | None = None, device: str | None = None, gpu: int = 0) -> None:
        super().__init__()
        self.file = OnnxFile(path, threads or torch.get_num_threads(), device, gpu)
        self.runs_on = self.file.runs_on  # tensors go in and come out on the CPU
        self.precision = self.file.metadata["precision"]
        self.size_divisibility = self.file.size_divisibility
        self.depends_on_padding = self.file.metadata["colour_prior"] == "yes"  # it looks at the whole image
        self.pixel_mean = torch.tensor(self.file.pixel_mean)
        self.eval()

    @property
    def padding_colour(self) -> Tensor:
        return self.pixel_mean

    def footprint(self) -> Footprint:
        bytes_per_pixel, attention = self.file.footprint
        return OnnxFootprint(bytes_per_pixel, attention=attention)

    def encode(self, inputs: Mapping[str, Tensor], scale: int = 1) -> Mapping[str, Tensor]:
        """The inputs: the file's graph is run as a whole, by `decode`."""
        return inputs

    def decode(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the graph; see `OnnxFile.run`."""
        image, trimap = (state[name].float().cpu().numpy() for name in INPUTS)
        return {"alpha": torch.from_numpy(self.file.run(image, trimap))}
