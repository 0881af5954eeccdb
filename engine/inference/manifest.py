"""The manifest of a folder of results: each picture with its outputs, its status and its warnings."""

import itertools
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.inference.jobs import Job, Outcome
from runtime.files import replacing, unfinished_of

MANIFEST = "manifest.json"


def entries_of(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """The files of each job, for JSON."""
    return [
        {"image": str(job.inputs["image"]), "outputs": {kind: str(path) for kind, path in job.outputs.items()}}
        for job in jobs
    ]


def end_of(outcome: Outcome) -> dict[str, str]:
    """The entry of an outcome in the manifest, for JSON."""
    return {"status": outcome.status, "remark": outcome.remark}


def write_manifest(
    folder: str | os.PathLike,
    entries: Sequence[Mapping[str, Any]],
    ends: Mapping[int, Mapping[str, str]],
    processes: int,
) -> Counter[str]:
    """Write `MANIFEST` after the last job, when no process writes any more.

    The temporary files that killed processes left beside the outputs are removed.

    Args:
        folder: folder of the results.
        entries: result of `entries_of` for all jobs.
        ends: result of `end_of` for each index in `entries`.
        processes: number of processes that shared the jobs.

    Returns:
        Number of jobs with each status.
    """
    jobs = [
        {**entry, **{name: ends[index][name] for name in ("status", "remark")}} for index, entry in enumerate(entries)
    ]
    counts = Counter(job["status"] for job in jobs)
    with replacing(Path(folder) / MANIFEST) as temporary:
        temporary.write_text(json.dumps({"processes": processes, "counts": counts, "jobs": jobs}, indent=1))
    remove_unfinished(entries)
    return counts


def remove_unfinished(entries: Sequence[Mapping[str, Any]]) -> None:
    """Remove the temporary files that killed processes left beside the outputs, when no process writes any more."""
    outputs = [output for entry in entries for output in entry["outputs"].values()]
    for leftover in itertools.chain.from_iterable(map(unfinished_of, outputs)):
        leftover.unlink(missing_ok=True)
