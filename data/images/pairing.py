"""The one rule by which the files of two folders belong together.

Names are compared without extension, in Unicode's composed form and without regard to case, sub-folders included: macOS
writes "é" as two characters, Windows writes CAT.JPG. What then has no partner is compared once more without a word for
its role at the end: cat.jpg and cat_trimap.png. Where more than one file could be meant, none is taken.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from runtime.errors import InputError
from runtime.text import NAMED_AT_MOST, name_some, printable

# Words at the end of a name, after one of "_", "-", ".", " ", that say what a file is
ROLES = {
    "image": ("image", "img", "rgb"),
    "trimap": ("trimap", "tri"),
    "alpha": ("alpha", "matte", "mask", "gt", "label", "pred"),
    "mask": ("mask", "seg", "alpha", "matte", "gt", "label"),
}

Named = Mapping[str, Path]


def name_key(name: str) -> str:
    """What two names must have in common to be one: Unicode's composed form, without case."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def fitted(names: Iterable[str], partners: Named, role: str, of: str = "image") -> dict[str, Path]:
    """Give the files of a folder the names of those they belong to; files that fit none keep their own.

    Args:
        names: without extension, as of `data.images.files.images_by_stem`.
        partners: by name, from `images_by_stem`.
        role, of: what the partners and the named files are, keys of `ROLES`.

    Raises:
        InputError: two files fit one, or the reverse.

    Example:
        >>> fitted(["Cat", "dog"], {"cat_trimap": Path("cat_trimap.png"), "bird": Path("bird.png")}, "trimap")
        {'Cat': PosixPath('cat_trimap.png'), 'bird': PosixPath('bird.png')}
    """
    name_of, ambiguous = fits(names, partners, role, of)
    if ambiguous:
        more = f"; and {len(ambiguous) - NAMED_AT_MOST} more" if len(ambiguous) > NAMED_AT_MOST else ""
        folder = next(iter(partners.values())).parent
        raise InputError(
            f"{folder}: {'; '.join(ambiguous[:NAMED_AT_MOST])}{more}: rename or remove files, so that one is left"
        )
    return {name_of.get(partner, partner): path for partner, path in partners.items()}


def fits(
    names: Iterable[str], partners: Collection[str], role: str, of: str = "image"
) -> tuple[dict[str, str], list[str]]:
    """The name that each partner belongs to, and a line for each file that could belong to several."""
    keys = {name_key(name): name for name in names}
    bare = defaultdict(set)
    for key, name in keys.items() if any(name_key(partner) not in keys for partner in partners) else ():
        bare[key].add(name)
        bare[without_role(key, of)].add(name)
    possible, claims = {}, defaultdict(list)
    for partner in partners:
        key = name_key(partner)
        possible[partner] = {keys[key]} if key in keys else bare.get(without_role(key, role), set())
        for name in possible[partner]:
            claims[name].append(partner)
    ambiguous = [
        f"{role} {printable(partner)} fits {name_some(fitting)}"
        for partner, fitting in possible.items()
        if len(fitting) > 1
    ]
    ambiguous += [
        f"{printable(name)} fits {name_some(claimed)}" for name, claimed in claims.items() if len(claimed) > 1
    ]
    return {partner: next(iter(fitting)) for partner, fitting in possible.items() if len(fitting) == 1}, ambiguous


def without_role(name: str, role: str) -> str:
    """A name without the word at its end that says what the file is: "cat" of "cat_trimap"."""
    return re.sub(rf"(?<=[^/])[_\-. ](?:{'|'.join(ROLES[role])})$", "", name, flags=re.IGNORECASE)
