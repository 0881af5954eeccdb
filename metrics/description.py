"""Description of a metric: its title, unit and scale."""

from typing import NamedTuple


class Description(NamedTuple):
    """Properties of a metric for tables, logs and curves.

    Attributes:
        title: heading of its column, with the printed unit.
        unit: unit of the value.
        scale: factor from the value to the printed number.
        higher_is_better: True for metrics such as PSNR and mIoU.
    """

    title: str
    unit: str
    scale: float = 1
    higher_is_better: bool = False
