"""The wheel: it has all files of the packages, declares what it needs, and runs with nothing else from any folder."""

import importlib.metadata
import os
import re
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from PIL import Image
from tiny import ROOT

tomllib = pytest.importorskip("tomllib")  # of Python 3.11
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TRIMAP = np.repeat(np.uint8([0, 128, 255]), 32)[None].repeat(48, axis=0)
IMAGE = np.random.default_rng(0).integers(0, 256, (48, 96, 3), dtype=np.uint8)


def requirements(name: str) -> dict[str, Requirement]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / name).read_text().splitlines())
    return {each.name: each for each in map(Requirement, (line for line in lines if line and line[0] != "-"))}


@pytest.mark.parametrize(
    ("declared", "file"),
    [
        (PROJECT["dependencies"], "requirements.txt"),
        *((needs, f"requirements/{extra}.txt") for extra, needs in PROJECT["optional-dependencies"].items()),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_ranges_are_those_of_the_requirements(declared, file):
    expected = requirements(file)
    assert [Requirement(need) for need in declared] == [expected[Requirement(need).name] for need in declared]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--wheel-dir", str(folder), str(ROOT)], check=True)
    (found,) = folder.glob("*.whl")
    return found


@pytest.mark.slow
def test_every_tracked_file_of_the_packages_is_in_it_and_nothing_else(wheel):
    folders = ["data", "engine", "metrics", "modeling", "runtime", "tools/web", "weights/box"]
    tracked = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    inside = {name.removeprefix("dinomatte/project/") for name in zipfile.ZipFile(wheel).namelist()}
    assert set(tracked.stdout.split()) <= inside
    others = {name for name in inside - set(tracked.stdout.split()) if ".dist-info/" not in name}
    assert {"dinomatte/__init__.py", "dinomatte/__main__.py", "inference.py"} <= others
    assert all(
        re.fullmatch(r"(dinomatte/__\w+__|tools/\w+|evaluation|inference|preprocess)\.py", name) for name in others
    )


@pytest.fixture(scope="module")
def python(wheel, tmp_path_factory) -> Path:
    """Python of a virtual environment with the wheel and the packages that it declares, linked from this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for distribution in needed(PROJECT["dependencies"]):
        for file in distribution.files:
            top = file.parts[0]
            if top not in ("..", "__pycache__") and not (site / top).exists():
                (site / top).symlink_to(distribution.locate_file(top))
    zipfile.ZipFile(wheel).extractall(site)
    return folder / "bin" / "python"


def needed(names: list[str]) -> list[importlib.metadata.Distribution]:
    """The distributions of requirements, and those that they need in turn."""
    found: dict[str, importlib.metadata.Distribution] = {}
    queue = [Requirement(name) for name in names]
    while queue:
        need = queue.pop()
        name = canonicalize_name(need.name)
        if name not in found and (need.marker is None or need.marker.evaluate({"extra": ""})):
            found[name] = importlib.metadata.distribution(name)
            queue += map(Requirement, found[name].requires or [])
    return list(found.values())


def ran(python: Path, folder: Path, *arguments: str) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    command = [str(python), "-m", "dinomatte", *arguments]
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.slow
def test_its_programs_run_from_any_folder_with_what_it_declares(python, tmp_path):
    for folder, pixels in (("images", IMAGE), ("trimaps", TRIMAP)):
        (tmp_path / folder).mkdir()
        Image.fromarray(pixels).save(tmp_path / folder / "a.png")
    inputs = ("--image", "images/a.png", "--trimap", "trimaps/a.png", "--device", "cpu")
    ran(python, tmp_path, "inference", *inputs, "--output", "mattes/a.png")
    command = [sys.executable, str(ROOT / "inference.py"), *inputs, "--output", "mattes_of_the_clone/a.png"]
    subprocess.run(command, cwd=tmp_path, check=True)
    assert (tmp_path / "mattes/a.png").read_bytes() == (tmp_path / "mattes_of_the_clone/a.png").read_bytes()
    ran(
        python,
        tmp_path,
        "auto_matte",
        "images/a.png",
        "--output",
        "cut.png",
        "--cutout",
        "--box",
        "30",
        "4",
        "90",
        "40",
    )
    assert Image.open(tmp_path / "cut.png").mode == "RGBA"
    folders = ("--pred-dir", "mattes", "--label-dir", "mattes_of_the_clone", "--trimap-dir", "trimaps")
    assert "SAD" in ran(python, tmp_path, "evaluation", *folders, "--html", "scores.html")
    listed = re.findall(r"^  (\w+) ", ran(python, tmp_path), re.MULTILINE)
    assert {"inference", "auto_matte", "preprocess", "web_demo"} <= set(listed)
    for name in listed:
        assert "usage: " in ran(python, tmp_path, name, "--help")


@pytest.mark.slow
def test_a_python_program_imports_matting_and_keeps_its_path(python, tmp_path):
    np.save(tmp_path / "image.npy", IMAGE)
    np.save(tmp_path / "trimap.npy", TRIMAP)
    (tmp_path / "tools.py").write_text("OWN = True\n")
    code = (
        "import sys, numpy as np; path = list(sys.path)\n"
        "from dinomatte import Matting, plan_files\n"
        "alpha = Matting(device='cpu').predict(np.load('image.npy'), np.load('trimap.npy'))\n"
        "assert sys.path == path; import tools; assert tools.OWN\n"
        "np.save('alpha.npy', alpha)\n"
    )
    subprocess.run([str(python), "-c", code], cwd=tmp_path, check=True, env={"PATH": os.environ["PATH"]})
    from engine.inference import Matting

    np.testing.assert_array_equal(np.load(tmp_path / "alpha.npy"), Matting(device="cpu").predict(IMAGE, TRIMAP))


@pytest.mark.slow
def test_an_unknown_program_is_one_line(python, tmp_path):
    result = subprocess.run([str(python), "-m", "dinomatte", "cut"], cwd=tmp_path, capture_output=True, text=True)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith("error: expected one of evaluation, inference, ")


@pytest.mark.slow
def test_a_config_names_the_package_that_only_a_clone_has(python, tmp_path):
    inputs = ("--image", "a.png", "--trimap", "b.png", "--output", "c.png")
    for name in ("a.png", "b.png"):
        Image.fromarray(TRIMAP).save(tmp_path / name)
    command = [str(python), "-m", "dinomatte", "inference", "--config-file", "model.py", "--checkpoint", "model.pth"]
    result = subprocess.run([*command, *inputs], cwd=tmp_path, capture_output=True, text=True)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith("error: configs need detectron2, which is not installed; ")
