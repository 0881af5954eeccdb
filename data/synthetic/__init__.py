"""Procedural data sets: scenes with exact alpha, foreground and background, and persons with exact masks."""

import importlib

_HOMES = {
    "SubjectMasks": "data.synthetic.subjects",
    "SyntheticMatting": "data.synthetic.dataset",
    "SyntheticPeople": "data.synthetic.people",
    "write_composition1k_layout": "data.synthetic.layouts",
    "write_dim_layout": "data.synthetic.layouts",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> object:
    """Import a public name on first use, so that families and textures work without torch."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
