"""Networks in operations that can be traced for any image size, for export to other runtimes."""

from modeling.traceable.matting import TraceableViTMatte

__all__ = ["TraceableViTMatte"]
