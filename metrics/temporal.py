"""dtSSD and MESSDdt: flicker of the error of a sequence of mattes.

The metrics are those of Erofeev et al., "Perceptually Motivated Benchmark for Video Matting", BMVC 2015, normalised to
means so that sequences of different sizes can be compared. With e_t = p_t - a_t the error of frame t, dtSSD measures
the change of e from a frame to the next at the same pixel, and MESSDdt the change of e^2 along the motion of the truth.

Two consecutive frames are scored in the unknown region of the earlier one, as in the evaluation codes published with
VideoMatting108 (yunkezhang/TCVOM) and with Deep Video Matting (nowsyn/DVM).
"""

import math
from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from data.images.files import to_uint8
from metrics.pair import MattePair, check_mattes, in_16_bits, matte_pair, scored_boxes

STRIP_ROWS = 128  # rows that are looked up at once, which limits the memory for their float64 coordinates


def dtssd(pred_alphas: Sequence[np.ndarray], alphas: Sequence[np.ndarray], trimap: np.ndarray | None = None) -> float:
    """100 sqrt(mean of ((p_{t+1} - p_t) - (a_{t+1} - a_t))^2), of mattes as fractions in [0, 1]: from 0 to 200.

    PeterL1n/RobustVideoMatting's evaluation and most later tables print the root of a mean times 100. The original,
    TCVOM and DVM use the root of the sum, without the factor 100.

    Args:
        pred_alphas, alphas: two (H, W) uint8 or uint16 arrays each, the frames t and t + 1.
        trimap: (H, W) uint8 of frame t, scored where it is exactly 128; None scores every pixel.

    Returns:
        The root mean square in hundredths; NaN if no pixel is scored.

    Raises:
        ValueError: shapes or dtypes are not as above.

    Example:
        >>> still = np.zeros((4, 4), np.uint8)
        >>> dtssd([still, still + 51], [still, still])  # the prediction changes by 0.2 and the truth does not
        20.0
    """
    return _dtssd_of(*_two_frames(pred_alphas, alphas, trimap))


def messddt(
    pred_alphas: Sequence[np.ndarray],
    alphas: Sequence[np.ndarray],
    flow: np.ndarray,
    trimap: np.ndarray | None = None,
) -> float:
    """Mean of |e_t(x)^2 - e_{t+1}(x + v(x))^2|, of mattes as fractions in [0, 1]: from 0 to 1.

    v is the flow rounded to whole pixels (halves to even), and x + v is clamped to the image. The original is the sum.
    DVM's code also sets e_{t+1} to zero where x + v is not unknown in frame t + 1; this function does not.

    Args:
        pred_alphas, alphas: two (H, W) uint8 or uint16 arrays each, the frames t and t + 1.
        flow: (H, W, 2) float, the displacement in pixels from frame t to t + 1, x (to the right) then y (down), such as
            the result of `truth_flow`.
        trimap: (H, W) uint8 of frame t, scored where it is exactly 128; None scores every pixel.

    Returns:
        The plain mean; NaN if no pixel is scored.

    Raises:
        ValueError: shapes or dtypes are not as above, or the flow is not finite.

    Example:
        >>> still = np.zeros((4, 4), np.uint8)
        >>> messddt([still, still + 51], [still, still], np.zeros((4, 4, 2)))
        0.04
    """
    earlier, later = _two_frames(pred_alphas, alphas, trimap)
    _check_flow(flow, earlier.alpha.shape)
    return _messddt_of(earlier, later, flow)


def truth_flow(alpha: np.ndarray, next_alpha: np.ndarray) -> np.ndarray:
    """Estimate the motion between the true mattes of consecutive frames by Farneback's method.

    The settings are those of DVM's evaluation. DVM's lookup then swaps the axes; `messddt` does not.

    Args:
        alpha, next_alpha: (H, W) uint8, or uint16, of which the rounded 8 bits are used; frames t and t + 1.

    Returns:
        (H, W, 2) float32, the displacement in pixels from t to t + 1, x then y.

    Raises:
        ValueError: shapes or dtypes are not as above.

    Example:
        >>> alpha = np.zeros((32, 32), np.uint8)
        >>> alpha[8:24, 8:24] = 255
        >>> truth_flow(alpha, np.roll(alpha, 2, axis=1)).shape
        (32, 32, 2)
    """
    check_mattes({"alpha": alpha, "next_alpha": next_alpha})
    alpha, next_alpha = np.ascontiguousarray(alpha), np.ascontiguousarray(next_alpha)
    return cv2.calcOpticalFlowFarneback(
        *(matte if matte.dtype == np.uint8 else to_uint8(matte, 65535) for matte in (alpha, next_alpha)),
        None,
        pyr_scale=0.5,
        levels=5,
        winsize=10,
        iterations=2,
        poly_n=7,
        poly_sigma=1.5,
        flags=cv2.OPTFLOW_FARNEBACK_GAUSSIAN,
    )


