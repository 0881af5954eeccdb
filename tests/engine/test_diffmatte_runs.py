"""DiffMatte through the trainer and inference.py: both stages, exact resuming, its options and their mistakes."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import ROOT

import inference
from engine.config import load_config
from engine.inference import Predictor
from engine.training.run import evaluate, train
from modeling.weights.checkpoint_file import read_checkpoint
from modeling.weights.loading import load_model
from modeling.weights.model_config import build_model
from runtime.errors import InputError

DEMO = str(ROOT / "configs" / "DiffMatte_demo.py")
SMALL = [
    "model.backbone.embed_dim=24", "model.backbone.num_heads=2", "model.backbone.depth=2", "model.backbone.img_size=64",
    "model.backbone.window_block_indexes=[0]", "model.backbone.residual_block_indexes=[1]",
    "model.decoder.downsample_in=[7,8,8,8]", "model.decoder.upsample_in=[24,8,8,8,8]", "model.decoder.model_channels=8",
    "model.sample_strategy=ddim2", "dataloader.train.dataset.size=64", "dataloader.train.batch_size=2",
    "dataloader.train.num_workers=0", "dataloader.test.dataset.size=64", "dataloader.test.dataset.samples_per_epoch=2",
    "train.device=cpu", "train.log_period=1", "train.checkpointer.period=2", "lr_multiplier.warmup_length=0.2",
    "train.curves=False",
]  # fmt: skip


def config_of(output_dir, *more: str):
    stages = ["train.max_iter=8", "train.self_align_stage1_step=2", "train.self_align_stage2_step=5"]
    return load_config(DEMO, [*SMALL, f"train.output_dir={output_dir}", "train.eval_period=0", *stages, *more])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run of eight iterations through both stages."""
    folder = tmp_path_factory.mktemp("run")
    train(config_of(folder))
    return folder


@pytest.mark.parametrize("stopped_after", [pytest.param(4, marks=pytest.mark.slow), 6])  # in stages 1 and 2
def test_a_run_resumed_in_self_alignment_ends_at_the_same_bits(run, tmp_path, stopped_after):
    train(config_of(tmp_path, "train.eval_period=8"))
    for path in tmp_path.glob("model_[0f]*.pth"):
        if path.stem == "model_final" or int(path.stem[-7:]) >= stopped_after:
            path.unlink()
    (tmp_path / "last_checkpoint").write_text(f"model_{stopped_after - 1:07d}.pth")
    train(config_of(tmp_path), resume=True)
    whole, resumed = (read_checkpoint(folder / "model_final.pth")["model"] for folder in (run, tmp_path))
    assert all(torch.equal(resumed[key], value) for key, value in whole.items())


