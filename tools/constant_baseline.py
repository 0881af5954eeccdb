"""Scores of the best constant alpha on a config's validation set, a baseline for systems without a trimap.

    python tools/constant_baseline.py --config-file configs/FrozenDINOv3_demo.py [--checkpoint RUN/model_final.pth]

The constant is the mean alpha of the whole set, which has the lowest MSE of all constants. With --checkpoint, the
model's scores are printed too. Both are computed by the config's own evaluator.
"""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from engine.config import build, load_config
from engine.evaluation.evaluators import Evaluator, format_scores
from engine.evaluation.validation import validate
from engine.training.run import build_evaluator
from modeling.weights.checkpoint_file import read_checkpoint
from modeling.weights.loading import load_model
from runtime.command_line import run
from runtime.device import resolve_device


def main() -> None:
    options = parse_arguments()
    config = load_config(options.config_file, options.overrides)
    dataset, evaluator = build(config.dataloader.test), build_evaluator(config)
    level = mean_level(dataset)
    constant = constant_scores(dataset, evaluator, level)
    print(f"alpha {level / 255:.3f} everywhere: {format_scores(constant, evaluator.metrics)}")
    if options.checkpoint:
        model = build(config.model).to(resolve_device(config.train.device))
        load_model(model, read_checkpoint(options.checkpoint), options.checkpoint)
        scores, _ = validate(model, dataset, evaluator)
        print(f"{options.checkpoint}: {format_scores(scores, evaluator.metrics)}")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config-file", required=True)
    parser.add_argument("--checkpoint", help="checkpoint of a run of this config")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="changes to the config")
    return parser.parse_args()


def mean_level(dataset) -> int:
    """Mean of all alphas of a set, 0 to 255."""
    totals = [(sample["alpha"].sum(dtype=np.int64), sample["alpha"].size) for sample in samples_of(dataset)]
    return round(sum(total for total, _ in totals) / sum(pixels for _, pixels in totals))


def constant_scores(dataset, evaluator: Evaluator, level: int) -> Mapping[str, float]:
    """The evaluator's scores of a constant level."""
    evaluator.reset()
    for sample in samples_of(dataset):
        evaluator.process([sample], [{"alpha": np.full_like(sample["alpha"], level)}])
    return evaluator.evaluate()


def samples_of(dataset):
    return (dataset[index] for index in range(len(dataset)))


if __name__ == "__main__":
    run(main)
