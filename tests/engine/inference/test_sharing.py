"""Images of a folder shared by the processes of torchrun: each is done once, and one process accounts for all."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from small_models import small_model
from tiny import ROOT
from two_hosts import ADDRESSES, HOSTS, Host, kill_all_on

from data.images.remarks import Remark
from engine.inference import Crew, Job, Outcome, Predictor, SharedJobs, predict, sharing
from engine.inference.manifest import MANIFEST, entries_of, write_manifest
from runtime.command_line import Terminated
from runtime.errors import InputError

COUNT = 7
WRITTEN = {"status": "written", "remark": ""}
LIMIT = 400  # seconds; what ends in ten may take minutes on a machine with other work


def crew(rank: int, size: int, attempt: int = 0) -> Crew:
    return Crew(rank, size, rank, size, "run", attempt)


def jobs_in(folder: Path, count: int = COUNT) -> list[Job]:
    return [Job({"image": Path(f"{index}.png")}, {"alpha": folder / f"{index}.png"}) for index in range(count)]


class Process(threading.Thread):
    """One process of a run, in a thread; `stops_at` is the number of jobs after which it is killed."""

    def __init__(self, folder: Path, crew: Crew, count: int = COUNT, stops_at: int = COUNT, fails: tuple = ()) -> None:
        super().__init__()
        self.shared, self.jobs = SharedJobs(folder, crew), jobs_in(folder, count)
        self.stops_at, self.fails = stops_at, fails
        self.did: list[str] = []
        self.counts: Counter | None = None
        self.error: InputError | None = None
        self.start()

    def run(self) -> None:
        try:
            self.shared.wait_for_first()
            for job in self.shared.begin(self.jobs):
                if len(self.did) == self.stops_at:
                    self.shared.ends.write('{"job": 0, "sta')  # half a line
                    self.shared.ends.flush()
                    return
                self.did.append(job.label)
                failed = job.label in self.fails
                self.shared.record(Outcome(job, "failed" if failed else "written", "damaged" if failed else ""))
            self.counts = self.shared.finish()
        except InputError as error:
            self.error = error


def manifest(folder: Path) -> dict:
    return json.loads((folder / MANIFEST).read_text())


@pytest.mark.parametrize("size", [2, 3, 9])
def test_each_job_is_done_once_and_the_first_process_counts_all(tmp_path, size):
    processes = [Process(tmp_path, crew(rank, size), fails=("1.png",)) for rank in reversed(range(size))]
    for process in processes:
        process.join(20)
    assert sorted(label for process in processes for label in process.did) == [f"{i}.png" for i in range(COUNT)]
    assert processes[-1].counts == {"written": COUNT - 1, "failed": 1}
    assert [process.counts for process in processes[:-1]] == [None] * (size - 1)
    account = manifest(tmp_path)
    assert (account["processes"], account["counts"]) == (size, {"written": COUNT - 1, "failed": 1})
    assert [job["image"] for job in account["jobs"]] == [f"{i}.png" for i in range(COUNT)]
    assert account["jobs"][1] | {"outputs": 0} == {
        "image": "1.png",
        "outputs": 0,
        "status": "failed",
        "remark": "damaged",
        "reading": [],
    }
    assert os.listdir(tmp_path) == [MANIFEST]


def test_a_restart_by_torchrun_repeats_nothing_that_is_done(tmp_path):
    first = [Process(tmp_path, crew(0, 2), stops_at=2, fails=("0.png",)), Process(tmp_path, crew(1, 2), stops_at=1)]
    for process in first:
        process.join(20)
    assert [process.did for process in first] == [["0.png", "2.png"], ["1.png"]]
    second = [Process(tmp_path, crew(rank, 2, attempt=1)) for rank in (0, 1)]
    for process in second:
        process.join(20)
    assert [process.did for process in second] == [["0.png", "4.png", "6.png"], ["3.png", "5.png"]]
    assert second[0].counts == {"written": COUNT}


def test_what_a_killed_run_left_is_no_part_of_the_next(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    here = sharing.socket.gethostname()
    stale = [
        f"{sharing.WORK_FOLDER}{name}" for name in ("run", f"{here}-{dead.pid}", "0123456789abcdef", "elsewhere-1")
    ]
    going_on = [f"{sharing.WORK_FOLDER}{name}" for name in (f"{here}-{os.getpid()}", "fedcba9876543210")]
    for name in (*stale, *going_on):
        (tmp_path / name).mkdir()
        end = {"job": 0, **entries_of(jobs_in(tmp_path))[0], **WRITTEN}
        (tmp_path / name / "ends-0-0").write_text(json.dumps(end) + "\n")
    for name in stale[2:]:  # on other machines, which are silent
        os.utime(tmp_path / name / "ends-0-0", (0, time.time() - sharing.SILENCE_LIMIT - 1))
    process = Process(tmp_path, crew(0, 2))
    late = Process(tmp_path, crew(1, 2))
    process.join(20)
    late.join(20)
    assert process.did[0] == "0.png"
    assert sorted(os.listdir(tmp_path)) == sorted([*going_on, MANIFEST])


def test_the_list_of_an_earlier_run_with_this_name_is_not_read(tmp_path):
    """A reused --rdzv-id: the earlier run was killed and left its list, on another machine's side of the disk."""
    work = tmp_path / f"{sharing.WORK_FOLDER}run"
    work.mkdir()
    (work / "jobs-0.json").write_text(json.dumps(entries_of(jobs_in(tmp_path))))
    (work / "ends-0-0").write_text(json.dumps({"job": 2, **entries_of(jobs_in(tmp_path))[2], **WRITTEN}) + "\n")
    late = Process(tmp_path, crew(1, 2))
    time.sleep(1)
    assert late.is_alive()
    assert not late.did  # without process 0, the stale list is no reason to begin
    first = Process(tmp_path, crew(0, 2))
    for process in (first, late):
        process.join(20)
    assert (first.did, late.did) == (["0.png", "2.png", "4.png", "6.png"], ["1.png", "3.png", "5.png"])
    assert manifest(tmp_path)["counts"] == {"written": COUNT}
    assert os.listdir(tmp_path) == [MANIFEST]


