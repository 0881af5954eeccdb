"""Pairing of the files of two folders by name.

Names are compared with their sub-folders and without extension, in Unicode's composed form and ignoring case, because
macOS stores "é" as two characters and Windows writes CAT.JPG. Files without a partner are compared again without a word
for their role at the end of the name, as in cat.jpg and cat_trimap.png. If several files match, none is paired.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from runtime.errors import InputError
from runtime.text import NAMED_AT_MOST, name_some, printable

# Words for the role of a file at the end of its name, after one of "_", "-", ".", " "
ROLES = {
    "image": ("image", "img", "rgb"),
    "trimap": ("trimap", "tri"),
    "alpha": ("alpha", "matte", "mask", "gt", "label", "pred"),
    "mask": ("mask", "seg", "alpha", "matte", "gt", "label"),
}

Named = Mapping[str, Path]


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC), which is the same for all file systems."""
    return unicodedata.normalize("NFC", name)


def name_key(name: str) -> str:
    """Key that is the same for equal names: Unicode's composed form in lower case."""
    return composed(composed(name).casefold())


def fitted(names: Iterable[str], partners: Named, role: str, of: str = "image") -> dict[str, Path]:
    """Rename the files of a folder to the names of their partners. Files without a partner keep their names.

    Args:
        names: names without extension, from `data.images.files.images_by_stem`.
        partners: files by name, from `images_by_stem`.
        role, of: roles of the partners and of the named files, keys of `ROLES`.

    Raises:
        InputError: a file fits several files of the other folder.

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
    """Return the name to which each partner belongs, and a line for each file that fits several."""
    by_key = {name_key(name): name for name in names}
    by_bare_key = defaultdict(set)
    for key, name in by_key.items():
        by_bare_key[key].add(name)
        by_bare_key[without_role(key, of)].add(name)
    possible, claims = {}, defaultdict(list)
    for partner in partners:
        key = name_key(partner)
        possible[partner] = {by_key[key]} if key in by_key else by_bare_key.get(without_role(key, role), set())
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
    """Remove the word for the role at the end of a name: "cat" for "cat_trimap"."""
    return re.sub(rf"(?<=[^/])[_\-. ](?:{'|'.join(ROLES[role])})$", "", name, flags=re.IGNORECASE)
