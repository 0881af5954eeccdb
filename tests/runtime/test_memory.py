"""The memory a process may use: made-up /proc and control groups, and this machine's own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime import memory as system_memory
from runtime.memory import Memory, available_memory, memories, total_memory

GB = 10**9
MACHINE = Memory(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), 50 * GB)
V2 = ("memory.max", "memory.current", "inactive_file")
V1 = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")


@pytest.fixture
def system(monkeypatch, tmp_path):
    """Write /proc as a machine with 50 GB available has it; takes the text of mountinfo and of cgroup."""
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(f"MemTotal: 99 kB\nMemFree: 1 kB\nMemAvailable:   {50 * GB // 1024} kB\n")
    monkeypatch.setattr(system_memory, "PROC", proc)

    def write(mountinfo: str, groups: str) -> None:
        (proc / "self/mountinfo").write_text("24 1 8:1 / / rw shared:1 - ext4 /dev/sda rw\n" + mountinfo)
        (proc / "self/cgroup").write_text(groups)

    return write


def group(folder: Path, names: tuple[str, str, str], limit: int | str, used: int, inactive: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in zip(names, (limit, used, None), strict=True):
        if text is not None:
            (folder / name).write_text(f"{text}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {inactive}\nactive_file 7\n")


def version_2(mount_point: Path, root: str = "/") -> str:
    escaped = str(mount_point).replace(" ", "\\040")
    return f"31 24 0:27 {root} {escaped} rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


def version_1(mount_point: Path, root: str = "/") -> str:
    return (
        f"32 31 0:29 / {mount_point}/cpu rw - cgroup cgroup rw,cpu\n"
        f"35 31 0:32 {root} {mount_point}/memory rw,relatime - cgroup cgroup rw,memory\n"
    )


def test_without_control_groups_it_is_the_machines(system):
    system("", "")
    assert memories() == [Memory(MACHINE.total, 50 * GB // 1024 * 1024)]


def test_a_slurm_job_is_limited_by_its_own_group_and_those_around_it(system, tmp_path):
    """The step's group has no limit, the job's has 8 GB of which 2 are left, a group beside it does not count."""
    tree = tmp_path / "a tree"
    slurm = tree / "system.slice/slurmstepd.scope"
    group(slurm / "job_7/step_0/user/task_0", V2, "max", 6 * GB)
    group(slurm / "job_7", V2, 8 * GB, 7 * GB, inactive=1 * GB)
    group(slurm / "job_8", V2, 1 * GB, 1 * GB)
    group(slurm, V2, 20 * GB, 9 * GB)
    system(version_2(tree), "0::/system.slice/slurmstepd.scope/job_7/step_0/user/task_0\n")
    assert memories()[1:] == [Memory(8 * GB, 2 * GB), Memory(20 * GB, 11 * GB)]
    assert (total_memory(), available_memory()) == (min(8 * GB, MACHINE.total), 2 * GB)


@pytest.mark.parametrize("listed", ["0::/", "0::/../../other", ""])
def test_a_container_that_sees_its_group_as_the_root(system, tmp_path, listed):
    group(tmp_path / "tree", V2, 4 * GB, 3 * GB)
    system(version_2(tmp_path / "tree"), f"{listed}\n")
    assert memories()[1:] == [Memory(4 * GB, 1 * GB)]


def test_version_1_with_the_limit_of_a_parent(system, tmp_path):
    group(tmp_path / "memory/slurm/uid_5/job_7", V1, 9223372036854771712, 1 * GB)
    group(tmp_path / "memory/slurm/uid_5", V1, 6 * GB, 5 * GB, inactive=2 * GB)
    group(tmp_path / "cpu/slurm", V1, 1, 1)
    group(tmp_path / "memory/elsewhere", V1, 1, 1)
    system(
        version_1(tmp_path) + version_2(tmp_path / "unified"),
        "9:name=systemd:/elsewhere\n4:cpu,memory:/slurm/uid_5/job_7\n1:cpu:/slurm\n0::/elsewhere\n",
    )
    assert memories()[1:] == [Memory(6 * GB, 3 * GB)]


def test_version_1_in_a_container_that_has_the_host_s_names(system, tmp_path):
    """Only the container's part of the tree is mounted, while the group is told from the tree's root."""
    group(tmp_path / "memory/inner", V1, 2 * GB, 1 * GB)
    group(tmp_path / "memory", V1, 3 * GB, 1 * GB)
    system(version_1(tmp_path, root="/docker/f00"), "4:memory:/docker/f00/inner\n")
    assert memories()[1:] == [Memory(2 * GB, 1 * GB), Memory(3 * GB, 2 * GB)]


def test_a_group_over_its_limit_has_nothing_left_and_one_of_files_alone_no_more_than_its_limit(system, tmp_path):
    group(tmp_path, V2, 4 * GB, 5 * GB)
    system(version_2(tmp_path), "0::/\n")
    assert available_memory() == 0
    group(tmp_path, V2, 4 * GB, 1 * GB, inactive=2 * GB)
    assert available_memory() == 4 * GB


def test_what_cannot_be_read_is_no_limit(system, tmp_path):
    (tmp_path / "memory.max").write_text("4000\n")  # and no memory.current
    system("nonsense\n\n- \n" + version_2(tmp_path), "nonsense\n")
    assert len(memories()) == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="control groups")
def test_a_limit_set_on_a_real_group_is_seen(tmp_path):
    """A process that is moved into a new group of this machine."""
    trees = [(Path("/sys/fs/cgroup/memory"), V1[0]), (Path("/sys/fs/cgroup"), V2[0])]
    tree, limit = next(((tree, limit) for tree, limit in trees if (tree / "cgroup.procs").exists()), (None, None))
    folder = tree / f"dinomatte-test-{os.getpid()}/inner" if tree else None
    try:
        folder.mkdir(parents=True)
        (folder.parent / limit).write_text(f"{3 * 2**30}")
    except (AttributeError, OSError):
        pytest.skip("making a control group needs root and the memory controller")
    code = (
        f"import os; open({str(folder / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
        "from runtime.memory import *; print(total_memory(), available_memory())"
    )
    try:
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    finally:
        folder.rmdir()
        folder.parent.rmdir()
    assert result.returncode == 0, result.stderr
    total, available = map(int, result.stdout.split())
    assert total == 3 * 2**30
    assert 2 * 2**30 < available <= total
