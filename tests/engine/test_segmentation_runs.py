"""Segmentation through the trainer and inference.py: what is logged, kept and written, and mistakes in one line."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from tiny import ROOT

import inference
from engine.config import build, load_config
from engine.evaluation.evaluators import SegmentationEvaluator
from engine.inference import Predictor
from engine.training.param_groups import param_groups
from engine.training.run import evaluate, train
from metrics.segmentation import confusion_matrix, segmentation_scores
from modeling.weights.checkpoint_file import read_checkpoint, write_checkpoint
from modeling.weights.loading import load_model
from modeling.weights.model_config import build_model
from runtime.errors import InputError

DEMO, FOLDERS = (str(ROOT / "configs" / f"PersonSeg_{name}.py") for name in ("demo", "DINOv2_S"))
BACKBONE = ["model.backbone.embed_dim=24", "model.backbone.num_heads=2", "model.backbone.depth=2",
            "model.backbone.residual_block_indexes=[0,1]",
            "model.out_layers=[0,1]", "model.head_in_index=[0,1]"]  # fmt: skip
RUN = ["train.device=cpu", "train.log_period=1", "train.checkpointer.period=2", "lr_multiplier.warmup_length=0.2",
       "dataloader.train.batch_size=2", "dataloader.train.num_workers=0", "train.max_iter=6", "train.eval_period=3",
       "train.amp.enabled=False", "train.checkpointer.max_to_keep=null", "train.curves=False"]  # fmt: skip


def config_of(output_dir, *more: str):
    sizes = ["dataloader.train.dataset.size=48", "dataloader.test.dataset.size=[48,40]",
             "dataloader.test.dataset.samples_per_epoch=3", "model.backbone.img_size=48",
             "model.backbone.pretrain_img_size=48"]  # fmt: skip
    return load_config(DEMO, [*BACKBONE, *RUN, *sizes, f"train.output_dir={output_dir}", *more])


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run of six iterations, validated after three and at the end."""
    folder = tmp_path_factory.mktemp("run")
    train(config_of(folder, "train.curves=True"))
    return folder


def logged(folder) -> dict[int, dict]:
    entries: dict[int, dict] = {}
    for line in (folder / "metrics.json").read_text().splitlines():
        entry = json.loads(line)
        entries.setdefault(entry["iteration"], {}).update(entry)
    return entries


def trained(folder, name: str = "model_final.pth"):
    checkpoint = read_checkpoint(folder / name)
    model = build_model(checkpoint, folder)
    load_model(model, checkpoint, folder)
    return model.eval()


def test_training_and_validation_log_loss_accuracy_and_miou(run):
    entries = logged(run)
    for name in ("loss", "accuracy", "miou"):
        assert sum(f"training/{name}" in entry for entry in entries.values()) == 2
        assert [i for i, entry in entries.items() if f"validation/{name}" in entry] == [2, 6]
    losses = [entry["cross_entropy_loss"] for entry in entries.values() if "cross_entropy_loss" in entry]
    assert entries[2]["training/loss"] == pytest.approx(np.mean(losses[:3]))
    assert entries[5]["training/loss"] == pytest.approx(np.mean(losses[3:6]))
    assert (run / "curves.png").stat().st_size > 10_000


def test_validation_s_loss_is_torch_s_cross_entropy_over_all_pixels_of_the_set(run):
    config = config_of(run)
    scores, _ = evaluate(config)
    assert scores["loss"] == pytest.approx(logged(run)[6]["validation/loss"])
    model, samples = trained(run), build(config.dataloader.test)
    nats, hits, pixels = 0.0, 0, 0
    for index in range(len(samples)):
        sample = samples[index]
        image = torch.from_numpy(sample["image"].copy()).permute(2, 0, 1)[None] / 255
        mask = torch.from_numpy(sample["mask"]).long()[None]
        with torch.no_grad():
            logits = model.logits(model.encode({"image": image}))
        nats += F.cross_entropy(logits, mask, reduction="sum").item()
        hits, pixels = hits + (logits.argmax(1) == mask).sum().item(), pixels + mask.numel()
    assert scores["loss"] == pytest.approx(nats / pixels, rel=1e-5)
    assert scores["accuracy"] == pytest.approx(hits / pixels)


