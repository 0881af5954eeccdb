"""Pretrained weights of others, converted for this project's backbone."""

from modeling.pretrained.architecture import ARCHITECTURES, Architecture
from modeling.pretrained.convert import Conversion, convert
from modeling.pretrained.convert_file import convert_file
from modeling.pretrained.dataset import DATASETS

__all__ = ["ARCHITECTURES", "DATASETS", "Architecture", "Conversion", "convert", "convert_file"]
