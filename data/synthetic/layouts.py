"""Writing synthetic samples as files in the two common layouts of matting data."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from data.images.files import write_png
from data.synthetic.dataset import SyntheticMatting
from runtime.output_folders import empty_or_own

DIM_FOLDERS = ("fg", "alpha", "bg")
COMPOSITION1K_FOLDERS = ("merged", "trimaps", "alpha_copy")


def write_dim_layout(
    folder: str | Path, count: int, size: int | tuple[int, int] = 512, seed: int = 0, backgrounds: str = "mixed"
) -> list[str]:
    """Write `count` foregrounds, alphas and backgrounds in the layout of Deep Image Matting's training set.

    fg/NAME.png and alpha/NAME.png have the same names; backgrounds are bg/background_K.png. All are 8-bit of `size`.

    Returns:
        The foregrounds' names, in order.

    Raises:
        InputError: a setting is out of range, or a folder already contains images of another set.
    """
    dataset = SyntheticMatting(size, count, seed, backgrounds=backgrounds)
    names = [dataset.name(index) for index in range(count)]
    background_names = [f"background_{index}" for index in range(count)]
    folders = _own_folders(folder, DIM_FOLDERS, (names, names, background_names))
    for index, (alpha, foreground, background, _) in _rounded_samples(dataset):
        write_png(folders["fg"] / f"{names[index]}.png", foreground)
        write_png(folders["alpha"] / f"{names[index]}.png", alpha)
        write_png(folders["bg"] / f"{background_names[index]}.png", background)
    return names


def write_composition1k_layout(
    folder: str | Path, count: int, size: int | tuple[int, int] = 512, seed: int = 0, backgrounds: str = "mixed"
) -> list[str]:
    """Write `count` test images in the layout of Composition-1k: merged/, trimaps/ and alpha_copy/ with equal names.

    Names are NAME_k.png, where NAME is the family of the object (hair, fur, net, ...) and k the index of the sample.
    The files are consistent: merged is rint(alpha * fg + (1 - alpha) * bg) of the 8-bit alpha and colours, and known
    regions of the trimap are exactly 0 or 255 in alpha.

    Returns:
        The names, in order.

    Raises:
        InputError: see `write_dim_layout`.
    """
    dataset = SyntheticMatting(size, count, seed, backgrounds=backgrounds)
    names = [dataset.name(index) for index in range(count)]
    folders = _own_folders(folder, COMPOSITION1K_FOLDERS, (names, names, names))
    for index, (alpha, foreground, background, trimap) in _rounded_samples(dataset):
        write_png(folders["merged"] / f"{names[index]}.png", composite_8bit(alpha, foreground, background))
        write_png(folders["trimaps"] / f"{names[index]}.png", trimap)
        write_png(folders["alpha_copy"] / f"{names[index]}.png", alpha)
    return names


def composite_8bit(alpha: np.ndarray, foreground: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Composite uint8 alpha (H, W) and colours (H, W, 3), rounded to the nearest level."""
    weight = alpha[..., None] / 255.0
    return np.rint(weight * foreground + (1 - weight) * background).astype(np.uint8)


def _rounded_samples(dataset: SyntheticMatting) -> Iterator[tuple[int, tuple[np.ndarray, ...]]]:
    """Yield index and 8-bit alpha (H, W), foreground, background (H, W, 3) and trimap (H, W) of every sample."""
    for index in tqdm(range(len(dataset)), desc="synthetic", unit="image", disable=None):
        scene, trimap = dataset.scene(index)
        arrays = (scene.alpha, scene.foreground, scene.background)
        yield index, (*(np.rint(array * 255).astype(np.uint8) for array in arrays), trimap)


def _own_folders(folder: str | Path, subfolders: tuple[str, ...], names: tuple[list[str], ...]) -> dict[str, Path]:
    files = [[f"{name}.png" for name in stems] for stems in names]
    return empty_or_own(folder, dict(zip(subfolders, files, strict=True)))
