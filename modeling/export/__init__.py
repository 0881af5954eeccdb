"""The networks once more in operations that can be traced for any image size, for files that other runtimes load."""

from modeling.export.matting import TraceableViTMatte

__all__ = ["TraceableViTMatte"]
