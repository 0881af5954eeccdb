"""Train or evaluate a matting model.

    python main.py --config-file configs/NAME.py --num-gpus N [--resume] [--eval-only] [key=value ...]
    torchrun --nproc-per-node N main.py --config-file configs/NAME.py [key=value ...]

--num-gpus is the number of processes. With train.device=cpu they run on the CPU.
"""

import argparse
import functools
import os
import signal
import sys
from typing import TYPE_CHECKING

from engine.processes.usage import JobParser
from runtime.command_line import run

if TYPE_CHECKING:
    from omegaconf import DictConfig


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = JobParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True, help="LazyConfig, for example configs/ViTMatte_S_10ep.py")
    parser.add_argument("--num-gpus", type=int, default=1, help="number of processes on this machine (default: 1)")
    parser.add_argument("--num-machines", type=int, default=1, help="number of machines (default: 1)")
    parser.add_argument(
        "--machine-rank", type=int, default=0, help="number of this machine, counted from 0 (default: 0)"
    )
    parser.add_argument(
        "--dist-url", default="auto", help="tcp://HOST:PORT of machine 0, required for several machines"
    )
    parser.add_argument(
        "--join-timeout",
        type=float,
        default=600,
        metavar="SECONDS",
        help="time within which all processes must join (default: 600)",
    )
    parser.add_argument("--resume", action="store_true", help="continue from the last checkpoint of train.output_dir")
    parser.add_argument("--eval-only", action="store_true", help="score a checkpoint on the validation set and exit")
    parser.add_argument("--device", help="cpu, cuda or mps; the same as train.device=...")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="settings that change the config")
    arguments = parser.parse_intermixed_args(arguments)
    if arguments.device:
        arguments.overrides.append(f"train.device={arguments.device}")
    return arguments


def work(config: "DictConfig", arguments: argparse.Namespace) -> None:
    """Train or evaluate in one process of the job."""
    from detectron2.utils import comm

    from engine.evaluation.evaluators import format_scores
    from engine.training.interruption import TrainingInterrupted
    from engine.training.run import evaluate, train

    if arguments.eval_only:
        scores, evaluator = evaluate(config)
        if comm.is_main_process():
            print(format_scores(scores, evaluator.metrics))
        return
    try:
        train(config, resume=arguments.resume)
    except TrainingInterrupted as interruption:
        if comm.is_main_process():
            print(interruption, file=sys.stderr)
        sys.exit(128 + interruption.signal)


def main(arguments: list[str] | None = None) -> None:
    if "RANK" in os.environ and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback from each process; the launcher reports it
    given = sys.argv[1:] if arguments is None else arguments
    arguments = parse_arguments(given)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # warnings about a lost process are pages of C++ frames
    from engine.config import load_config
    from engine.processes.launch import launch
    from runtime.device import resolve_device

    @functools.cache
    def config() -> "DictConfig":  # read within `launch`, which reports its errors once for all processes
        return load_config(arguments.config_file, arguments.overrides)

    launch(
        lambda: work(config(), arguments),
        [__file__, *given],
        device_type=lambda: resolve_device(config().train.device).type,
        num_processes=arguments.num_gpus,
        num_machines=arguments.num_machines,
        machine_rank=arguments.machine_rank,
        dist_url=arguments.dist_url,
        join_timeout=arguments.join_timeout,
    )


if __name__ == "__main__":
    run(main)
