"""Surfaces and backgrounds: fractal noise, dead leaves, fur, stripes, bokeh, landscapes, crops of photographs.

Every function draws from a generator and returns (height, width, 3) uint8 RGB. Colours are changed by look-up tables on
8-bit values, which keeps the time for a whole scene at a few milliseconds.
"""

from collections.abc import Callable, Sequence

import cv2
import numpy as np

Texture = Callable[[np.random.Generator, int, int], np.ndarray]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601


def fractal_noise(
    rng: np.random.Generator, height: int, width: int, persistence: float = 0.6, coarsest: float = 0.5
) -> np.ndarray:
    """Noise with a falling power spectrum, about 0.5 +- 0.2.

    Args:
        persistence: ratio of the amplitudes of an octave and the next coarser; 1 is the 1/f of natural images.
        coarsest: wavelength of the first octave as a fraction of the longer side.

    Returns:
        (height, width) float32 in [0, 1].
    """
    longest = max(height, width)
    cell = max(2.0, coarsest * longest)
    rows, columns = int(np.ceil(height / cell)) + 1, int(np.ceil(width / cell)) + 1
    noise = rng.random((rows, columns), np.float32)  # uniform, as their sum is nearly normal and they are fast to draw
    amplitude = 1.0
    while cell > 2:
        cell /= 2
        amplitude *= persistence
        rows, columns = rows * 2, columns * 2
        noise = cv2.resize(noise, (columns, rows), interpolation=cv2.INTER_LINEAR)
        noise += np.float32(amplitude) * rng.random((rows, columns), np.float32)
    noise = cv2.resize(noise, (int(columns * cell), int(rows * cell)), interpolation=cv2.INTER_LINEAR)
    noise = noise[:height, :width]
    mean, deviation = cv2.meanStdDev(noise)
    gain = 0.2 / (deviation.item() + 1e-6)
    return np.clip(noise * np.float32(gain) + np.float32(0.5 - gain * mean.item()), 0, 1)


def random_hue(rng: np.random.Generator) -> float:
    """A hue in [0, 1): for a half skin, fur, wood and earth, for a quarter foliage and sky, for a quarter any hue."""
    kind = rng.random()
    if kind < 0.5:
        return rng.normal(0.08, 0.04) % 1
    if kind < 0.65:
        return rng.normal(0.28, 0.06)
    if kind < 0.78:
        return rng.normal(0.59, 0.05)
    return rng.random()


def random_colour(rng: np.random.Generator) -> np.ndarray:
    """One colour, (3,) uint8, mostly of moderate saturation, as surfaces have."""
    return _from_hsv(random_hue(rng), rng.beta(1.5, 1.9), rng.uniform(0.12, 1.0))


def random_palette(rng: np.random.Generator, colours: int = 4, spread: float = 0.08) -> np.ndarray:
    """A (256, 3) uint8 colour ramp through `colours` colours of one or two hues, dark to bright.

    Colours are sorted by brightness, so that noise looks like light and shade and not like a rainbow.
    """
    hues = random_hue(rng) + rng.normal(0, spread, colours)
    if rng.random() < 0.35:  # a second hue, for instance brown and green
        hues[rng.integers(colours) :] = random_hue(rng)
    saturation = np.clip(rng.beta(1.5, 1.9) + rng.normal(0, 0.12, colours), 0, 1)
    value = np.sort(rng.uniform(0.12, 0.9) + rng.normal(0, 0.28, colours)).clip(0.02, 1)
    stops = np.stack([_from_hsv(*hsv) for hsv in zip(hues, saturation, value, strict=True)])
    positions = np.linspace(0, 255, colours)
    ramp = [np.interp(np.arange(256), positions, stops[:, channel]) for channel in range(3)]
    return np.rint(np.stack(ramp, axis=1)).astype(np.uint8)