READING = (Remark("trimap", "values 0, 1, 2 read as background, unknown, foreground", "1.png"),)


def of_job(folder: Path, index: int) -> tuple:
    job = manifest(folder)["jobs"][index]
    return job["status"], job["remark"], job["reading"]


def test_the_manifest_tells_how_each_picture_was_read_also_when_it_is_skipped_later(tmp_path):
    def run(status: str, *read_as: Remark) -> None:
        shared = SharedJobs(tmp_path, Crew())
        shared.wait_for_first()
        for job in shared.begin(jobs_in(tmp_path, 2)):
            shared.record(Outcome(job, status, "exists" if status == "skipped" else "", read_as=read_as))
        assert shared.finish() == {status: 2}

    expected = [{"what": "trimap", "text": READING[0].text, "path": "1.png"}]
    run("written", *READING)
    assert of_job(tmp_path, 1) == ("written", "", expected)
    for _ in range(2):
        run("skipped")
        assert of_job(tmp_path, 1) == ("skipped", "exists", expected)
    run("failed")
    assert of_job(tmp_path, 1) == ("failed", "", [])
    run("skipped")  # the file that exists was not written by a run that is known
    assert of_job(tmp_path, 1) == ("skipped", "exists", [])


@pytest.mark.parametrize("is_killed", [True, False])
def test_a_run_that_does_not_finish_is_in_the_manifest_too(tmp_path, is_killed):
    shared = SharedJobs(tmp_path, Crew(run="killed") if is_killed else Crew())

    def stop_after_two() -> None:
        first, second, _ = shared.begin(jobs_in(tmp_path, 3))
        shared.record(Outcome(first, "written", "no unknown pixel"))
        shared.record(Outcome(second, "written", read_as=READING))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), nullcontext() if is_killed else shared.one_voice():
        stop_after_two()
    if not is_killed:
        assert os.listdir(tmp_path) == [MANIFEST]
        assert manifest(tmp_path)["counts"] == {"written": 2}
    again = SharedJobs(tmp_path, Crew(run="killed"))
    again.wait_for_first()
    for job, status in zip(again.begin(jobs_in(tmp_path, 3)), ("skipped", "skipped", "written"), strict=True):
        again.record(Outcome(job, status, "exists" * (status == "skipped")))
    again.finish()
    assert of_job(tmp_path, 0)[:2] == ("skipped", "no unknown pixel")
    assert [remark["text"] for remark in of_job(tmp_path, 1)[2]] == [READING[0].text]
    assert of_job(tmp_path, 2) == ("written", "", [])