def test_validation_has_a_fixed_noise(run):
    checkpoint = f"train.init_checkpoint={run / 'model_final.pth'}"
    scores = [evaluate(config_of(run, checkpoint))[0] for _ in range(2)]
    assert scores[0] == scores[1]
    assert evaluate(config_of(run, checkpoint, "model.sample_seed=5"))[0] != scores[0]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder with pictures of two sizes and their trimaps; the last has no unknown pixel."""
    folder = tmp_path_factory.mktemp("pictures")
    for name in ("image", "trimap"):
        (folder / name).mkdir()
    for stem, size in (("a", (50, 70)), ("b", (40, 40)), ("c", (50, 70))):
        pixels = np.random.default_rng(len(stem)).integers(0, 256, (*size, 3), np.uint8)
        trimap = np.full(size, 128 if stem != "c" else 255, np.uint8)
        trimap[:10], trimap[-10:] = 0, 255
        Image.fromarray(pixels).save(folder / "image" / f"{stem}.png")
        Image.fromarray(trimap).save(folder / "trimap" / f"{stem}.png")
    return folder


def infer(run, pictures, output, *options: str) -> int:
    return inference.main([
        "--checkpoint", str(run / "model_final.pth"), "--device", "cpu", "--image", str(pictures / "image"),
        "--trimap", str(pictures / "trimap"), "--output", str(output), *options,
    ])  # fmt: skip


def matte(path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_inference_samples_a_folder_and_a_file_alike(run, pictures, tmp_path):
    assert infer(run, pictures, tmp_path / "all", "--sample-strategy", "ddim3", "--seed", "4") == 0
    alone = ["--checkpoint", str(run / "model_final.pth"), "--device", "cpu", "--image", str(pictures / "image/b.png"),
             "--trimap", str(pictures / "trimap/b.png"), "--output", str(tmp_path / "b.png")]  # fmt: skip
    assert inference.main([*alone, "--sample-strategy", "ddim3", "--seed", "4"]) == 0
    assert np.array_equal(matte(tmp_path / "b.png"), matte(tmp_path / "all/b.png"))
    assert inference.main([*alone, "--sample-strategy", "ddim3", "--seed", "5"]) == 0
    assert not np.array_equal(matte(tmp_path / "b.png"), matte(tmp_path / "all/b.png"))
    assert np.array_equal(matte(tmp_path / "all/c.png"), matte(pictures / "trimap/c.png"))


def test_steps_are_saved_as_pictures_and_a_strip(run, pictures, tmp_path):
    options = ["--save-steps", str(tmp_path / "steps"), "--clamp-known", "always"]
    assert infer(run, pictures, tmp_path / "out", *options) == 0
    names = sorted(path.name for path in (tmp_path / "steps" / "a").iterdir())
    assert names == [*(f"step_{step}_{kind}.png" for step in (1, 2) for kind in ("estimate", "noisy")), "strip.png"]
    last = matte(tmp_path / "steps/a/step_2_estimate.png")
    assert np.abs(last.astype(int) - matte(tmp_path / "out/a.png")).max() <= 1  # the last estimate is the result
    strip = matte(tmp_path / "steps/a/strip.png")
    assert np.array_equal(strip[50:, 70:], last)
    noisy = matte(tmp_path / "steps/a/step_1_noisy.png") / 255
    assert noisy.mean() == pytest.approx(0.5, abs=0.02)
    assert noisy.std() == pytest.approx(0.22, abs=0.03)  # normal noise, two deviations either side of gray


def test_a_picture_in_tiles_samples_one_canvas(run, pictures):
    checkpoint = read_checkpoint(run / "model_final.pth")
    model = build_model(checkpoint, run)
    load_model(model, checkpoint, run)
    rng = np.random.default_rng(0)
    sample = {"image": rng.integers(0, 256, (300, 520, 3), np.uint8), "trimap": np.full((300, 520), 128, np.uint8)}
    sample["trimap"][:40] = 0
    results = {
        mode: Predictor(model.eval(), mode=mode, max_memory=10**9).one(sample)["alpha"] for mode in ("whole", "tiles")
    }
    predictor = Predictor(model, mode="tiles", max_memory=10**9)
    predictor.plan = lambda height, width: next(
        plan for plan in Predictor(model, mode="tiles")._plans(height, width) if plan.tile == 256
    )
    tiled = predictor.one(sample)["alpha"]
    assert np.array_equal(results["tiles"], results["whole"])  # the largest tile holds it all
    difference = np.abs(tiled.astype(int) - results["whole"])
    assert difference.max() > 0  # a tile's encoder sees less
    assert difference.mean() < 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sample-strategy", "ddim0"], "sample strategy: expected ddim or ddpm and a number of steps"),
        (["--sample-strategy", "euler5"], "got 'euler5'"),
        (["--seed", "-3"], "seed: expected 0"),
        (["--save-steps", "steps", "--views", "flip"], "--save-steps: shows one run of steps; leave out --views"),
        (["--save-steps", __file__], "expected a folder for the mattes, found a file"),
    ],
)
def test_mistakes_are_one_line(run, pictures, tmp_path, capsys, options, message):
    with pytest.raises(InputError, match=message):
        infer(run, pictures, tmp_path / "out", *options)
    assert not (tmp_path / "out").exists()


def test_a_one_shot_model_has_no_strategy_and_no_diffusion_weights(run, pictures, tmp_path):
    with pytest.raises(InputError, match="ViTMatte predicts in one step"):
        inference.main(["--image", str(pictures / "image"), "--trimap", str(pictures / "trimap"),
                        "--output", str(tmp_path), "--sample-strategy", "ddim10", "--device", "cpu"])  # fmt: skip
    box = ROOT / "weights" / "box" / "matting.json"
    with pytest.raises(
        InputError, match=r"does not fit the model of .*; its tensors are those of configs/ViTMatte_box\.py"
    ):
        inference.main(["--config-file", DEMO, "--checkpoint", str(box), "--image", str(pictures / "image"), "--trimap",
                        str(pictures / "trimap"), "--output", str(tmp_path), "--device", "cpu"])  # fmt: skip
    one_shot = ["--config-file", str(ROOT / "configs" / "ViTMatte_demo.py")]
    with pytest.raises(InputError, match=r"does not fit the model of .*ViTMatte_demo\.py"):
        infer(run, pictures, tmp_path, *one_shot)
