"""Checkpoint files: reading, writing, and loading weights into a model; needs no Detectron2."""
