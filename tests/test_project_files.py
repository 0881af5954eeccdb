"""The files for other programs: the container's, the citation, the templates of issues, the changelog."""

import json
import os
import re
import shlex
import shutil
import string
import subprocess
import sys
import sysconfig
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import yaml
from PIL import Image
from test_layering import PRODUCT
from tiny import ROOT

TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()


class Instruction(NamedTuple):
    """One instruction of a container file: its name and what follows, continued lines joined."""

    name: str
    rest: str


def instructions(text: str) -> list[Instruction]:
    lines = [line for line in text.replace("\\\n", " ").splitlines() if line.strip() and not line.startswith("#")]
    return [Instruction(*line.split(maxsplit=1)) for line in lines]


CONTAINER = instructions((ROOT / "Containerfile").read_text())


def rest_of(name: str) -> list[str]:
    return [instruction.rest for instruction in CONTAINER if instruction.name == name]


def copied() -> list[str]:
    return [source for rest in rest_of("COPY") for source in shlex.split(rest)[:-1]]


def test_the_image_starts_from_the_python_that_is_pinned():
    assert rest_of("FROM") == ["python:3.11-slim"]
    assert "Python 3.11" in (ROOT / "constraints.txt").read_text()


def test_the_instructions_are_known_and_safe():
    known = {"FROM", "ARG", "WORKDIR", "COPY", "RUN", "USER", "ENV", "ENTRYPOINT", "CMD"}
    assert {instruction.name for instruction in CONTAINER} <= known  # ADD would fetch and unpack
    assert rest_of("WORKDIR") == ["/app"]
    assert not re.search(r"sudo|curl|wget|chmod 777|:latest", "".join(rest_of("RUN") + rest_of("FROM")))
    assert rest_of("USER") == ["1000"]  # a number, so that an engine can check that it is not root
    assert any("useradd --uid 1000 --create-home" in rest for rest in rest_of("RUN"))
    for name in ("ENTRYPOINT", "CMD"):  # the exec form: signals reach the program
        assert all(isinstance(word, str) for word in json.loads(rest_of(name)[0]))


def test_requirements_are_installed_before_the_code_is_copied():
    steps = [f"{name} {rest}" for name, rest in CONTAINER]
    install = next(i for i, step in enumerate(steps) if "tools/set_up.sh run" in step)
    before = [source for rest in steps[:install] if rest.startswith("COPY") for source in rest.split()[1:-1]]
    assert before == ["requirements.txt", "constraints.txt", "requirements", "tools/set_up.sh"]


def test_every_file_that_is_copied_exists_and_is_in_the_context():
    included = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in copied():
        assert (ROOT / source).exists(), source
        assert any(fnmatch(source, pattern) or source.startswith(f"{pattern}/") for pattern in included), source
        assert not TRACKED or any(path == source or path.startswith(f"{source}/") for path in TRACKED), source


def test_every_package_and_script_is_copied():
    sources = {source.removesuffix(".py") for source in copied()}
    assert sources >= PRODUCT


def copy_into(root: Path, rest: str) -> None:
    """COPY of the files that the context has."""
    *sources, target = shlex.split(rest)
    (root / target).mkdir(parents=True, exist_ok=True)
    for source in sources:
        path = ROOT / source
        if path.is_dir():
            shutil.copytree(path, root / target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
        else:
            shutil.copy(path, root / target)


def virtual_environment(root: Path) -> None:
    """A new environment that has the packages of this one, so that pip finds all of them installed."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", root / ".venv"], check=True)
    (site,) = (root / ".venv" / "lib").glob("python*/site-packages")
    (site / "packages.pth").write_text(sysconfig.get_path("purelib"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="runs a shell script")
def test_the_steps_of_the_container_file_give_a_matte(tmp_path):
    """The steps in their order, in a folder; those that an engine alone can do are FROM, USER and the new user."""
    environment = os.environ | {"PIP_NO_INDEX": "1", "PYTHON": sys.executable}
    ran, command = [], []
    for name, rest in CONTAINER:
        if name == "WORKDIR":
            virtual_environment(tmp_path)
        elif name == "ARG":
            key, _, value = rest.partition("=")
            environment[key] = value
        elif name == "ENV":
            words = (word.partition("=") for word in shlex.split(rest))
            values = {key: value.replace("/app", str(tmp_path)) for key, _, value in words}
            environment |= {key: string.Template(value).substitute(environment) for key, value in values.items()}
        elif name == "COPY":
            copy_into(tmp_path, rest)
        elif name == "RUN" and not rest.startswith("useradd"):
            subprocess.run(["sh", "-c", rest], cwd=tmp_path, env=environment, check=True)
            ran.append(rest)
        elif name in ("ENTRYPOINT", "CMD"):
            command += json.loads(rest)
    assert len(ran) == 1
    assert {path.name for path in (tmp_path / ".venv" / "stamps").iterdir()} == {"tools", "packages", "detectron2"}

    def start(*words: str) -> str:
        done = subprocess.run(words, cwd=tmp_path, env=environment, check=True, capture_output=True, text=True)
        return done.stdout

    assert "--skip-existing" in start(*command)
    assert start(command[0], "-c", "import sys; print(sys.prefix)").strip() == str(tmp_path / ".venv")
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
    Image.fromarray(np.stack([ramp] * 3, axis=-1)).save(tmp_path / "photo.png")
    trimap = np.full_like(ramp, 128)
    trimap[:, :8], trimap[:, -8:] = 0, 255
    Image.fromarray(trimap).save(tmp_path / "trimap.png")
    files = ["--image", "photo.png", "--trimap", "trimap.png", "--output", "matte.png", "--device", "cpu"]
    start(*command[:-1], *files)
    matte = np.asarray(Image.open(tmp_path / "matte.png"))
    assert (matte[trimap == 0] == 0).all()
    assert (matte[trimap == 255] == 255).all()
    assert matte[:, 48].mean() > matte[:, 16].mean()


# ---- CITATION.cff, against the fields that format 1.2.0 requires (citation-file-format/citation-file-format)


def test_the_citation_has_what_the_format_requires():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()
    assert citation["cff-version"] == "1.2.0"
    assert citation["type"] == "software"
    assert "MIT License" in (ROOT / "LICENSE").read_text()
    assert citation["license"] == "MIT"
    for work in [citation, *citation["references"]]:
        assert work["title"]
        assert all({"name"} <= author.keys() or {"family-names"} <= author.keys() for author in work["authors"])
    assert all(isinstance(work["year"], int) and work["type"] for work in citation["references"])


def test_the_changelog_begins_with_the_version_of_the_citation():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## (\S+?),", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE).group(1)
    assert newest == citation["version"]


TEMPLATES = sorted(path for path in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config")


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
def test_an_issue_template_is_a_form_of_labelled_fields(path):
    form = yaml.safe_load(path.read_text())
    assert {"name", "description", "body"} <= form.keys()
    fields = form["body"]
    assert all(field["type"] == "textarea" and field["attributes"]["label"] for field in fields)
    assert len({field["id"] for field in fields}) == len(fields)


def test_there_are_templates():
    assert {path.stem for path in TEMPLATES} == {"bug", "question", "wrong_matte"}
