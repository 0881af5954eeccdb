"""Tables of relative positions for a network of another crop size than in its file."""

from collections import Counter
from collections.abc import Mapping

from torch import Tensor

from modeling.backbone.relative_positions import resize_table
from runtime.errors import InputError

TABLES = (".attn.rel_pos_h", ".attn.rel_pos_w")


def is_table(key: str) -> bool:
    """Tell a table of relative positions by its name."""
    return key.endswith(TABLES)


def fit_relative_positions(
    state: Mapping[str, Tensor], expected: Mapping[str, tuple[int, ...]]
) -> tuple[dict[str, Tensor], str]:
    """Return `state` with its tables interpolated to the rows that `expected` has, and what was done, "" for nothing.

    The backbone interpolates them to the size of every image in the same way. Once they are shorter, what a larger
    image would have read of them is lost. Any other difference is left for the caller to refuse.

    Args:
        expected: the shapes of the network's tensors.
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
