"""One scene: an object in front of a background, of which only the requested window is drawn.

Objects are vectors, so a 128-pixel crop of a 900-pixel scene costs no more than its own pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from data.synthetic import layers, shapes, textures
from data.synthetic.families import FAMILIES, Frame

FIBROUS = ("hair", "fur")
DARKEST = 0.14  # lowest mean luminance of a body, below which edges disappear in the grain


@dataclass(frozen=True)
class Scene:
    """`alpha` (H, W), `foreground` and `background` (H, W, 3): float32 in [0, 1]."""

    alpha: np.ndarray
    foreground: np.ndarray
    background: np.ndarray

    def composite(self) -> np.ndarray:
        """The photograph: alpha * foreground + (1 - alpha) * background, (H, W, 3) float32."""
        alpha = layers.widened(self.alpha)
        return alpha * self.foreground + (1 - alpha) * self.background


def pick_family(rng: np.random.Generator) -> str:
    """Draw the name of a family by its share."""
    shares = np.array([share for _, share in FAMILIES.values()])
    return str(rng.choice(list(FAMILIES), p=shares / shares.sum()))


def draw_scene(
    rng: np.random.Generator,
    family: str,
    window: tuple[int, int],
    scene: tuple[float, float],
    photographs: Sequence[np.ndarray] = (),
    background_photographs: float = 0.5,
) -> Scene:
    """Draw a window of a scene, placed over the object's edge.

    Args:
        family: a key of `FAMILIES`.
        window, scene: (height, width) in pixels; the scene is at least as large as the window.
        photographs: (H, W, 3) uint8, the source of surfaces and backgrounds; without any, all are procedural.
        background_photographs: share of backgrounds cut from photographs.
    """
    height, width = window
    layer, surface = draw_object(rng, family, window, scene, photographs)
    alpha, foreground = layers.separated(layer, surface)
    background = _background(rng, height, width, photographs, background_photographs)
    background = _related(rng, background, layer)
    return Scene(alpha, *_with_grain(rng, foreground, background))


def draw_object(
    rng: np.random.Generator,
    family: str,
    window: tuple[int, int],
    scene: tuple[float, float],
    photographs: Sequence[np.ndarray] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Draw the object alone, as `draw_scene` does: its layer (H, W, 4) and (H, W, 3) uint8 colours for empty pixels."""
    height, width = window
    unit = min(scene)
    outlines = _placed_outlines(rng, window, scene)
    surface = _surface(rng, family, height, width, photographs)
    surface = _lit_surface(rng, surface, outlines, unit)
    layer = FAMILIES[family][0](rng, Frame(height, width, unit, outlines, surface))
    return _through_lens(rng, layer, unit), surface


def _placed_outlines(rng: np.random.Generator, window: tuple[int, int], scene: tuple[float, float]) -> list[np.ndarray]:
    """Outlines of a body in the scene, in coordinates of a window that has some of the edge near its middle."""
    unit = min(scene)
    outlines = shapes.body_outlines(rng, unit * rng.uniform(0.24, 0.44))
    centre = np.array([rng.uniform(0.35, 0.65) * scene[1], rng.uniform(0.4, 0.7) * scene[0]])
    outlines = [outline + centre for outline in outlines]
    edge = np.concatenate(outlines)
    visible = edge[(edge > 0).all(axis=1) & (edge < (scene[1], scene[0])).all(axis=1)]
    focus = visible[rng.integers(len(visible))] if len(visible) else centre
    size = np.array([window[1], window[0]], float)
    slack = np.maximum(np.array([scene[1], scene[0]]) - size, 0)
    corner = np.clip(focus - size * rng.uniform(0.2, 0.8, 2), 0, slack)
    return [outline - corner for outline in outlines]


def _surface(
    rng: np.random.Generator, family: str, height: int, width: int, photographs: Sequence[np.ndarray]
) -> np.ndarray:
    """Surface of the body, usually fibrous if fibres grow out of it."""
    if family in FIBROUS and rng.random() < 0.6:
        return textures.fur(rng, height, width)
    if len(photographs) and rng.random() < 0.45:
        return textures.photograph(rng, height, width, photographs)
    return textures.recoloured(rng, textures.pick(rng, textures.SURFACES)(rng, height, width))


