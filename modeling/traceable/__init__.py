"""The networks once more in operations that can be traced for any image size, for files that other runtimes load."""

from modeling.traceable.matting import TraceableViTMatte

__all__ = ["TraceableViTMatte"]
