"""Inference with an ONNX file without PyTorch; onnxruntime, numpy and Pillow are enough.

The images are predicted one at a time, each as a whole. Tiles, views and batches need PyTorch, see
`engine.inference.predict`.
"""

from collections.abc import Iterator, Sequence

import numpy as np

from data.images.remarks import Remark
from data.images.trimap import FOREGROUND, UNKNOWN, fuse_with_trimap
from engine.inference.jobs import Job, Outcome, failure, needs_exact, remark_on_trimap
from engine.onnx.file import OnnxFile
from runtime.errors import InputError
from runtime.memory import amount_text, available_memory

SHARE_OF_FREE = 0.8


def run_jobs(
    file: OnnxFile, jobs: Sequence[Job], *, max_memory: int | None = None, skip_existing: bool = False
) -> Iterator[Outcome]:
    """Do the jobs one by one and yield an outcome for each. An unusable file does not stop the other jobs.

    Args:
        jobs: jobs that were fitted to the file, see `engine.inference.jobs.fit_to`.
        max_memory: bytes that a prediction may take; None for most of the free memory.
        skip_existing: whether jobs whose outputs exist are skipped.

    Raises:
        InputError: an output cannot be written.

    Example:
        file = OnnxFile("model.onnx")
        jobs = fit_to(plan_files("images", "trimaps", "mattes"), file, folder="mattes")
        statuses = [outcome.status for outcome in run_jobs(file, jobs)]
    """
    exact = needs_exact(jobs)
    for job in jobs:
        if skip_existing and job.is_done():
            yield Outcome(job, "skipped", "exists")
            continue
        remarks: list[Remark] = []
        try:
            inputs = job.read(remarks)
            _check_memory(file, inputs["image"], max_memory)
            alpha = predict_alpha(file, inputs["image"], inputs["trimap"], exact)
        except (InputError, MemoryError) as error:
            yield failure(job, str(error) or "out of memory")
            continue
        job.write({"alpha": alpha}, file)
        yield Outcome(job, "written", remark_on_trimap(job, inputs), read_as=tuple(remarks))


def predict_alpha(file: OnnxFile, image: np.ndarray, trimap: np.ndarray, exact: bool = False) -> np.ndarray:
    """Alpha (H, W) uint8, exactly 0 and 255 where the trimap is known.

    Args:
        image: (H, W, 3) uint8 RGB.
        trimap: (H, W) uint8 of 0, 128 and 255.
        exact: whether alpha is float32 in [0, 1] instead, exactly 0 and 1 where the trimap is known.

    Raises:
        InputError: the graph fails, or its result is not finite.
    """
    values = np.zeros(256, np.float32)
    values[UNKNOWN], values[FOREGROUND] = 0.5, 1
    coded = values[trimap]
    if not (trimap == UNKNOWN).any():
        return coded if exact else trimap.copy()
    phas = file.run(np.float32(image.transpose(2, 0, 1)[None]) / np.float32(255), coded[None, None])
    if not np.isfinite(phas).all():
        raise InputError("the model predicts NaN: its checkpoint is from a run that diverged, or fp16 overflows")
    if exact:
        return np.where(trimap == UNKNOWN, phas[0, 0], coded)
    return fuse_with_trimap(np.rint(phas[0, 0] * np.float32(255)).astype(np.uint8), trimap)


def _check_memory(file: OnnxFile, image: np.ndarray, max_memory: int | None) -> None:
    pixels = image.shape[0] * image.shape[1]
    per_pixel, per_squared_pixel = file.footprint
    needed = int(per_pixel * pixels + per_squared_pixel * pixels**2)
    budget = int(SHARE_OF_FREE * available_memory()) if max_memory is None else max_memory
    if needed > budget:
        raise InputError(
            f"{image.shape[1]} x {image.shape[0]} pixels take about {amount_text(needed)} as a whole, and "
            f"{amount_text(budget)} may be used; install PyTorch, which predicts in tiles, or make the image smaller"
        )
