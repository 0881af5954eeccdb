"""Colours of materials, linear RGB in [0, 1], and patterns over them."""

import colorsys

import numpy as np

from data.rendering.curves import Field, smooth_field

MELANIN = np.array([[0.419, 0.697, 1.37], [0.187, 0.4, 1.05]])  # absorption of eumelanin and pheomelanin (d'Eon 2011)


def linear(srgb: np.ndarray) -> np.ndarray:
    """sRGB values in [0, 1] to linear light."""
    srgb = np.asarray(srgb, float)
    return np.where(srgb <= 0.04045, srgb / 12.92, ((np.maximum(srgb, 0.04045) + 0.055) / 1.055) ** 2.4)


def encoded(light: np.ndarray) -> np.ndarray:
    """Linear light in [0, 1] to sRGB values."""
    light = np.clip(light, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * np.maximum(light, 0.0031308) ** (1 / 2.4) - 0.055)


def hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """Linear RGB of a colour given as sRGB hue (wraps), saturation and value in [0, 1]."""
    return linear(colorsys.hsv_to_rgb(hue % 1, float(np.clip(saturation, 0, 1)), float(np.clip(value, 0, 1))))


def any_colour(rng: np.random.Generator) -> np.ndarray:
    """A colour of manufactured things: saturated, pale, dark or nearly gray."""
    kind = rng.random()
    if kind < 0.2:  # nearly gray, from black to white
        return hsv(rng.random(), rng.uniform(0, 0.12), rng.uniform(0.08, 0.97))
    if kind < 0.35:  # pale
        return hsv(rng.random(), rng.uniform(0.1, 0.35), rng.uniform(0.8, 0.97))
    if kind < 0.5:  # dark
        return hsv(rng.random(), rng.uniform(0.2, 0.9), rng.uniform(0.1, 0.35))
    return hsv(rng.random(), rng.beta(2.0, 1.8), rng.uniform(0.35, 0.95))


def hair_colour(rng: np.random.Generator, dyed: float = 0.2) -> np.ndarray:
    """A colour of hair and fur: melanin from white to black and red, or any colour for the share `dyed`."""
    if rng.random() < dyed:
        return any_colour(rng)
    amount, red = 4.5 * rng.uniform(0.03, 1) ** 1.5, rng.random() ** 1.3
    return np.exp(-1.1 * amount * ((1 - red) * MELANIN[0] + red * MELANIN[1])) * 0.85


def leaf_colour(rng: np.random.Generator) -> np.ndarray:
    """A colour of leaves: greens mostly; yellow, red, brown and gray ones too."""
    kind = rng.random()
    if kind < 0.72:
        return hsv(rng.normal(0.23, 0.035), rng.uniform(0.3, 0.75), rng.uniform(0.25, 0.7))
    if kind < 0.9:  # autumn, copper beech
        return hsv(rng.uniform(-0.04, 0.15), rng.uniform(0.5, 0.95), rng.uniform(0.3, 0.9))
    if kind < 0.96:  # gray-green: olive, eucalyptus
        return hsv(rng.uniform(0.2, 0.45), rng.uniform(0.08, 0.3), rng.uniform(0.4, 0.75))
    return hsv(rng.uniform(0.03, 0.12), rng.uniform(0.2, 0.6), rng.uniform(0.2, 0.6))


def bark_colour(rng: np.random.Generator) -> np.ndarray:
    """A colour of bark, stems and straw."""
    return hsv(rng.uniform(0.03, 0.14), rng.uniform(0.1, 0.6), rng.uniform(0.15, 0.65))


def petal_colour(rng: np.random.Generator) -> np.ndarray:
    """A colour of petals: white, yellow, orange, red, pink, violet; rarely blue."""
    hue = rng.choice([rng.uniform(-0.2, 0.18), rng.uniform(0.72, 0.95), rng.uniform(0.55, 0.72)], p=[0.6, 0.3, 0.1])
    if rng.random() < 0.2:
        return hsv(hue, rng.uniform(0, 0.15), rng.uniform(0.85, 0.98))
    return hsv(hue, 0.95 * rng.beta(3, 1.6), rng.uniform(0.5, 0.97))


