"""Jobs: named input and output files for one image, a folder, or the Composition-1k layout."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from data.images.files import (
    IMAGE_SUFFIXES,
    found_none,
    images_by_stem,
    read_rgb_profile,
    read_size,
)
from data.images.inputs import read_files
from data.images.light import TRANSFERS
from data.images.remarks import Remark
from data.images.trimap import UNKNOWN
from data.images.writing import check_depth, check_writable, depth_of
from data.testing.composition1k import Composition1k
from data.testing.matting_folder import MattingFolder
from data.video.reading import is_video
from data.video.writing import check_video_output, is_pattern, is_written
from engine.inference.sinks import (
    COLOURED,
    IN_FULL_DEPTH,
    SHOW_IMAGE,
    SINKS,
    TRANSPARENT,
    kinds_of,
    needs_exact_levels,
    with_colours,
)
from runtime.errors import InputError, require_choice
from runtime.files import kind_of
from runtime.output_folders import require_outside

if TYPE_CHECKING:  # OpenCV and PyTorch, which ONNX files do not need
    from data.images.backgrounds import Background
    from modeling.meta_arch.base import System


@dataclass(frozen=True, eq=False)
class Job:
    """Files to read and files to write.

    Attributes:
        inputs: input files by name: "image"; "trimap" for systems that need one; "mask" for a user's mask.
        outputs: output files by kind, a name in `SINKS`.
        name: name of the results within their folder without suffix, such as "clip1/0003".
        bits: bits per channel of the outputs; None for the default of their format.
        transfer: meaning of the image's float values, see `read_photograph`.
        background: background of composites; None for white.
        premultiplied: whether cut-outs are premultiplied, see `write_picture`.
        is_clip: whether the picture is a video file.
    """

    inputs: Mapping[str, Path]
    outputs: Mapping[str, Path]
    name: str = field(default="", kw_only=True)
    bits: int | None = field(default=8, kw_only=True)
    transfer: str | None = field(default=None, kw_only=True)
    background: "Background | None" = field(default=None, kw_only=True)
    premultiplied: bool | None = field(default=None, kw_only=True)
    is_clip: bool = field(default=False, kw_only=True)

    def is_done(self) -> bool:
        """Return whether all outputs exist."""
        return all(is_written(path) for path in self.outputs.values())

    @property
    def label(self) -> str:
        """Name of the picture for messages."""
        return str(self.inputs["image"])

    def size(self) -> tuple[int, int]:
        """(height, width) of the picture, from its header."""
        return read_size(self.inputs["image"])

    def read(self, remarks: list[Remark] | None = None) -> dict[str, np.ndarray]:
        """Inputs of a predictor; see `read_inputs`."""
        return read_inputs(self, remarks)

    def write(self, predicted: Mapping[str, np.ndarray], model: "System") -> None:
        """Write the outputs from the predictions and, for outputs that show it, from the picture."""
        profile = read_rgb_profile(self.inputs["image"]) if SHOW_IMAGE & self.outputs.keys() else None
        predicted = with_colours(predicted, self.outputs, self.background, profile)
        for kind, path in self.outputs.items():
            of_kind = (profile if kind in SHOW_IMAGE else None, self.premultiplied)
            SINKS[kind](path, predicted, model, self.bits, *of_kind)

    def pass_over(self) -> None:
        """Called instead of `write` for a job that failed or was skipped."""


@dataclass(frozen=True)
class Outcome:
    """Result of a job: `status` is "written", "skipped" or "failed", and `remark` has the reason or a warning.

    `seconds` is its share of the predictor's time for its batch, including the device's work. `batch` is the number of
    jobs in that batch; their outcomes are consecutive. `read_as` has the remarks about files that were read in an
    unusual way.
    """

    job: Job
    status: str
    remark: str = ""
    seconds: float = 0
    batch: int = 1
    read_as: tuple[Remark, ...] = ()


def failure(job: Job, message: str) -> Outcome:
    """Outcome of a job that failed; the message names a file of the job."""
    is_named = any(str(path) in message for path in job.inputs.values())
    return Outcome(job, "failed", message if is_named else f"{job.label}: {message}")


def remark_on_trimap(job: Job, inputs: Mapping[str, np.ndarray]) -> str:
    """Remark on a trimap without unknown pixels, for which nothing is predicted; empty for others."""
    if "trimap" not in job.inputs or (inputs["trimap"] == UNKNOWN).any():
        return ""
    return f"{job.inputs['trimap']}: no unknown pixel (gray 85 to 169); the matte is the trimap"


class FileSettings(NamedTuple):
    """Settings of reading and writing picture files.

    Attributes:
        suffix: suffix of the results in a folder, with its dot; empty for PNG, or for the suffix of a single output.
        bits: bits per channel; None for the default of the format.
        transfer: meaning of the images' float values, see `read_photograph`.
        background, premultiplied: see `Job`.
    """

    suffix: str = ""
    bits: int | None = 8
    transfer: str | None = None
    background: "Background | None" = None
    premultiplied: bool | None = None


def read_inputs(job: Job, remarks: list[Remark] | None = None) -> dict[str, np.ndarray]:
    """Read the files of a job, see `data.images.inputs.read_files`."""
    deep = any(kind in COLOURED and depth_of(path, job.bits) > 8 for kind, path in job.outputs.items())
    return read_files(job.inputs, job.transfer, remarks, deep_colours=deep)


def fit_to(
    jobs: Sequence[Job],
    model: "System",
    kinds: Sequence[str] | None = None,
    folder: str | os.PathLike | None = None,
    skip_existing: bool = False,
) -> list[Job]:
    """Return the jobs with outputs that `model` can predict. Jobs are planned before the model is known.

    Args:
        kinds: names in `SINKS`; None for the first kind of the model. With several kinds, each has a folder with its
            name in `folder`. Without `folder`, the first has the planned path and the others are NAME_KIND.png beside
            it.
        folder: folder for the results of the planned jobs; None for a single file.
        skip_existing: whether a clip is accepted although all its frames exist.

    Raises:
        InputError: the model needs trimaps and the jobs have none, or the reverse; or the model has no such kind.
    """
    has_trimap = "trimap" in jobs[0].inputs
    name = type(model).__name__
    clips = jobs[0].is_clip
    if "trimap" in model.inputs and not has_trimap and clips:
        raise InputError(f"{name} needs a trimap for each frame: tools/auto_matte.py makes them for a video")
    if "trimap" in model.inputs and not has_trimap:
        raise InputError(f"{name} needs a trimap for each image: give --trimap")
    if has_trimap and "trimap" not in model.inputs:
        raise InputError(f"{name} takes no trimap; omit --trimap")
    if model.outputs[0] not in SINKS:
        raise InputError(f"{name} predicts {model.outputs[0]}, and only {', '.join(SINKS)} can be written")
    if kinds is None:
        compressed = clips and not any(map(is_pattern, jobs[0].outputs.values()))
        kinds = [next(kind for kind in kinds_of(model) if not (compressed and needs_exact_levels(kind, model)))]
    kinds = list(dict.fromkeys(kinds))
    wrong = [kind for kind in kinds if kind not in kinds_of(model)]
    if wrong or not kinds:
        raise InputError(f"--save: expected some of {', '.join(kinds_of(model))} of a {name}, got {', '.join(wrong)}")
    jobs = [_with_kinds(job, kinds, folder, skip_existing) for job in jobs]
    for kind, output in jobs[0].outputs.items() if clips else ():
        if needs_exact_levels(kind, model) and not is_pattern(output):
            raise InputError(
                f"{output}: compression would change the label values of a {kind}; write numbered frames, such as "
                "frames/%06d.png, or --save colours,overlay"
            )
    return jobs


def _with_kinds(job: Job, kinds: Sequence[str], folder: str | os.PathLike | None, skip_existing: bool) -> Job:
    (path,) = job.outputs.values()
    if len(kinds) == 1 and not job.is_clip:
        _check_output(path, job, kinds[0])  # again, because a mask may have been added to the inputs
        return replace(job, outputs={kinds[0]: path})
    if folder is not None:
        outputs = {kind: Path(folder) / kind / path.relative_to(folder) for kind in kinds}
    elif is_pattern(path):
        outputs = {
            kind: path if kind == kinds[0] else path.parent.with_name(f"{path.parent.name}_{kind}") / path.name
            for kind in kinds
        }
    else:
        beside = {kind: path.with_name(f"{path.stem}_{kind}{path.suffix}") for kind in kinds[1:]}
        outputs = {kinds[0]: path, **beside}
    job = replace(job, outputs=outputs)
    for kind, output in outputs.items():
        if job.is_clip:
            _check_clip_output(output, job.inputs["image"], kind, is_done=skip_existing and job.is_done())
        else:
            _check_output(output, job, kind)
    return job


def with_steps(jobs: Sequence[Job], folder: str) -> list[Job]:
    """Return the jobs with the steps of sampling as another output, each in the folder NAME of `folder`."""
    with_strips = []
    for job in jobs:
        strip = Path(folder) / (job.name or job.inputs["image"].stem) / "strip.png"
        _check_folder(strip.parent)
        _check_output(strip, job, "steps")
        with_strips.append(replace(job, outputs={**job.outputs, "steps": strip}))
    return with_strips


def plan_files(
    image: str,
    trimap: str | None,
    output: str,
    skip_existing: bool = False,
    settings: FileSettings | None = None,
) -> list[Job]:
    """Plan the jobs for one image, for the images of a folder, or for one video. Images and trimaps pair by name.

    Sub-folders are read too, and the results have the same sub-folders. If the folder of trimaps or of results is
    inside the folder of images, it is not read as images.

    Args:
        trimap: trimap file; for a folder of images, a folder of trimaps or one file for all images; None for systems
            without a trimap.
        skip_existing: see `fit_to`.
        settings: settings of reading and writing; 8 bits by default.

    Raises:
        InputError: an image without a trimap or the reverse, or an output with an unsupported format or depth.
    """
    settings = settings or FileSettings()
    if settings.transfer is not None:
        require_choice("--transfer", settings.transfer, TRANSFERS)
    inputs = {"image": Path(image)} | ({} if trimap is None else {"trimap": Path(trimap)})
    image_path, output_path = inputs["image"], Path(output)
    if image_path.is_dir():
        if trimap is None:
            require_outside(output_path, image_path)
        return _plan_folder(_files_of_folders(inputs, output_path), inputs.values(), output_path, settings)
    if is_video(image_path):
        return [_plan_clip(image_path, trimap, output_path, skip_existing, settings)]
    for path in inputs.values():
        if not path.is_file():
            wanted = "two folders" if trimap else "a folder"
            raise InputError(f"{path}: expected an image file (or {wanted}), found {kind_of(path)}")
    if output_path.is_dir() or not output_path.suffix:
        suffix = settings.suffix or ".png"
        check_depth(_options_of(settings), suffix, settings.bits)
        output_path = output_path / f"{image_path.stem}{suffix}"
    elif settings.suffix not in ("", output_path.suffix.lower()):
        raise InputError(f"{output_path}: is not a {settings.suffix} file as --format asks for; leave one of them out")
    job = _job(inputs, output_path, image_path.stem, settings)
    _check_output(output_path, job)
    _check_folder(output_path.parent)
    return [job]


def _job(inputs: Mapping[str, Path], output: Path, name: str, settings: FileSettings) -> Job:
    kept = {name: value for name, value in settings._asdict().items() if name != "suffix"}
    return Job(inputs, {"alpha": output}, name=name, **kept)


def _options_of(settings: FileSettings) -> str:
    """The options that set the format and the depth, as text for messages."""
    asked = {"--format": settings.suffix[1:], "--bits": settings.bits}
    return " ".join(f"{option} {value}" for option, value in asked.items() if value)


def _plan_clip(clip: Path, trimap: str | None, output: Path, skip_existing: bool, settings: FileSettings) -> Job:
    if trimap is not None:
        raise InputError(f"{trimap}: trimaps of a video are read by tools/auto_matte.py only; leave out --trimap")
    if settings.suffix or settings.bits not in (None, 8):
        raise InputError(f"{clip}: --format and --bits are for pictures; the frames of a video are written in 8 bits")
    if settings.transfer is not None:
        raise InputError(f"{clip}: --transfer is for pictures; the frames of a video are not floats")
    if settings.premultiplied is not None:
        raise InputError(f"{clip}: --premultiplied is for pictures; the frames of a video are not multiplied by alpha")
    if output.is_dir() or not output.suffix:
        output = output / f"{clip.stem}.mp4"
    return clip_job(clip, {"alpha": output}, settings.background, skip_existing)


def clip_job(
    clip: Path, outputs: Mapping[str, Path], background: "Background | None" = None, skip_existing: bool = False
) -> Job:
    """The job of a video file.

    Args:
        outputs: files by kind, a name in `SINKS`: videos, or patterns of numbered frames.
        background: background of composites; None for white.
        skip_existing: see `fit_to`.

    Raises:
        InputError: the clip is missing, or an output cannot be written.
    """
    if not clip.is_file():
        raise InputError(f"{clip}: expected a video file, found {kind_of(clip)}")
    job = Job({"image": clip}, outputs, background=background, is_clip=True)
    for kind, output in outputs.items():
        _check_clip_output(output, clip, kind, is_done=skip_existing and job.is_done())
    return job


def plan_composition1k(root: str, output_dir: str, settings: FileSettings | None = None) -> list[Job]:
    """Pair `root`/merged with `root`/trimaps, the layout of the Composition-1k test set."""
    pairs = Composition1k(root, require_alpha=False)
    folders = (pairs.image_dir, pairs.trimap_dir)
    return _plan_folder(_by_name(pairs), folders, Path(output_dir), settings or FileSettings())


def needs_exact(jobs: Sequence[Job]) -> bool:
    """Return whether a job writes a file of more than 8 bits, for which the predictor must return floats."""
    return any(depth_of(path, job.bits) > 8 for job in jobs if not job.is_clip for path in job.outputs.values())


def _files_of_folders(folders: Mapping[str, Path], output: Path) -> dict[str, Mapping[str, Path]]:
    """Files by the name of their result, a path without the suffix."""
    if "trimap" in folders:
        pairs = MattingFolder(
            **_dirs(folders), allow_extra=False, recursive=True, leave_out=[output], keep_unreadable=True
        )
        return _by_name(pairs)
    images = images_by_stem(folders["image"], recursive=True, keep_unreadable=True)
    if not images:
        raise found_none(folders["image"], recursive=True)
    return {name: {"image": path} for name, path in images.items()}


def _dirs(folders: Mapping[str, Path]) -> dict[str, Path]:
    return {f"{part}_dir": folder for part, folder in folders.items()}


def _by_name(pairs: MattingFolder) -> dict[str, Mapping[str, Path]]:
    return {pairs.name_of(files): files for files in pairs.files()}


def _plan_folder(
    files: Mapping[str, Mapping[str, Path]], folders: Iterable[Path], output_dir: Path, settings: FileSettings
) -> list[Job]:
    if output_dir.suffix.lower() in IMAGE_SUFFIXES or output_dir.is_file():
        raise InputError(f"{output_dir}: expected a folder for the mattes of a folder of images")
    for folder in folders:
        if os.path.realpath(output_dir) == os.path.realpath(folder):
            raise InputError(f"{output_dir}: is an input folder; the mattes need a folder of their own")
    _check_folder(output_dir)
    suffix = settings.suffix or ".png"
    check_depth(_options_of(settings), suffix, settings.bits)
    jobs = [_job(inputs, output_dir / f"{name}{suffix}", name, settings) for name, inputs in files.items()]
    for job in jobs:
        _check_output(job.outputs["alpha"], job)
    return jobs


def _check_output(output: Path, job: Job, kind: str = "alpha") -> None:
    """Refuse a path to which a result cannot be written, before any image is predicted."""
    bits = None if kind == "steps" else job.bits
    check_writable(output, bits, job.premultiplied if kind in TRANSPARENT else None)
    if kind in SINKS and kind not in IN_FULL_DEPTH and depth_of(output, bits) > 8:
        raise InputError(
            f"{output}: {kind} is made of 8-bit levels; write it as .png, .tif or .webp with --bits 8, and "
            f"{', '.join(sorted(IN_FULL_DEPTH))} in more bits"
        )
    if output.is_dir():
        raise InputError(f"{output}: expected a file or nothing at the path of the matte, found a folder; remove it")
    target = os.path.realpath(output)
    if any(target == os.path.realpath(path) for path in job.inputs.values()):
        raise InputError(f"{output}: is an input file; choose another name for the matte")


def _check_clip_output(output: Path, clip: Path, kind: str = "", is_done: bool = False) -> None:
    if is_done and is_pattern(output):
        return
    check_video_output(output, transparent=kind in TRANSPARENT)
    if os.path.realpath(output) == os.path.realpath(clip):
        raise InputError(f"{output}: is the input; choose another name for the result")
    _check_folder(output.parent.parent if is_pattern(output) else output.parent)


def _check_folder(folder: Path) -> None:
    """Refuse a folder for results that cannot be created or written to, before any image is predicted."""
    existing = next((path for path in (folder, *folder.parents) if path.exists()), Path())
    if not existing.is_dir():
        raise InputError(f"{folder}: expected a folder for the mattes, found {kind_of(existing)} at {existing}")
    if not os.access(existing, os.W_OK | os.X_OK, effective_ids=os.access in os.supports_effective_ids):
        raise InputError(f"{folder}: cannot write: no permission to write to {existing}; choose another folder")
