"""Inference with an ONNX file without PyTorch; onnxruntime, numpy and Pillow are enough.

The images are predicted one at a time, each as a whole. Tiles, views and batches need PyTorch, see
`engine.inference.predict`.
"""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from data.images.files import write_png
from data.images.inputs import read_files
from data.images.remarks import Remark
from data.images.trimap import FOREGROUND, UNKNOWN, fuse_with_trimap
from data.testing.composition1k import Composition1k
from data.testing.matting_folder import MattingFolder
from engine.onnx.file import OnnxFile
from runtime.errors import InputError
from runtime.files import kind_of
from runtime.memory import amount_text, available_memory

SHARE_OF_FREE = 0.8


def pairs_of_files(
    image: str | os.PathLike, trimap: str | os.PathLike, leave_out: Sequence[str | os.PathLike] = ()
) -> MattingFolder:
    """One image with its trimap, or two folders with their sub-folders, whose names agree.

    Args:
        leave_out: folders inside the folder of images that hold something else, such as results.

    Raises:
        InputError: a file and a folder, a missing file or folder, or names that do not agree.
    """
    image, trimap = Path(image), Path(trimap)
    pairs = MattingFolder(image, trimap, allow_extra=False, recursive=True, leave_out=leave_out)
    if not image.is_dir():
        for path in (image, trimap):
            if not path.is_file():
                raise InputError(f"{path}: expected an image file (or two folders), found {kind_of(path)}")
        pairs.listed = [{"image": image, "trimap": trimap}]
    return pairs


def pairs_of_composition1k(root: str | os.PathLike) -> MattingFolder:
    """Pair the images and trimaps of a folder with the layout of Composition-1k."""
    return Composition1k(root, require_alpha=False)


def write_mattes(
    file: OnnxFile,
    pairs: MattingFolder,
    output: str | os.PathLike,
    *,
    max_memory: int | None = None,
    skip_existing: bool = False,
    report: Callable[[str], None] = print,
    remarks: list[Remark] | None = None,
) -> Counter[str]:
    """Write an 8-bit PNG for each pair. Files that cannot be read are reported, and the others are processed.

    Args:
        output: the file to write, or for several the folder for NAME.png.
        max_memory: bytes that predicting may take; None for most of what is free.
        skip_existing: leave outputs that exist as they are.
        report: function that is called with a line for each file that failed.
        remarks: a list that gets a remark for each file whose reading is not plain.

    Returns:
        Numbers of "written", "skipped" and "failed" images.

    Raises:
        InputError: an output cannot be written.

    Example:
        counts = write_mattes(OnnxFile("model.onnx"), pairs_of_files("images", "trimaps"), "mattes")
    """
    outputs = list(_outputs(pairs, Path(output)))
    counts: Counter[str] = Counter()
    for index, path in enumerate(outputs):
        if skip_existing and path.exists():
            counts["skipped"] += 1
            continue
        try:
            pair = read_files(pairs.files()[index], remarks=remarks)
            _check_memory(file, pair["image"], max_memory)
            alpha = predict_alpha(file, pair["image"], pair["trimap"])
        except (InputError, MemoryError) as error:
            counts["failed"] += 1
            image = pairs.files()[index]["image"]
            message = str(error) or "out of memory"
            report(f"error: {message}" if str(image) in message else f"error: {image}: {message}")
            continue
        write_png(path, alpha)
        counts["written"] += 1
    return counts


def predict_alpha(file: OnnxFile, image: np.ndarray, trimap: np.ndarray) -> np.ndarray:
    """Alpha (H, W) uint8, exactly 0 and 255 where the trimap is known.

    Args:
        image: (H, W, 3) uint8 RGB.
        trimap: (H, W) uint8 of 0, 128 and 255.

    Raises:
        InputError: the graph fails, or its result is not finite.
    """
    if not (trimap == UNKNOWN).any():
        return trimap.copy()
    levels = np.full(256, 0.0, np.float32)
    levels[UNKNOWN], levels[FOREGROUND] = 0.5, 1.0
    phas = file.run(np.float32(image.transpose(2, 0, 1)[None]) / np.float32(255), levels[trimap][None, None])
    if not np.isfinite(phas).all():
        raise InputError("the model predicts NaN: its checkpoint is from a run that diverged, or fp16 overflows")
    return fuse_with_trimap(np.rint(phas[0, 0] * np.float32(255)).astype(np.uint8), trimap)


def _outputs(pairs: MattingFolder, output: Path) -> Iterator[Path]:
    files = pairs.files()
    single = len(files) == 1 and not pairs.image_dir.is_dir()
    names = [output / f"{pair['image'].stem if single else pairs.name_of(pair)}.png" for pair in files]
    if single and output.suffix and not output.is_dir():
        names = [output]
    for name, pair in zip(names, files, strict=True):
        if name.suffix.lower() != ".png":
            raise InputError(f"{name}: without PyTorch mattes are written as PNG; name the output *.png, or a folder")
        if any(os.path.realpath(name) == os.path.realpath(path) for path in pair.values()):
            raise InputError(f"{name}: is an input file; choose another name for the matte")
        yield name


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
