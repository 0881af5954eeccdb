"""The public DIM loader restated literally: every step at full size, one after the other.

The reference for `data.training.dim_recipe`: its tests compare geometry and colours with it, tools/benchmark_loader.py
its cost. Steps, order and random draws are those of hustvl/ViTMatte's data/dim_dataset.py (after
Yaoyi-Li/GCA-Matting), the unused coarse mask and the discarded erosions included, as they cost time there. Written
from the description of the steps; RGB instead of BGR.
"""

from collections.abc import Callable
from math import cos, radians, sin
from pathlib import Path

import cv2
import numpy as np

from data.training.dim_recipe import DimDraw
from data.transforms.interpolation import KERNELS

Kernel = Callable[[], int]  # gives the interpolation flag of the next resampling
ELLIPSES = [None] + [cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)) for side in range(1, 30)]


def public_sample(
    fg_path: Path, alpha_path: Path, bg_path: Path, second: tuple[Path, Path], drawn: DimDraw, seed: int
) -> dict[str, np.ndarray]:
    """Read the files and make a 512 sample as the public loader does, random kernels and dead steps included."""
    rng = np.random.default_rng(seed)

    def kernel() -> int:
        return int(rng.choice(KERNELS))

    fg, alpha, bg = _read(fg_path), cv2.imread(str(alpha_path), 0).astype(np.float32) / 255, _read(bg_path)
    if drawn.double_foreground:
        alpha2 = cv2.imread(str(second[1]), 0).astype(np.float32) / 255
        fg, alpha = join(fg, alpha, _read(second[0]), alpha2, kernel)
    fg, alpha = squeeze(fg, alpha, drawn, kernel)
    fg, alpha = warp(fg, alpha, drawn, kernel)
    trimap = trimap_640(alpha, drawn, kernel)
    coarse_mask(alpha, rng, kernel)
    crop = random_crop(fg, alpha, trimap, bg, 512, drawn, kernel)
    return finish(crop, drawn)


def join(fg, alpha, fg2, alpha2, kernel: Kernel):
    """Step 1: a second foreground behind the first, in the public colour."""
    size = alpha.shape[::-1]
    fg2 = cv2.resize(fg2, size, interpolation=kernel())
    alpha2 = cv2.resize(alpha2, size, interpolation=kernel())
    joint = 1 - (1 - alpha) * (1 - alpha2)
    if not np.any(joint < 1):
        return fg, alpha
    mixed = fg.astype(np.float32) * alpha[:, :, None] + fg2.astype(np.float32) * (1 - alpha[:, :, None])
    return mixed.astype(np.uint8), joint


def squeeze(fg, alpha, drawn: DimDraw, kernel: Kernel):
    """Step 2: some foregrounds become 640 x 640."""
    if not drawn.squeeze:
        return fg, alpha
    return (
        cv2.resize(fg, (640, 640), interpolation=kernel()),
        cv2.resize(alpha, (640, 640), interpolation=kernel()),
    )


def warp(fg, alpha, drawn: DimDraw, kernel: Kernel):
    """Step 3: the affine transform on the whole canvas, its matrix written out term by term."""
    height, width = alpha.shape
    affine = drawn.affine
    angle, shear = radians(affine.angle if max(height, width) >= 1024 else 0), radians(affine.shear)
    sx = (-1 if affine.flip[0] else 1) / affine.scale[0]
    sy = (-1 if affine.flip[1] else 1) / affine.scale[1]
    d = cos(angle + shear) * cos(angle) + sin(angle + shear) * sin(angle)
    a, b = cos(angle) * sx / d, sin(angle + shear) * sx / d
    c, e = -sin(angle) * sy / d, cos(angle + shear) * sy / d
    cx, cy = width * 0.5 + 0.5, height * 0.5 + 0.5
    matrix = np.array([[a, b, cx - a * cx - b * cy], [c, e, cy - c * cx - e * cy]])
    return (
        cv2.warpAffine(fg, matrix, (width, height), flags=kernel() + cv2.WARP_INVERSE_MAP),
        cv2.warpAffine(alpha, matrix, (width, height), flags=kernel() + cv2.WARP_INVERSE_MAP),
    )


def trimap_640(alpha, drawn: DimDraw, kernel: Kernel):
    """Step 4: the trimap on a 640 square, stretched back; one pair of erosions is thrown away as published."""
    height, width = alpha.shape
    small = cv2.resize(alpha, (640, 640), interpolation=kernel())
    for _ in range(2):
        opaque = (small + 1e-5).astype(int).astype(np.uint8)
        transparent = (1 - small + 1e-5).astype(int).astype(np.uint8)
        opaque = cv2.erode(opaque, ELLIPSES[drawn.foreground_erosion])
        transparent = cv2.erode(transparent, ELLIPSES[drawn.background_erosion])
    trimap = np.ones_like(small) * 128
    trimap[opaque == 1] = 255
    trimap[transparent == 1] = 0
    return cv2.resize(trimap, (width, height), interpolation=cv2.INTER_NEAREST)


