"""The frozen system through main.py's and inference.py's ways: training, kept features, resuming, scores, mistakes."""

import json
import logging
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from tiny import ROOT

import inference
from data.synthetic import SyntheticMatting
from engine.config import build, load_config
from engine.inference.manifest import MANIFEST
from engine.training import feature_cache
from engine.training.freezing import freeze
from engine.training.run import evaluate, train
from metrics import score_image
from modeling.backbone import ViT
from modeling.weights.checkpoint_file import read_checkpoint, write_checkpoint
from modeling.weights.loading import load_model
from modeling.weights.model_config import build_model
from runtime.errors import InputError
from runtime.precision import Precision

CONFIG = str(ROOT / "configs" / "FrozenDINOv3_S.py")
SMALL = [
    "model.backbone.embed_dim=24", "model.backbone.num_heads=2", "model.backbone.depth=3", "model.out_blocks=[0,2]",
    "model.decoder.num_maps=2", "model.decoder.dims=[16,12,8]", "model.decoder.detail_stem=[4,5,6]",
    "dataloader.train.dataset.crop_size=32", "dataloader.train.batch_size=2", "dataloader.train.num_workers=0",
    "train.device=cpu", "train.amp.enabled=False", "train.log_period=1", "train.eval_period=0", "train.max_iter=6",
    "train.curves=False",
    "train.checkpointer.period=3", "train.ema_decay=0.5", "lr_multiplier.warmup_length=0.2",
]  # fmt: skip
VIEWS = ["dataloader.train.fixed_views=6"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """DATA/{train,val}/{rgb_images,alpha_maps} of procedural pictures of several sizes."""
    root = tmp_path_factory.mktemp("DATA")
    for part, sizes in (("train", [(48, 64), (64, 40), (50, 50)]), ("val", [(40, 61), (33, 33)])):
        for name in ("rgb_images", "alpha_maps"):
            (root / part / name).mkdir(parents=True)
        for index, size in enumerate(sizes):
            sample = SyntheticMatting(size=size, backgrounds="textures", scene_size=(64, 80))[index]
            image, alpha = ((sample[key] * 255).round().byte().numpy() for key in ("image", "alpha"))
            Image.fromarray(image.transpose(1, 2, 0)).save(root / part / "rgb_images" / f"{index}.png")
            Image.fromarray(alpha[0]).save(root / part / "alpha_maps" / f"{index}.png")
    return root


def encoder_file(path, seed: int) -> str:
    """A file as preprocess.py writes one."""
    torch.manual_seed(seed)
    vit = ViT(in_chans=3, embed_dim=24, num_heads=2, depth=3, layer_scale_init=1.0)
    state = {f"backbone.{key}": value for key, value in vit.state_dict().items()}
    write_checkpoint(path, {"model": state, "metadata": {"layer_norm_eps": 1e-5}})
    return str(path)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory) -> str:
    return encoder_file(tmp_path_factory.mktemp("encoder") / "encoder.pth", seed=5)


def config_of(data, encoder, output_dir, *more: str):
    return load_config(
        CONFIG,
        [
            *SMALL,
            f"dataloader.root={data}",
            f"train.init_checkpoint={encoder}",
            f"train.output_dir={output_dir}",
            *more,
        ],
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory, data, encoder):
    folder = tmp_path_factory.mktemp("run")
    train(config_of(data, encoder, folder))
    return folder


def test_checkpoints_hold_what_was_trained_and_name_the_encoder_by_its_hash(run, encoder, tmp_path):
    checkpoint = read_checkpoint(run / "model_final.pth")
    stored = {key for key in checkpoint["model"] if key != "backbone.rope_embed.periods"}
    assert stored
    assert all(key.startswith("decoder.") for key in stored)
    assert all(key.startswith(("decoder.", "backbone.rope")) for key in checkpoint["trainer"]["weights"])
    source = read_checkpoint(encoder)["model"]
    assert set(checkpoint["frozen"]["keys"]) == source.keys() - {"backbone.rope_embed.periods"}
    model = build_model(checkpoint, run)
    load_model(model, checkpoint, run)
    assert all(torch.equal(model.state_dict()[key], value) for key, value in source.items())
    shutil.copyfile(run / "model_final.pth", tmp_path / "model_final.pth")
    other = encoder_file(tmp_path / "other.pth", seed=6)
    write_checkpoint(tmp_path / "m.pth", {**checkpoint, "frozen": {**checkpoint["frozen"], "file": other}})
    with pytest.raises(InputError, match="its frozen weights are not those of") as refused:
        load_model(model, read_checkpoint(tmp_path / "m.pth"), tmp_path / "m.pth")
    assert "\n" not in str(refused.value)