def skin_colour(rng: np.random.Generator) -> np.ndarray:
    """A colour of skin."""
    depth = rng.random()
    return hsv(rng.normal(0.06, 0.012), 0.3 + 0.35 * depth + rng.normal(0, 0.05), 0.92 - 0.6 * depth)


def metal_colour(rng: np.random.Generator) -> np.ndarray:
    """A colour of wire: steel, galvanised, black, brass, copper or painted."""
    kind = rng.random()
    if kind < 0.5:
        return hsv(0.6, rng.uniform(0, 0.06), rng.uniform(0.4, 0.85))
    if kind < 0.65:
        return hsv(0.6, rng.uniform(0, 0.1), rng.uniform(0.05, 0.25))
    if kind < 0.8:
        return hsv(rng.uniform(0.04, 0.13), rng.uniform(0.4, 0.7), rng.uniform(0.5, 0.85))
    return any_colour(rng)


def varied(rng: np.random.Generator, colour: np.ndarray, count: int, amount: float) -> np.ndarray:
    """`count` colours around one: (count, 3), brightness by `amount` (log), each channel by a third of it."""
    factor = np.exp(rng.normal(0, amount, (count, 1)) + rng.normal(0, amount / 3, (count, 3)))
    return np.clip(colour * factor, 0, 0.98)


def pattern(rng: np.random.Generator, colours: list[np.ndarray], size: float, plain: float = 0.4) -> Field:
    """A function of points (..., 3) to albedo (..., 3): plain, spots, stripes, patches, countershading or speckles.

    Args:
        colours: base colour first, then the colours of the pattern.
        size: extent of the object.
        plain: share of objects with one (slightly mottled) colour.
    """
    ground, mark = colours[0], colours[min(1, len(colours) - 1)]
    last = colours[-1]
    mottle = smooth_field(rng, 9 / size)
    strength = rng.uniform(0.03, 0.2)
    kind = (
        "plain" if rng.random() < plain else rng.choice(["spots", "stripes", "patches", "shade", "speckles", "rings"])
    )
    coarse, fine = smooth_field(rng, rng.uniform(5, 14) / size, 2), smooth_field(rng, rng.uniform(16, 40) / size)
    axis, period = rng.normal(size=3), rng.uniform(0.08, 0.3) * size
    axis /= np.linalg.norm(axis)
    edge = rng.uniform(2, 12)

    def share(points: np.ndarray) -> np.ndarray:
        if kind == "plain":
            return np.zeros((*points.shape[:-1], 1))
        if kind == "spots":
            level = coarse(points).prod(-1, keepdims=True) - 0.4 + 0.1 * fine(points)
        elif kind == "stripes":
            bent = points @ axis + 0.25 * period * coarse(points)[..., 0]
            level = np.sin(2 * np.pi * bent / period)[..., None] - 0.1
        elif kind == "rings":
            level = np.sin(2 * np.pi * np.linalg.norm(points, axis=-1, keepdims=True) / period) - 0.1
        elif kind == "patches":
            level = coarse(points)[..., :1] + 0.15 * fine(points)
        elif kind == "shade":
            level = 0.5 * (points @ axis)[..., None] / (0.3 * size) + 0.2 * coarse(points)[..., :1]
        else:
            level = fine(points) - 0.8
        return 1 / (1 + np.exp(-np.clip(edge * level, -30, 30)))

    def albedo(points: np.ndarray) -> np.ndarray:
        mixed = share(points)
        other = np.where(coarse(points)[..., 1:] > 0.3, mark, last) if len(colours) > 2 else mark
        return np.clip((ground + mixed * (other - ground)) * np.exp(strength * mottle(points)), 0, 0.98)

    return albedo
