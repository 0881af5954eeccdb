"""Two systems that are no ViTMatte go through the same trainer, evaluators, checkpoints and inference.py."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from systems import TrimapFree, TwoClasses
from tiny import ROOT

import inference
from data.synthetic import SyntheticMatting
from engine.config import load_config
from engine.evaluation.evaluators import SegmentationEvaluator
from engine.inference import Predictor
from engine.training.run import evaluate, train
from metrics import score_image
from modeling.weights.checkpoint_file import read_checkpoint
from runtime.errors import InputError

SYSTEMS = {
    "trimap_free": ("dataloader.train.dataset", "dataloader.test.dataset"),
    "two_classes": ("dataloader.train.dataset.dataset", "dataloader.test.dataset.dataset"),
}


def config_of(name: str, output_dir, max_iter: int, *more: str):
    train_set, test_set = SYSTEMS[name]
    return load_config(
        str(ROOT / "tests" / "configs" / f"{name}.py"),
        [
            f"{train_set}.size=48", f"{test_set}.size=48", f"{test_set}.samples_per_epoch=2",
            "dataloader.train.batch_size=2", "dataloader.train.num_workers=0", "train.device=cpu", "train.log_period=1",
            f"train.output_dir={output_dir}", f"train.max_iter={max_iter}", "train.eval_period=2",
            "train.checkpointer.period=2", "lr_multiplier.warmup_length=0.2", "train.curves=False", *more,
        ],
    )  # fmt: skip


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_trains_evaluates_and_resumes_to_the_bit(tmp_path, name):
    train(config_of(name, tmp_path / "whole", 6))
    train(config_of(name, tmp_path / "run", 6, "train.curves=True"))
    for file in ("model_final.pth", "model_0000005.pth"):
        (tmp_path / "run" / file).unlink()
    (tmp_path / "run" / "last_checkpoint").write_text("model_0000003.pth")
    train(config_of(name, tmp_path / "run", 6), resume=True)
    whole, resumed = (read_checkpoint(tmp_path / folder / "model_final.pth") for folder in ("whole", "run"))
    assert all(torch.equal(resumed["model"][key], value) for key, value in whole["model"].items())
    scores, evaluator = evaluate(config_of(name, tmp_path / "run", 6))
    logged = [json.loads(line) for line in (tmp_path / "run" / "metrics.json").read_text().splitlines()][-1]
    for metric in evaluator.metrics:
        assert np.isfinite(scores[metric])
        assert logged[f"validation/{metric}"] == pytest.approx(scores[metric])
    assert (tmp_path / "run" / "model_best.pth").exists()
    assert (tmp_path / "run" / "curves.png").stat().st_size > 1000


@pytest.mark.parametrize("name", SYSTEMS)
def test_micro_batches_of_a_system_make_the_steps_of_one_batch(tmp_path, name):
    whole = train(config_of(name, tmp_path / "whole", 3, "dataloader.train.batch_size=4", "train.eval_period=0"))
    parts = train(config_of(name, tmp_path / "parts", 3, "train.accumulate=2", "train.eval_period=0"))
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "levels"), [("trimap_free", set(range(256))), ("two_classes", {0, 255})])
def test_inference_writes_what_a_system_predicts(tmp_path, name, levels):
    config = config_of(name, tmp_path / "run", 2)
    model = train(config)
    pixels = np.random.default_rng(0).integers(0, 256, (33, 47, 3), np.uint8)
    (tmp_path / "images").mkdir()
    for stem in "ab":
        Image.fromarray(pixels).save(tmp_path / "images" / f"{stem}.png")
    arguments = ["--config-file", str(ROOT / "tests" / "configs" / f"{name}.py"), "--device", "cpu",
                 "--checkpoint", str(tmp_path / "run" / "model_final.pth"), "--image", str(tmp_path / "images"),
                 "--output", str(tmp_path / "out")]  # fmt: skip
    assert inference.main(arguments) == 0
    written = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert written.shape == (33, 47)
    assert set(np.unique(written).tolist()) <= levels
    with torch.inference_mode():
        output = model.eval()({"image": torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255})
    expected = (output["phas"][0, 0] * 255).round() if name == "trimap_free" else 255.0 * (output["mask"][0, 1] >= 0.5)
    assert np.abs(written - expected.numpy()).max() <= (1 if name == "trimap_free" else 0)
    with pytest.raises(InputError, match="reads no trimap: leave out --trimap"):
        inference.main([*arguments, "--trimap", str(tmp_path / "images")])


def test_the_whole_image_is_scored_without_a_trimap(tmp_path):
    config = config_of("trimap_free", tmp_path, 2)
    scores, _ = evaluate_after_training(config)
    model = TrimapFree()
    model.load_state_dict(read_checkpoint(tmp_path / "model_final.pth")["model"])
    from engine.config import build

    samples = [build(config.dataloader.test)[index] for index in range(2)]
    expected = [score_image(Predictor(model.eval()).one(s)["alpha"], s["alpha"]) for s in samples]
    assert scores["sad"] == pytest.approx(sum(score["sad"] for score in expected) / 2)


def evaluate_after_training(config):
    train(config)
    return evaluate(config)


def test_segmentation_scores_are_those_of_one_matrix_over_the_set():
    """Worked by hand: 6 pixels, class 1 twice right and once missed, class 0 twice right and once taken for 1."""
    evaluator = SegmentationEvaluator(2)
    first = ({"mask": np.array([[1, 1, 0]], np.uint8)}, {"mask": np.array([[1, 1, 0]], np.uint8)})
    second = ({"mask": np.array([[1, 0, 0, 255]], np.uint8)}, {"mask": np.array([[0, 1, 0, 1]], np.uint8)})
    for sample, output in (first, second):
        evaluator.process([sample], [output])
    assert evaluator.evaluate() == pytest.approx({"miou": (2 / 4 + 2 / 4) / 2, "accuracy": 4 / 6})
    evaluator.reset()
    evaluator.process([first[0]], [first[1]])
    assert evaluator.evaluate() == pytest.approx({"miou": 1.0, "accuracy": 1.0})


def test_an_evaluator_of_other_classes_is_refused_before_the_first_image(tmp_path):
    train(config_of("two_classes", tmp_path, 2, "train.eval_period=0"))
    with pytest.raises(InputError, match="classes: expected 2, as TwoClasses predicts, got 3"):
        evaluate(config_of("two_classes", tmp_path, 2, "dataloader.evaluator.classes=3"))


def test_a_batch_without_a_target_is_named():
    sample = SyntheticMatting(size=32)[0]
    batch = {"image": sample["image"][None], "alpha": sample["alpha"][None]}
    with pytest.raises(InputError, match="TwoClasses needs image, mask; the batch lacks mask and has image, alpha"):
        TwoClasses().train()(batch)


def test_a_system_that_needs_a_trimap_says_so(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    from small_models import small_model

    from engine.inference import fit_to, plan_files

    jobs = plan_files(str(tmp_path / "a.png"), None, str(tmp_path / "out.png"))
    with pytest.raises(InputError, match="ViTMatte needs a trimap for each image: give --trimap"):
        fit_to(jobs, small_model())
