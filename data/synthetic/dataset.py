"""SyntheticMatting: an endless, repeatable matting data set with exact alpha, foreground and background."""

import operator
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from data.images.trimap import BACKGROUND, FOREGROUND, UNKNOWN, trimap_from_alpha
from data.images.trimap_tensors import trimap_to_tensor
from data.synthetic.photographs import shipped_photographs
from data.synthetic.scene import Scene, draw_scene, pick_family
from runtime.errors import InputError, require_choice

PHOTOGRAPH_SHARE = {"mixed": 0.5, "textures": 0.0, "photographs": 1.0}
WHOLE_SCENE_FROM = 384  # pixels; smaller samples are crops of larger scenes
SMALLEST_SIZE = 32
ATTEMPTS = 12


class SyntheticMatting(Dataset):
    """Procedural composites: `dataset[index]`, or `dataset[epoch, index]` for different samples in every epoch.

    A sample is a pure function of (seed, epoch, index). It does not depend on workers, order or earlier calls. Nothing
    is read or drawn before the first sample.

    Args:
        size: side, or (height, width), of a sample in pixels.
        samples_per_epoch: number of samples in an epoch.
        trimap_erosion: smallest and largest side in pixels of the structuring elements that make trimaps, drawn for
            foreground and background separately, with a preference for narrow ones. Default: 1 to a fifth of the
            shorter side, at most 41, which covers the two trimap sets of alphamatting.com.
        scene_size: smallest and largest shorter side in pixels of the scene that a sample is cut from, drawn
            log-uniformly. Default: 1.2 to 7 sizes (at most 1000) for samples under 384 pixels, like training crops;
            larger samples show whole scenes.
        backgrounds: "mixed", "textures" (also for surfaces; reads no files) or "photographs".
        sensor_noise, jpeg_quality: degradation of the image alone after compositing: the standard deviation of Gaussian
            noise in [0, 1] units, and the JPEG quality 1..100. By default there is none, and
            image = alpha * fg + (1 - alpha) * bg holds exactly in float32.

    Raises:
        InputError: a setting out of its range; on the first sample, scikit-image's photographs are missing.

    Example:
        >>> dataset = SyntheticMatting(size=64, backgrounds="textures")
        >>> sample = dataset[2, 7]  # epoch 2, sample 7
        >>> sample["image"].shape, sample["trimap"].shape, sample["alpha"].shape
        (torch.Size([3, 64, 64]), torch.Size([1, 64, 64]), torch.Size([1, 64, 64]))
    """

    def __init__(
        self,
        size: int | tuple[int, int] = 128,
        samples_per_epoch: int = 1000,
        seed: int = 0,
        trimap_erosion: tuple[int, int] | None = None,
        scene_size: tuple[float, float] | None = None,
        backgrounds: str = "mixed",
        sensor_noise: float = 0.0,
        jpeg_quality: int | None = None,
    ):
        self.height, self.width = _checked_size(size)
        shorter = min(self.height, self.width)
        self.samples_per_epoch = _at_least("samples_per_epoch", samples_per_epoch, 1)
        self.seed = _at_least("seed", seed, 0)
        self.trimap_erosion = _checked_range(
            "trimap_erosion", trimap_erosion or (1, int(np.clip(0.2 * shorter, 5, 41))), lowest=1
        )
        self.scene_size = _checked_range("scene_size", scene_size or _usual_scenes(shorter), lowest=shorter)
        require_choice("backgrounds", backgrounds, PHOTOGRAPH_SHARE)
        self.backgrounds = backgrounds
        self.sensor_noise = _at_least("sensor_noise", sensor_noise, 0)
        if jpeg_quality is not None and not 1 <= jpeg_quality <= 100:
            raise InputError(f"jpeg_quality: expected None or 1..100, got {jpeg_quality}")
        self.jpeg_quality = jpeg_quality

    def __len__(self) -> int:
        return self.samples_per_epoch

    def __getitem__(self, key: int | tuple[int, int]) -> dict[str, torch.Tensor | str]:
        """Return image, fg, bg (3, H, W), alpha (1, H, W), trimap (1, H, W) of 0, 0.5, 1 (all float32), and name."""
        scene, trimap = self.scene(key)
        rng = self._generator(key, stream=2)
        image = self._degraded(rng, scene.composite())
        return {
            "image": _to_tensor(image),
            "trimap": trimap_to_tensor(trimap),
            "alpha": _to_tensor(scene.alpha[..., None]),
            "fg": _to_tensor(scene.foreground),
            "bg": _to_tensor(scene.background),
            "name": self.name(key),
        }

    def scene(self, key: int | tuple[int, int]) -> tuple[Scene, np.ndarray]:
        """Arrays of a sample: the scene and its (H, W) uint8 trimap of 0, 128 and 255.

        The trimap always has an unknown region. A scene with less than 1 % of either known region, or with hardly any
        unknown pixels, is redrawn up to `ATTEMPTS` times.
        """
        family, rng = self._family(key), self._generator(key, stream=1)
        photographs = () if self.backgrounds == "textures" else shipped_photographs()
        kept = None
        for _ in range(ATTEMPTS):
            scene = self._drawn(rng, family, photographs)
            trimap = random_trimap(rng, scene.alpha, self.trimap_erosion)
            if _has_all_regions(trimap):
                return scene, trimap
            if kept is None and (trimap == UNKNOWN).any():
                kept = scene, trimap
        if kept is None:
            raise RuntimeError(f"{self.name(key)}: {ATTEMPTS} scenes in a row had no unknown pixel")
        return kept

    def name(self, key: int | tuple[int, int]) -> str:
        """Name of the sample, "<family>_<index>", with the epoch in between unless it is 0. Nothing is drawn."""
        epoch, index = self._position(key)
        return f"{self._family(key)}_{index}" if epoch == 0 else f"{self._family(key)}_e{epoch}_{index}"

    def _position(self, key: int | tuple[int, int]) -> tuple[int, int]:
        epoch, index = key if isinstance(key, tuple | list) else (0, key)
        epoch, index = operator.index(epoch), operator.index(index)
        if not 0 <= index < len(self) or epoch < 0:
            raise IndexError(f"sample {index} of epoch {epoch}: the data set has {len(self)} samples per epoch")
        return epoch, index

    def _generator(self, key: int | tuple[int, int], stream: int) -> np.random.Generator:
        """Separate streams for the family (0), the scene (1) and the degradation (2) of one sample."""
        return np.random.default_rng(np.random.SeedSequence((self.seed, *self._position(key), stream)))

    def _family(self, key: int | tuple[int, int]) -> str:
        return pick_family(self._generator(key, stream=0))

    def _drawn(self, rng: np.random.Generator, family: str, photographs: Sequence[np.ndarray]) -> Scene:
        low, high = self.scene_size
        shorter = np.exp(rng.uniform(np.log(low), np.log(high)))
        scale = max(1.0, shorter / min(self.height, self.width))
        return draw_scene(
            rng,
            family,
            window=(self.height, self.width),
            scene=(self.height * scale, self.width * scale),
            photographs=photographs,
            background_photographs=PHOTOGRAPH_SHARE[self.backgrounds],
        )

    def _degraded(self, rng: np.random.Generator, image: np.ndarray) -> np.ndarray:
        if self.sensor_noise > 0:
            noise = rng.standard_normal(image.shape, np.float32)
            image = np.clip(image + np.float32(self.sensor_noise) * noise, 0, 1)
        if self.jpeg_quality is not None:
            pixels = np.rint(image[..., ::-1] * 255).astype(np.uint8)  # cv2 expects BGR
            _, coded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, self.jpeg_quality])
            image = cv2.imdecode(coded, cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32) / 255
        return image


