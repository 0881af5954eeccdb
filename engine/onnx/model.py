"""ONNX file of tools/export_onnx.py as a system, without the model's PyTorch code."""

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
    """Peak memory of a file's graph. Its decoder is dense, and its attention stores weights for all pairs of patches.

    Attributes:
        attention: bytes per squared pixel.
    """

    attention: float = 0

    def whole(self, pixels: int, encoder_scale: int = 1) -> int:
        return super().whole(pixels, encoder_scale) + int(self.attention * (pixels / encoder_scale**2) ** 2)


class OnnxModel(System):
    """Maps {"image": (B, 3, H, W) float RGB in [0, 1], "trimap": (B, 1, H, W) of 0, 0.5, 1} to {"phas"} on the CPU.

    H and W are 1 or more. Padding, normalisation and the fusion with the trimap are part of the graph.

    Args:
        path: file from tools/export_onnx.py.
        threads: number of threads of onnxruntime; None for PyTorch's number.
        device: "cpu", "cuda", or None for the best device of the installed onnxruntime.
        gpu: index of the GPU for "cuda".

    Raises:
        InputError: onnxruntime is not installed or lacks the device, or the file is not from that tool.
    """

    def __init__(self, path: str | Path, threads: int | None = None, device: str | None = None, gpu: int = 0) -> None:
        super().__init__()
        self.file = OnnxFile(path, threads or torch.get_num_threads(), device, gpu)
        self.runs_on = self.file.runs_on  # inputs and outputs are always on the CPU
        self.precision = self.file.metadata["precision"]
        self.size_divisibility = self.file.size_divisibility
        self.depends_on_padding = self.file.metadata["colour_prior"] == "yes"  # the prior depends on the whole image
        self.pixel_mean = torch.tensor(self.file.pixel_mean)
        self.eval()

    @property
    def padding_colour(self) -> Tensor:
        return self.pixel_mean

    def footprint(self) -> Footprint:
        bytes_per_pixel, attention = self.file.footprint
        return OnnxFootprint(bytes_per_pixel, attention=attention)

    def encode(self, inputs: Mapping[str, Tensor], scale: int = 1) -> Mapping[str, Tensor]:
        """Return the inputs. `decode` runs the whole graph."""
        return inputs

    def decode(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Run the graph; see `OnnxFile.run`."""
        image, trimap = (state[name].float().cpu().numpy() for name in INPUTS)
        return {"alpha": torch.from_numpy(self.file.run(image, trimap))}
