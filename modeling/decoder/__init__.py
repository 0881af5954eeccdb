from modeling.decoder.detail_capture import DetailCapture

__all__ = ["DetailCapture"]
