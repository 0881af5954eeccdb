"""Probability that a pixel in a user's box belongs to the subject, from its colour and its place in the box."""

import cv2
import numpy as np

SUBJECT_SHARE = 0.4  # of a box: the rest has the colours around the box
CENTRE_WEIGHT = 2.0  # fall of the log-odds from the centre of the box to the middle of its sides
BINS = 20  # in each channel of a histogram
SPREAD = 1.0  # standard deviation in bins of the smoothing of a histogram
Box = tuple[int, int, int, int]  # left, top, right, bottom


def opponent_colours(image: np.ndarray) -> np.ndarray:
    """L*a*b* (H, W, 3) uint8 of an RGB picture, in which the distances of colours resemble those that people see.

    OpenCV's a* and b* have less than half the scale of its L*. They are doubled here, and clipped to -64 to 63.
    """
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[..., 1:] = np.clip(2 * lab[..., 1:].astype(np.int16) - 128, 0, 255)
    return lab


def subject_probability(colours: np.ndarray, box: Box) -> np.ndarray:
    """Probability that a pixel belongs to the subject in a box; 0 outside of it.

    The box contains the subject and some background. The colours of this background are assumed to have the same
    distribution as those around the box, so what remains of the box's histogram is the subject's. A pixel at the centre
    of the box is more likely to belong to the subject than one in its corners.

    Args:
        colours: (H, W, 3) uint8 of the box and its surroundings.
        box: left, top, right and bottom in pixels.

    Returns:
        (H, W) float32 in [0, 1].

    Raises:
        ValueError: the box leaves no pixel outside, so nothing is known about the background.

    Example:
        >>> colours = np.full((60, 60, 3), 40, np.uint8)
        >>> colours[20:40, 20:40] = 220
        >>> probability = subject_probability(colours, (15, 15, 45, 45))
        >>> probability[30, 30].round(2), probability[17, 17].round(2)
        (np.float32(1.0), np.float32(0.0))
    """
    left, top, right, bottom = box
    inside = np.zeros(colours.shape[:2], np.uint8)
    inside[top:bottom, left:right] = 1
    if inside.all():
        raise ValueError(f"box: expected pixels outside of it, got the whole picture, {box}")
    mixture, background = _histogram(colours, inside), _histogram(colours, 1 - inside)
    subject = np.maximum(mixture - (1 - SUBJECT_SHARE) * background, 0) / SUBJECT_SHARE
    channels = colours.astype(np.intp) * BINS // 256
    bins = channels[..., 0], channels[..., 1], channels[..., 2]
    prior = _place_prior(inside.shape, box)
    of_subject, of_background = prior * subject[bins], (1 - prior) * background[bins]
    both = of_subject + of_background
    probability = np.divide(of_subject, both, out=np.zeros_like(both), where=both > 0)
    return np.where(inside > 0, probability, 0).astype(np.float32)


def _histogram(colours: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Distribution (BINS, BINS, BINS) of the colours where (H, W) uint8 is not 0."""
    counts = cv2.calcHist([colours], [0, 1, 2], where, [BINS] * 3, [0, 256] * 3)
    return smoothed(counts / counts.sum())


def smoothed(histogram: np.ndarray) -> np.ndarray:
    """Histogram (BINS, BINS, BINS) with a Gaussian blur of SPREAD; beyond its border it continues with the border.

    It equals `scipy.ndimage.gaussian_filter` with mode="nearest", whose import takes longer than GrabCut.
    """
    reach = round(4 * SPREAD)
    steps = np.arange(-reach, reach + 1)
    weights = np.exp(-((steps / SPREAD) ** 2) / 2)
    rows = np.arange(BINS)[:, None].repeat(len(steps), axis=1)
    blur = np.zeros((BINS, BINS))
    np.add.at(blur, (rows, (rows + steps).clip(0, BINS - 1)), weights / weights.sum())
    return np.einsum("ai,bj,ck,ijk->abc", blur, blur, blur, histogram, optimize=True)


def _place_prior(shape: tuple[int, int], box: Box) -> np.ndarray:
    """Probability (H, W) of the subject where the colour is unknown. Its mean in the box is about SUBJECT_SHARE."""
    left, top, right, bottom = box
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    down = (2 * rows + 1 - top - bottom) / (bottom - top)  # -1 to 1 in the box
    across = (2 * columns + 1 - left - right) / (right - left)
    nearness = 2 / 3 - down**2 - across**2  # the mean of both squares in the box is 1/3
    odds = SUBJECT_SHARE / (1 - SUBJECT_SHARE) * np.exp(CENTRE_WEIGHT * np.maximum(nearness, -2))
    return odds / (1 + odds)
