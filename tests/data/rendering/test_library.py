"""The program that renders a library: whole files, the same for any number of processes, resumed after a kill."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny import ROOT

pytest.importorskip("numba", reason="the renderer needs numba (requirements/render.txt)")

from data.rendering import library as library_module
from data.rendering.library import Library, chosen_families, family_names, prepared
from runtime.errors import InputError

FAST = ["feather", "web", "wire", "2d-solid"]


def command(output: Path, *options: str, count: int = 6) -> list[str]:
    program = [sys.executable, str(ROOT / "tools" / "render_foregrounds.py")]
    return [*program, "--output", str(output), "--count", str(count), "--size", "48", "--families", *FAST, *options]


def rendered(output: Path, *options: str, count: int = 6) -> subprocess.CompletedProcess:
    return subprocess.run(command(output, *options, count=count), capture_output=True, text=True, cwd=output.parent)


def digests(folder: Path) -> dict[str, str]:
    files = sorted(folder.rglob("*.png"))
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_the_library_is_that_of_its_seed_for_any_number_of_processes_and_is_read_by_training(tmp_path):
    for name, options in (("one", ("--processes", "1")), ("three", ("--processes", "3"))):
        done = rendered(tmp_path / name, *options)
        assert done.returncode == 0, done.stderr
    files = digests(tmp_path / "one")
    assert digests(tmp_path / "three") == files
    assert len(files) == 12
    other = rendered(tmp_path / "two", "--processes", "1", "--seed", "1")
    assert other.returncode == 0
    assert not set(digests(tmp_path / "two").values()) & set(files.values())
    for fg_path in (tmp_path / "one" / "fg").iterdir():
        fg, alpha = Image.open(fg_path), Image.open(tmp_path / "one" / "alpha" / fg_path.name)
        assert (fg.mode, alpha.mode, fg.size, alpha.size) == ("RGB", "L", (48, 48), (48, 48))
        assert any(fg_path.name.startswith(f"{family}_s0_") for family in FAST)


def test_training_composes_the_library(tmp_path):
    pytest.importorskip("torch")
    from data.training.dim_dataset import CompositionDataset

    assert rendered(tmp_path / "lib", "--processes", "1").returncode == 0
    (tmp_path / "lib" / "bg").mkdir()
    grey = np.full((64, 64, 3), 90, np.uint8)
    Image.fromarray(grey).save(tmp_path / "lib" / "bg" / "grey.png")
    dataset = CompositionDataset(tmp_path / "lib", crop_size=32, trimap_size=None, samples_per_epoch=4, cache=None)
    sample = dataset[0]
    assert sample["image"].shape == (3, 32, 32)
    assert 0 < sample["alpha"].max() <= 1


def test_a_larger_count_adds_pictures_and_leaves_the_others_alone(tmp_path):
    assert rendered(tmp_path / "lib", "--processes", "1", count=3).returncode == 0
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "lib").rglob("*.png")}
    more = rendered(tmp_path / "lib", "--processes", "1", count=6)
    assert "3 of 6 pictures exist already" in more.stdout
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert rendered(tmp_path / "whole", "--processes", "1", count=6).returncode == 0
    assert digests(tmp_path / "lib") == digests(tmp_path / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_run_that_is_stopped_leaves_whole_pictures_and_resumes_to_the_same_library(tmp_path, number):
    assert rendered(tmp_path / "whole", "--processes", "1", count=24).returncode == 0
    folder = tmp_path / "lib"
    run = subprocess.Popen(
        command(folder, "--processes", "2", count=24), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while len(list(folder.glob("alpha/*.png"))) < 3 and time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.02)
    run.send_signal(number)
    _, errors = run.communicate(timeout=60)
    if number == signal.SIGINT and run.returncode != 0:
        assert run.returncode == 130
        assert errors.strip() == "interrupted"
    for path in folder.rglob("*.png"):
        if not path.name.startswith("."):
            Image.open(path).load()  # raises where a file is cut short
    time.sleep(1)  # orphans of a killed parent end by themselves
    assert rendered(folder, "--processes", "1", count=24).returncode == 0
    assert digests_of_finished(folder) == digests(tmp_path / "whole")


def digests_of_finished(folder: Path) -> dict[str, str]:
    return {name: digest for name, digest in digests(folder).items() if not Path(name).name.startswith(".")}


def test_other_settings_for_the_same_seed_are_refused_and_other_seeds_may_share_the_folder(tmp_path):
    families = chosen_families(["web"])
    prepared(Library(tmp_path, families, 0, 64))
    prepared(Library(tmp_path, families, 1, 128))
    prepared(Library(tmp_path, families, 0, 64))
    with pytest.raises(InputError, match=r"seed 0 made with other size; choose another --output or --seed"):
        prepared(Library(tmp_path, families, 0, 65))
    with pytest.raises(InputError, match=r"other families"):
        prepared(Library(tmp_path, chosen_families(["wire"]), 0, 64))
    (tmp_path / "library.json").write_text("[1")
    with pytest.raises(InputError, match=r"library.json: expected the settings of a library"):
        prepared(Library(tmp_path, families, 0, 64))


def test_groups_of_families_and_their_shares():
    flat, rendered_ones = chosen_families(["2d"]), chosen_families(["3d"])
    assert set(flat) | set(rendered_ones) == set(family_names()) == set(chosen_families(["all"]))
    both = chosen_families(["all"])
    assert sum(both[name] for name in flat) == pytest.approx(sum(both[name] for name in rendered_ones))
    counts = np.unique(
        [Library(Path(), both, 7, 64).family(i).startswith("2d-") for i in range(400)], return_counts=True
    )
    assert abs(counts[1][1] / 400 - 0.5) < 0.08


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--families", "fur", "wool"], "--families: expected 3d, 2d, all or some of"),
        (["--count", "0"], "--count: expected 1 to"),
        (["--size", "16"], "--size: expected 32 to"),
        (["--processes", "0"], "--processes: expected 1 to"),
        (["--seed", "-1"], "--seed: expected 0 to"),
    ],
)
def test_wrong_options_are_one_line(tmp_path, options, expected):
    done = rendered(tmp_path / "lib", *options)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {expected}")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "lib").exists()


def test_an_output_that_is_a_file_is_one_line(tmp_path):
    (tmp_path / "lib").write_text("")
    done = rendered(tmp_path / "lib", "--processes", "1")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert str(tmp_path / "lib") in done.stderr


def test_a_missing_package_is_named_with_what_to_install(tmp_path, monkeypatch):
    real = library_module.importlib.util.find_spec
    monkeypatch.setattr(
        library_module.importlib.util, "find_spec", lambda name: None if name == "numba" else real(name)
    )
    with pytest.raises(InputError, match=r"numba: pip install -r requirements/render.txt"):
        library_module.checked_packages()


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_is_one_line_and_leaves_no_half_files(tmp_path):
    folder = tmp_path / "lib"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24k", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("no right to mount a small disk")
    try:
        done = rendered(folder, "--processes", "2", count=30)
        assert done.returncode == 2
        assert "No space left on device" in done.stderr
        assert done.stderr.count("\n") == 1
        assert not list(folder.rglob(".*.part"))
        for path in folder.rglob("*.png"):
            Image.open(path).load()
    finally:
        subprocess.run(["umount", folder], check=True)


def test_the_program_runs_without_torch_and_detectron2(tmp_path):
    code = (
        "import sys\nfor name in ('torch', 'detectron2', 'tqdm', 'torchvision'): sys.modules[name] = None\n"
        "import data.rendering.library as library\n"
        "library.checked_packages()\n"
        "for family in ('web', '2d-hair'): print(library.picture(family, (0, 0, 1), 48)[1].shape)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["(48, 48)", "(48, 48)"]


def test_settings_name_what_was_made(tmp_path):
    prepared(Library(tmp_path, chosen_families(["web", "net"]), 4, 64))
    settings = json.loads((tmp_path / "library.json").read_text())
    assert settings["4"]["size"] == 64
    assert set(settings["4"]["families"]) == {"web", "net"}
