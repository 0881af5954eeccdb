"""Check of a whole training set. Every file is decoded, and every problem is reported with its file and a remedy."""

import contextlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tqdm import tqdm

from data.images.files import found_none, image_paths, passed_over
from data.images.pairing import fits, name_key
from data.images.scan import partnerless
from data.preparation.findings import (
    KINDS,
    NOTE,
    PROBLEM,
    Facts,
    Finding,
    file_findings,
    pair_findings,
    shared_findings,
)
from data.preparation.image_facts import inspect_files
from data.preparation.name_lists import read_names
from runtime.files import replacing
from runtime.pool import outcomes


@dataclass(frozen=True)
class TrainingSet:
    """Files to check: pictures and alphas of equal names, and backgrounds for sets that are composed."""

    image_dir: Path
    alpha_dir: Path
    bg_dir: Path | None = None


@dataclass(frozen=True)
class Lists:
    """Files of names: pictures and backgrounds that must exist, and test files that must not be in the set."""

    images: Sequence[Path] = ()
    backgrounds: Sequence[Path] = ()
    tests: Sequence[Path] = ()


@dataclass
class CheckReport:
    """`checked`: numbers of images, alphas and backgrounds; `findings` in the order of folders and names."""

    checked: dict[str, int]
    findings: list[Finding] = field(default_factory=list)

    def of(self, severity: str) -> list[Finding]:
        """Findings of one severity."""
        return [finding for finding in self.findings if finding.severity == severity]

    def counts(self) -> dict[str, int]:
        """Number of findings of each kind that occurs, in the order of `KINDS`."""
        counted = Counter(finding.kind for finding in self.findings)
        return {kind: counted[kind] for kind in KINDS if counted[kind]}


def check_dataset(
    training_set: TrainingSet,
    lists: Lists | None = None,
    crop_size: int = 512,
    num_workers: int = 1,
    progress: bool = True,
) -> CheckReport:
    """Decode every file of a training set and compare them with each other and with lists.

    Args:
        crop_size: size in pixels below which pictures are noted. Backgrounds are stretched in any case.
        num_workers: number of processes.

    Raises:
        InputError: a folder or list is missing, or a folder has no image.
    """
    lists = lists or Lists()
    folders = {"image": training_set.image_dir, "alpha": training_set.alpha_dir, "background": training_set.bg_dir}
    listed = {role: list_images(folder) for role, folder in folders.items() if folder is not None}
    files = {role: found for role, (found, _) in listed.items()}
    findings = [finding for _, same_name in listed.values() for finding in same_name]
    name_of, ambiguous = fits(files["image"], files["alpha"], "alpha")
    alphas, files["alpha"] = files["alpha"], {}
    for name, path in alphas.items():
        files["alpha"].setdefault(name_of.get(name, name), path)
    findings += [Finding("ambiguous", str(folders["alpha"]), text) for text in ambiguous]
    findings += _listed_findings(files, lists)
    alone = partnerless(files["image"], folders["image"], files["alpha"], folders["alpha"])
    findings += [Finding("no-partner", str(path), text) for path, text in alone.items()]
    facts, unchecked = _inspect(files, num_workers, progress)
    findings += unchecked
    known = {role: {stem: path for stem, path in paths.items() if path in facts} for role, paths in files.items()}
    for role, paths in known.items():
        for path in paths.values():
            findings += file_findings(role, path, facts[path], crop_size)
    findings += pair_findings(known["image"], known["alpha"], facts)
    findings += shared_findings(known, facts)
    return CheckReport({role: len(paths) for role, paths in files.items()}, findings)


def list_images(folder: str | os.PathLike) -> tuple[dict[str, Path], list[Finding]]:
    """Map the key of a name (see `name_key`) to the path of its image, and list images that share a name.

    Raises:
        InputError: no such folder, or no image in it.
    """
    files: dict[str, Path] = {}
    findings = []
    for path in image_paths(folder):
        first = files.setdefault(name_key(path.stem), path)
        if first != path:
            findings.append(Finding("same-name", str(path), f"{first.name} has the same name"))
    if not files:
        raise found_none(folder)
    if left := passed_over(folder):
        findings.append(Finding("passed-over", str(folder), left))
    return files, findings


def write_report(path: str | os.PathLike, report: CheckReport) -> None:
    """Write a report as JSON, atomically."""
    record = {
        "checked": report.checked,
        "problems": len(report.of(PROBLEM)),
        "notes": len(report.of(NOTE)),
        "counts": report.counts(),
        "findings": [
            {
                "severity": finding.severity,
                "kind": finding.kind,
                "file": finding.file,
                "text": finding.text,
                "cure": finding.cure,
            }
            for finding in report.findings
        ],
    }
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _inspect(files: dict[str, dict[str, Path]], num_workers: int, progress: bool) -> tuple[Facts, list[Finding]]:
    """Facts of every file, or the reason why it cannot be read; and findings for files that exceed the memory."""
    tasks = {f"background {stem}": {"background": path} for stem, path in files.get("background", {}).items()}
    for role in ("image", "alpha"):
        for stem, path in files[role].items():
            tasks.setdefault(f"pair {stem}", {})[role] = path
    facts: Facts = {}
    unchecked = []
    results = outcomes(tasks, inspect_files, num_workers, preload=("data.preparation.image_facts",))
    bar = tqdm(results, "checking", len(tasks), unit="file", disable=None if progress else True)
    with contextlib.closing(results), bar:
        for name, result in bar:
            if isinstance(result, str):
                unchecked += [Finding("not-checked", str(path), result) for path in tasks[name].values()]
            else:
                facts.update((path, result[role]) for role, path in tasks[name].items())
    return facts, unchecked


def _listed_findings(files: dict[str, dict[str, Path]], lists: Lists) -> list[Finding]:
    """Names on lists without a file, and files on a list of tests."""
    findings = []
    for role, paths in (("image", lists.images), ("background", lists.backgrounds)):
        for path in paths:
            missing = [name for name in read_names(path) if name_key(Path(name).stem) not in files.get(role, {})]
            findings += [Finding("listed-only", str(path), f"{name} is not among the {role}s") for name in missing]
    for path in lists.tests:
        tested = {name_key(Path(name).stem) for name in read_names(path)}
        for role in ("image", "background"):
            shared = [file for stem, file in files.get(role, {}).items() if stem in tested]
            findings += [Finding("in-test-list", str(file), f"{path} names it for testing") for file in shared]
    return findings