def test_the_best_by_loss_and_the_best_by_iou_are_kept(run):
    validated = [entry for entry in logged(run).values() if "validation/loss" in entry]
    for metric, best in (("loss", min), ("miou", max)):
        kept = read_checkpoint(run / f"model_best_{metric}.pth")["best"]
        assert kept["metric"] == metric
        assert kept["score"] == pytest.approx(best(entry[f"validation/{metric}"] for entry in validated))
    with pytest.raises(InputError, match="best_metric: expected one of miou, accuracy, loss, or null, got 'sad'"):
        train(config_of(run / "other", "train.checkpointer.best_metric=[miou,sad]"))


def test_each_evaluation_writes_overlays_of_validation_pictures(run):
    names = sorted(path.name for path in (run / "validation").iterdir())
    assert names == [f"{iteration:07d}_people_{index}.png" for iteration in (3, 6) for index in range(3)]
    panel = np.asarray(Image.open(run / "validation" / "0000006_people_1.png"))
    sample = build(config_of(run).dataloader.test)[1]
    mask = Predictor(trained(run)).one(sample)["mask"]
    assert panel.shape == (48, 3 * 40, 3)
    assert np.array_equal(panel[:, :40], sample["image"])
    for start, shown in ((40, mask), (80, sample["mask"])):
        green = np.where(shown[..., None] == 1, (sample["image"] + np.array([0, 255, 0.0])) / 2, sample["image"])
        assert np.abs(panel[:, start : start + 40] - green).max() <= 0.5


def test_a_run_resumed_within_an_epoch_ends_at_the_same_bits_and_scores(run, tmp_path):
    train(config_of(tmp_path))
    for path in tmp_path.glob("model_*.pth"):
        if path.name not in ("model_0000001.pth",):
            path.unlink()
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")  # two of the epoch's three iterations are done
    train(config_of(tmp_path), resume=True)
    whole, resumed = (read_checkpoint(folder / "model_final.pth")["model"] for folder in (run, tmp_path))
    assert all(torch.equal(resumed[key], value) for key, value in whole.items())
    for iteration in (2, 5):
        for name in ("training/miou", "training/accuracy", "training/loss"):
            assert logged(tmp_path)[iteration][name] == logged(run)[iteration][name]


@pytest.mark.slow
def test_the_demo_learns_more_than_the_majority_class(tmp_path):
    sizes = ["dataloader.train.dataset.size=64", "dataloader.test.dataset.size=64", "model.backbone.img_size=64",
             "model.backbone.pretrain_img_size=64", "train.max_iter=250", "train.eval_period=250", "train.device=cpu",
             f"train.output_dir={tmp_path}"]  # fmt: skip
    config = load_config(DEMO, sizes)
    train(config)
    samples = build(config.dataloader.test)
    masks = [samples[index]["mask"] for index in range(len(samples))]
    majority = segmentation_scores(sum(confusion_matrix(np.zeros_like(mask), mask, 2) for mask in masks))
    scores = logged(tmp_path)[250]
    assert scores["validation/miou"] > majority["miou"] + 0.12
    assert scores["validation/loss"] < 0.5


