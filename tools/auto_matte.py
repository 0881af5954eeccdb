"""Matte pictures and videos without a trimap: find the subject, make a trimap along its edge, and predict alpha.

    python tools/auto_matte.py INPUT --output OUT --seg CKPT [--matting CKPT] [--save mask,trimap,alpha,rgba,composite]
    python tools/auto_matte.py INPUT --output OUT --mask FILE_OR_DIR ...
    python tools/auto_matte.py INPUT --output OUT --box LEFT TOP RIGHT BOTTOM [--click X Y] [--click-outside X Y]

INPUT is a picture, a folder of pictures with its sub-folders, or a video. There are three ways to find the subject: a
trained segmentation (--seg), a mask (--mask, docs/trimaps.md describes the accepted kinds), or a box and clicks, from
which GrabCut finds it without a trained model. If there are several kinds of results, each has a sub-folder in OUT; for
a single picture or video the first is OUT itself and the others are written beside it as NAME_KIND.png.

In a video, --seg is applied to each frame, and --box and --click mark the first frame. --mask and --trimap name a file
for the first frame, or a folder of key frames whose names end in the number of the frame, counted from 1. The subject
is carried to the other frames along the motion (docs/video.md). OUT is NAME.mp4, NAME.mov, NAME.webm, or DIR/%06d.png
for numbered frames.

Under torchrun, the processes share a folder of pictures (docs/inference.md).
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.images.backgrounds import read_background
from data.images.files import images_by_stem
from data.images.mask_to_trimap import KEEP_ALL, SEGMENTATION, Cleaning
from data.images.masks import read_mask
from data.images.mattes import read_trimap
from data.images.output_options import add_cutout_options, add_format_options, kinds_wanted
from data.images.pairing import fitted
from engine.inference import (
    Crew,
    FileSettings,
    Predictor,
    SharedJobs,
    fit_to,
    needs_exact,
    predict_clip,
    run_jobs,
    settings_of,
)
from engine.inference.auto_matte import KINDS, AutoMatte
from engine.inference.clip_matte import ClipMatte, carried_trimaps, first_frame, key_frames_of
from engine.inference.jobs import Job, plan_files
from engine.inference.progress import do_jobs, tell_passed_over
from engine.inference.subjects import GivenMasks, PointedSubjects, SegmentedSubjects, Subject
from engine.processes.usage import JobParser
from engine.video.key_frames import KeyFrame
from modeling.weights.shipped import BOX
from modeling.weights.system_file import read_system
from runtime.command_line import resumable, run, unwinding
from runtime.device import resolve_device
from runtime.errors import InputError
from runtime.files import kind_of
from runtime.memory import keep_freed_memory, parse_bytes
from runtime.output_folders import require_outside
from runtime.text import name_some
from tools.make_trimap import band_width, share


def main(arguments: list[str] | None = None) -> int:
    options = parse_arguments(arguments)
    crew = Crew.of_environment()
    folder = options.output if options.input.is_dir() else None
    if folder is None and crew.rank:
        return 0  # the first process handles a single picture or video
    shared = None if folder is None else SharedJobs(folder, crew)
    with nullcontext() if shared is None else shared.one_voice(), resumable(folder):
        return matte(options, crew, shared)


def matte(options: argparse.Namespace, crew: Crew, shared: SharedJobs | None) -> int:
    """Do the jobs, or this process's share of them."""
    if shared is not None:
        shared.wait_for_first()
    check_options(options)
    kinds = kinds_wanted(options, options.save)
    options.save = ["alpha"] if kinds is None else kinds
    if crew.rank == 0:
        tell_passed_over([options.input, options.mask, options.trimap], recursive=options.input.is_dir())
    jobs = planned(options)
    keep_freed_memory()
    device = crew.device(resolve_device(options.device))
    sharers = 1 if shared is None else crew.sharers(device)
    memory = None if options.max_memory is None else parse_bytes(options.max_memory)
    system = read_system(options.matting, device)
    matting = Predictor(system, max_memory=memory, exact=needs_exact(jobs), sharers=sharers)
    if jobs[0].is_clip:
        return matte_clip(options, jobs[0], matting)
    chain = AutoMatte(found_by(options, device, sharers), matting, options.width, options.save)
    jobs = fit_to(jobs, chain, options.save, None if shared is None else shared.folder)
    run = partial(run_jobs, chain, skip_existing=options.skip_existing)
    return do_jobs(run, jobs, options.output, str(device), shared)


