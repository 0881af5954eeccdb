"""Command-line options of picture files: formats, cut-outs and composites. They need neither NumPy nor PyTorch."""

import argparse
from collections.abc import Sequence

from runtime.errors import InputError


def add_cutout_options(parser: argparse.ArgumentParser) -> None:
    """Add --cutout, --background and --premultiplied."""
    parser.add_argument(
        "--cutout",
        action="store_true",
        help="write RGBA cut-outs with estimated foreground colours; short for --save rgba",
    )
    parser.add_argument(
        "--background",
        metavar="COLOUR_OR_IMAGE",
        help="write composites over this background: a colour (white, '#1e90ff', 30,144,255), a gradient from top to "
        "bottom (navy..white), or a picture, which is cropped to fit (default for --save composite: white)",
    )
    parser.add_argument(
        "--premultiplied",
        action=argparse.BooleanOptionalAction,
        help="whether the colours of a cut-out are multiplied by alpha (default: no; EXR files always are)",
    )


def add_format_options(parser: argparse.ArgumentParser) -> None:
    """Add --format, --bits and --transfer."""
    parser.add_argument(
        "--format", choices=("png", "tif", "webp", "exr"), help="format of the results in a folder (default: png)"
    )
    parser.add_argument(
        "--bits",
        type=int,
        choices=(8, 16, 32),
        help="bits per channel: 8 or 16 for png; 8, 16 or 32 (float) for tif; 16 (half) or 32 (float) for exr; 8 for "
        "webp (default: the first)",
    )
    parser.add_argument(
        "--transfer",
        choices=("srgb", "linear"),
        help="meaning of the values of EXR and float TIFF images: sRGB levels, or linear light, which is encoded as "
        "sRGB (default: linear for EXR, srgb for TIFF)",
    )


def kinds_wanted(options: argparse.Namespace, save: Sequence[str] | None) -> list[str] | None:
    """Kinds of files that a command line selects; None for the first kind of the system.

    A background without --save selects the composite, with and without --cutout. If --save is given, --cutout may
    repeat its rgba.

    Args:
        options: parsed options, including those of `add_cutout_options`.
        save: kinds of --save; None if it is not given.

    Raises:
        InputError: options that contradict each other.

    Example:
        >>> parser = argparse.ArgumentParser()
        >>> add_cutout_options(parser)
        >>> kinds_wanted(parser.parse_args(["--cutout"]), None)
        ['rgba']
        >>> kinds_wanted(parser.parse_args(["--cutout"]), ["composite", "rgba"])
        ['composite', 'rgba']
    """
    kinds = None if save is None else [kind.strip() for kind in save]
    if kinds is None and options.background is not None:
        kinds = ["composite"]
    elif kinds is None and options.cutout:
        kinds = ["rgba"]
    elif options.cutout and "rgba" not in kinds:
        raise InputError(
            f"--cutout: is short for --save rgba; write --save {','.join(kinds)},rgba (the output itself is of the "
            "first kind), or leave out --cutout"
        )
    if options.background is not None and "composite" not in kinds:
        raise InputError("--background: only has an effect on composites; add composite to --save")
    if options.premultiplied is not None and "rgba" not in (kinds or ()):
        raise InputError(
            "--premultiplied: only has an effect on cut-outs; "
            + ("leave out --background" if options.cutout else "give --cutout, or add rgba to --save")
        )
    return kinds
