from modeling.decoder.base import Decoder
from modeling.decoder.detail_capture import DetailCapture

__all__ = ["Decoder", "DetailCapture"]
