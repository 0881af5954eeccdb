"""Write mattes, one gray picture for each image and trimap, or other predictions of a trained system, such as masks.

    python inference.py --image FILE_OR_DIR --trimap FILE_OR_DIR --output FILE_OR_DIR      # the model in the box
    python inference.py --checkpoint RUN/model_final.pth --image FILE_OR_DIR --trimap FILE_OR_DIR --output FILE_OR_DIR
    python inference.py --config-file configs/NAME.py --checkpoint CKPT \\
        --image FILE_OR_DIR --trimap FILE_OR_DIR --output FILE_OR_DIR
    python inference.py --config-file configs/NAME.py --checkpoint CKPT --data-dir COMP1K_ROOT --output-dir OUT
    python inference.py --checkpoint RUN/model_final.pth --image FILE_OR_DIR --output FILE_OR_DIR --save mask,overlay
    python inference.py --checkpoint RUN/model_final.pth --image CLIP.mp4 --output OUT.mp4 --save overlay
    python inference.py --image FILE_OR_DIR --trimap FILE_OR_DIR --output FILE_OR_DIR --cutout     # an RGBA picture
    python inference.py --method closed-form --image FILE_OR_DIR --trimap FILE_OR_DIR --output FILE_OR_DIR
    python inference.py --onnx MODEL.onnx --image FILE_OR_DIR --trimap FILE_OR_DIR --output FILE_OR_DIR

Under torchrun the processes share the images of a folder (docs/inference.md).
In the known regions of the trimap, the matte is exactly 0 and 255. Omit --trimap for systems that work without one. If
a file cannot be read, the program names it and processes the others. Checkpoints of main.py describe their model, so
--config-file is for other checkpoints.
"""

import argparse
import importlib.util
import logging
import os
import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial

from data.images.output_options import add_cutout_options, add_format_options, kinds_wanted
from engine.processes.usage import JobParser
from runtime.command_line import resumable, run, unwinding
from runtime.errors import InputError


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = JobParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--config-file", "--config-dir", help="LazyConfig of the model, for checkpoints that do not describe it"
    )
    parser.add_argument(
        "--checkpoint",
        "--checkpoint-dir",
        help="file from main.py, preprocess.py or tools/export_box.py (default: the model in the box)",
    )
    parser.add_argument("--method", choices=("closed-form",), help="method to use instead of a model")
    parser.add_argument("--onnx", help="file from tools/export_onnx.py, to use instead of a checkpoint")
    parser.add_argument("--image", help="image, folder of images, or video")
    parser.add_argument("--trimap", help="trimap, folder of trimaps with the same names, or one trimap for all images")
    parser.add_argument(
        "--output",
        help="file to write (.png, .tif, .webp or .exr), or folder for NAME.png; for a video NAME.mp4, NAME.mov or "
        "NAME.webm, or DIR/%%06d.png for numbered frames",
    )
    add_format_options(parser)
    parser.add_argument(
        "--save",
        metavar="KINDS",
        help="kinds of results, separated by commas. A matting system has alpha, rgba (the cut-out) and composite; a "
        "segmentation has mask (label values), colours and overlay (default: the first). Several kinds are written "
        "to one sub-folder each or, for a single image, beside the first as NAME_KIND.png",
    )
    add_cutout_options(parser)
    parser.add_argument("--data-dir", help="folder with merged/ and trimaps/, as in Composition-1k")
    parser.add_argument("--output-dir", "--inference-dir", help="folder for the mattes of --data-dir")
    parser.add_argument("--device", help="cpu, cuda, cuda:N or mps (default: the best available)")
    parser.add_argument(
        "--mode",
        default="auto",
        help="whole, reduced (encoder), tiles, or auto, the first of these that fits in memory (default: auto)",
    )
    parser.add_argument(
        "--max-memory", help="memory limit of the prediction, such as 6GB (default: 80%% of the free memory)"
    )
    parser.add_argument("--batch-size", type=int, default=1, help="largest number of images in a batch (default: 1)")
    parser.add_argument(
        "--views", default="none", help="flip or flip+scale: average several predictions (default: none)"
    )
    parser.add_argument("--precision", help="fp32, bf16 or fp16 (default: fp32)")
    parser.add_argument(
        "--compile", action="store_true", help="compile the model first, which is faster for many images of one size"
    )
    parser.add_argument(
        "--sample-strategy", help="DiffMatte: ddimN or ddpmN, with N steps (default: that of the config)"
    )
    parser.add_argument("--seed", type=int, help="DiffMatte: seed of the noise (default: 0)")
    parser.add_argument("--save-steps", metavar="DIR", help="DiffMatte: write the steps as pictures to DIR/NAME")
    parser.add_argument(
        "--clamp-known",
        choices=("auto", "always", "never"),
        help="DiffMatte: whether each step uses the known values of the trimap, which is faster. The release never "
        "does; auto does for more than 512 x 512 pixels (default: auto)",
    )
    parser.add_argument("--skip-existing", action="store_true", help="skip images whose outputs exist")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that change the config")
    return parser.parse_intermixed_args(arguments)


