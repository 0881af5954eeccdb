"""The model in the box: what ships is what was measured, and it beats what people fall back on."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import ROOT

import inference
from data.synthetic import SyntheticMatting
from data.testing.eight_bit import EightBit
from engine.inference import Predictor
from metrics import score_image
from modeling.weights.loading import load_model
from modeling.weights.model_config import build_model
from modeling.weights.shipped import BOX, read_shipped
from runtime.errors import InputError


@pytest.fixture(scope="module")
def model():
    checkpoint = read_shipped(BOX)
    model = build_model(checkpoint, BOX)
    load_model(model, checkpoint, BOX)
    return model.eval()


def test_it_is_small_and_says_what_it_is(model):
    weights = BOX.with_name(json.loads(BOX.read_text())["weights"])
    assert weights.stat().st_size <= 16 * 10**6
    assert sum(parameter.numel() for parameter in model.parameters()) < 8 * 10**6
    assert (BOX.parent / "README.md").is_file()


def test_it_beats_pymattings_closed_form_on_images_of_families_it_never_saw(model):
    """Procedural 2D images; it was trained on rendered objects only. Measured: SAD 0.66 against 1.57."""
    pymatting = pytest.importorskip("pymatting")
    ours, theirs = [], []
    for sample in map(EightBit(SyntheticMatting(size=256, samples_per_epoch=6, seed=31)).__getitem__, range(6)):
        trimap = np.select([sample["trimap"] == 0, sample["trimap"] == 255], [0.0, 1.0], 0.5)
        alpha = pymatting.estimate_alpha_cf(sample["image"] / 255, trimap)
        for scores, matte in ((ours, Predictor(model).one(sample)["alpha"]), (theirs, np.rint(alpha * 255))):
            scores.append(score_image(matte.astype(np.uint8), sample["alpha"], sample["trimap"])["sad"])
    assert np.mean(ours) < 0.6 * np.mean(theirs)


def write_pair(folder, trimap: np.ndarray) -> list[str]:
    pixels = np.random.default_rng(0).integers(0, 256, (*trimap.shape, 3), np.uint8)
    Image.fromarray(pixels).save(folder / "image.png")
    Image.fromarray(trimap).save(folder / "trimap.png")
    return [f"--{name}={folder / name}.png" for name in ("image", "trimap")] + [f"--output={folder / 'out.png'}"]


@pytest.mark.parametrize("level", [None, 128], ids=["no known foreground", "all unknown"])
def test_inference_needs_no_checkpoint_and_survives_poor_trimaps(tmp_path, level):
    trimap = np.full((40, 60), 128, np.uint8)
    if level is None:
        trimap[:10] = 0
    assert inference.main([*write_pair(tmp_path, trimap), "--device", "cpu"]) == 0
    matte = np.asarray(Image.open(tmp_path / "out.png"))
    assert matte.shape == trimap.shape
    assert (matte[trimap == 0] == 0).all()


def test_a_damaged_or_exchanged_file_is_refused(tmp_path):
    shutil.copytree(BOX.parent, tmp_path / "box")
    weights = tmp_path / "box" / "matting.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(InputError, match=r"matting\.safetensors: expected SHA-256 .* damaged or of another model"):
        read_shipped(tmp_path / "box" / "matting.json")


def test_a_config_without_a_checkpoint_is_a_mistake():
    with pytest.raises(InputError, match="--config-file: give --checkpoint too, or neither for the model in the box"):
        inference.main(["--config-file", str(ROOT / "configs" / "ViTMatte_demo.py"), "--image", "a", "--output", "b"])


def test_its_weights_are_finite(model):
    assert all(torch.isfinite(value).all() for value in model.state_dict().values() if value.is_floating_point())