def test_a_run_from_a_frozen_checkpoint_leaves_the_encoder_to_its_file_too(run, data, encoder, tmp_path):
    train(config_of(data, run / "model_final.pth", tmp_path, "train.max_iter=1"))
    first, second = (read_checkpoint(folder / "model_final.pth") for folder in (run, tmp_path))
    assert second["frozen"] == first["frozen"]
    assert second["model"].keys() == first["model"].keys()
    train(config_of(data, run / "model_final.pth", tmp_path / "learning", "train.max_iter=1", "train.freeze=[first_1]"))
    assert "backbone.blocks.2.attn.qkv.weight" in read_checkpoint(tmp_path / "learning/model_final.pth")["model"]


def test_a_run_from_a_moved_frozen_checkpoint_names_the_encoder_where_it_was_found(run, data, encoder, tmp_path):
    shutil.copyfile(encoder, tmp_path / "encoder.pth")
    first = read_checkpoint(run / "model_final.pth")
    gone = {**first["frozen"], "file": str(tmp_path / "gone" / "encoder.pth")}
    write_checkpoint(tmp_path / "start.pth", {**first, "frozen": gone})
    train(config_of(data, tmp_path / "start.pth", tmp_path / "next", "train.max_iter=1"))
    second = read_checkpoint(tmp_path / "next" / "model_final.pth")
    assert second["frozen"] == {**first["frozen"], "file": str(tmp_path / "encoder.pth")}
    load_model(build_model(second, "m.pth"), second, tmp_path / "next" / "model_final.pth")


def one_line(action) -> str:
    with pytest.raises(InputError) as refused:
        action()
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_composition_loss_on_photographs_whose_layers_are_not_known_is_refused(data, encoder, tmp_path):
    layers = ["dataloader.train.dataset.return_layers=true", "train.max_iter=1"]
    composed = ["+model.criterion.composition_weight=1.0", *layers]
    for number, more in enumerate(([], VIEWS)):
        settings = config_of(data, encoder, tmp_path / str(number), *composed, *more)
        assert "does not know foreground and background, so the loss would always be 0" in one_line(
            lambda settings=settings: train(settings)
        )
    train(config_of(data, encoder, tmp_path / "plain", *layers))


def test_a_validation_image_smaller_than_a_patch_is_named(run, data, tmp_path):
    shutil.copytree(data, tmp_path / "DATA")
    for name, mode in (("rgb_images", "RGB"), ("alpha_maps", "L")):
        Image.new(mode, (40, 12)).save(tmp_path / "DATA" / "val" / name / "small.png")
    text = one_line(lambda: evaluate(config_of(tmp_path / "DATA", run / "model_final.pth", run)))
    assert text == "small: an image of 40 x 12 pixels is smaller than a patch of 16 x 16; make it larger"


def resumed(data, encoder, folder, whole, *more: str) -> None:
    """Cut a run back to its third iteration, continue it, and compare with the whole one."""
    for name in ("model_final.pth", "model_0000005.pth"):
        (folder / name).unlink()
    (folder / "last_checkpoint").write_text("model_0000002.pth")
    train(config_of(data, encoder, folder, *more), resume=True)
    ends = [read_checkpoint(each / "model_final.pth")["model"] for each in (whole, folder)]
    assert all(torch.equal(ends[1][key], value) for key, value in ends[0].items())