def coarse_mask(alpha, rng: np.random.Generator, kernel: Kernel):
    """Steps 4 and 5, the part that no model of the family reads: a rough mask with one patch copied elsewhere."""
    height, width = alpha.shape
    small = cv2.resize(alpha, (640, 640), interpolation=kernel())
    mask = (small >= rng.uniform(0.01, 1)).astype(int).astype(np.uint8)
    changes = [(cv2.erode,), (cv2.dilate,), (cv2.erode, cv2.dilate), (cv2.dilate, cv2.erode)]
    for change in changes[rng.integers(4)]:
        mask = change(mask, ELLIPSES[rng.integers(1, 30)])
    mask = cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST)
    if rng.random() >= 0.25:
        high, wide = rng.integers(height // 4, height // 2 + 1), rng.integers(width // 4, width // 2 + 1)
        y, y1 = rng.integers(0, height - high + 1, size=2)
        x, x1 = rng.integers(0, width - wide + 1, size=2)
        mask[y : y + high, x : x + wide] = mask[y1 : y1 + high, x1 : x1 + wide].copy()
    return mask


def random_crop(fg, alpha, trimap, bg, side: int, drawn: DimDraw, kernel: Kernel, corner=None):
    """Step 6: everything at canvas size, enlarged where too small, cut at `corner` or where `drawn.crop` says."""
    height, width = trimap.shape
    bg = cv2.resize(bg, (width, height), interpolation=kernel())
    ratio = 1.1 * side / height if height < width else 1.1 * side / width
    while height < side + 1 or width < side + 1:
        size = (int(width * ratio), int(height * ratio))
        fg, alpha, bg = (cv2.resize(part, size, interpolation=kernel()) for part in (fg, alpha, bg))
        trimap = cv2.resize(trimap, size, interpolation=cv2.INTER_NEAREST)
        width, height = size
    top, left = corner if corner is not None else _corner(trimap, side, drawn.crop)
    return [part[top : top + side, left : left + side] for part in (fg, alpha, trimap, bg)]


def finish(crop, drawn: DimDraw) -> dict[str, np.ndarray]:
    """Steps 7 to 9: colour jitter, composite, scale to [0, 1], channels first."""
    fg, alpha, trimap, bg = crop
    fg = _jitter(fg.astype(np.float32) / 255, alpha, drawn) * 255
    alpha, fg = np.clip(alpha, 0, 1), np.clip(fg, 0, 255)
    image = fg * alpha[:, :, None] + bg * (1 - alpha[:, :, None])
    colours = {"image": image, "fg": fg, "bg": bg}
    sample = {name: c.transpose(2, 0, 1).astype(np.float32) / 255 for name, c in colours.items()}
    return {**sample, "alpha": alpha[None].astype(np.float32), "trimap": trimap[None].astype(np.float32)}


def _corner(trimap, side: int, draw: tuple[float, float]) -> tuple[int, int]:
    height, width = trimap.shape
    margin = side // 2
    small = cv2.resize(trimap, (width // 4, height // 4), interpolation=cv2.INTER_NEAREST)
    inner = small[margin // 4 : (height - margin) // 4, margin // 4 : (width - margin) // 4]
    unknown = list(zip(*np.where(inner == 128), strict=True))
    if len(unknown) < 10:
        return int(draw[0] * (height - side + 1)), int(draw[1] * (width - side + 1))
    row, column = unknown[int(draw[0] * len(unknown))]
    return int(row) * 4, int(column) * 4


def _jitter(fg, alpha, drawn: DimDraw):
    if np.all(alpha == 0):
        return fg
    fg = cv2.cvtColor(fg, cv2.COLOR_RGB2HSV)
    fg[:, :, 0] = np.remainder(fg[:, :, 0] + drawn.jitter.hue, 360)
    for channel, draw in ((1, drawn.jitter.saturation), (2, drawn.jitter.value)):
        mean = fg[:, :, channel][alpha > 0].mean()
        shifted = np.abs(fg[:, :, channel] + draw * (1.1 - mean) / 10)
        shifted[shifted > 1] = 2 - shifted[shifted > 1]
        fg[:, :, channel] = shifted
    return cv2.cvtColor(fg, cv2.COLOR_HSV2RGB)


def _read(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
