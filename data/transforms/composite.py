"""Composition of layers: the compositing equation, and joining two foregrounds into one."""

import cv2
import numpy as np

from data.transforms.geometry import nearest_indices

LOOK_STEP = 16  # pixels


def composite(foreground: np.ndarray, background: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Return alpha * foreground + (1 - alpha) * background, (H, W, 3) float32.

    Args:
        foreground, background: (H, W, 3) float, same scale.
        alpha: (H, W) float in [0, 1].
    """
    image = foreground - background
    image *= cv2.merge([alpha] * 3)  # broadcasting over an inner axis of 3 is several times slower
    image += background
    return image


def composite_planes(
    foreground: np.ndarray, background: np.ndarray, alpha: np.ndarray, out: np.ndarray | None = None
) -> np.ndarray:
    """`composite` for (3, H, W) planes; `out` may be `foreground`, which is then overwritten."""
    image = np.subtract(foreground, background, out=out)
    image *= alpha
    image += background
    return image


def join_alphas(alpha: np.ndarray, alpha_behind: np.ndarray) -> np.ndarray:
    """Coverage of two independent layers, 1 - (1 - a)(1 - b), both (H, W) float in [0, 1]."""
    return 1 - (1 - alpha) * (1 - alpha_behind)


def leaves_background(alpha: np.ndarray, alpha_behind: np.ndarray) -> bool:
    """Return whether two joined layers leave the background visible somewhere.

    Args:
        alpha, alpha_behind: (H, W) and (h, w) uint8; the second is stretched to the size of the first.
    """
    height, width = alpha.shape
    rows, columns = (
        nearest_indices(0, length, length, other, LOOK_STEP)
        for length, other in zip(alpha.shape, alpha_behind.shape, strict=True)
    )
    seen_behind = alpha_behind.take(rows, axis=0).take(columns, axis=1)
    if cv2.max(np.ascontiguousarray(alpha[::LOOK_STEP, ::LOOK_STEP]), seen_behind).min() < 255:  # nearly always
        return True
    behind = cv2.resize(alpha_behind, (width, height), interpolation=cv2.INTER_NEAREST)
    return bool(cv2.max(alpha, behind).min() < 255)


def join_foregrounds_legacy(foreground: np.ndarray, alpha: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """Colour of two joined foregrounds in the public recipe: F1 a + F2 (1 - a), rounded down to whole levels.

    It is exact only where a is 0 or 1. In soft pixels of the first foreground, the second's colour is mixed in even
    where the second is transparent.

    Args:
        foreground, behind: (H, W, 3) uint8.
        alpha: (H, W) float in [0, 1], of the first foreground.

    Returns:
        (H, W, 3) float32 of whole numbers, 0..255.
    """
    return np.floor(composite(foreground.astype(np.float32), behind.astype(np.float32), alpha))


def join_foregrounds_exact(
    foreground: np.ndarray, alpha: np.ndarray, behind: np.ndarray, alpha_behind: np.ndarray
) -> np.ndarray:
    """Exact colour (a F1 + (1 - a) b F2) / a' of two joined foregrounds, where a' is their joint alpha.

    With it the joint layer over any background equals F1 over F2 over that background. Where a' is 0 the colour is
    arbitrary and F1's is kept.

    Args:
        foreground, behind: (H, W, 3) uint8.
        alpha, alpha_behind: (H, W) float in [0, 1].

    Returns:
        (H, W, 3) float32, 0..255.
    """
    joint = join_alphas(alpha, alpha_behind)
    share = np.where(joint > 0, alpha / np.where(joint > 0, joint, 1), 1)  # share of F1 in the visible colour
    return composite(foreground.astype(np.float32), behind.astype(np.float32), share.astype(np.float32))