def random_trimap(rng: np.random.Generator, alpha: np.ndarray, erosion: tuple[int, int]) -> np.ndarray:
    """Draw a trimap for (H, W) `alpha`: eroded known regions, and dabs of unknown as painted by hand.

    Both erosions are `low` to `high` pixels wide (sides of the element), with a preference for narrow ones. If a known
    region vanishes, they are halved until it does not or they are 1.

    Returns:
        (H, W) uint8 of 0, 128 and 255; known regions agree with alpha.
    """
    low, high = erosion
    sides = low + (high - low) * rng.random() ** 1.5 * rng.uniform(0.5, 1, 2)
    while True:
        foreground_side, background_side = (max(1, round(side)) for side in sides)
        trimap = trimap_from_alpha(alpha, foreground_side, background_side)
        if max(foreground_side, background_side) == 1 or _has_all_regions(trimap):
            break
        sides = sides / 2
    painted = _painted_wider(rng, trimap, int(max(sides)))
    return painted if _has_all_regions(painted) else trimap


def _painted_wider(rng: np.random.Generator, trimap: np.ndarray, side: int) -> np.ndarray:
    """Close small known islands and add round dabs along the unknown band, as with a brush."""
    unknown = (trimap == UNKNOWN).astype(np.uint8)
    if rng.random() < 0.4:
        element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side // 2 * 2 + 3,) * 2)
        unknown = cv2.morphologyEx(unknown, cv2.MORPH_CLOSE, element)
    if rng.random() < 0.3:
        rows, columns = np.nonzero(unknown)
        for _ in range(int(rng.integers(1, 8)) if len(rows) else 0):
            at = rng.integers(len(rows))
            cv2.circle(unknown, (int(columns[at]), int(rows[at])), int(rng.integers(1, side + 4)), 1, -1)
    return np.where(unknown > 0, np.uint8(UNKNOWN), trimap)


def _has_all_regions(trimap: np.ndarray) -> bool:
    """Return whether known foreground, known background and unknown pixels are at least 1 % each."""
    least = 0.01 * trimap.size
    return all(np.count_nonzero(trimap == value) >= least for value in (BACKGROUND, UNKNOWN, FOREGROUND))


def _to_tensor(array: np.ndarray) -> torch.Tensor:
    """(H, W, C) -> (C, H, W) float32, contiguous."""
    return torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1), dtype=np.float32))


def _usual_scenes(shorter: int) -> tuple[float, float]:
    if shorter >= WHOLE_SCENE_FROM:
        return shorter, shorter
    return 1.2 * shorter, max(1.2 * shorter, min(7 * shorter, 1000))


def _checked_size(size: int | Sequence[int]) -> tuple[int, int]:
    sides = (size, size) if isinstance(size, int) else tuple(size)
    if len(sides) != 2 or min(sides) < SMALLEST_SIZE:
        raise InputError(f"size: expected a side or (height, width) of at least {SMALLEST_SIZE} pixels, got {size}")
    return sides


def _checked_range(name: str, limits: Sequence[float], lowest: float) -> tuple[float, float]:
    if len(limits) != 2 or not lowest <= limits[0] <= limits[1]:
        raise InputError(f"{name}: expected (low, high) with {lowest} <= low <= high, got {tuple(limits)}")
    return tuple(limits)


def _at_least(name: str, value: float, lowest: float) -> float:
    if not value >= lowest:
        raise InputError(f"{name}: expected at least {lowest}, got {value}")
    return value