def matte_clip(options: argparse.Namespace, job: Job, matting: Predictor) -> int:
    """One video: a segmentation of each frame or of some, or key frames that are carried to the others."""
    clip = job.inputs["image"]
    found = found_by(options, matting.device) if options.trimap is None else None
    chain = ClipMatte(found, matting, options.width, options.save, segment_every=options.seg_every)
    (job,) = fit_to([job], chain, options.save, skip_existing=options.skip_existing)
    skip = options.skip_existing
    beside = None
    if options.seg is None and not (skip and job.is_done()):
        beside = carried_trimaps(clip, key_frames(options, found))
    settings = settings_of(vars(options), without=("output", "skip_existing"))
    return predict_clip(chain, job, settings=settings, beside=beside, skip_existing=skip, watch=chain.watch)


def key_frames(options: argparse.Namespace, found: Callable[..., Subject] | None) -> dict[int, KeyFrame]:
    """The frames of a clip whose subject is given."""
    if options.trimap is not None:
        return key_frames_of(options.trimap, read_trimap)
    if options.mask is not None:
        return key_frames_of(options.mask, lambda path: found({"mask": read_mask(path).values}).trimap(options.width))
    trimap = found({"image": first_frame(options.input)}).trimap(options.width)
    return {0: KeyFrame.given(trimap, "--box and --click")}


def planned(options: argparse.Namespace) -> list[Job]:
    """The jobs, with the mask of each picture where masks are given.

    Raises:
        InputError: see `plan_files` and `read_background`; a picture without mask.
    """
    background = None if options.background is None else read_background(options.background)
    suffix = f".{options.format}" if options.format else ""
    settings = FileSettings(suffix, options.bits, options.transfer, background, options.premultiplied)
    jobs = plan_files(str(options.input), None, str(options.output), options.skip_existing, settings)
    if options.trimap is not None and not jobs[0].is_clip:
        raise InputError("--trimap: only for key frames of a video; for a picture with a trimap, use inference.py")
    if options.mask is None or jobs[0].is_clip:
        return jobs
    if not options.input.is_dir():
        if not options.mask.is_file():
            raise InputError(f"{options.mask}: expected the mask of {options.input}, found {kind_of(options.mask)}")
        return [replace(job, inputs={**job.inputs, "mask": options.mask}) for job in jobs]
    require_outside(options.output, options.mask)
    names = {job: job.inputs["image"].relative_to(options.input).with_suffix("").as_posix() for job in jobs}
    masks = fitted(names.values(), images_by_stem(options.mask, recursive=True, keep_unreadable=True), "mask")
    if missing := [name for name in names.values() if name not in masks]:
        raise InputError(f"{options.mask}: expected a mask for each picture, found none for {name_some(missing)}")
    return [replace(job, inputs={**job.inputs, "mask": masks[name]}) for job, name in names.items()]


def found_by(options: argparse.Namespace, device: torch.device, sharers: int = 1) -> Callable[..., Subject]:
    """The way to find the subject that the options name; `sharers` processes share the device's memory."""
    if options.seg is not None:
        predictor = Predictor(read_system(options.seg, device), probabilities=True, sharers=sharers)
        return SegmentedSubjects(predictor, options.classes, cleaning_of(options, SEGMENTATION))
    if options.mask is not None:
        return GivenMasks(cleaning_of(options, KEEP_ALL))
    box = None if options.box is None else tuple(options.box)
    cleaning = cleaning_of(options, SEGMENTATION)
    return PointedSubjects(box, _points(options.click), _points(options.click_outside), cleaning)


def cleaning_of(options: argparse.Namespace, usual: Cleaning) -> Cleaning:
    """Sizes of the regions to remove, from the options; other settings keep their defaults."""
    if options.smallest_island is not None:
        usual = replace(usual, smallest_island=options.smallest_island, smallest_of_largest=0.0)
    if options.smallest_hole is not None:
        usual = replace(usual, smallest_hole=options.smallest_hole)
    return replace(usual, largest_only=options.largest)