def plan(arguments: argparse.Namespace) -> list:
    from engine.inference import FileSettings, plan_composition1k, plan_files

    suffix = f".{arguments.format}" if arguments.format else ""
    background = None
    if arguments.background is not None:
        from data.images.backgrounds import read_background

        background = read_background(arguments.background)
    settings = FileSettings(suffix, arguments.bits, arguments.transfer, background, arguments.premultiplied)
    if arguments.data_dir and arguments.output_dir and not (arguments.image or arguments.trimap or arguments.output):
        return plan_composition1k(arguments.data_dir, arguments.output_dir, settings)
    if arguments.image and arguments.output and not (arguments.data_dir or arguments.output_dir):
        return plan_files(arguments.image, arguments.trimap, arguments.output, arguments.skip_existing, settings)
    raise InputError("give either --image, --trimap and --output, or --data-dir and --output-dir")


def tell_unread(arguments: argparse.Namespace) -> None:
    """Warn about files of the input folders that are not read."""
    from engine.inference.progress import tell_passed_over

    if arguments.data_dir:
        tell_passed_over([f"{arguments.data_dir}/merged", f"{arguments.data_dir}/trimaps"], recursive=False)
    else:
        tell_passed_over([arguments.image, arguments.trimap])


def check_source(arguments: argparse.Namespace) -> None:
    """Refuse options that do not select a model, or that do not apply to it."""
    if arguments.method is not None:
        _refuse(arguments, ("onnx", "config_file", "checkpoint", "precision", "compile", "overrides"), "--method")
    elif arguments.onnx is None:
        if arguments.config_file and not arguments.checkpoint:
            raise InputError("--config-file: give --checkpoint too, or neither for the model in the box")
        if arguments.overrides and not arguments.config_file:
            raise InputError(f"{arguments.overrides[0]}: settings are changed in a config; give --config-file too")
    else:
        useless = ("config_file", "checkpoint", "precision", "compile", "overrides")
        _refuse(arguments, useless, "--onnx: the file contains the whole model")


def _refuse(arguments: argparse.Namespace, useless: tuple[str, ...], reason: str) -> None:
    given = [name.replace("_", "-") for name in useless if getattr(arguments, name)]
    if given:
        raise InputError(f"{reason}; leave out {', '.join(given)}")


def classical_method(arguments: argparse.Namespace):
    """Closed-form matting, and its device."""
    from engine.inference import Crew
    from modeling.meta_arch.closed_form import ClosedForm
    from runtime.device import resolve_device

    device = Crew.of_environment().device(resolve_device(arguments.device))
    return ClosedForm().to(device).eval(), device


def model_of_file(arguments: argparse.Namespace):
    """Model of an ONNX file, and its device in words. Neither Detectron2 nor a network of this project is imported."""
    from engine.inference import Crew
    from engine.onnx.model import OnnxModel

    model = OnnxModel(arguments.onnx, device=arguments.device, gpu=Crew.of_environment().gpu)
    return model, f"onnxruntime, {model.runs_on}"


def model_of_checkpoint(arguments: argparse.Namespace):
    """Model that the config or the checkpoint describes, with its weights, and its device.

    Without both, it is the model in the box.
    """
    from engine.inference import Crew
    from modeling.weights.shipped import BOX
    from runtime.device import resolve_device

    path = arguments.checkpoint or BOX
    if arguments.config_file:
        from engine.config import load_config
        from engine.trained import trained_model

        config = load_config(arguments.config_file, arguments.overrides)
        device = resolve_device(arguments.device or config.get("train", {}).get("device"))
        model = trained_model(config, path, arguments.config_file)
    else:
        from modeling.weights.system_file import read_system

        device, model = resolve_device(arguments.device), read_system(path)
    device = Crew.of_environment().device(device)
    model.to(device).eval()
    if arguments.compile:
        if device.type == "cpu" and not any(map(shutil.which, (os.environ.get("CXX", "g++"), "clang++"))):
            raise InputError("--compile: expected a C++ compiler for the CPU, found none; install g++ or leave it out")
        for name in ("torch._dynamo", "torch.utils.cpp_extension"):  # warnings about graph breaks do not help users
            logging.getLogger(name).setLevel(logging.ERROR)
        model.compile_encoder(dynamic=True)
    return model, device


def set_sampling(arguments: argparse.Namespace, model) -> None:
    """Set the sampling options of systems that predict in several steps. Other systems refuse them."""
    given = (arguments.sample_strategy, arguments.seed, arguments.clamp_known, arguments.save_steps)
    if arguments.save_steps and arguments.views != "none":
        raise InputError("--save-steps: shows one run of steps; leave out --views")
    if any(value is not None for value in given):
        model.set_sampling(*given[:3], keep_steps=bool(arguments.save_steps))


