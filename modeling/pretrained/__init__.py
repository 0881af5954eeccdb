"""Conversion of published weights to this project's models, and of its models to Hugging Face's layout."""

from modeling.pretrained.architecture import ARCHITECTURES, Architecture
from modeling.pretrained.convert import Conversion, convert
from modeling.pretrained.convert_file import convert_file
from modeling.pretrained.diffmatte_architecture import DiffMatteOfOneSize, DiffMatteViT
from modeling.pretrained.huggingface_writer import export_huggingface
from modeling.pretrained.matting_architecture import MattingArchitecture
from modeling.pretrained.pixel_statistics import DATASETS
from modeling.weights.input_channels import fit_input_channels

__all__ = [
    "ARCHITECTURES",
    "DATASETS",
    "Architecture",
    "Conversion",
    "DiffMatteOfOneSize",
    "DiffMatteViT",
    "MattingArchitecture",
    "convert",
    "convert_file",
    "export_huggingface",
    "fit_input_channels",
]