def _points(points: Sequence[Sequence[int]] | None) -> list[tuple[int, int]]:
    return [(x, y) for x, y in points or ()]


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = JobParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("input", type=Path, metavar="INPUT", help="picture, folder of pictures, or video")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="OUT",
        help="file to write (.png, .tif, .webp, .exr or a video), or a folder",
    )
    parser.add_argument("--seg", type=Path, metavar="CKPT", help="checkpoint of a segmentation that finds the subject")
    parser.add_argument(
        "--classes",
        nargs="+",
        default=[],
        metavar="NAME",
        help="classes of the segmentation that are the subject (default: all but background)",
    )
    parser.add_argument("--mask", type=Path, help="mask of the subject, or a folder of masks with the same names")
    parser.add_argument("--trimap", type=Path, help="video: trimaps of key frames, instead of --mask")
    parser.add_argument(
        "--box", type=int, nargs=4, metavar=("LEFT", "TOP", "RIGHT", "BOTTOM"), help="box around the subject, in pixels"
    )
    parser.add_argument(
        "--click", type=int, nargs=2, action="append", metavar=("X", "Y"), help="pixel of the subject; may be repeated"
    )
    parser.add_argument(
        "--click-outside",
        type=int,
        nargs=2,
        action="append",
        metavar=("X", "Y"),
        help="pixel of the background; may be repeated",
    )
    parser.add_argument(
        "--matting",
        type=Path,
        default=BOX,
        metavar="CKPT",
        help="checkpoint of a system that predicts alpha (default: the model in the box)",
    )
    parser.add_argument("--save", type=_kinds, metavar="KINDS",
                        help=f"kinds of results, some of {','.join(KINDS)} (default: alpha)")  # fmt: skip
    parser.add_argument("--width", type=band_width, default="auto", metavar="auto|PIXELS",
                        help="width of the unknown band on each side of the edge (default: auto)")  # fmt: skip
    parser.add_argument("--largest", type=int, metavar="N", help="keep the N largest objects only")
    parser.add_argument("--smallest-island", type=share, metavar="SHARE", help="remove objects below this share of the "
                        "picture (default: .001 and a tenth of the largest; 0 for --mask)")  # fmt: skip
    parser.add_argument("--smallest-hole", type=share, metavar="SHARE", help="fill holes below this share of the "
                        "picture (default: .001; 0 for --mask)")  # fmt: skip
    parser.add_argument("--seg-every", type=int, default=1, metavar="N", help="video: segment every Nth frame, "
                        "and carry its trimap to the next frames (default: 1)")  # fmt: skip
    add_format_options(parser)
    add_cutout_options(parser)
    parser.add_argument("--skip-existing", action="store_true",
                        help="skip pictures whose files exist, and "
                        "continue after the numbered frames that a stopped run has written")  # fmt: skip
    parser.add_argument("--device", help="cuda, mps or cpu (default: the first that is available)")
    parser.add_argument(
        "--max-memory",
        metavar="AMOUNT",
        help="memory limit of the matting, such as 4GB (default: 80%% of the free memory)",
    )
    return parser.parse_args(arguments)


def check_options(options: argparse.Namespace) -> None:
    """Refuse options that contradict each other or have no effect."""
    pointed = any(given is not None for given in (options.box, options.click, options.click_outside))
    ways = [name for name, given in (("--seg", options.seg), ("--mask", options.mask), ("--trimap", options.trimap),
                                     ("--box or --click", pointed)) if given]  # fmt: skip
    if len(ways) != 1:
        given = " and ".join(ways) or "none"
        raise InputError(
            f"expected one way to find the subject (--seg, --mask, --trimap, or --box and --click), got {given}"
        )
    if options.classes and not options.seg:
        raise InputError("--classes: names classes of a segmentation; give --seg")
    if options.seg_every != 1 and not options.seg:
        raise InputError("--seg-every: only has an effect with --seg; give both or neither")
    if options.trimap and any(v is not None for v in (options.largest, options.smallest_island, options.smallest_hole)):
        raise InputError("--largest, --smallest-island, --smallest-hole: only for masks; a trimap is used as it is")


def _kinds(text: str) -> list[str]:
    kinds = list(dict.fromkeys(text.split(",")))
    if wrong := [kind for kind in kinds if kind not in KINDS]:
        raise argparse.ArgumentTypeError(f"expected some of {','.join(KINDS)}, got {','.join(wrong)}")
    return kinds


if __name__ == "__main__":
    with unwinding():
        run(main)
