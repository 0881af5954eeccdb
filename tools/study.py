"""Studies: a config trained with one thing changed at a time, over several seeds, with a table of the effects.

A study is a module with a command line (tools/ablation.py, tools/box_study.py). Every run has the same data and number
of iterations and is scored on the same held-out images. A complete run with the same settings is not repeated, so a
stopped command can be continued. After a change of the code, use another folder.
"""

import argparse
import hashlib
import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import OmegaConf

from runtime.errors import InputError
from runtime.files import replacing

PRELOADED = [
    "engine.training.run",
    "engine.evaluation.validation",
    "data.training.dim_dataset",
    "data.testing.composition1k",
    "skimage.measure",
]
Scores = dict[str, dict[str, float]]  # held-out set -> metric -> value


@dataclass(frozen=True)
class Change:
    """A row of the table. `overrides` change the study's config, in the form of main.py's arguments."""

    title: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Study:
    """Runs to compare. `{folder}` in an override is replaced by the folder of the study.

    Attributes:
        config: path of the config that all runs change.
        changes: changes by name, each a row of the table.
        baseline: name of the change that the others are compared with.
        settings: overrides of all runs, before those of a change.
        held_out: title of each held-out set -> overrides that make it `dataloader.test`.
    """

    config: str
    changes: Mapping[str, Change]
    baseline: str
    settings: tuple[str, ...]
    held_out: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: {"held-out": ()})

    def overrides(self, folder: Path, name: str, seed: int, extra: Iterable[str], held_out: str = "") -> list[str]:
        """Overrides of one run with one of its held-out sets."""
        fixed = [
            "train.device=cpu",
            f"train.seed={seed}",
            f"train.output_dir={result_path(folder, name, seed).parent}",
        ]
        test = self.held_out.get(held_out, ())
        own = [*self.settings, *self.changes[name].overrides, *test]
        return [*fixed, *(override.replace("{folder}", str(folder)) for override in own), *extra]

    def fingerprint(self, folder: Path, name: str, seed: int, extra: Iterable[str]) -> str:
        """SHA-256 of the whole config of a run, and of those of its held-out sets."""
        from engine.config import load_config

        configs = [load_config(self.config, self.overrides(folder, name, seed, extra, test)) for test in self.held_out]
        plain = [OmegaConf.to_container(config) for config in configs]
        return hashlib.sha256(json.dumps(plain, sort_keys=True, default=_name_of).encode()).hexdigest()

    def is_done(self, folder: Path, name: str, seed: int, extra: Iterable[str]) -> bool:
        """Return whether a run has scores for these settings."""
        path = result_path(folder, name, seed)
        return path.exists() and json.loads(path.read_text())["settings"] == self.fingerprint(folder, name, seed, extra)

    def train_one(self, folder: Path, name: str, seed: int, extra: list[str]) -> Scores:
        """Train one run, score every held-out set, and write the scores into the run's folder."""
        import torch

        from engine.config import build, load_config
        from engine.evaluation.validation import validate
        from engine.training.run import build_evaluator, train

        torch.set_num_threads(1)
        path = result_path(folder, name, seed)
        shutil.rmtree(path.parent, ignore_errors=True)  # of an incomplete run
        model = train(load_config(self.config, self.overrides(folder, name, seed, extra, next(iter(self.held_out)))))
        scores = {}
        for title in self.held_out:
            config = load_config(self.config, self.overrides(folder, name, seed, extra, title))
            scores[title], _ = validate(model, build(config.dataloader.test), build_evaluator(config))
        content = {"settings": self.fingerprint(folder, name, seed, extra), "scores": scores}
        with replacing(path) as temporary:
            temporary.write_text(json.dumps(content) + "\n")
        for checkpoint in path.parent.glob("model_*.pth"):
            checkpoint.unlink()
        return scores

    def train_all(self, folder: Path, names: Iterable[str], seeds: Iterable[int], jobs: int, extra: list[str]) -> None:
        """Train and score the incomplete runs, seed by seed, each in a separate process."""
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        runs = [(name, seed) for seed in seeds for name in names]
        todo = [run for run in runs if not self.is_done(folder, *run, extra)]
        with ProcessPoolExecutor(jobs, mp_context=context, max_tasks_per_child=1) as pool:
            futures = {pool.submit(self.train_one, folder, *run, extra): run for run in todo}
            for future in as_completed(futures):
                sads = ", ".join(f"{title} {scores['sad']:.4f}" for title, scores in future.result().items())
                print(*futures[future], f"SAD: {sads}", flush=True)

    def tables(self, folder: Path, seeds: list[int]) -> str:
        """A Markdown table for each held-out set: mean SAD over the seeds, and the change from the baseline."""
        results = {
            name: [json.loads(result_path(folder, name, seed).read_text())["scores"] for seed in seeds]
            for name in self.changes
            if all(result_path(folder, name, seed).exists() for seed in seeds)
        }
        return "\n\n".join(self._table(title, results, len(seeds)) for title in self.held_out)

    def _table(self, title: str, results: Mapping[str, list[Scores]], seeds: int) -> str:
        baseline = self.changes[self.baseline].title
        lines = [
            f"| change | SAD, {title}: mean of {seeds} seeds | spread | against {baseline} |",
            "| --- | --- | --- | --- |",
        ]
        sads = {name: np.array([scores[title]["sad"] for scores in runs]) for name, runs in results.items()}
        for name, values in sads.items():
            spread = values.std(ddof=1) if seeds > 1 else float("nan")
            change = ""
            if self.baseline in sads and name != self.baseline:
                ratios = values / sads[self.baseline] - 1  # for each seed
                change = f"{ratios.mean():+.1%} ({', '.join(f'{ratio:+.1%}' for ratio in ratios)})"
            lines.append(f"| {self.changes[name].title} | {values.mean():.4f} | {spread:.4f} | {change} |")
        return "\n".join(lines)

    def main(self, description: str | None, default_folder: str, prepare: Callable[[Path], None]) -> None:
        """Command line of a study.

        Args:
            description: text of --help.
            default_folder: default of --output-dir.
            prepare: function that makes the data in the study's folder, unless they exist.
        """
        arguments = self._parse(description, default_folder)
        if arguments.list:
            for name, change in self.changes.items():
                print(f"{name:28} {change.title}")
            return
        names = arguments.only or list(self.changes)
        for name in names:
            if name not in self.changes:
                raise InputError(f"--only: no change named {name}; there are {', '.join(self.changes)}")
        prepare(arguments.output_dir)
        self.train_all(arguments.output_dir, names, arguments.seeds, arguments.jobs, arguments.overrides)
        print(self.tables(arguments.output_dir, arguments.seeds))

    def _parse(self, description: str | None, default_folder: str) -> argparse.Namespace:
        parser = argparse.ArgumentParser(
            description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
        )
        parser.add_argument("--output-dir", type=Path, default=Path(default_folder), help=f"default: {default_folder}")
        parser.add_argument("--only", nargs="+", metavar="NAME", help="names of the changes to run (see --list)")
        parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], help="default: 0 1 2")
        parser.add_argument("--jobs", type=int, default=2, help="runs at a time, one thread each (default: 2)")
        parser.add_argument("--list", action="store_true", help="print the changes and exit")
        parser.add_argument("--overrides", nargs="+", default=[], metavar="key=value", help="overrides for all runs")
        return parser.parse_args()


def _name_of(value: Any) -> str:
    """The name of a class or function in a config, whose text would hold its address in memory."""
    return f"{value.__module__}.{value.__qualname__}"


def result_path(folder: Path, name: str, seed: int) -> Path:
    """File of one run's scores."""
    return folder / "runs" / f"{name}_{seed}" / "scores.json"