def test_a_killed_run_that_is_closed_late_changes_nothing_that_was_done_since(tmp_path):
    """Run A, on another machine, is killed; B repeats one picture and skips another; C finds the files of A."""
    first = SharedJobs(tmp_path, Crew(run="a"))
    for job in first.begin(jobs_in(tmp_path, 2)):
        first.record(Outcome(job, "written", "memory ran out", read_as=READING))
    first.ended.set()
    second = SharedJobs(tmp_path, Crew())
    for job, status in zip(second.begin(jobs_in(tmp_path, 2)), ("written", "skipped"), strict=True):
        second.record(Outcome(job, status, "exists" * (status == "skipped")))
    second.finish()
    third = SharedJobs(tmp_path, Crew(run="a"))
    third.wait_for_first()
    for job in third.begin(jobs_in(tmp_path, 2)):
        third.record(Outcome(job, "skipped", "exists"))
    third.finish()
    assert of_job(tmp_path, 0) == ("skipped", "exists", [])
    assert of_job(tmp_path, 1) == ("skipped", "memory ran out", [READING[0]._asdict()])


@pytest.mark.parametrize("content", ["{}", "[]", "not JSON", '{"jobs": [{"image": "a.png"}]}', '{"jobs": 3}'])
def test_another_file_with_the_name_of_the_manifest_is_kept(tmp_path, content):
    (tmp_path / MANIFEST).write_text(content)
    with pytest.raises(InputError, match=r"manifest\.json: expected the manifest of an earlier run, found"):
        SharedJobs(tmp_path, Crew()).begin(jobs_in(tmp_path))
    assert (tmp_path / MANIFEST).read_text() == content


def test_other_jobs_and_missing_processes_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sharing, "START_LIMIT", 0.5)
    alone = Process(tmp_path / "a", crew(1, 2))
    alone.join(20)
    assert "process 0 has not listed its jobs for 0 seconds; start all processes with torchrun" in str(alone.error)
    first, second = Process(tmp_path / "b", crew(0, 2)), Process(tmp_path / "b", crew(1, 2), count=COUNT + 1)
    first.join(20)
    second.join(20)
    assert "process 1 lists 8 other jobs than process 0" in str(second.error)
    assert "process 1 has not begun" in str(first.error)


def test_a_process_whose_parent_is_gone_ends(tmp_path, monkeypatch):
    shared = SharedJobs(tmp_path, crew(1, 2))
    monkeypatch.setattr(os, "getppid", lambda: 1)
    with pytest.raises(InputError, match="the program that started this process is gone"):
        shared.wait_for_first()


def test_of_stopped_processes_the_first_speaks(tmp_path):
    shared = [SharedJobs(tmp_path, crew(rank, 3)) for rank in range(3)]

    def stop(rank: int, by: type[BaseException]) -> BaseException:
        with pytest.raises(BaseException) as stopped, shared[rank].one_voice():  # noqa: PT011
            raise by
        return stopped.value

    assert [type(stop(rank, Terminated)) for rank in (2, 0)] == [SystemExit, Terminated]  # before there are jobs
    shared[0].begin(jobs_in(tmp_path))
    ends = [stop(1, Terminated), stop(0, Terminated), stop(2, KeyboardInterrupt)]
    assert [(type(end), end.code) for end in ends] == [(Terminated, 143), (SystemExit, 143), (SystemExit, 130)]


def test_a_process_without_a_sign_of_life_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(sharing, "BEAT", 0.05)
    monkeypatch.setattr(sharing, "SILENCE_LIMIT", 1.0)
    slow, gone = SharedJobs(tmp_path, crew(1, 3)), SharedJobs(tmp_path, crew(2, 3))
    first = Process(tmp_path, crew(0, 3))
    for shared in (slow, gone):
        shared.wait_for_first()
        shared.begin(jobs_in(tmp_path))
    gone.ended.set()  # its thread gives no more signs
    first.join(20)
    assert "process 2 has given no sign of life for 1 seconds" in str(first.error)
    assert "--skip-existing" in str(first.error)
    assert not (tmp_path / MANIFEST).exists()


def test_a_slow_process_is_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(sharing, "BEAT", 0.05)
    monkeypatch.setattr(sharing, "SILENCE_LIMIT", 0.5)
    slow = SharedJobs(tmp_path, crew(1, 2))
    first = Process(tmp_path, crew(0, 2))
    slow.wait_for_first()
    jobs = slow.begin(jobs_in(tmp_path))
    first.join(1.5)
    assert first.is_alive()
    for job in jobs:
        slow.record(Outcome(job, "written"))
    slow.finish()
    first.join(20)
    assert first.counts == {"written": COUNT}


TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"RANK": "4"}, "RANK 4 of WORLD_SIZE 4"),
        ({"RANK": "one"}, "RANK: expected a number"),
        ({"LOCAL_WORLD_SIZE": "8"}, "LOCAL_WORLD_SIZE 8"),
        ({"TORCHELASTIC_RUN_ID": "none"}, "give --rdzv-id NAME"),
    ],
)
def test_an_environment_that_makes_no_sense_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        Crew.of_environment(TORCHRUN | change)


