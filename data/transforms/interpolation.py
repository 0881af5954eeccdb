"""Choice of the resampling kernel of a layer."""

import cv2
import numpy as np

KERNELS = (cv2.INTER_NEAREST, cv2.INTER_LINEAR, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4)
MODES = ("random", "linear")


def draw_interpolation(rng: np.random.Generator, mode: str) -> int:
    """OpenCV interpolation flag: one of the four `KERNELS` for "random", bilinear for "linear".

    Random kernels are an augmentation of ViTMatte's recipe (hustvl/ViTMatte): the network sees sharp, soft and
    ringing edges.
    """
    drawn = KERNELS[int(rng.integers(len(KERNELS)))]  # drawn in every mode, so that the other draws do not change
    return drawn if mode == "random" else cv2.INTER_LINEAR