def score_sequence(frames: Iterable[tuple[np.ndarray, np.ndarray, np.ndarray | None]]) -> dict[str, float]:
    """Score the consecutive frames of one sequence, two in memory at a time.

    The flow is `truth_flow`. The means are over pairs of frames. RobustVideoMatting's evaluation also counts a zero for
    the first frame, so its dtSSD of n frames is (n - 1) / n of this one.

    Args:
        frames: (pred_alpha, alpha, trimap) of each frame in order, (H, W) of one size, uint8 or, for mattes, uint16. A
            trimap of None scores every pixel. The trimap of the last frame has no effect.

    Returns:
        "dtssd" and "messddt", the means of `dtssd` and `messddt`, NaN if there is no pair; "pairs", the number of
        averaged pairs; and "undefined_pairs", the number of pairs without a scored pixel.

    Raises:
        ValueError: shapes or dtypes are not as above. The message names the frame, counted from 0.

    Example:
        >>> still = np.zeros((16, 16), np.uint8)
        >>> score_sequence([(still, still, None), (still, still, None)])
        {'dtssd': 0.0, 'messddt': 0.0, 'pairs': 1, 'undefined_pairs': 0}
    """
    changes, moved_changes, undefined = [], [], 0
    previous = None
    for number, frame in enumerate(frames):
        current = _checked_frame(number, frame, previous)
        if previous is not None and previous.pixels:
            changes.append(_dtssd_of(*_in_one_depth(previous, current)))
            flow = truth_flow(previous.alpha, current.alpha)
            moved_changes.append(_messddt_of(*_in_one_depth(previous, current), flow))
        elif previous is not None:
            undefined += 1
        previous = current
    return {
        "dtssd": _mean(changes),
        "messddt": _mean(moved_changes),
        "pairs": len(changes),
        "undefined_pairs": undefined,
    }


def _dtssd_of(earlier: MattePair, later: MattePair) -> float:
    if earlier.pixels == 0:
        return math.nan
    opaque, kind = earlier.opaque, cv2.CV_16S if earlier.opaque == 255 else cv2.CV_64F
    errors = [cv2.subtract(frame.pred_alpha, frame.alpha, dtype=kind) for frame in (earlier, later)]
    # With both arrays as arguments, OpenCV 5.0's norm is off by some units for negative int16 differences.
    squares = cv2.norm(cv2.absdiff(*errors), cv2.NORM_L2SQR, earlier.unknown)
    # The sum is an integer, of 8-bit mattes below 2^53, but some paths of OpenCV return the square of its rounded root.
    return 100 * math.sqrt(round(squares) / (opaque**2 * earlier.pixels))


def _messddt_of(earlier: MattePair, later: MattePair, flow: np.ndarray) -> float:
    if earlier.pixels == 0:
        return math.nan
    squares, next_squares = _squared_errors(earlier), _squared_errors(later)
    total = 0
    for rows, columns in scored_boxes(earlier, STRIP_ROWS):
        next_rows, next_columns = _moved(flow, rows, columns)
        unknown = None if earlier.unknown is None else earlier.unknown[rows, columns]
        total += cv2.norm(squares[rows, columns], next_squares[next_rows, next_columns], cv2.NORM_L1, unknown)
    return total / (earlier.opaque**2 * earlier.pixels)


def _squared_errors(pair: MattePair) -> np.ndarray:
    """(p - a)^2 in the square of the mattes' own levels, (H, W) uint16 of 8-bit mattes and float64 of others."""
    differences = cv2.absdiff(pair.pred_alpha, pair.alpha)
    return cv2.multiply(differences, differences, dtype=cv2.CV_16U if pair.opaque == 255 else cv2.CV_64F)


def _moved(flow: np.ndarray, rows: slice, columns: slice) -> tuple[np.ndarray, np.ndarray]:
    """Row and column of the destination of each pixel of a box, as indices within the image."""
    height, width = flow.shape[:2]
    across, down = np.rint(flow[rows, columns]).transpose(2, 0, 1)
    down = np.clip(down + np.arange(rows.start, rows.stop)[:, None], 0, height - 1)
    across = np.clip(across + np.arange(columns.start, columns.stop), 0, width - 1)
    return down.astype(np.intp), across.astype(np.intp)


def _two_frames(
    pred_alphas: Sequence[np.ndarray], alphas: Sequence[np.ndarray], trimap: np.ndarray | None
) -> tuple[MattePair, MattePair]:
    """Check the arrays of two frames; the trimap is that of the earlier one."""
    for name, frames in (("pred_alphas", pred_alphas), ("alphas", alphas)):
        if len(frames) != 2:
            raise ValueError(f"{name}: expected two consecutive frames, got {len(frames)}")
    arrays = {f"pred_alphas[{t}]": frame for t, frame in enumerate(pred_alphas)}
    arrays |= {f"alphas[{t}]": frame for t, frame in enumerate(alphas)}
    check_mattes(arrays, trimap)
    return _in_one_depth(matte_pair(pred_alphas[0], alphas[0], trimap), matte_pair(pred_alphas[1], alphas[1]))


def _in_one_depth(earlier: MattePair, later: MattePair) -> tuple[MattePair, MattePair]:
    """Two frames in 8 bits, or both in 16 bits if one of them is."""
    if earlier.opaque == later.opaque:
        return earlier, later
    pairs = (earlier, later)
    return tuple(p._replace(pred_alpha=in_16_bits(p.pred_alpha), alpha=in_16_bits(p.alpha)) for p in pairs)


def _check_flow(flow: np.ndarray, shape: tuple[int, int]) -> None:
    if not isinstance(flow, np.ndarray) or not np.issubdtype(flow.dtype, np.floating) or flow.shape != (*shape, 2):
        came = f"{flow.dtype} {flow.shape}" if isinstance(flow, np.ndarray) else type(flow).__name__
        raise ValueError(f"flow: expected a float array of shape {(*shape, 2)}, x then y of each pixel, got {came}")
    if not np.isfinite(flow).all():
        raise ValueError("flow: expected finite displacements, got NaN or infinity")


def _checked_frame(
    number: int, frame: tuple[np.ndarray, np.ndarray, np.ndarray | None], previous: MattePair | None
) -> MattePair:
    try:
        pair = matte_pair(*frame)
    except ValueError as error:
        raise ValueError(f"frame {number}: {error}") from None
    if previous is not None and pair.alpha.shape != previous.alpha.shape:
        raise ValueError(
            f"frame {number}: expected shape {previous.alpha.shape} like the frame before, got {pair.alpha.shape}"
        )
    return pair


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values) if values else math.nan
