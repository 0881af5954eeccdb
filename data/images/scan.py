"""Scan of a training set, which names every unusable file before training starts."""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from data.images.files import images_by_stem, passed_over, read_rgb, read_size
from data.images.mattes import Reading, matte_reading, read_matte
from data.images.pairing import fitted
from data.images.pairs import size_hint, turned_apart
from data.images.remarks import Remark, counted
from runtime.errors import InputError

SHOWN = 5  # names in a one-line message; further ones are counted
SAMPLED = 16  # number of mattes whose values are checked before training if not all files are decoded


def training_set_problems(
    fg_dir: Path, alpha_dir: Path, bg_dir: Path, decode: bool = True, num_threads: int = 4
) -> list[str]:
    """Return one line for each file that training cannot use; empty if there are none.

    Unusable files are a foreground without alpha or the reverse, a file that is not an image or is truncated, and an
    alpha whose size differs from its foreground's. With `decode=False` only headers are read. This is fast but does not
    detect truncation.

    Raises:
        InputError: one of the folders does not exist, or two of its files share a stem.
    """
    backgrounds = images_by_stem(bg_dir).values()
    return [
        *pair_problems(fg_dir, alpha_dir, decode, num_threads, read_matte),
        *unreadable_images(backgrounds, decode, num_threads).values(),
    ]


def pair_problems(
    image_dir: Path,
    alpha_dir: Path,
    decode: bool = True,
    num_threads: int = 4,
    read_alpha: Callable[[Path], object] = read_rgb,
    role: str = "alpha",
) -> list[str]:
    """Lines of `training_set_problems` for a folder of pictures and a folder of alphas, decoded by `read_alpha`.

    Args:
        role: role of the partners for `fitted`, "alpha" or "mask".
    """
    images = images_by_stem(image_dir)
    alphas = fitted(images, images_by_stem(alpha_dir), role)
    problems = unpaired(images, image_dir, alphas, alpha_dir)
    unreadable = unreadable_images(images.values(), decode, num_threads)
    unreadable |= unreadable_images(alphas.values(), decode, num_threads, read_alpha)
    problems += unreadable.values()
    sound_pairs = [
        (images[stem], alphas[stem])
        for stem in sorted(images.keys() & alphas.keys())
        if images[stem] not in unreadable and alphas[stem] not in unreadable
    ]
    return problems + size_mismatches(sound_pairs)


def unpaired(first: dict[str, Path], first_dir: Path, second: dict[str, Path], second_dir: Path) -> list[str]:
    """One line for each stem that is in only one of two folders."""
    return [f"{path}: {text}" for path, text in partnerless(first, first_dir, second, second_dir).items()]


def partnerless(first: dict[str, Path], first_dir: Path, second: dict[str, Path], second_dir: Path) -> dict[Path, str]:
    """Map each path whose stem is in only one of two folders to a description of the missing file."""
    alone = {path: f"no image of that name in {second_dir}" for stem, path in first.items() if stem not in second}
    return alone | {path: f"no image of that name in {first_dir}" for stem, path in second.items() if stem not in first}


def unreadable_images(
    paths: Iterable[Path],
    decode: bool = True,
    num_threads: int = 4,
    read: Callable[[Path], object] = read_rgb,
) -> dict[Path, str]:
    """Map each path that cannot be read to the reason. `read` decodes files; `decode=False` only reads headers."""
    read = read if decode else read_size

    def problem(path: Path) -> str | None:
        try:
            read(path)
        except InputError as error:
            return str(error)
        return None

    paths = list(paths)
    with ThreadPoolExecutor(num_threads) as pool:
        found = zip(paths, pool.map(problem, paths), strict=True)
        return {path: text for path, text in found if text is not None}


def size_mismatches(groups: Iterable[tuple[Path, ...]]) -> list[str]:
    """One line for each readable file whose size differs from the first of its group."""
    lines = []
    for first, *others in groups:
        height, width = read_size(first)
        lines += [
            f"{other}: {other_size[1]} x {other_size[0]} pixels, but {first} has {width} x {height}"
            + size_hint(first, other)
            for other in others
            if (other_size := read_size(other)) != (height, width)
        ]
    return lines


def look_at_mattes(
    pairs: Sequence[tuple[Path, Path]],
    folders: Iterable[Path],
    decode: bool,
    read: Callable[[Path], Reading] = matte_reading,
    what: str = "alpha",
    num_threads: int = 4,
) -> tuple[list[str], list[str]]:
    """Check the values of mattes, the orientations of all pairs, and the folders for files that are not pictures.

    Args:
        pairs: pictures and their mattes.
        folders: folders of these files.
        decode: whether all mattes are read and not only `SAMPLED` of them, evenly spread.
        what: name of the mattes in remarks.

    Returns:
        One line for each refused matte, and one line for each kind of remark, see `data.images.remarks`.
    """
    mattes = [matte for _, matte in pairs]
    if not decode and len(mattes) > SAMPLED:
        mattes = [mattes[index * len(mattes) // SAMPLED] for index in range(SAMPLED)]

    def look(matte: Path) -> tuple[str, str]:
        try:
            return "", read(matte).remark
        except InputError as error:
            return str(error), ""

    def turned(pair: tuple[Path, Path]) -> str:
        try:
            return turned_apart(*pair)
        except InputError:  # reported by the scan for unreadable files
            return ""

    with ThreadPoolExecutor(num_threads) as pool:
        looked, apart = list(pool.map(look, mattes)), list(pool.map(turned, pairs))
    remarks = [Remark(what, text, str(path)) for path, (_, text) in zip(mattes, looked, strict=True) if text]
    lines = counted(remarks)
    if len(mattes) < len(pairs):
        lines = [f"of {len(mattes)} {what}s looked at, {line}" for line in lines]
    lines += counted(Remark(what, text, str(path)) for (_, path), text in zip(pairs, apart, strict=True) if text)
    lines += [f"{folder}: {left}" for folder in folders if (left := passed_over(folder))]
    return [problem for problem, _ in looked if problem], lines


def require_none(problems: list[str], advice: str) -> None:
    """Raise an InputError if there are problems. Its one-line message has the first few, their number, and `advice`."""
    if problems:
        more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
        raise InputError(f"{'; '.join(problems[:SHOWN])}{more}: {advice}")