def test_micro_batches_make_the_steps_of_one_batch(tmp_path):
    same = ["model.head_norm=False", "train.max_iter=2", "train.eval_period=0", "model.backbone.drop_path_rate=0"]
    whole = train(config_of(tmp_path / "whole", *same, "dataloader.train.batch_size=4"))
    parts = train(config_of(tmp_path / "parts", *same, "train.accumulate=2"))
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[key], value, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder with a sub-folder and names with dots, the root of a small data set beside it."""
    folder = tmp_path_factory.mktemp("pictures")
    for index, name in enumerate(("a.b.png", "a.c.png", "clip/a.b.png")):
        path = folder / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(index).integers(0, 256, (33 + index, 47, 3), np.uint8)).save(path)
    return folder / "images"


def infer(run, image, output, *options: str) -> int:
    return inference.main(["--checkpoint", str(run / "model_final.pth"), "--device", "cpu", "--image", str(image),
                           "--output", str(output), *options])  # fmt: skip


def test_a_folder_keeps_its_sub_folders_and_dotted_names(run, pictures, tmp_path):
    assert infer(run, pictures, tmp_path / "out", "--save", "mask,colours,overlay") == 0
    names = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.png")}
    stems = ("a.b", "a.c", "clip/a.b")
    assert names == {f"{kind}/{stem}.png" for kind in ("mask", "colours", "overlay") for stem in stems}
    predictor = Predictor(trained(run))
    for stem in stems:
        image = np.asarray(Image.open(pictures / f"{stem}.png"))
        expected = predictor.one({"image": image})["mask"]
        mask, colours, overlay = (np.asarray(Image.open(tmp_path / "out" / kind / f"{stem}.png")) for kind in
                                  ("mask", "colours", "overlay"))  # fmt: skip
        assert np.array_equal(mask, expected)  # label values 0 and 1 of this config
        assert np.array_equal(colours, np.array([[0, 0, 0], [0, 255, 0]])[mask])
        mixed = np.where(mask[..., None] == 1, (image + np.array([0, 255, 0.0])) / 2, image)
        assert np.abs(overlay - mixed).max() <= 0.5
    assert infer(run, pictures, tmp_path / "masks") == 0  # masks alone by default, without a folder of their own
    assert np.array_equal(np.asarray(Image.open(tmp_path / "masks/clip/a.b.png")), mask)


def test_a_single_picture_has_its_further_files_beside(run, pictures, tmp_path):
    assert infer(run, pictures / "a.b.png", tmp_path / "x.y.png", "--save", "overlay, mask") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.y.png", "x.y_mask.png"]
    assert np.asarray(Image.open(tmp_path / "x.y.png")).shape == (33, 47, 3)
    assert infer(run, pictures / "a.b.png", tmp_path, "--mode", "tiles", "--save", "mask") == 0
    assert (tmp_path / "a.b.png").exists()


def test_mistakes_at_inference_are_one_line(run, pictures, tmp_path):
    with pytest.raises(
        InputError, match="--save: expected some of mask, colours, overlay of a Segmentation, got alpha"
    ):
        infer(run, pictures, tmp_path, "--save", "mask,alpha")
    with pytest.raises(InputError, match=r"is inside .*images, whose sub-folders are read too"):
        infer(run, pictures, pictures / "masks")
    image = pictures / "a.b.png"
    with pytest.raises(InputError, match="Segmentation reads no trimap"):
        infer(run, image, tmp_path / "m.png", "--trimap", str(image))


def test_probabilities_come_with_a_mask_on_request(run, pictures):
    image = np.asarray(Image.open(pictures / "a.b.png"))
    arrays = Predictor(trained(run), probabilities=True).one({"image": image})
    assert arrays["probabilities"].shape == (33, 47, 2)
    np.testing.assert_allclose(arrays["probabilities"].sum(-1), 1, atol=1e-6)
    assert np.array_equal(arrays["probabilities"].argmax(-1), arrays["mask"])
    assert "probabilities" not in Predictor(trained(run)).one({"image": image})


@pytest.fixture
def root(tmp_path):
    """A data set of five pictures whose masks hold instance numbers."""
    rng = np.random.default_rng(0)
    for index in range(5):
        mask = np.zeros((60, 45), np.uint8)
        mask[10:50, 10 : 20 + index] = index + 1
        image = rng.integers(0, 100, (60, 45, 3), np.uint8)
        image[mask > 0] += 120
        for kind, pixels in (("images", image), ("masks", mask)):
            path = tmp_path / "data" / f"{'train' if index < 3 else 'valid'}_{kind}" / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    return tmp_path / "data"


def folder_config(root, output_dir, *more: str):
    data = [f"dataloader.train.dataset.root={root}", f"dataloader.test.root={root}",
            "dataloader.train.dataset.crop_size=56", "train.freeze=[]"]  # fmt: skip
    return load_config(FOLDERS, [*BACKBONE, *RUN, *data, f"train.output_dir={output_dir}", *more])


def test_folders_train_a_frozen_or_a_learning_backbone(root, tmp_path):
    start = build(folder_config(root, tmp_path).model).backbone.state_dict()
    encoder = {f"backbone.{key}": torch.randn_like(tensor) * 0.05 for key, tensor in start.items()}
    write_checkpoint(tmp_path / "encoder.pth", {"model": encoder, "metadata": {}})
    init = f"train.init_checkpoint={tmp_path / 'encoder.pth'}"
    frozen = train(folder_config(root, tmp_path / "frozen", init, "train.freeze=[backbone]"))
    assert all(torch.equal(frozen.state_dict()[key], tensor) for key, tensor in encoder.items())
    checkpoint = read_checkpoint(tmp_path / "frozen" / "model_final.pth")
    assert all(key.startswith("decoder.") for key in checkpoint["model"])  # the rest is named by file and hash
    tuned = train(folder_config(root, tmp_path / "tuned", init))
    assert not torch.equal(tuned.state_dict()["backbone.norm.weight"], encoder["backbone.norm.weight"])
    assert logged(tmp_path / "tuned")[6]["validation/accuracy"] > 0
    assert infer(tmp_path / "frozen", root / "valid_images", tmp_path / "out") == 0


def test_masks_with_unknown_values_are_named_before_training(root, tmp_path):
    with pytest.raises(
        InputError, match=r"train_masks/1\.png: unknown values 2; .*train_masks/2\.png: unknown values 3"
    ):
        train(folder_config(root, tmp_path / "run", "dataloader.train.dataset.mask_mode=ids", "train.eval_period=0"))


def test_a_learning_backbone_has_a_tenth_of_the_head_s_rate():
    config = load_config(FOLDERS, [*BACKBONE])
    model = build(config.model)
    settings = config.optimizer.params
    groups = param_groups(model, 1e-5, 1e-4, settings.layer_decay, settings.head_lr_mult)
    rates = {parameter: group["lr"] for group in groups for parameter in group["params"]}
    for name, parameter in model.named_parameters():
        assert rates[parameter] == pytest.approx(1e-4 if name.startswith("decoder.") else 1e-5), name


def test_configs_build_the_published_sizes():
    for name, backbone in (("DINOv2_S", 22_056_192), ("DINOv3_S", 21_601_152 - 384)):
        with torch.device("meta"):
            model = build(load_config(str(ROOT / f"configs/PersonSeg_{name}.py")).model)
        assert sum(parameter.numel() for parameter in model.decoder.parameters()) == 6146
        assert sum(parameter.numel() for parameter in model.backbone.parameters()) == backbone, name
    registers = ["model.backbone.num_register_tokens=4", "model.backbone.abs_pos_resize=antialias"]
    with torch.device("meta"):
        model = build(load_config(FOLDERS, registers).model)
    assert sum(parameter.numel() for parameter in model.backbone.parameters()) == 22_057_728


@torch.no_grad()
def test_dinov3_backbones_segment_any_size():
    model = build(load_config(str(ROOT / "configs" / "PersonSeg_DINOv3_S.py"), BACKBONE).model).eval()
    image = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    assert Predictor(model).one({"image": image})["mask"].shape == (37, 53)
    state = model.encode({"image": torch.zeros(1, 3, 32, 48)})
    gray = (torch.zeros(1, 3, 32, 48) - model.pixel_mean) / model.pixel_std
    torch.testing.assert_close(state.maps[-1], model.backbone(gray))  # of the last block, DINOv3's own normed map


def test_scores_of_absent_classes_perfect_and_empty_masks():
    """Worked by hand. A class that neither truth nor prediction has is left out; one that only one has counts 0."""
    perfect = np.array([[4, 0, 0], [0, 2, 0], [0, 0, 0]])
    assert segmentation_scores(perfect) == {"miou": 1.0, "accuracy": 1.0}
    assert segmentation_scores(np.array([[4, 0, 2], [0, 2, 0], [0, 0, 0]])) == pytest.approx(
        {"miou": (4 / 6 + 1 + 0) / 3, "accuracy": 6 / 8}
    )
    evaluator = SegmentationEvaluator(2, loss=True)
    empty, ignored = np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8)
    sure = np.stack([np.ones((2, 2)), np.zeros((2, 2))], -1)
    evaluator.process([{"mask": ignored}], [{"mask": empty, "probabilities": sure}])
    assert all(np.isnan(score) for score in evaluator.evaluate().values())
    evaluator.process([{"mask": empty}], [{"mask": empty, "probabilities": sure}])
    assert evaluator.evaluate() == {"miou": 1.0, "accuracy": 1.0, "loss": 0.0}
    evaluator.process([{"mask": empty + 1}], [{"mask": empty, "probabilities": sure}])  # surely wrong
    assert evaluator.evaluate() == pytest.approx({"miou": 0.25, "accuracy": 0.5, "loss": -np.log(1e-7) / 2})