def test_a_run_resumes_to_the_bit(run, data, encoder, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    resumed(data, encoder, tmp_path / "run", run)


def messages(caplog) -> str:
    once = {id(record): record for record in caplog.records}  # twice where the logger propagates as well
    return "\n".join(record.getMessage() for record in once.values())


def losses(folder) -> list[float]:
    return [json.loads(line)["total_loss"] for line in (folder / "metrics.json").read_text().splitlines()]


@pytest.fixture
def heard(caplog):
    """Log messages about features, although its loggers do not propagate once they write to a file."""
    logger = logging.getLogger("dinomatte.features")
    logger.addHandler(caplog.handler)
    caplog.set_level(logging.INFO, logger="dinomatte.features")
    yield caplog
    logger.removeHandler(caplog.handler)


def test_kept_features_train_as_the_encoder_does_without_calling_it(data, encoder, tmp_path, heard, monkeypatch):
    keep = f"train.cache_features={tmp_path / 'features'}"
    monkeypatch.setattr(feature_cache, "PROGRESS", 0.0)
    train(config_of(data, encoder, tmp_path / "plain", *VIEWS))
    train(config_of(data, encoder, tmp_path / "first", *VIEWS, keep))
    assert losses(tmp_path / "first") == pytest.approx(losses(tmp_path / "plain"), rel=2e-3)
    assert re.findall(r"features: (\d) of 6 views computed, about \d+ s to go", messages(heard)) == ["2", "4"]
    size = 6 * 2 * 24 * 2 * 2 * 2  # views, maps, channels, rows, columns, bytes
    (path,) = (tmp_path / "features").glob("*.npy")
    assert path.stat().st_size == size + 128
    assert "the features of 6 views take 1MiB" in messages(heard)
    calls = []
    features = ViT.features
    monkeypatch.setattr(ViT, "features", lambda *given: calls.append(given) or features(*given))
    train(config_of(data, encoder, tmp_path / "second", *VIEWS, keep))
    assert len(calls) == 1  # for their size
    assert losses(tmp_path / "second") == losses(tmp_path / "first")
    assert f"features of 6 views are read from {path}" in messages(heard)
    resumed(data, encoder, tmp_path / "second", tmp_path / "first", *VIEWS, keep)


def kept(data, encoder, folder, *more: str, frozen=("backbone",), seed: int = 0) -> Path:
    """The file of features that a run of these settings would read."""
    config = config_of(data, encoder, folder / "run", *VIEWS, f"train.cache_features={folder / 'features'}", *more)
    torch.manual_seed(seed)
    model = build(config.model)
    load_model(model, read_checkpoint(encoder), encoder, pretrained=True)
    freeze(model, frozen)
    precision = Precision(False, "fp16", torch.device("cpu"))
    return feature_cache.cached_features(model, build(config.dataloader.train).dataset, config, precision, 4, 0)


def test_what_changes_features_is_noticed_and_nothing_else_is(data, encoder, tmp_path, heard):
    photographs = tmp_path / "DATA"
    shutil.copytree(data, photographs)
    first = kept(photographs, encoder, tmp_path)
    features, time = np.load(first), first.stat().st_mtime_ns
    for change in ("model.criterion.edge_weight=none", "model.decoder.dims=[8,8,8]", "dataloader.train.batch_size=3"):
        assert kept(photographs, encoder, tmp_path, change) == first
    partly = ["backbone", "decoder.input_proj.*"]
    assert {kept(photographs, encoder, tmp_path, frozen=partly, seed=seed) for seed in (1, 2)} == {first}
    assert first.stat().st_mtime_ns == time
    other = encoder_file(tmp_path / "other.pth", seed=6)
    changes = {
        "encoder": (encoder, "model.out_blocks=[1,2]"),
        "views": (encoder, "train.seed=1"),
        "frozen weights": (other, "train.max_iter=7"),
    }
    for named, (weights, change) in changes.items():
        heard.clear()
        path = kept(photographs, weights, tmp_path, change)
        assert path != first
        assert f"{first}: made with other {named}, not used; remove it" in messages(heard)
        assert np.abs(np.load(path) - features).max() > 0.01
    Image.new("RGB", (64, 48)).save(photographs / "train/rgb_images/0.png")
    heard.clear()
    path = kept(photographs, encoder, tmp_path)
    assert f"{first}: made with other files, not used" in messages(heard)
    changed = np.abs(np.load(path) - features).max(axis=(1, 2, 3)) > 0
    assert changed.tolist() == [True, False, False] * 2  # three photographs, two views of each
    path.write_bytes(path.read_bytes()[:-10])
    heard.clear()
    assert kept(photographs, encoder, tmp_path) == path
    assert f"{path}: expected features (6, 48, 2, 2)" in messages(heard)
    assert np.load(path).shape == (6, 48, 2, 2)


def test_features_that_cannot_be_kept_are_one_line(data, encoder, tmp_path, monkeypatch):
    keep = f"train.cache_features={tmp_path / 'features'}"

    def error(*more: str) -> str:
        with pytest.raises(InputError) as refused:
            train(config_of(data, encoder, tmp_path / "run", *more))
        assert "\n" not in str(refused.value)
        return str(refused.value)

    assert "a WholePhotographs draws new samples each epoch" in error(keep)
    assert "the encoder is trained; freeze all of it" in error(*VIEWS, keep, "train.freeze=[first_1]")
    free = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(feature_cache.shutil, "disk_usage", lambda path: free)
    assert (
        "the features of 6 views take 1MiB, and 1MiB of the disk are free; lower dataloader.train.fixed_views"
        in error(*VIEWS, keep)
    )
    assert not (tmp_path / "features").exists() or not list((tmp_path / "features").iterdir())


def test_scores_without_a_trimap_are_all_seven_and_those_of_scikit_image(run, data):
    config = config_of(data, run / "model_final.pth", run)
    scores, evaluator = evaluate(config)
    assert list(scores) == list(evaluator.metrics) == ["sad", "mse", "grad", "conn", "mad", "psnr", "ssim"]
    checkpoint = read_checkpoint(run / "model_final.pth")
    model = build_model(checkpoint, run)
    load_model(model, checkpoint, run)
    expected = []
    for sample in build(config.dataloader.test):
        image = torch.from_numpy(np.array(sample["image"])).permute(2, 0, 1)[None] / 255
        with torch.inference_mode():
            alpha = (model.eval().predict(image)[0, 0] * 255).round().byte().numpy()
        own = score_image(alpha, sample["alpha"])
        own |= {
            "mad": np.abs(alpha / 255 - sample["alpha"] / 255).mean(),
            "psnr": peak_signal_noise_ratio(sample["alpha"], alpha),
            "ssim": structural_similarity(
                sample["alpha"], alpha, gaussian_weights=True, sigma=1.5, use_sample_covariance=False, data_range=255
            ),
        }
        expected.append(own)
    for name, score in scores.items():
        assert score == pytest.approx(np.mean([each[name] for each in expected]), rel=1e-6), name
    with pytest.raises(InputError, match=r"dataloader\.evaluator\.names.*'dice'"):
        evaluate(config_of(data, run / "model_final.pth", run, "dataloader.evaluator.names=[sad,dice]"))


def test_scores_with_a_trimap_count_its_unknown_region(run, data, tmp_path):
    (tmp_path / "trimaps").mkdir()
    for path in (data / "val/alpha_maps").iterdir():
        trimap = np.full(np.asarray(Image.open(path)).shape, 128, np.uint8)
        trimap[: len(trimap) // 2] = 0
        Image.fromarray(trimap).save(tmp_path / "trimaps" / path.name)
    trained = run / "model_final.pth"
    whole, _ = evaluate(config_of(data, trained, run))
    unknown = [f"dataloader.test.trimap_dir={tmp_path / 'trimaps'}", "dataloader.evaluator.region=unknown"]
    part, _ = evaluate(config_of(data, trained, run, *unknown))
    assert 0 < part["sad"] < whole["sad"]
    with pytest.raises(InputError, match=r"the samples of dataloader\.test lack trimap"):
        evaluate(config_of(data, trained, run, "dataloader.evaluator.region=unknown"))


def test_micro_batches_make_the_steps_of_one_batch_where_batch_norm_is_frozen(data, encoder, tmp_path):
    settings = ["train.freeze_batch_norm=1.0", "train.max_iter=2", "train.ema_decay=null"]
    whole = train(config_of(data, encoder, tmp_path / "w", *settings, "dataloader.train.batch_size=4"))
    parts = train(config_of(data, encoder, tmp_path / "p", *settings, "train.accumulate=2"))
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(parts.state_dict()[key], value, rtol=1e-4, atol=1e-6)


def test_the_log_has_speed_memory_and_use_of_the_processor_and_nothing_of_a_gpu(run):
    for line in map(json.loads, (run / "metrics.json").read_text().splitlines()):
        assert line["samples_per_second"] > 0
        assert 0 < line["memory/process_now_gib"] <= line["memory/process_gib"] * 1.001
        assert 0 < line["utilisation/cpu"] < 64
        assert not any("gpu" in name for name in line)


def test_inference_takes_a_folder_of_any_sizes_without_trimaps(run, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    sizes = {"a": (17, 90), "b": (64, 33), "small": (12, 40)}
    for stem, size in sizes.items():
        pixels = np.random.default_rng(1).integers(0, 256, (*size, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / f"{stem}.png")
    arguments = ["--checkpoint", str(run / "model_final.pth"), "--device", "cpu", "--image", str(tmp_path / "images"),
                 "--output", str(tmp_path / "out")]  # fmt: skip
    assert inference.main(arguments) == 2
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.png", "b.png", MANIFEST]
    for stem in "ab":
        assert np.asarray(Image.open(tmp_path / "out" / f"{stem}.png")).shape == sizes[stem]
    errors = [line for line in "".join(capsys.readouterr()).splitlines() if "error" in line]
    assert len(errors) == 1
    assert "small.png: an image of 40 x 12 pixels is smaller than a patch of 16 x 16; make it larger" in errors[0]
    with pytest.raises(InputError, match="FrozenDINOv3 takes no trimap; omit --trimap"):
        inference.main([*arguments, "--trimap", str(tmp_path / "images")])
