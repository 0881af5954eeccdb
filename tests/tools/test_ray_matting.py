"""The example of Ray Data: the files of inference.py, byte for byte, also after a stop."""

import importlib.util
import json
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image
from tiny import ROOT

import inference
from engine.inference import plan_files
from engine.inference.manifest import MANIFEST
from runtime.errors import InputError
from tools import ray_matting
from tools.ray_matting import MattePictures, outcomes_of, places

COUNT = 20
needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs requirements/ray.txt")


@pytest.fixture
def pictures(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for folder in ("images", "trimaps"):
        (tmp_path / folder).mkdir()
    for index in range(COUNT):
        height, width = 40 + index, 64
        ramp = np.linspace(0, 160, width) + rng.integers(0, 90, (height, width))
        trimap = np.full((height, width), 128, np.uint8)
        trimap[:, :16], trimap[:, -16:] = 0, 255
        Image.fromarray(np.stack([ramp] * 3, -1).astype(np.uint8)).save(tmp_path / f"images/{index:02}.png")
        Image.fromarray(trimap).save(tmp_path / f"trimaps/{index:02}.png")
    return tmp_path


def arguments(folder: Path, output: str, *more: str) -> list[str]:
    named = {"image": folder / "images", "trimap": folder / "trimaps", "output": folder / output}
    return [*(f"--{name}={path}" for name, path in named.items()), *more]


@pytest.fixture
def expected(pictures) -> dict[str, bytes]:
    """The mattes of inference.py."""
    assert inference.main(arguments(pictures, "expected", "--device=cpu")) == 0
    found = mattes(pictures / "expected")
    assert len(found) == COUNT
    return found


def mattes(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != MANIFEST}


def batch_of(folder: Path) -> dict[str, np.ndarray]:
    column = np.empty(COUNT, object)
    column[:] = plan_files(*(str(folder / name) for name in ("images", "trimaps", "out")))
    return {"index": np.arange(COUNT), "job": column}


class Rows(NamedTuple):
    """The rows of a data set of Ray."""

    columns: dict[str, np.ndarray]

    def iter_rows(self) -> Iterator[dict]:
        names = list(self.columns)
        return (dict(zip(names, values, strict=True)) for values in zip(*self.columns.values(), strict=True))


def test_an_actor_writes_the_files_of_inference_py_and_names_what_failed(pictures, expected):
    (pictures / "images/03.png").write_bytes(b"damaged")
    actor, batch = MattePictures({"device": "cpu"}, skip_existing=False), batch_of(pictures)
    outcomes = list(outcomes_of(Rows(actor(batch)), batch["job"]))
    statuses = [outcome.status for outcome in outcomes]
    assert statuses == ["failed" if index == 3 else "written" for index in range(COUNT)]
    assert "03.png: not a readable image" in outcomes[3].remark
    del expected["03.png"]
    assert mattes(pictures / "out") == expected


def test_the_outcomes_of_an_actor_belong_to_its_jobs_also_where_some_are_skipped(pictures):
    (pictures / "out").mkdir()
    for index in (1, 2, 5):
        (pictures / f"out/{index:02}.png").touch()
    actor, batch = MattePictures({"device": "cpu"}, skip_existing=True), batch_of(pictures)
    outcomes = list(outcomes_of(Rows(pickle.loads(pickle.dumps(actor(batch)))), batch["job"]))
    assert [id(outcome.job) for outcome in outcomes] == [id(job) for job in batch["job"]]  # not the actor's copies
    assert [index for index, outcome in enumerate(outcomes) if outcome.status == "skipped"] == [1, 2, 5]


def test_files_that_are_not_read_are_named(pictures, monkeypatch, capsys):
    (pictures / "images/notes.psd").touch()

    @contextmanager
    def refused(ray, address):
        raise InputError("Ray does not start")
        yield

    monkeypatch.setattr(ray_matting, "imported_ray", lambda: None)
    monkeypatch.setattr(ray_matting, "started", refused)
    with pytest.raises(InputError, match="Ray does not start"):
        ray_matting.main(arguments(pictures, "out"))
    assert f"warning: {pictures / 'images'}: ignored 1 .psd (notes.psd)" in capsys.readouterr().err


def test_an_actor_can_be_sent_from_the_program_that_defines_it():
    code = (
        "import runpy, cloudpickle\n"
        "names = runpy.run_path('tools/ray_matting.py', run_name='program')\n"
        "cloudpickle.dumps(names['MattePictures'])\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_what_ends_an_actor_ends_the_run_in_one_line(pictures):
    actor = MattePictures({"checkpoint": str(pictures / "none.pth")}, skip_existing=False)
    done = pickle.loads(pickle.dumps(actor(batch_of(pictures))))
    with pytest.raises(InputError, match=r"none\.pth"):
        list(outcomes_of(Rows(done), []))
    actor = MattePictures({"device": "cpu"}, skip_existing=False)
    batch = batch_of(pictures)
    (pictures / "out").write_text("a file in place of the folder")
    with pytest.raises(InputError, match=r"out/\d\d\.png: cannot write"):
        list(outcomes_of(Rows(actor(batch)), []))


class Program:
    """The program in a process, with Ray on this machine."""

    def __init__(self, folder: Path, logs: Path, *more: str) -> None:
        command = [sys.executable, "tools/ray_matting.py", *arguments(folder, "out", *more)]
        self.log = folder / "log"
        with open(self.log, "w") as log:
            environment = os.environ | {"OMP_NUM_THREADS": "1", "RAY_TMPDIR": str(logs)}
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)

    def wait(self) -> int:
        return self.process.wait(400)

    def text(self) -> str:
        return self.log.read_text()


@pytest.fixture
def logs() -> Iterator[Path]:
    """A folder for Ray with a short path, as its sockets need."""
    with tempfile.TemporaryDirectory(prefix="ray") as folder:
        yield Path(folder)


@needs_ray
@pytest.mark.slow
def test_ray_shares_the_pictures_and_goes_on_after_a_stop(pictures, expected, logs):
    (pictures / "images/13.png").write_bytes(b"damaged")
    first = Program(pictures, logs, "--actors=2")
    deadline = time.monotonic() + 400
    while not list((pictures / "out").glob("*.png")):
        assert first.process.poll() is None, first.text()
        assert time.monotonic() < deadline, first.text()
        time.sleep(0.01)
    first.process.send_signal(signal.SIGTERM)
    assert first.wait() == 143, first.text()
    advice = "keeps the pictures that are done; the same command with --skip-existing continues"
    assert first.text().splitlines()[-1] == f"terminated; {pictures / 'out'} {advice}"
    done = mattes(pictures / "out")
    assert done.items() <= expected.items()  # whole ones only
    again = Program(pictures, logs, "--skip-existing", "--actors=1")
    assert again.wait() == 2, again.text()
    del expected["13.png"]
    assert mattes(pictures / "out") == expected
    assert "13.png: not a readable image" in again.text()
    counts = {"written": COUNT - 1 - len(done), "skipped": len(done), "failed": 1}
    account = json.loads((pictures / "out" / MANIFEST).read_text())
    assert account["counts"] == {status: count for status, count in counts.items() if count}
    assert [job["status"] for job in account["jobs"]].index("failed") == 13
    summary = ", ".join(f"{count} {status}" for status, count in counts.items())
    assert again.text().splitlines()[-1] == f"{pictures / 'out'}: {summary}, by 1 actors of Ray"


# ---- what is refused before Ray starts


def test_without_ray_the_line_says_what_to_install(pictures, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"ray is not installed; run: pip install -r requirements/ray\.txt"):
        ray_matting.main(arguments(pictures, "out"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--image=images/00.png"], "00.png: expected a folder of pictures"),
        (["--checkpoint=images/00.png"], "00.png"),
        (["--cpus=-1"], "--cpus: expected 0 or more, got -1"),
        (["--cpus=nan"], "--cpus: expected 0 or more, got nan"),
        (["--cpus=0"], "--cpus and --gpus: an actor needs one of them"),
        (["--max-memory=much"], "much"),
    ],
)
def test_a_mistake_is_refused_before_ray_starts(pictures, monkeypatch, change, message):
    monkeypatch.chdir(pictures)
    monkeypatch.setattr(ray_matting, "imported_ray", lambda: None)  # starting it would fail
    with pytest.raises(InputError, match=message):
        ray_matting.main([*arguments(pictures, "out"), *change])


def machine(cpus: float, gpus: float = 0, alive: bool = True) -> dict:
    return {"Alive": alive, "Resources": {"CPU": cpus} | ({"GPU": gpus} if gpus else {})}


@pytest.mark.parametrize(
    ("wanted", "machines", "expected"),
    [
        ({}, [machine(4)], (4, 4)),
        ({"cpus": 2}, [machine(5), machine(8), machine(64, alive=False)], (6, 4)),
        ({"actors": 3, "cpus": 2}, [machine(5), machine(8)], (3, 3)),
        ({"gpus": 1}, [machine(16, 2), machine(16, 4), machine(8)], (6, 1)),
        ({"gpus": 0.5, "cpus": 0}, [machine(0, 1)], (2, 2)),
    ],
)
def test_actors_fill_the_machines_and_know_who_shares_their_memory(wanted, machines, expected):
    options = Namespace(**({"actors": None, "cpus": 1, "gpus": 0} | wanted))
    assert places(options, machines) == expected


@pytest.mark.parametrize("wanted", [{"actors": 9}, {"actors": 0}, {"gpus": 1}, {"cpus": 16}])
def test_more_than_ray_has_is_refused_and_not_waited_for(wanted):
    options = Namespace(**({"actors": None, "cpus": 1, "gpus": 0} | wanted))
    with pytest.raises(InputError, match="Ray has room for"):
        places(options, [machine(8)])
