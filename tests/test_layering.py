"""Networks, data and metrics stand without detectron2; a config stands without data."""

import subprocess
import sys

import pytest
from tiny import ROOT

LIBRARY = [
    "modeling.meta_arch", "modeling.pretrained", "modeling.colour_prior", "modeling.weights.loading",
    "data.training.loader", "data.training.dim_dataset", "data.testing.composition1k", "data.testing.eight_bit",
    "data.synthetic", "metrics", "engine.inference", "runtime.device",
]  # fmt: skip


def run(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_the_library_imports_without_detectron2():
    run(f"import sys, importlib; sys.modules['detectron2'] = None\nfor m in {LIBRARY}: importlib.import_module(m)")


@pytest.mark.parametrize("name", ["ViTMatte_S_10ep", "ViTMatte_S_100ep", "ViTMatte_B_100ep", "ViTMatte_L_100ep"])
def test_loading_a_config_and_building_its_data_opens_no_file(name):
    run(
        "import engine.config, data.images.files\n"
        "def refuse(*a): raise AssertionError('a config touched the disk')\n"
        "data.images.files.images_by_stem = data.images.files.opened_image = refuse\n"
        f"config = engine.config.load_config('configs/{name}.py')\n"
        "config.dataloader.train.num_workers = 0\n"
        "engine.config.build(config.dataloader.train)\n"
        "engine.config.build(config.dataloader.test)\n"
    )