def test_the_environment_tells_process_run_and_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    first, other = Crew.of_environment(TORCHRUN), Crew.of_environment(TORCHRUN | {"TORCHELASTIC_RUN_ID": "y"})
    assert (first.rank, first.size, first.local_rank, first.local_size) == (3, 4, 1, 2)
    assert first.run != other.run
    assert first.device(torch.device("cuda")) == torch.device("cuda:1")
    assert first.device(torch.device("cuda:0")) == torch.device("cuda:0")  # as asked for
    assert (first.sharers(torch.device("cpu")), first.sharers(torch.device("cuda"))) == (2, 1)
    assert Crew.of_environment({}) == Crew.of_environment({"RANK": "0", "WORLD_SIZE": "1"}) == Crew()
    assert Crew().device(torch.device("cuda")) == torch.device("cuda")


def test_processes_of_one_machine_divide_what_is_free(monkeypatch):
    model = small_model().eval()
    whole = Predictor(model, mode="whole").plan(2048, 2048).nbytes
    monkeypatch.setattr(predict, "free_bytes", lambda device: 3 * whole // 2)
    assert Predictor(model).plan(2048, 2048).mode == "whole"
    assert Predictor(model, sharers=2).plan(2048, 2048).mode != "whole"
    assert Predictor(model, sharers=2, max_memory=whole).plan(2048, 2048).mode == "whole"  # said for each process


# --- the script under torchrun


@pytest.fixture
def pictures(tmp_path) -> Path:
    rng = np.random.default_rng(0)
    for folder in ("images", "trimaps"):
        (tmp_path / folder).mkdir()
    for index in range(24):
        height, width = 40 + index, 64
        trimap = np.full((height, width), 128, np.uint8)
        trimap[:8], trimap[-8:] = 0, 255
        Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8)).save(tmp_path / f"images/{index:02}.png")
        Image.fromarray(trimap).save(tmp_path / f"trimaps/{index:02}.png")
    return tmp_path


def arguments(folder: Path, output: str, *more: str) -> list[str]:
    named = {"image": folder / "images", "trimap": folder / "trimaps", "output": folder / output}
    options = [part for name, path in named.items() for part in (f"--{name}", str(path))]
    return [str(ROOT / "inference.py"), *options, "--method", "closed-form", "--device", "cpu", *more]


def start(command: list[str]) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment, **pipes)