def _lit_surface(rng: np.random.Generator, surface: np.ndarray, outlines: list[np.ndarray], unit: float) -> np.ndarray:
    """Light from one side, folds, and a darker or brighter rim, as on round objects."""
    height, width = surface.shape[:2]
    rows, columns = max(2, height // 4), max(2, width // 4)
    inside = shapes.coverage_of([outline / 4 for outline in outlines], rows, columns)
    depth = shapes.inner_distance(inside, max(2.0, 0.12 * unit / 4))
    angle = rng.uniform(0, 2 * np.pi)
    x = (np.arange(columns) - columns / 2)[None] * (4 / unit)
    y = (np.arange(rows) - rows / 2)[:, None] * (4 / unit)
    level = rng.normal(0, 0.5) * (x * np.cos(angle) + y * np.sin(angle)) * 2
    level = level + rng.uniform(0, 1.2) * (textures.fractal_noise(rng, rows, columns, 0.5, 0.6) - 0.5)
    level = level + rng.normal(-0.15, 0.3) * (1 - depth)
    light = cv2.resize(np.exp(level).astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    luminance = np.asarray(cv2.mean(surface)[:3]) @ textures.LUMA / 255
    light *= max(1.0, DARKEST / max(luminance * light.mean(), 0.01))
    return np.clip(surface * layers.widened(light), 0, 255).astype(np.uint8)


def _through_lens(rng: np.random.Generator, layer: np.ndarray, unit: float) -> np.ndarray:
    """Spread of the lens, sometimes a missed focus, sometimes motion."""
    sigma = rng.uniform(0.2, 0.8) if rng.random() < 0.85 else rng.uniform(0.8, max(1.0, unit / 200))
    layer = layers.blurred(layer, sigma)
    if rng.random() < 0.08:
        longest = max(4, int(0.06 * unit))
        layer = layers.motion_blurred(layer, int(rng.integers(3, longest + 1)), rng.uniform(0, np.pi))
    return layer


def _background(
    rng: np.random.Generator, height: int, width: int, photographs: Sequence[np.ndarray], photograph_share: float
) -> np.ndarray:
    """A background, more often out of focus than sharp, as the camera looks at the object."""
    if len(photographs) and rng.random() < photograph_share:
        backdrop = textures.photograph(rng, height, width, photographs)
    else:
        backdrop = textures.recoloured(rng, textures.pick(rng, textures.BACKDROPS)(rng, height, width))
    if rng.random() < 0.25:
        return backdrop
    return textures.defocused(backdrop, np.exp(rng.uniform(np.log(0.5), np.log(0.06 * max(height, width, 16)))))


def _related(rng: np.random.Generator, background: np.ndarray, layer: np.ndarray) -> np.ndarray:
    """Move the background's mean colour: in one of eight scenes close to the object's, otherwise away from it."""
    *colour, area = np.asarray(cv2.mean(layer))
    own = np.asarray(colour) / max(area, 1e-3)
    mean = np.asarray(cv2.mean(background)[:3]) / 255
    if rng.random() < 0.12:
        return textures.moved_to_mean(background, own, rng.uniform(0.5, 0.95))
    if np.abs(own - mean).max() < 0.22:
        away = own + (0.35 if own.mean() < 0.45 else -0.35) + rng.normal(0, 0.08, 3)
        return textures.moved_to_mean(background, away, rng.uniform(0.5, 1))
    return background


def _with_grain(
    rng: np.random.Generator, foreground: np.ndarray, background: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Foreground and background, (H, W, 3) float32, with the same sensor grain added to both.

    With equal grain in both, the composite has the same grain for every alpha: the picture is noisy and the compositing
    equation is still exact.
    """
    strength = 0.04 * rng.random() ** 3
    grain = rng.integers(-128, 128, foreground.shape, dtype=np.int8) * np.float32(strength / 74)
    background = np.clip(background * np.float32(1 / 255) + grain, 0, 1)
    return np.clip(foreground + grain, 0, 1), background
