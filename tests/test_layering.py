"""The layers hold: who may import whom, without circles, and what stands without detectron2 or without data.

The imports are read from the source of every product file, those within functions and for type checkers too.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from tiny import ROOT

# From the ground up; the files of a room may import each other.
MAY_IMPORT = {
    "runtime": set(),
    "data.images": {"runtime"},
    "data.video": {"runtime", "data.images"},
    "data.transforms": {"runtime", "data.images"},
    "data.preparation": {"runtime", "data.images"},
    "data.training": {"runtime", "data.images", "data.transforms"},
    "data.testing": {"runtime", "data.images", "data.transforms"},
    "data.synthetic": {"runtime", "data.images", "data.transforms"},
    "data.rendering": {"runtime", "data.images", "data.synthetic"},
    "metrics": {"runtime", "data.images"},
    "modeling": {"runtime", "data.images"},
}
MAY_IMPORT["engine"] = MAY_IMPORT.keys() - {"data.preparation", "data.rendering"}  # can be read, or left out, alone
MAY_IMPORT["configs"] = MAY_IMPORT["engine"] | {"engine"}
USE_ALL = ("tools", "main", "inference", "evaluation", "preprocess")  # and nothing imports these
MAY_IMPORT |= {room: set(MAY_IMPORT) for room in USE_ALL}
PRODUCT = {room.partition(".")[0] for room in MAY_IMPORT}  # folders and scripts at the root
DETECTRON2 = {"engine", "configs", "tools", "main"}
NO_PACKAGE = {"goldens", "references"}  # folders of tests that mirror none


class Import(NamedTuple):
    """One import statement: where it stands, in which module, and the module or package it names."""

    path: Path
    line: int
    module: str
    target: str

    def __str__(self) -> str:
        return f"{self.path.relative_to(ROOT)}:{self.line} imports {self.target}"


def product_files() -> dict[str, Path]:
    """Module name -> file, of the packages and scripts; a package's name stands for its __init__.py."""
    paths = [path for name in PRODUCT for path in (ROOT / f"{name}.py", *(ROOT / name).rglob("*.py")) if path.is_file()]
    return {module_name(path): path for path in sorted(paths)}


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


FILES = product_files()


def imports_of(module: str, path: Path) -> Iterator[Import]:
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(path, node.lineno, module, alias.name)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:  # a module of a package, or a name that its __init__.py holds
                inner = f"{source}.{alias.name}"
                yield Import(path, node.lineno, module, inner if inner in FILES else source)


IMPORTS = [found for module, path in FILES.items() for found in imports_of(module, path)]


def room_of(module: str) -> str:
    """The room a module is in, itself where it is in none."""
    names = module.split(".")
    return next((room for room in (".".join(names[:2]), names[0]) if room in MAY_IMPORT), module)


def top_of(module: str) -> str:
    return module.partition(".")[0]


def test_every_product_file_is_in_a_room():
    around = {"data"}  # the package around its rooms
    assert [module for module in FILES if room_of(module) not in MAY_IMPORT and module not in around] == []


def test_no_room_imports_one_above_or_beside_it():
    wrong = [
        f"{found}; {room} may import {', '.join(sorted(MAY_IMPORT[room])) or 'no other package'}"
        for found in IMPORTS
        if (room := room_of(found.module)) in MAY_IMPORT
        if top_of(found.target) in PRODUCT
        if (target := room_of(found.target)) != room and target not in MAY_IMPORT[room]
    ]
    assert not wrong, "\n".join(wrong)


def test_no_modules_import_each_other_in_a_circle():
    graph: dict[str, set[str]] = {module: set() for module in FILES}
    for found in IMPORTS:
        if found.target in FILES and found.target != found.module:
            graph[found.module].add(found.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        circle = error.args[1][::-1]  # each imports the next
        steps = [
            str(next(found for found in IMPORTS if (found.module, found.target) == pair)) for pair in pairwise(circle)
        ]
        pytest.fail("\n".join(steps))


def test_detectron2_appears_only_where_runs_are_made():
    wrong = [
        str(found)
        for found in IMPORTS
        if top_of(found.target) == "detectron2" and top_of(found.module) not in DETECTRON2
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("line", "target"),
    [
        ("import runtime.errors", "runtime.errors"),
        ("from data.images import files as readers", "data.images.files"),
        ("from data.images.files import read_rgb", "data.images.files"),
        ("from . import scan", "data.images.scan"),
        ("from ..training.loader import StagedLoader", "data.training.loader"),
        ("def f():\n    from detectron2.utils import comm", "detectron2.utils"),
        ("if TYPE_CHECKING:\n    import engine.config", "engine.config"),
    ],
)
def test_imports_are_found_wherever_they_stand(tmp_path, line, target):
    (tmp_path / "reader.py").write_text(line)
    assert [found.target for found in imports_of("data.images.reader", tmp_path / "reader.py")] == [target]


def test_tests_mirror_the_packages():
    folders = [path for path in (ROOT / "tests").rglob("*") if path.is_dir() and any(path.glob("*.py"))]
    names = [folder.relative_to(ROOT / "tests") for folder in folders]
    strangers = [str(name) for name in names if name.parts[0] not in NO_PACKAGE and not any((ROOT / name).glob("*.py"))]
    assert strangers == []


# ---- seen by running


LIBRARY = [
    "modeling.meta_arch", "modeling.pretrained", "modeling.priors.colour_prior", "modeling.weights.loading",
    "data.training.loader", "data.training.dim_dataset", "data.testing.composition1k", "data.testing.eight_bit",
    "data.synthetic", "metrics", "engine.inference", "runtime.device",
]  # fmt: skip


def run(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_library_imports_without_detectron2():
    run(f"import sys, importlib; sys.modules['detectron2'] = None\nfor m in {LIBRARY}: importlib.import_module(m)")


def test_loading_a_config_and_building_its_data_opens_no_file():
    names = ["ViTMatte_S_10ep", "ViTMatte_S_100ep", "ViTMatte_B_100ep", "ViTMatte_L_100ep"]
    run(
        "import engine.config, data.images.files\n"
        "def refuse(*a): raise AssertionError('a config touched the disk')\n"
        "data.images.files.images_by_stem = data.images.files.opened_image = refuse\n"
        f"for name in {names}:\n"
        "    config = engine.config.load_config(f'configs/{name}.py')\n"
        "    config.dataloader.train.num_workers = 0\n"
        "    engine.config.build(config.dataloader.train)\n"
        "    engine.config.build(config.dataloader.test)\n"
    )


def test_editors_see_the_names_that_inference_imports_on_use():
    tree = ast.parse((ROOT / "engine/inference/__init__.py").read_text(encoding="utf-8"))
    shown = {
        alias.name: node.module
        for block in tree.body
        if isinstance(block, ast.If)
        for node in block.body
        for alias in node.names
    }
    run(
        "import engine.inference as package\n"
        f"shown = {shown}\n"
        "assert sorted(package.__all__) == sorted(shown)\n"
        "assert set(shown) <= set(dir(package))\n"
        "import sys\n"
        "assert not {'torch', 'engine.inference.jobs'} & sys.modules.keys()\n"
        "for name, module in shown.items():\n"
        "    assert getattr(package, name) is getattr(sys.modules[module], name), name\n"
    )
