"""The metrics written out step by step in float64, slowly, from their definitions in docs/metrics.md.

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


def score_further_literally(pred_alpha, alpha, trimap=None) -> dict[str, float]:
    """Return mad, psnr and ssim of (H, W) uint8 arrays; a trimap of None scores every pixel."""
    unknown = np.ones(alpha.shape, bool) if trimap is None else trimap == 128
    errors = [(int(p) - int(a)) / 255 for p, a in zip(pred_alpha[unknown], alpha[unknown], strict=True)]
    if not errors:
        return dict.fromkeys(("mad", "psnr", "ssim"), math.nan)
    mean_square = sum(error**2 for error in errors) / len(errors)
    return {
        "mad": sum(abs(error) for error in errors) / len(errors),
        "psnr": 20 * math.log10(1 / math.sqrt(mean_square)) if mean_square else math.inf,
        "ssim": structural_similarity(pred_alpha, alpha, unknown),
    }


def structural_similarity(pred_alpha: np.ndarray, alpha: np.ndarray, unknown: np.ndarray) -> float:
    """Mean of the index over the 11 x 11 Gaussian windows that fit into the image around an unknown pixel."""
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    weights = np.array([[math.exp(-(i * i + j * j) / (2 * 1.5**2)) for j in range(-5, 6)] for i in range(-5, 6)])
    weights = weights.ravel() / weights.sum()
    values = []
    for y in range(5, alpha.shape[0] - 5):
        for x in range(5, alpha.shape[1] - 5):
            if not unknown[y, x]:
                continue
            window = slice(y - 5, y + 6), slice(x - 5, x + 6)
            p, a = (image[window].astype(np.float64).ravel() for image in (pred_alpha, alpha))
            p_mean, a_mean = weights @ p, weights @ a
            (p_variance, covariance), (_, a_variance) = np.cov(p, a, bias=True, aweights=weights)
            luminance = (2 * p_mean * a_mean + c1) / (p_mean**2 + a_mean**2 + c1)
            values.append(luminance * (2 * covariance + c2) / (p_variance + a_variance + c2))
    return sum(values) / len(values) if values else math.nan


def score_change_literally(pred_alphas, alphas, flow, trimap=None) -> dict[str, float]:
    """Return dtssd and messddt of two consecutive frames, (H, W) uint8 arrays and (H, W, 2) flow from the first."""
    height, width = alphas[0].shape
    p, next_p = (frame.astype(np.float64) / 255 for frame in pred_alphas)
    a, next_a = (frame.astype(np.float64) / 255 for frame in alphas)
    changes, moved_changes = [], []
    for y in range(height):
        for x in range(width):
            if trimap is not None and trimap[y, x] != 128:
                continue
            changes.append(((next_p[y, x] - p[y, x]) - (next_a[y, x] - a[y, x])) ** 2)
            to_x = min(max(x + round(float(flow[y, x, 0])), 0), width - 1)
            to_y = min(max(y + round(float(flow[y, x, 1])), 0), height - 1)
            moved_changes.append(abs((p[y, x] - a[y, x]) ** 2 - (next_p[to_y, to_x] - next_a[to_y, to_x]) ** 2))
    if not changes:
        return {"dtssd": math.nan, "messddt": math.nan}
    return {
        "dtssd": 100 * math.sqrt(sum(changes) / len(changes)),
        "messddt": sum(moved_changes) / len(moved_changes),
    }
