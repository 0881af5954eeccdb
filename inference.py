"""Write mattes: one 8-bit PNG for each image and trimap.

    python inference.py --config-file configs/NAME.py --checkpoint CKPT \\
        --image FILE_OR_DIR --trimap FILE_OR_DIR --output FILE_OR_DIR
    python inference.py --config-file configs/NAME.py --checkpoint CKPT --data-dir COMP1K_ROOT --output-dir OUT

Known regions of the trimap come out as exactly 0 and 255. Files that cannot be read are named, the rest is done.
"""

import argparse
import sys

from tqdm import tqdm

from data.errors import InputError
from engine.cli import run


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--config-file", "--config-dir", required=True, help="LazyConfig the checkpoint was trained with"
    )
    parser.add_argument("--checkpoint", "--checkpoint-dir", required=True, help="checkpoint written by main.py")
    parser.add_argument("--image", help="an image, or a folder of images")
    parser.add_argument("--trimap", help="its trimap, or a folder of trimaps of the same names")
    parser.add_argument("--output", help="the PNG to write, or the folder for NAME.png")
    parser.add_argument("--data-dir", help="a folder with merged/ and trimaps/, as Composition-1k has them")
    parser.add_argument("--output-dir", "--inference-dir", help="folder for the mattes of --data-dir")
    parser.add_argument("--device", help="cpu, cuda, cuda:N or mps; the best there is by default")
    parser.add_argument("--skip-existing", action="store_true", help="leave outputs that exist as they are")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the config")
    return parser.parse_intermixed_args(arguments)


def plan(arguments: argparse.Namespace) -> list:
    from engine.inference import plan_composition1k, plan_files

    if arguments.data_dir and arguments.output_dir and not (arguments.image or arguments.trimap or arguments.output):
        return plan_composition1k(arguments.data_dir, arguments.output_dir)
    if arguments.image and arguments.trimap and arguments.output and not (arguments.data_dir or arguments.output_dir):
        return plan_files(arguments.image, arguments.trimap, arguments.output)
    raise InputError("give either --image, --trimap and --output, or --data-dir and --output-dir")


def main(arguments: list[str] | None = None) -> int:
    arguments = parse_arguments(arguments)
    jobs = plan(arguments)  # before the model is built: a mistyped path is reported at once

    from engine.checkpoint import load_model, read_checkpoint
    from engine.config import build, load_config
    from engine.device import resolve_device
    from engine.inference import run_jobs

    config = load_config(arguments.config_file, arguments.overrides)
    device = resolve_device(arguments.device or config.get("train", {}).get("device"))
    model = build(config.model)
    load_model(model, read_checkpoint(arguments.checkpoint), arguments.checkpoint)
    model.to(device).eval()

    counts = {"written": 0, "skipped": 0, "failed": 0}
    with tqdm(total=len(jobs), unit="image", disable=None) as progress:
        for outcome in run_jobs(model, jobs, skip_existing=arguments.skip_existing):
            counts[outcome.status] += 1
            if outcome.remark and outcome.status != "skipped":
                label = "error" if outcome.status == "failed" else "warning"
                progress.write(f"{label}: {outcome.remark}", file=sys.stderr)
            progress.update()
    place = jobs[0].output if len(jobs) == 1 else jobs[0].output.parent
    done = f"{counts['written']} written, {counts['skipped']} skipped, {counts['failed']} failed"
    print(f"{place}: {done}, on {device}")
    return 2 if counts["failed"] else 0


if __name__ == "__main__":
    run(main)
