"""Checkpoint files: reading, writing, and loading weights into a model. Nothing here needs Detectron2."""
