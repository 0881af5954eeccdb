"""Headers of AVIF files: the bits per channel, and a clean aperture. Pillow reports neither."""

from typing import BinaryIO, NamedTuple

from data.images.formats.iso_boxes import boxes_in, content

HIGH_BITDEPTH = 0x40  # in the third byte of AV1CodecConfigurationRecord: 10 or 12 bits


class Properties(NamedTuple):
    """Contents of the item properties of a file (AV1 Image File Format, 2.2; ISO/IEC 23008-12).

    Attributes:
        deep: whether a channel has more than 8 bits.
        is_cropped: whether a clean aperture shows a part of the stored picture only.
    """

    deep: bool
    is_cropped: bool


def read_properties(file: BinaryIO) -> Properties:
    """Read the properties of the pictures of a file, of which a still has one with colours and at most one alpha."""
    found: dict[bytes, list[bytes]] = {b"av1C": [], b"clap": [], b"ispe": []}
    for box in boxes_in(file, [b"meta", b"iprp", b"ipco"], full=[b"meta"]):
        if box.kind in found:
            found[box.kind].append(content(file, box))
    sizes = [tuple(_integers(ispe[4:12])) for ispe in found[b"ispe"]]  # width and height, after version and flags
    return Properties(
        any(av1c[2:3] and av1c[2] & HIGH_BITDEPTH for av1c in found[b"av1C"]),
        any(_shown_size(clap) not in sizes for clap in found[b"clap"]),
    )


def _shown_size(clap: bytes) -> tuple[float, float] | None:
    """(width, height) of a clean aperture, which are fractions of integers; None for a damaged one."""
    numbers = _integers(clap[:16])
    if len(numbers) < 4 or not (numbers[1] and numbers[3]):
        return None
    return numbers[0] / numbers[1], numbers[2] / numbers[3]


def _integers(encoded: bytes) -> list[int]:
    return [int.from_bytes(encoded[at : at + 4], "big") for at in range(0, len(encoded), 4)]
