"""The manifest of a folder of results: each picture with its outputs, its status, its warnings and its reading.

A later run into the folder replaces the manifest. Pictures that it skips keep the warnings of the run that wrote them.
"""

import itertools
import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from engine.inference.jobs import Job, Outcome
from runtime.errors import InputError
from runtime.files import replacing, unfinished_of

MANIFEST = "manifest.json"
DONE = ("written", "skipped")


def entries_of(jobs: Sequence[Job]) -> list[dict[str, Any]]:
    """The files of each job, for JSON."""
    return [
        {"image": str(job.inputs["image"]), "outputs": {kind: str(path) for kind, path in job.outputs.items()}}
        for job in jobs
    ]


def end_of(outcome: Outcome) -> dict[str, Any]:
    """Entry of an outcome in the manifest, for JSON."""
    reading = [remark._asdict() for remark in outcome.read_as]
    return {"status": outcome.status, "remark": outcome.remark, "reading": reading}


def read_manifest(folder: str | os.PathLike) -> dict[str, dict[str, Any]]:
    """Entries of the manifest in a folder by their `outputs`, see `write_manifest`; empty if there is none.

    Raises:
        InputError: the file is not a manifest of this program.
    """
    path = Path(folder) / MANIFEST
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content.keys() != {"processes", "counts", "jobs"}:
            raise ValueError
        return {_outputs_of(job): {**job, **_end_in(job)} for job in content["jobs"]}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(
            f"{path}: expected the manifest of an earlier run, found another file; move it, or choose another folder"
        ) from error


def write_manifest(
    folder: str | os.PathLike,
    entries: Sequence[Mapping[str, Any]],
    ends: Mapping[int, Mapping[str, Any]],
    processes: int,
    is_complete: bool = True,
    is_older: bool = False,
) -> Counter[str]:
    """Write `MANIFEST` after the last job, when no process of the run writes any more.

    The temporary files that killed processes of a shared run left beside the outputs are removed.

    Args:
        folder: folder of the results.
        entries: result of `entries_of` for all jobs.
        ends: result of `end_of` for each index in `entries`.
        processes: number of processes that shared the jobs.
        is_complete: whether all jobs have ended. Otherwise the entries of earlier runs are kept, and jobs without an
            end are left out.
        is_older: whether the existing manifest is of a later run. Its entries are then kept. If that run skipped a
            picture that this run wrote, its entry gets the remarks of this run.

    Returns:
        Number of jobs with each status.

    Raises:
        InputError: the manifest cannot be written, or another file has its name.
    """
    known = read_manifest(folder)
    jobs = {} if is_complete else dict(known)
    for index, entry in enumerate(entries):
        if not is_complete and index not in ends:
            continue
        name, end = _outputs_of(entry), _end_in(ends[index])
        if not is_older or name not in known:
            jobs[name] = {**entry, **_with_earlier(end, known.get(name))}
        elif end["status"] == "written":
            jobs[name] |= _with_earlier(_end_in(known[name]), end)
    counts = Counter(job["status"] for job in jobs.values())
    with replacing(Path(folder) / MANIFEST) as temporary:
        content = {"processes": processes, "counts": counts, "jobs": list(jobs.values())}
        temporary.write_text(json.dumps(content, indent=1), encoding="utf-8")
    if processes > 1:  # another run of a single process may write to the folder at the same time
        remove_unfinished(entries)
    return counts


def _outputs_of(entry: Mapping[str, Any]) -> str:
    """Identity of an entry: its outputs, however the folder was typed."""
    return json.dumps({kind: os.path.abspath(path) for kind, path in entry["outputs"].items()}, sort_keys=True)


def _end_in(record: Mapping[str, Any]) -> dict[str, Any]:
    return {"status": record["status"], "remark": record["remark"], "reading": record.get("reading", [])}


def _with_earlier(end: dict[str, Any], earlier: Mapping[str, Any] | None) -> dict[str, Any]:
    """The end of a job, with the remarks of the run that wrote its outputs if it was skipped."""
    if end["status"] != "skipped" or earlier is None or earlier["status"] not in DONE:
        return end
    return {"status": "skipped", "remark": earlier["remark"] or end["remark"], "reading": earlier["reading"]}


def remove_unfinished(entries: Sequence[Mapping[str, Any]]) -> None:
    """Remove the temporary files that killed processes left beside the outputs, when no process writes any more."""
    outputs = [output for entry in entries for output in entry["outputs"].values()]
    for leftover in itertools.chain.from_iterable(map(unfinished_of, outputs)):
        leftover.unlink(missing_ok=True)