def torchrun(command: list[str]) -> subprocess.Popen:
    return start(["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *command])


def wait_for_outcomes(folder: Path, launcher: subprocess.Popen, processes: int = 2) -> None:
    """Wait until process 1 has done a picture, and all processes have begun."""
    until = time.monotonic() + LIMIT
    work = f"{sharing.WORK_FOLDER}*"
    while (
        not any(path.stat().st_size for path in folder.glob(f"{work}/ends-0-1"))
        or len(list(folder.glob(f"{work}/ends-0-*"))) < processes
    ):
        assert launcher.poll() is None
        assert time.monotonic() < until
        time.sleep(0.002)


def process_of(launcher: int, rank: int) -> int:
    children = Path(f"/proc/{launcher}/task/{launcher}/children").read_text().split()
    wanted = f"RANK={rank}\0"
    return next(int(child) for child in children if wanted in "\0" + Path(f"/proc/{child}/environ").read_text())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_torchrun_shares_the_work_and_a_killed_process_loses_only_its_picture(pictures):
    alone = start(arguments(pictures, "alone"))
    assert alone.wait(LIMIT) == 0
    expected = {path.name: path.read_bytes() for path in (pictures / "alone").glob("*.png")}
    assert len(expected) == 24
    assert manifest(pictures / "alone")["counts"] == {"written": 24}
    killed = torchrun(arguments(pictures, "shared"))
    ends = pictures / "shared"
    wait_for_outcomes(ends, killed)
    os.kill(process_of(killed.pid, rank=1), signal.SIGKILL)
    assert killed.wait(LIMIT) == 1
    done = {path.name: path.read_bytes() for path in ends.glob("*.png")}
    assert 1 <= len(done) < 24
    assert done.items() <= expected.items()  # whole ones only
    (pictures / "images" / "05.png").write_bytes(b"damaged")
    (ends / ".03.png.abcdefgh.part").touch()  # as a process leaves it that is killed while it writes
    again = torchrun(arguments(pictures, "shared", "--skip-existing"))
    out, _ = again.communicate(timeout=LIMIT)
    account = manifest(ends)["counts"]
    failed = "05.png" not in done
    assert again.returncode == failed
    assert account.get("failed", 0) == failed
    assert account["skipped"] == len(done)
    assert f"{account['written']} written, {len(done)} skipped, {int(failed)} failed, on cpu, by 2 processes" in out
    assert out.count("written") == 1
    found = {path.name: path.read_bytes() for path in ends.glob("*.png")}
    assert found == {name: content for name, content in expected.items() if name != "05.png" or not failed}
    assert sorted(path.name for path in ends.iterdir() if path.name.startswith(".")) == []


@pytest.mark.slow
def test_a_mistake_is_one_line_of_the_first_process(pictures):
    (pictures / "trimaps" / "00.png").unlink()
    process = torchrun(arguments(pictures, "out"))
    _, err = process.communicate(timeout=LIMIT)
    assert process.returncode == 1
    assert err.count("error: ") == 1
    assert "00.png: no image of that name" in err


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("sent", "word"), [(signal.SIGINT, "interrupted"), (signal.SIGTERM, "terminated")])
def test_a_stopped_torchrun_says_once_how_to_go_on(pictures, sent, word):
    launcher = torchrun(arguments(pictures, "out"))
    wait_for_outcomes(pictures / "out", launcher)
    launcher.send_signal(sent)
    _, err = launcher.communicate(timeout=LIMIT)
    own = [line for line in err.splitlines() if line.startswith(word) or "--skip-existing" in line]
    advice = "keeps the pictures that are done; the same command with --skip-existing continues"
    assert own == [f"{word}; {pictures / 'out'} {advice}"]


# --- two machines


PATIENCE = 3.0  # seconds without a sign of life; in the product minutes


class Machine(Host):
    """inference.py under torchrun on one of two hosts, two processes each."""

    def __init__(self, number: int, pictures: Path, run: str, *more: str) -> None:
        script = pictures / "impatient.py"
        script.write_text(
            f"import runpy, sys\nsys.path.insert(0, {str(ROOT)!r})\n"
            "from engine.inference import sharing\n"
            f"sharing.BEAT, sharing.SILENCE_LIMIT = 0.2, {PATIENCE}\n"
            f"runpy.run_path({str(ROOT / 'inference.py')!r}, run_name='__main__')\n"
        )
        command = [
            "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "2", "--rdzv-backend", "c10d",
            "--rdzv-endpoint", f"{ADDRESSES[0]}:29400", "--rdzv-id", run, "--local-addr", ADDRESSES[number],
            "--rdzv-conf", f"is_host={1 - number}", str(script), *arguments(pictures, "out", *more)[1:],
        ]  # fmt: skip
        super().__init__(number, command, pictures / f"log-{run}-{number}")


@pytest.mark.slow
@pytest.mark.parametrize("lost", [0, 1])
def test_a_run_over_two_machines_that_loses_one_goes_on_with_the_same_bytes(hosts, pictures, lost):
    assert start(arguments(pictures, "alone")).wait(LIMIT) == 0
    out = pictures / "out"
    machines = [Machine(number, pictures, "first") for number in range(2)]
    wait_for_outcomes(out, machines[0].process, processes=4)
    kill_all_on(HOSTS[lost])
    left = machines[1 - lost]
    assert left.wait(LIMIT) != 0
    if lost == 1:
        assert [line for line in left.errors() if "sign of life" in line], left.text()
    done = sorted(path.name for path in out.glob("*.png"))
    assert 1 <= len(done) < 24
    assert not (out / MANIFEST).exists()
    again = [Machine(number, pictures, "second", "--skip-existing") for number in range(2)]
    assert [machine.wait(LIMIT) for machine in again] == [0, 0], again[0].text() + again[1].text()
    account = manifest(out)
    assert account["processes"] == 4
    assert account["counts"] == {"skipped": len(done), "written": 24 - len(done)}
    summaries = [line for machine in again for line in machine.text().splitlines() if " written, " in line]
    assert summaries == [f"{out}: {24 - len(done)} written, {len(done)} skipped, 0 failed, on cpu, by 4 processes"]
    found = {path.name: path.read_bytes() for path in out.iterdir() if path.name != MANIFEST}
    assert found == {path.name: path.read_bytes() for path in (pictures / "alone").glob("*.png")}


def test_a_folder_is_the_same_however_it_is_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("out").mkdir()
    for folder, status in (("out", "written"), (str(tmp_path / "out"), "skipped")):
        entry = {"image": "a.jpg", "outputs": {"alpha": f"{folder}/a.png"}}
        end = {"status": status, "remark": "", "reading": []}
        counts = write_manifest(folder, [entry], {0: end}, 1, is_complete=False)
        assert counts == {status: 1}