def main(arguments: list[str] | None = None) -> int:
    arguments = parse_arguments(arguments)
    check_source(arguments)
    kinds = kinds_wanted(arguments, None if arguments.save is None else arguments.save.split(","))
    folder = results_folder(arguments)
    is_bare = arguments.onnx is not None and importlib.util.find_spec("torch") is None

    from engine.inference import Crew, SharedJobs

    crew = Crew() if is_bare else Crew.of_environment()
    if folder is None and crew.rank:
        return 0  # the first process handles a single picture or video
    shared = SharedJobs(folder, crew) if folder is not None else None
    with shared.one_voice() if shared is not None else nullcontext(), resumable(folder):
        if is_bare:
            return run_bare(arguments, kinds, shared)
        return predict(arguments, kinds, crew, folder, shared)


def predict(arguments: argparse.Namespace, kinds: list[str] | None, crew, folder: str | None, shared) -> int:
    """Do the jobs with PyTorch, or this process's share of them."""
    from engine.inference import Predictor, fit_to, needs_exact, predict_clip, run_jobs, settings_of, with_steps
    from engine.inference.progress import announcer, do_jobs
    from runtime.memory import keep_freed_memory, parse_bytes

    if shared is not None:
        shared.wait_for_first()
    if crew.rank == 0:
        tell_unread(arguments)
    jobs = plan(arguments)  # before the model is built, so that a mistyped path is reported at once
    keep_freed_memory()
    if arguments.method is not None:
        model, device = classical_method(arguments)
    else:
        model, device = model_of_file(arguments) if arguments.onnx is not None else model_of_checkpoint(arguments)
    set_sampling(arguments, model)
    jobs = fit_to(jobs, model, kinds, folder, arguments.skip_existing)
    if arguments.save_steps:
        jobs = with_steps(jobs, arguments.save_steps)
    predictor = Predictor(
        model,
        mode=arguments.mode,
        max_memory=None if arguments.max_memory is None else parse_bytes(arguments.max_memory),
        batch_size=arguments.batch_size,
        views=arguments.views,
        precision=arguments.precision or "fp32",
        sharers=1 if shared is None else crew.sharers(model.device),
        exact=needs_exact(jobs),
    )

    if jobs[0].is_clip:
        if arguments.save_steps:
            raise InputError("--save-steps: shows the steps of pictures; give it a frame of the video")
        settings = settings_of(vars(arguments), without=("output", "skip_existing"))
        skip = arguments.skip_existing
        return predict_clip(predictor, jobs[0], settings=settings, skip_existing=skip, announce=announcer())
    place = next(iter(jobs[0].outputs.values())) if len(jobs) == 1 else folder
    run = partial(run_jobs, predictor, skip_existing=arguments.skip_existing, announce=announcer())
    return do_jobs(run, jobs, place, str(device), shared)


def run_bare(arguments: argparse.Namespace, kinds: Sequence[str] | None, shared) -> int:
    """Run an ONNX file without PyTorch, on each image as a whole."""
    from engine.inference import fit_to
    from engine.inference.progress import do_jobs
    from engine.onnx.bare import run_jobs
    from engine.onnx.file import OnnxFile
    from runtime.memory import parse_bytes

    plain = {"mode": ("auto", "whole"), "batch_size": (1,), "views": ("none",), "save": (None, "alpha")}
    others = [name for name, values in plain.items() if getattr(arguments, name) not in values]
    unset = ("cutout", "background", "premultiplied", "sample_strategy", "seed", "save_steps", "clamp_known")
    others += [name for name in unset if getattr(arguments, name) is not None and getattr(arguments, name) is not False]
    if others:
        raise InputError(
            f"--{others[0].replace('_', '-')}: needs PyTorch, which is not installed; see requirements.txt"
        )
    tell_unread(arguments)
    file, folder = OnnxFile(arguments.onnx, device=arguments.device), results_folder(arguments)
    jobs = fit_to(plan(arguments), file, kinds, folder, arguments.skip_existing)
    max_memory = None if arguments.max_memory is None else parse_bytes(arguments.max_memory)
    place = jobs[0].outputs["alpha"] if folder is None else folder
    run = partial(run_jobs, file, max_memory=max_memory, skip_existing=arguments.skip_existing)
    return do_jobs(run, jobs, place, "onnxruntime without PyTorch", shared)


def results_folder(arguments: argparse.Namespace) -> str | None:
    """Folder for the results of a folder of images; None for a single picture or video."""
    return arguments.output_dir or (arguments.output if os.path.isdir(arguments.image or "") else None)


if __name__ == "__main__":
    with unwinding():
        run(main)
