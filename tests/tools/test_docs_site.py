"""The documentation's site builds without a warning and loads nothing from elsewhere."""

import json
import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import ROOT

pytest.importorskip("mkdocs")
pytest.importorskip("mkdocstrings")

from tools.docs_site import name_files

FOREIGN = "https://example.org/"


def build(config: Path, site: Path) -> subprocess.CompletedProcess:
    """The build of `make docs`. Without --quiet, which hides warnings from --strict."""
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--config-file",
        str(config),
        "--site-dir",
        str(site),
    ]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def loaded_from_elsewhere(page: str) -> list[str]:
    """Addresses that a browser would fetch to show a page: of scripts, styles, pictures, fonts and frames."""
    tags = re.findall(r"<(?:script|img|iframe|source|video|audio|embed|link)\b[^>]*>", page)
    of_tags = [found for tag in tags for found in re.findall(r"(?:src|href)=[\"']?((?:https?:)?//[^\"'\s>]+)", tag)]
    return of_tags + re.findall(r"(?:url\(|@import\s*)[\"']?((?:https?:)?//[^\"')\s]+)", page)


def test_every_page_is_built(site):
    sources = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    assert [str(path) for path in sources if not (site / path.with_suffix(".html")).is_file()] == []


def test_a_broken_link_ends_the_build(tmp_path):
    (tmp_path / "docs").mkdir()
    page = "# Page\n\n[one](absent.md) [two](#absent) [three](../absent.py) [four](/page.md) [good](#page)"
    (tmp_path / "docs" / "index.md").write_text(page)
    settings = {"docs_dir": "docs", "nav": ["index.md"], "hooks": [str(ROOT / "tools" / "docs_site.py")]}
    lines = [f"INHERIT: {ROOT / 'mkdocs.yml'}", *(f"{key}: {json.dumps(value)}" for key, value in settings.items())]
    (tmp_path / "mkdocs.yml").write_text("\n".join([*lines, "plugins: []"]))
    done = build(tmp_path / "mkdocs.yml", tmp_path / "site")
    assert done.returncode == 1
    assert "Aborted with 4 warnings in strict mode" in done.stdout + done.stderr, done.stdout + done.stderr


def test_pages_and_styles_load_nothing_from_elsewhere(site):
    files = [path for path in site.rglob("*") if path.suffix in {".html", ".css"}]
    found = {path.name: addresses for path in files if (addresses := loaded_from_elsewhere(path.read_text()))}
    assert found == {}
    # the theme's script would fetch a library for these
    assert [path.name for path in files if 'class="mermaid"' in path.read_text()] == []


@pytest.mark.parametrize(
    "text",
    [
        f'<script async src="{FOREIGN}x.js">',
        f"<link rel=stylesheet href={FOREIGN}x.css>",
        '<img src="//example.org/x.png">',
        f"@import '{FOREIGN}x.css'",
        f"src: url({FOREIGN}x.woff2)",
    ],
)
def test_what_a_page_would_load_is_found(text):
    assert len(loaded_from_elsewhere(text)) == 1
    assert loaded_from_elsewhere(f'<a href="{FOREIGN}">') == []


def test_api_pages_show_docstrings_with_arguments_and_examples(site):
    page = (site / "api" / "inference.html").read_text()
    assert 'id="engine.inference.matting.Matting.predict"' in page
    assert "Parameters:" in page
    assert "Raises:" in page
    assert '<span class="gp">&gt;&gt;&gt; </span>' in page


def test_links_to_files_outside_the_site_become_names(caplog):
    page = "See [the step](../tools/set_up.sh#L3), [data](data.md), [`LICENSE`](../LICENSE) and ![a](../docs/x.png)."
    named = "See the step (`tools/set_up.sh`), [data](data.md), `LICENSE` and ![a](../docs/x.png)."
    assert name_files(page, "docs/page.md") == named
    inner = "[box](../../weights/box/README.md) [page](../data.md)"
    assert name_files(inner, "docs/api/data.md") == "box (`weights/box/README.md`) [page](../data.md)"
    assert not caplog.records


@pytest.mark.parametrize("target", ["../absent.py", "../../outside.md"])
def test_a_link_to_a_file_that_does_not_exist_is_a_warning(caplog, target):
    caplog.set_level(logging.WARNING)
    name_files(f"[text]({target})", "docs/page.md")
    assert [record.getMessage() for record in caplog.records] == [
        f"docs/page.md links to {target}, which does not exist"
    ]


def test_no_page_names_a_path_of_this_machine(site):
    assert [path.name for path in site.rglob("*.html") if str(Path(ROOT).parent) + "/" in path.read_text()] == []
