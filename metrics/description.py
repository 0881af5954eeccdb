"""How a metric is named and printed."""

from typing import NamedTuple


class Description(NamedTuple):
    """What tables, logs and curves need to know of a metric.

    Attributes:
        title: head of its column, with the unit that is printed.
        unit: of the value itself.
        scale: from the value to the number under the title.
        higher_is_better: as for PSNR and mIoU.
    """

    title: str
    unit: str
    scale: float = 1
    higher_is_better: bool = False
