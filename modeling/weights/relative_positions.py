"""Adapting tables of relative positions to a network for another crop size."""

from collections import Counter
from collections.abc import Mapping

from torch import Tensor

from modeling.backbone.relative_positions import resize_table
from runtime.errors import InputError

TABLES = (".attn.rel_pos_h", ".attn.rel_pos_w")


def is_table(key: str) -> bool:
    """Return whether the name is that of a table of relative positions."""
    return key.endswith(TABLES)


def fit_relative_positions(
    state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, Tensor], str]:
    """Return `state` with its tables interpolated to the rows of `expected`, and a description of the change or "".

    The backbone interpolates tables to the size of every image in the same way. Shortening a table loses the values for
    larger images. Any other difference is left to the caller, who refuses it.

    Args:
        expected: tensors of the network, of which only the shapes are used.
    """
    fitted, done = dict(state), Counter()
    for key in filter(is_table, state):
        table, (rows, *width) = state[key], expected.get(key, (None,))
        if rows is None or table.ndim != 2 or len(table) == rows or list(table.shape[1:]) != width:
            continue
        if len(table) % 2 == 0:
            raise InputError(f"{key}: expected a row for each distance -n to n, an odd number, found {len(table)}")
        fitted[key] = resize_table(table.float(), (rows + 1) // 2)
        done[len(table), rows] += 1
    return fitted, ", ".join(f"{count} from {old} to {new} rows" for (old, new), count in done.items())
