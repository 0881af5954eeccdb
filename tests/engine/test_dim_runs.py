"""Deep Image Matting through main.py's trainer and inference.py: the chain of stages, exact resuming, bad order."""

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import ROOT

import inference
from engine.config import load_config
from engine.training.run import evaluate, train
from modeling.weights.checkpoint_file import read_checkpoint
from modeling.weights.frozen import with_frozen_weights
from runtime.errors import InputError

SMALL = [
    "model.backbone.widths=[4,4,8,8,8]", "dataloader.train.dataset.size=64", "dataloader.train.batch_size=2",
    "dataloader.train.num_workers=0", "dataloader.test.dataset.size=64", "dataloader.test.dataset.samples_per_epoch=2",
    "train.device=cpu", "train.log_period=1", "train.max_iter=6", "train.checkpointer.period=2", "train.eval_period=0",
    "train.curves=False",
]  # fmt: skip


def config_of(stage: int, output_dir, start=None, *more: str):
    settings = [*SMALL, f"train.output_dir={output_dir}", *more]
    settings += [] if start is None else [f"train.init_checkpoint={start / 'model_final.pth'}"]
    return load_config(str(ROOT / f"configs/DIM_demo_stage{stage}.py"), settings)


@pytest.fixture(scope="module")
def chain(tmp_path_factory):
    """The run folders of the three stages, each started from the one before."""
    root, folders = tmp_path_factory.mktemp("dim"), {}
    for stage in (1, 2, 3):
        folders[stage] = root / f"stage{stage}"
        train(config_of(stage, folders[stage], folders.get(stage - 1)))
    return folders


def tensors_of(folder) -> dict[str, torch.Tensor]:
    """All of a run's tensors, those it left to the file it started from too."""
    path = folder / "model_final.pth"
    return with_frozen_weights(read_checkpoint(path), path)["model"]


def test_each_stage_learns_what_it_is_for(chain):
    first, second, third = map(tensors_of, chain.values())
    assert all(torch.equal(second[key], value) for key, value in first.items())  # running statistics too
    refiner = [key for key in second if key.startswith("refiner.")]
    assert len(refiner) == 8
    changed = [key for key in second if not torch.equal(second[key], third[key])]
    assert set(changed) == set(second)


def test_stage_2_leaves_the_frozen_weights_to_stage_1_s_file(chain):
    checkpoint = read_checkpoint(chain[2] / "model_final.pth")
    assert checkpoint["frozen"]["file"] == str(chain[1] / "model_final.pth")
    assert not any(key.startswith("decoder.") for key in checkpoint["model"])


@pytest.mark.parametrize("stage", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_resumed_stage_ends_at_the_same_bits(chain, tmp_path, stage):
    start = chain.get(stage - 1)
    train(config_of(stage, tmp_path, start))
    for name in ("model_final", "model_0000005"):
        (tmp_path / f"{name}.pth").unlink()
    (tmp_path / "last_checkpoint").write_text("model_0000003.pth")
    train(config_of(stage, tmp_path, start), resume=True)
    whole, resumed = (read_checkpoint(folder / "model_final.pth")["model"] for folder in (chain[stage], tmp_path))
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(resumed[key], value) for key, value in whole.items())


@pytest.mark.slow
def test_micro_batches_make_the_steps_of_one_batch(tmp_path):
    """Samples have unequal numbers of unknown pixels. Without batch norm, whose statistics are of each part."""
    runs = [
        train(config_of(1, tmp_path / str(parts), None, "model.backbone.batch_norm=false", "train.max_iter=3",
                        f"train.accumulate={parts}", f"dataloader.train.batch_size={4 // parts}", "optimizer.lr=1e-4"))
        for parts in (1, 2)
    ]  # fmt: skip
    for key, value in runs[0].state_dict().items():
        torch.testing.assert_close(runs[1].state_dict()[key], value, rtol=1e-4, atol=1e-5)


def test_evaluation_and_inference_need_the_checkpoint_alone(chain, tmp_path):
    scores, evaluator = evaluate(config_of(2, chain[2]))
    assert all(np.isfinite(scores[metric]) for metric in evaluator.metrics)
    rng = np.random.default_rng(0)
    for size in ((50, 70), (3, 90)):
        trimap = np.full(size, 128, np.uint8)
        trimap[:1], trimap[-1:] = 0, 255
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(tmp_path / "image.png")
        Image.fromarray(trimap).save(tmp_path / "trimap.png")
        arguments = ["--checkpoint", str(chain[2] / "model_final.pth"), "--device", "cpu", "--image",
                     str(tmp_path / "image.png"), "--output", str(tmp_path / "out.png")]  # fmt: skip
        assert inference.main([*arguments, "--trimap", str(tmp_path / "trimap.png")]) == 0
        alpha = np.asarray(Image.open(tmp_path / "out.png"))
        assert alpha.shape == size
        assert np.array_equal(alpha[trimap != 128], trimap[trimap != 128])
    with pytest.raises(InputError, match="trimap"):
        inference.main(arguments)


@pytest.mark.parametrize(
    ("stage", "start", "message"),
    [
        (2, None, "train.init_checkpoint is empty; stage 2 trains the refinement of a trained encoder-decoder"),
        (3, None, "train.init_checkpoint is empty; stage 3 trains all that stages 1 and 2 made"),
        (3, 1, "missing: refiner.refine_conv1.weight, .* set train.init_checkpoint to stage 2's checkpoint"),
        (2, 3, "model_final.pth: it holds a DIM of stage 3; stage 2 trains .* to stage 1's checkpoint"),
        (1, 3, "not in the model: refiner.refine_conv1.weight"),
        (2, "box", "holds a ViTMatte, the config's model is a DIM"),
        (2, "no file", "expected a checkpoint, found no such file"),
    ],
)
def test_stages_out_of_order_are_one_line(chain, tmp_path, stage, start, message):
    config = config_of(stage, tmp_path, chain.get(start))
    if start == "no file":
        config.train.init_checkpoint = str(tmp_path / "absent.pth")
    if start == "box":
        config.train.init_checkpoint = str(vitmatte(tmp_path))
    with pytest.raises(InputError, match=message) as caught:
        train(config)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.glob("model_*.pth"))


def test_a_stage_goes_on_from_its_own_checkpoint_and_from_one_that_says_no_stage(chain, tmp_path):
    train(config_of(2, tmp_path / "again", chain[2], "train.max_iter=1"))
    path = chain[3] / "model_final.pth"
    weights = {"model": read_checkpoint(path)["model"]}
    torch.save(weights, tmp_path / "model_final.pth")
    train(config_of(2, tmp_path / "bare", tmp_path, "train.max_iter=1"))


def vitmatte(folder):
    path = folder / "other.pth"
    weight = {"backbone.conv6.weight": torch.ones(8, 8, 1, 1), "decoder.fusion_blks.0.weight": torch.ones(3)}
    torch.save({"model": weight, "config": {"_target_": "modeling.meta_arch.vitmatte.ViTMatte"}}, path)
    return path


def test_half_precision_trains(tmp_path):
    model = train(config_of(1, tmp_path, None, "train.amp.enabled=true", "train.amp.dtype=bf16", "train.max_iter=2"))
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())