def fractal(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Cloudy, earthy or leafy noise in the colours of a random palette."""
    noise = fractal_noise(rng, height, width, rng.uniform(0.45, 0.9), rng.uniform(0.08, 0.7))
    return _coloured(noise, random_palette(rng))


def patches(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Two or three flat colours in noise-shaped patches, slightly mottled: hide, camouflage, a pumpkin."""
    noise = fractal_noise(rng, height, width, rng.uniform(0.3, 0.6), rng.uniform(0.1, 0.5))
    steps = np.digitize(noise, np.sort(rng.normal(0.5, 0.15, rng.integers(1, 3)))).astype(np.uint8)
    colours = np.stack([random_colour(rng) for _ in range(3)])
    flat = cv2.GaussianBlur(colours[steps], (3, 3), 0)
    return shaded(flat, fractal_noise(rng, height, width, 0.9, 0.2), rng.uniform(0.1, 0.8))


def fur(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Combed fibres: noise stretched along a direction that bends slowly over the surface."""
    return _coloured(fibres(rng, height, width, rng.uniform(0, np.pi)), random_palette(rng, spread=0.03))


def fibres(rng: np.random.Generator, height: int, width: int, angle: float) -> np.ndarray:
    """The noise of `fur`: (height, width) float32 in [0, 1], fibres along `angle` (radians, y downwards)."""
    side = int(np.hypot(height, width)) + 2
    length = rng.uniform(8, 30)
    coarse = rng.standard_normal((side, int(side / length) + 2), np.float32)
    broad = rng.standard_normal((side // 6 + 2, int(side / length / 2) + 2), np.float32)
    strips = cv2.resize(coarse, (side, side), interpolation=cv2.INTER_LINEAR)
    strips += rng.uniform(0.3, 1.0) * cv2.resize(broad, (side, side), interpolation=cv2.INTER_CUBIC)
    x, y = _bent_grid(rng, height, width, rng.uniform(0.01, 0.045) * side)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along = x * cos + y * sin + side / 2
    across = y * cos - x * sin + side / 2
    noise = cv2.remap(strips, along, across, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    return np.clip(0.5 + 0.22 * noise, 0, 1)


def dead_leaves(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Opaque discs and boxes of power-law sizes thrown over each other (Matheron's dead leaves model).

    Its occlusions have the edge and size statistics of natural images (Lee, Mumford and Huang, 2001).
    """
    shorter = min(height, width)
    palettes = np.concatenate([random_palette(rng) for _ in range(3)])
    colours = palettes[rng.integers(len(palettes), size=160)].tolist()
    smallest, largest = 0.025 * shorter, 0.5 * shorter
    radii = smallest / np.maximum(rng.random(160), (smallest / largest) ** 2) ** 0.5  # density 1 / r^3
    centres = rng.random((160, 2)) * (width, height)
    image = np.empty((height, width, 3), np.uint8)
    image[:] = colours[0]
    boxes = rng.random(160) < 0.3
    for colour, radius, centre, box in zip(colours, radii, centres, boxes, strict=True):
        if box:
            corners = cv2.boxPoints((tuple(centre), (2 * radius, radius), radius * 977 % 180))
            cv2.fillConvexPoly(image, corners.astype(np.int32), colour)
        else:
            cv2.circle(image, centre.astype(int).tolist(), int(radius) + 1, colour, -1)
    soft = cv2.GaussianBlur(image, (3, 3), 0)
    return shaded(soft, fractal_noise(rng, height, width, 0.8, 0.3), rng.uniform(0.2, 0.9))


def gradient(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A smooth ramp between palette colours, with a trace of noise: sky, wall, studio paper."""
    x, y = _grid(height, width)
    angle = rng.uniform(0, 2 * np.pi)
    ramp = (x * np.cos(angle) + y * np.sin(angle)) / max(height, width)
    noise = fractal_noise(rng, height, width, 0.4, 0.6) - 0.5
    level = 0.5 + rng.uniform(0.2, 0.8) * ramp + rng.uniform(0, 0.4) * noise
    return _coloured(np.clip(level, 0, 1).astype(np.float32), random_palette(rng, 3))


def stripes(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Stripes or checks, bent and shaded: cloth, knitwear, tiles."""
    x, y = _bent_grid(rng, height, width, rng.uniform(0, 12))
    angle, period = rng.uniform(0, np.pi), np.exp(rng.uniform(np.log(5), np.log(50)))
    phase = (x * np.cos(angle) + y * np.sin(angle)) * (2 * np.pi / period)
    wave = np.sin(phase)
    if rng.random() < 0.4:
        wave = wave * np.sin((y * np.cos(angle) - x * np.sin(angle)) * (2 * np.pi / period))
    level = 0.5 + 0.5 * np.tanh(rng.uniform(0.7, 6) * wave)
    first, second = random_colour(rng).astype(np.float32), random_colour(rng).astype(np.float32)
    image = first + level[..., None].astype(np.float32) * (second - first)
    return shaded(image.astype(np.uint8), fractal_noise(rng, height, width, 0.8, 0.4), rng.uniform(0.2, 1))


def bokeh(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Overlapping bright discs over a dark blur, as lights and leaves far out of focus."""
    shorter = min(height, width)
    image = defocused(fractal(rng, height, width), 0.05 * shorter) // 2
    palette = random_palette(rng)
    radius = rng.uniform(0.02, 0.12) * shorter
    for _ in range(int(rng.integers(8, 30))):
        centre = rng.integers(0, (width, height)).tolist()
        _mix_disc(image, centre, int(radius * rng.uniform(0.7, 1.3)) + 1, palette[rng.integers(90, 256)])
    return cv2.GaussianBlur(image, (0, 0), max(0.6, 0.1 * radius))


def landscape(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """A bright plain upper part over darker textured ground with an uneven horizon, sometimes with clouds."""
    _, y = _grid(height, width)
    ridge = fractal_noise(rng, 2, width, 0.6, 0.6)[0] - 0.5
    horizon = rng.uniform(-0.35, 0.35) * height + rng.uniform(0, 0.5) * height * ridge
    above = np.clip(0.5 + (horizon - y) / max(1.0, 0.01 * height), 0, 1)[..., None]
    clouds = rng.uniform(0, 1.2) * (fractal_noise(rng, height, width) - 0.5)
    sky = _coloured(np.clip(0.5 + 0.5 * y / height + clouds, 0, 1), _sky_palette(rng))
    ground = fractal(rng, height, width)
    return (above * sky + (1 - above) * ground).astype(np.uint8)


def photograph(rng: np.random.Generator, height: int, width: int, photographs: Sequence[np.ndarray]) -> np.ndarray:
    """A random crop of one of `photographs`, flipped, rotated, scaled and recoloured."""
    source = photographs[rng.integers(len(photographs))]
    if rng.random() < 0.15:
        source = source.transpose(1, 0, 2)
    rows, columns = source.shape[:2]
    largest = min(rows / height, columns / width)  # source pixels per output pixel
    ratio = np.exp(rng.uniform(np.log(min(0.35, largest)), np.log(min(largest, 2.5))))
    crop_height, crop_width = max(2, int(height * ratio)), max(2, int(width * ratio))
    top, left = rng.integers(rows - crop_height + 1), rng.integers(columns - crop_width + 1)
    crop = source[top : top + crop_height, left : left + crop_width]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    method = cv2.INTER_AREA if ratio > 1 else cv2.INTER_CUBIC
    return recoloured(rng, cv2.resize(np.ascontiguousarray(crop), (width, height), interpolation=method))


def recoloured(rng: np.random.Generator, texture: np.ndarray) -> np.ndarray:
    """Random saturation, hue shift, gamma and channel gains; a gray texture is tinted."""
    saturation = rng.uniform(0.2, 1.35)
    gray_mix = (1 - saturation) * np.tile(LUMA, (3, 1))
    hue_turn = _hue_rotation(rng.normal(0, 0.2) if rng.random() < 0.85 else rng.uniform(-np.pi, np.pi))
    texture = cv2.transform(texture, saturation * hue_turn + gray_mix)
    gamma = np.exp(rng.normal(0.1, 0.35))
    gains = np.exp(rng.normal(0, 0.12, 3) + rng.normal(0, 0.15))
    if rng.random() < 0.25:  # a strong tint, the only source of colour for a gray photograph
        gains *= (0.25 + 0.75 * random_colour(rng) / 255.0) / 0.7
    return with_curves(texture, (np.arange(256)[:, None] / 255.0) ** gamma * gains)


def with_curves(texture: np.ndarray, curves: np.ndarray) -> np.ndarray:
    """Map each channel of (H, W, 3) uint8 `texture` by its column of (256, 3) `curves`, with values in [0, 1]."""
    table = np.rint(np.clip(curves, 0, 1) * 255).astype(np.uint8)
    return cv2.LUT(texture, table[None])


def moved_to_mean(texture: np.ndarray, target: np.ndarray, strength: float) -> np.ndarray:
    """Bend the channel curves so that the mean colour moves by the share `strength` to `target`, both in [0, 1]."""
    mean = np.clip(np.asarray(cv2.mean(texture)[:3]) / 255, 0.02, 0.98)
    target = np.clip(mean + strength * (target - mean), 0.02, 0.98)
    gamma = np.clip(np.log(target) / np.log(mean), 0.2, 5)
    return with_curves(texture, (np.arange(256)[:, None] / 255.0) ** gamma)


def shaded(texture: np.ndarray, noise: np.ndarray, strength: float) -> np.ndarray:
    """Multiply (H, W, 3) uint8 `texture` by 1 + strength * (noise - 0.5)."""
    factor = (1 + strength * (noise - 0.5)).astype(np.float32)
    return np.clip(texture * cv2.merge([factor] * 3), 0, 255).astype(np.uint8)


def defocused(texture: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian blur of `sigma` pixels; a strong blur is computed on a reduced image, which is much faster."""
    if sigma < 0.3:
        return texture
    factor = max(1, int(sigma / 2))
    height, width = texture.shape[:2]
    small_size = (max(2, width // factor), max(2, height // factor))
    small = cv2.resize(texture, small_size, interpolation=cv2.INTER_AREA) if factor > 1 else texture
    small = cv2.GaussianBlur(small, (0, 0), sigma / factor)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC) if factor > 1 else small


SURFACES: tuple[tuple[Texture, float], ...] = (
    (fractal, 0.3),
    (fur, 0.25),
    (patches, 0.15),
    (gradient, 0.1),
    (stripes, 0.1),
    (dead_leaves, 0.1),
)
BACKDROPS: tuple[tuple[Texture, float], ...] = (
    (landscape, 0.28),
    (fractal, 0.22),
    (dead_leaves, 0.18),
    (bokeh, 0.12),
    (gradient, 0.1),
    (patches, 0.04),
    (stripes, 0.06),
)


def pick(rng: np.random.Generator, weighted: Sequence[tuple[Texture, float]]) -> Texture:
    """Choose one function by its weight; the weights sum to 1."""
    weights = np.array([weight for _, weight in weighted])
    return weighted[int(rng.choice(len(weighted), p=weights))][0]


def _coloured(level: np.ndarray, palette: np.ndarray) -> np.ndarray:
    """Look (H, W) `level` in [0, 1] up in a (256, 3) palette."""
    index = (level * 255).astype(np.uint8)
    return cv2.LUT(cv2.merge([index, index, index]), palette[None])


def _grid(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Pixel coordinates x, y (H, W) float32 with the origin in the middle."""
    x = np.arange(width, dtype=np.float32) - width / 2
    y = np.arange(height, dtype=np.float32) - height / 2
    return np.broadcast_to(x, (height, width)), np.broadcast_to(y[:, None], (height, width))


def _bent_grid(rng: np.random.Generator, height: int, width: int, amount: float) -> tuple[np.ndarray, np.ndarray]:
    """`_grid` displaced smoothly by about `amount` pixels."""
    x, y = _grid(height, width)
    shift = amount * rng.standard_normal((4, 4, 2), np.float32)
    shift = cv2.resize(shift, (width, height), interpolation=cv2.INTER_CUBIC)
    return x + shift[..., 0], y + shift[..., 1]


def _mix_disc(image: np.ndarray, centre: list[int], radius: int, colour: np.ndarray) -> None:
    """Mix `colour` half into a disc of `image`, in place."""
    x, y = centre
    region = image[max(0, y - radius) : y + radius + 1, max(0, x - radius) : x + radius + 1]
    filled = region.copy()
    offset = (x - max(0, x - radius), y - max(0, y - radius))
    cv2.circle(filled, offset, radius, colour.tolist(), -1)
    cv2.addWeighted(region, 0.5, filled, 0.5, 0, dst=filled)
    region[:] = filled


def _sky_palette(rng: np.random.Generator) -> np.ndarray:
    hue = rng.normal(0.58, 0.03) if rng.random() < 0.6 else random_hue(rng)
    deep = _from_hsv(hue, rng.uniform(0.1, 0.7), rng.uniform(0.3, 0.8)).astype(np.float64)
    pale = _from_hsv(hue + rng.normal(0, 0.05), rng.uniform(0, 0.3), rng.uniform(0.6, 1)).astype(np.float64)
    mix = np.linspace(0, 1, 256)[:, None]
    return np.rint(deep + mix * (pale - deep)).astype(np.uint8)


def _hue_rotation(angle: float) -> np.ndarray:
    """The 3 x 3 rotation of RGB about the gray axis by `angle` radians (Rodrigues' formula)."""
    axis = np.ones(3) / np.sqrt(3)
    cross = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    return np.cos(angle) * np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * np.outer(axis, axis)


def _from_hsv(hue: float, saturation: float, value: float) -> np.ndarray:
    """(3,) uint8 RGB of a colour given in [0, 1]; the hue wraps."""
    sector = (hue % 1.0) * 6.0 + np.array([5.0, 3.0, 1.0])
    sector %= 6.0
    share = np.clip(np.minimum(sector, 4.0 - sector), 0, 1)
    return np.rint(255 * value * (1 - saturation * share)).astype(np.uint8)
