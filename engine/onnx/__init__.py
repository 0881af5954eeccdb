"""ONNX: the exporter, its packages, and the runtime of an exported file."""
