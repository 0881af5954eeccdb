"""A library of foregrounds on disk, DIR/fg/NAME.png and DIR/alpha/NAME.png, for `data.training.dim_dataset`.

Picture `index` of a library is a function of (seed, index), the families and the size. It does not depend on the
process that renders it, on the order, or on the other pictures. numba's fast arithmetic may differ in the last bit
between kinds of processors.
"""

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from data.images.files import write_png
from data.synthetic.families import FAMILIES as FLAT_FAMILIES
from data.synthetic.layers import HALF_LEVEL, separated
from data.synthetic.photographs import shipped_photographs
from data.synthetic.scene import draw_object
from runtime.errors import InputError
from runtime.files import replacing

FLAT = "2d"  # prefix of families drawn by data.synthetic
SETTINGS_FILE = "library.json"
SMALLEST, LARGEST = 32, 4096  # side of a picture
ATTEMPTS = 6
FLAT_SHARE = 0.5  # share in a library of both kinds


@dataclass(frozen=True)
class Library:
    """Settings of a library.

    Attributes:
        folder: parent of `fg`, `alpha` and `library.json`.
        families: names with their shares, from `chosen_families`.
        seed: seed of all pictures. size: side of a picture in pixels.
    """

    folder: Path
    families: dict[str, float]
    seed: int
    size: int

    def name(self, index: int) -> str:
        """Name of the picture: family, seed and index."""
        return f"{self.family(index)}_s{self.seed}_{index:05d}"

    def family(self, index: int) -> str:
        """Family of picture `index`, drawn by the shares."""
        shares = np.array(list(self.families.values()))
        rng = np.random.default_rng((self.seed, index, 0))
        return list(self.families)[int(rng.choice(len(shares), p=shares / shares.sum()))]

    def paths(self, index: int) -> tuple[Path, Path]:
        """Paths of the colours and the alpha of picture `index`."""
        file = f"{self.name(index)}.png"
        return self.folder / "fg" / file, self.folder / "alpha" / file

    def has(self, index: int) -> bool:
        """Return whether picture `index` is finished. Alpha is written last."""
        return all(path.is_file() for path in self.paths(index))

    def make(self, index: int) -> None:
        """Render picture `index` and write its files, each atomically."""
        foreground, alpha = picture(self.family(index), (self.seed, index, 1), self.size)
        fg_path, alpha_path = self.paths(index)
        write_png(fg_path, foreground)
        write_png(alpha_path, alpha)


def family_names() -> list[str]:
    """All families that a library can have, rendered ones first."""
    from data.rendering.families import FAMILIES

    return [*FAMILIES, *(f"{FLAT}-{name}" for name in FLAT_FAMILIES)]


def chosen_families(names: list[str]) -> dict[str, float]:
    """Families with their shares: names, "3d" (all rendered), "2d" (all of data.synthetic) or "all" (half of each
    kind).

    Raises:
        InputError: a name is not a family.
    """
    from data.rendering.families import FAMILIES

    rendered = {name: share for name, (_, share) in FAMILIES.items()}
    flat = {f"{FLAT}-{name}": share for name, (_, share) in FLAT_FAMILIES.items()}
    scale = FLAT_SHARE / (1 - FLAT_SHARE) * sum(rendered.values()) / sum(flat.values())
    known = {**rendered, **{name: scale * share for name, share in flat.items()}}
    groups = {"3d": list(rendered), FLAT: list(flat), "all": list(known)}
    wanted = {}
    for name in names:
        if name not in known and name not in groups:
            raise InputError(f"--families: expected 3d, 2d, all or some of {', '.join(known)}; got {name!r}")
        wanted.update({each: known[each] for each in groups.get(name, [name])})
    return wanted


def picture(family: str, seed: tuple[int, ...], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Straight sRGB colours (size, size, 3) and alpha (size, size), uint8, of one object.

    An object that is hardly visible, or has hardly any edge, is redrawn up to `ATTEMPTS` times.

    Example:
        foreground, alpha = picture("fern", (0, 7, 1), 512)
    """
    rng = np.random.default_rng(seed)
    for attempt in range(ATTEMPTS):
        foreground, alpha = _flat(rng, family, size) if family.startswith(f"{FLAT}-") else _rendered(rng, family, size)
        mean, soft = alpha.mean() / 255, ((alpha > 5) & (alpha < 250)).mean()
        if (0.03 < mean < 0.97 and soft > 0.002) or attempt == ATTEMPTS - 1:
            break
    return foreground, alpha


def _rendered(rng: np.random.Generator, family: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    from data.rendering.families import FAMILIES
    from data.rendering.scene import foreground_and_alpha, render

    return foreground_and_alpha(render(rng, FAMILIES[family][0](rng), size))


def _flat(rng: np.random.Generator, family: str, size: int) -> tuple[np.ndarray, np.ndarray]:
    """An object of data.synthetic, drawn as a whole scene, with colours extended into transparent pixels."""
    from data.rendering.scene import extended

    window = (size, size)
    layer, surface = draw_object(rng, family.removeprefix(f"{FLAT}-"), window, window, shipped_photographs())
    alpha, colours = separated(layer, surface)
    opaque = np.where(alpha > HALF_LEVEL, alpha, 0)[..., None]
    filled = extended(np.concatenate([colours * opaque, opaque], axis=-1).astype(np.float32))
    return np.rint(255 * np.clip(filled, 0, 1)).astype(np.uint8), np.rint(255 * alpha).astype(np.uint8)


def prepared(library: Library) -> None:
    """Create the library's folders, and check that existing pictures were made with the same settings.

    Raises:
        InputError: the folder holds pictures of this seed made with other settings, or cannot be written.
    """
    file = library.folder / SETTINGS_FILE
    settings = {"size": library.size, "families": library.families}
    known = {}
    if file.is_file():
        try:
            known = json.loads(file.read_text())
        except (OSError, ValueError) as error:
            raise InputError(
                f"{file}: expected the settings of a library, got {error}; choose another folder"
            ) from error
        if not isinstance(known, dict):
            raise InputError(f"{file}: expected the settings of a library; choose another folder")
    before = known.get(str(library.seed))
    if before is not None and before != settings:
        differing = [key for key in settings if before.get(key) != settings[key]]
        raise InputError(
            f"{library.folder}: holds pictures of seed {library.seed} made with other {' and '.join(differing)}; "
            "choose another --output or --seed"
        )
    try:
        for part in ("fg", "alpha"):
            (library.folder / part).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{library.folder}: cannot make the folder {part}: {error.strerror}") from error
    if before is None:
        with replacing(file) as temporary:
            temporary.write_text(json.dumps({**known, str(library.seed): settings}, indent=1) + "\n")


def checked_packages() -> None:
    """Raise InputError if a package of the renderer is missing."""
    for package in ("numba", "scipy", "skimage"):
        if importlib.util.find_spec(package) is None:
            raise InputError(f"rendering needs the package {package}: pip install -r requirements/render.txt")
