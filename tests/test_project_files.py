"""The files for other programs: the container's, the citation, the templates of issues, the changelog."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
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
    user = rest_of("USER")[-1]
    assert user != "root"
    assert any(f"useradd --uid 1000 --create-home {user}" in rest for rest in rest_of("RUN"))
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


@pytest.mark.slow
def test_the_files_of_the_image_are_enough_for_a_matte(tmp_path):
    for rest in rest_of("COPY"):
        *sources, target = shlex.split(rest)
        for source in sources:
            path = ROOT / source
            if path.is_dir():
                shutil.copytree(
                    path, tmp_path / target, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
                )
            else:
                (tmp_path / target).mkdir(parents=True, exist_ok=True)
                shutil.copy(path, tmp_path / target)
    ramp = np.tile(np.linspace(0, 255, 64).astype(np.uint8), (48, 1))
    Image.fromarray(np.stack([ramp] * 3, axis=-1)).save(tmp_path / "photo.png")
    trimap = np.full_like(ramp, 128)
    trimap[:, :8], trimap[:, -8:] = 0, 255
    Image.fromarray(trimap).save(tmp_path / "trimap.png")
    arguments = ["--image", "photo.png", "--trimap", "trimap.png", "--output", "matte.png", "--device", "cpu"]
    command = json.loads(rest_of("ENTRYPOINT")[0]) + json.loads(rest_of("CMD")[0])[:1]
    subprocess.run([sys.executable, *command[1:], *arguments], cwd=tmp_path, check=True)
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
