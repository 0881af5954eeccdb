"""Layers: premultiplied colour and coverage, (H, W, 4) float32 in [0, 1], and operations on them.

Only premultiplied colour may be blurred, shifted and summed. Defocus and motion blur therefore act on a layer, and the
foreground colour is divided out once at the end. Then image = alpha * fg + (1 - alpha) * bg holds exactly for a blurred
object too (Porter and Duff, "Compositing Digital Images", 1984).
"""

import cv2
import numpy as np

HALF_LEVEL = 0.5 / 255  # coverage closer than this to 0 or 1 is 0 or 1 in an 8-bit matte, and is set to it here


def widened(plane: np.ndarray, channels: int = 3) -> np.ndarray:
    """Repeat an (H, W) plane to (H, W, channels): numpy broadcasts a short last axis several times slower."""
    return cv2.merge([plane] * channels)


def layer_of(texture: np.ndarray, coverage: np.ndarray) -> np.ndarray:
    """Join (H, W, 3) uint8 or [0, 1] float colour and (H, W) coverage to a layer."""
    scale = 1 / 255 if texture.dtype == np.uint8 else 1.0
    coverage = coverage.astype(np.float32, copy=False)
    red, green, blue = cv2.split(texture * widened(coverage * np.float32(scale)))
    return cv2.merge([red, green, blue, coverage])


def over(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """Lay one layer over another."""
    return top + widened(1 - top[..., 3], 4) * bottom


def lit(layer: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Multiply the colour of a layer by (H, W) `light`, keeping it within its coverage."""
    lit_layer = np.minimum(layer * widened(light, 4), widened(layer[..., 3], 4))
    lit_layer[..., 3] = layer[..., 3]
    return lit_layer


def blurred(layer: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of `sigma` pixels: a lens out of focus, or, below one pixel, the spread of any lens."""
    return cv2.GaussianBlur(layer, (0, 0), sigma) if sigma >= 0.2 else layer


def motion_kernel(exposures: int, angle: float) -> np.ndarray:
    """Kernel that averages `exposures` positions one pixel apart along `angle` (radians), centred.

    Positions between pixels are shared bilinearly.

    Returns:
        (K, K) float32, K odd, summing to 1. Three exposures at angle 0 give a row of three thirds.
    """
    offsets = np.arange(exposures) - (exposures - 1) / 2
    half = int(np.ceil(offsets[-1])) + 1
    x, y = half + offsets * np.cos(angle), half + offsets * np.sin(angle)
    left, top = np.floor(x + 1e-9).astype(int), np.floor(y + 1e-9).astype(int)
    kernel = np.zeros((2 * half + 1, 2 * half + 1))
    for row, column in ((0, 0), (0, 1), (1, 0), (1, 1)):
        share = np.abs(1 - column - (x - left)) * np.abs(1 - row - (y - top)) / exposures
        inside = share > 1e-9
        np.add.at(kernel, (top[inside] + row, left[inside] + column), share[inside])
    return (kernel / kernel.sum()).astype(np.float32)


def motion_blurred(layer: np.ndarray, exposures: int, angle: float) -> np.ndarray:
    """Average of `layer` moved to `exposures` positions along a line. The border is mirrored."""
    return cv2.filter2D(layer, -1, motion_kernel(exposures, angle), borderType=cv2.BORDER_REFLECT_101)


def separated(layer: np.ndarray, fill: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Divide the colour out: return alpha (H, W) and foreground (H, W, 3), float32 in [0, 1].

    Alpha within half an 8-bit level of 0 or 1 becomes exactly 0 or 1. Where it is 0, the foreground is invisible and is
    set to (H, W, 3) uint8 `fill`.
    """
    alpha = np.clip(layer[..., 3], 0, 1)
    foreground = layer[..., :3] * widened(1 / np.maximum(alpha, HALF_LEVEL))
    alpha[alpha >= 1 - HALF_LEVEL] = 1
    empty = alpha <= HALF_LEVEL
    alpha[empty] = 0
    np.copyto(foreground, fill * np.float32(1 / 255), where=widened(empty.astype(np.uint8)).astype(bool))
    return alpha, np.clip(foreground, 0, 1, out=foreground)
