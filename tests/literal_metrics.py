"""The four metrics written out step by step in float64, slowly, from their definitions in docs/metrics.md.

Shares nothing with the package: fractions v / 255 instead of integers, 2-D kernels instead of separable ones, a
breadth-first search instead of OpenCV. Meant for images of a few hundred pixels.
"""

import math

import numpy as np


def score_literally(pred_alpha, alpha, trimap=None) -> dict[str, float]:
    """Return sad, mse, grad, conn and pixels of (H, W) uint8 arrays; a trimap of None scores every pixel."""
    unknown = np.ones(alpha.shape, bool) if trimap is None else trimap == 128
    p, a = pred_alpha.astype(np.float64) / 255, alpha.astype(np.float64) / 255
    pixels = int(unknown.sum())
    return {
        "sad": np.abs(p - a)[unknown].sum() / 1000,
        "mse": ((p - a) ** 2)[unknown].sum() / pixels if pixels else math.nan,
        "grad": ((edges(p) - edges(a)) ** 2)[unknown].sum() / 1000,
        "conn": connectivity_errors(p, a)[unknown].sum() / 1000,
        "pixels": pixels,
    }


def edges(image: np.ndarray) -> np.ndarray:
    """Gradient magnitude of an image stretched to [0, 1], by convolution with 9 x 9 kernels of unit norm."""
    low, high = image.min(), image.max()
    image = (image - low) / (high - low) if high > low else np.clip(image, 0, 1)
    sigma = 1.4

    def g(t):
        return math.exp(-(t**2) / (2 * sigma**2)) / (sigma * math.sqrt(2 * math.pi))

    across = np.array([[g(i) * -j * g(j) / sigma**2 for j in range(-4, 5)] for i in range(-4, 5)])
    norm = math.sqrt((across**2).sum())
    across /= norm
    padded = np.pad(image, 4, mode="edge")
    result = np.zeros(image.shape)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            window = padded[y : y + 9, x : x + 9][::-1, ::-1]
            result[y, x] = math.hypot((window * across).sum(), (window * across.T).sum())
    return result


def connectivity_errors(p: np.ndarray, a: np.ndarray) -> np.ndarray:
    """|phi(p) - phi(a)| of every pixel."""
    levels = np.full(p.shape, -1.0)
    for i in range(1, 11):
        largest = largest_component((p >= i / 10) & (a >= i / 10))
        levels[(levels == -1) & ~largest] = (i - 1) / 10
    levels[levels == -1] = 1
    return np.abs(phi(p - levels) - phi(a - levels))


def phi(distance: np.ndarray) -> np.ndarray:
    """Degree of connectedness."""
    return 1 - distance * (distance >= 0.15)


def largest_component(mask: np.ndarray) -> np.ndarray:
    """The largest 4-connected component; among equals, the one met first going down the columns from the left."""
    height, width = mask.shape
    seen = np.zeros_like(mask)
    best = []
    for x in range(width):
        for y in range(height):
            if not mask[y, x] or seen[y, x]:
                continue
            seen[y, x] = True
            component = [(y, x)]
            for row, column in component:
                for r, c in ((row - 1, column), (row + 1, column), (row, column - 1), (row, column + 1)):
                    if 0 <= r < height and 0 <= c < width and mask[r, c] and not seen[r, c]:
                        seen[r, c] = True
                        component.append((r, c))
            if len(component) > len(best):
                best = component
    result = np.zeros_like(mask)
    for y, x in best:
        result[y, x] = True
    return result
