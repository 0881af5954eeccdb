"""inference.py --method closed-form against PyMatting on the same files."""

import numpy as np
import pytest
from PIL import Image

import inference
from data.synthetic import SyntheticMatting
from data.testing.eight_bit import EightBit
from engine.inference import Predictor
from metrics import score_image
from modeling.meta_arch.closed_form import ClosedForm
from runtime.errors import InputError


def test_mattes_are_as_good_as_pymattings_and_known_pixels_exact(tmp_path):
    pymatting = pytest.importorskip("pymatting")
    for kind in ("images", "trimaps"):
        (tmp_path / kind).mkdir()
    # the set of tools/benchmark_closed_form.py
    samples = list(map(EightBit(SyntheticMatting(size=256, samples_per_epoch=12, seed=5)).__getitem__, range(12)))
    for index, sample in enumerate(samples):
        Image.fromarray(sample["image"]).save(tmp_path / "images" / f"{index}.png")
        Image.fromarray(sample["trimap"]).save(tmp_path / "trimaps" / f"{index}.png")
    files = ["--image", str(tmp_path / "images"), "--trimap", str(tmp_path / "trimaps"), "--device", "cpu"]
    assert inference.main(["--method", "closed-form", *files, "--output", str(tmp_path / "out")]) == 0
    ours, theirs = [], []
    for index, sample in enumerate(samples):
        matte = np.asarray(Image.open(tmp_path / "out" / f"{index}.png"))
        known = sample["trimap"] != 128
        np.testing.assert_array_equal(matte[known], sample["trimap"][known])
        trimap = np.select([sample["trimap"] == 0, sample["trimap"] == 255], [0.0, 1.0], 0.5)
        expected = np.rint(pymatting.estimate_alpha_cf(sample["image"] / 255, trimap) * 255).astype(np.uint8)
        for scores, alpha in ((ours, matte), (theirs, expected)):
            scores.append(score_image(alpha, sample["alpha"], sample["trimap"])["sad"])
    assert np.mean(ours) < 1.02 * np.mean(theirs)


def test_a_model_beside_a_method_is_a_mistake():
    with pytest.raises(InputError, match="--method; leave out checkpoint, compile"):
        inference.main(["--method=closed-form", "--checkpoint=c.pth", "--compile", "--image=a", "--output=b"])


def test_fifty_megapixels_are_planned_within_memory():
    assert Predictor(ClosedForm(), max_memory=4 * 2**30).plan(7000, 7150).mode == "tiles"
