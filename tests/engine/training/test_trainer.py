"""The training step: micro-batches, averaged weights, frozen statistics, late crops, batches that are not finite."""

import itertools

import numpy as np
import pytest
import torch
from small_models import small_model
from tiny import CONFIG, overrides
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import Dataset

from data.synthetic import SyntheticMatting
from data.training.crop_sized import CropSized
from data.training.loader import build_train_loader
from data.training.mixture import Mixture
from engine.config import load_config
from engine.training.averaging import WeightAverage
from engine.training.run import train
from engine.training.trainer import NonFiniteLossError, SystemTrainer
from modeling.decoder.detail_capture import conv_norm
from modeling.weights.checkpoint_file import read_checkpoint
from runtime.errors import InputError
from runtime.precision import Precision

WITHOUT_DRAWS = [
    "model.backbone.drop_path_rate=0.0",
    "model.backbone.rope_rescale=null",
    "lr_multiplier.warmup_length=0.5",
]


def run(output_dir, max_iter: int, *more: str, resume: bool = False) -> dict:
    train(load_config(CONFIG, overrides(output_dir, max_iter, *more)), resume=resume)
    return read_checkpoint(output_dir / "model_final.pth")


def small_net() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.LazyLinear(2))


def test_the_average_is_torchs_once_it_is_warm():
    torch.manual_seed(0)
    net = small_net()
    net(torch.rand(2, 3, 5, 5))
    ours, theirs = WeightAverage(net, 0.9), AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    ours.updates = 1000  # the warm-up lies behind
    theirs.n_averaged += 1
    for _ in range(5):
        net(torch.rand(2, 3, 5, 5))  # moves the statistics
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(torch.randn_like(parameter))
        ours.update(net)
        theirs.update_parameters(net)
    expected = theirs.module.state_dict()
    for name, value in ours.model.state_dict().items():
        if value.is_floating_point():  # torch averages BatchNorm's count of batches too
            torch.testing.assert_close(value, expected[name], msg=name)


def test_the_average_forgets_the_first_weights_quickly():
    net = nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        net.weight.fill_(1.0)
        average = WeightAverage(net, 0.999)
        net.weight.fill_(0.0)
    average.update(net)
    average.update(net)
    assert average.model.weight.item() == pytest.approx(1 / 11 * 2 / 12)  # n / (n + 10) of the old stays


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(InputError, match="ema_decay: expected 0 <= decay < 1"):
        WeightAverage(nn.Linear(1, 1), decay)


def test_an_averaged_run_saves_the_average_and_resumes_from_the_weights(tmp_path):
    settings = ["train.ema_decay=0.9", "train.checkpointer.period=3"]
    whole = run(tmp_path / "whole", 6, *settings)
    raw = whole["trainer"]["weights"]
    assert not torch.equal(raw["decoder.matting_head.matting_convs.0.weight"],
                           whole["model"]["decoder.matting_head.matting_convs.0.weight"])  # fmt: skip
    plain = run(tmp_path / "plain", 6)
    assert all(torch.equal(raw[name], value) for name, value in plain["model"].items())  # averaging changes no step

    run(tmp_path / "half", 6, *settings)
    for name in ("model_final.pth", "model_0000005.pth"):
        (tmp_path / "half" / name).unlink()
    (tmp_path / "half" / "last_checkpoint").write_text("model_0000002.pth")
    resumed = run(tmp_path / "half", 6, *settings, resume=True)
    assert all(torch.equal(resumed["model"][name], value) for name, value in whole["model"].items())
    with pytest.raises(InputError, match=r"train\.ema_decay: the run was started with it"):
        run(tmp_path / "whole", 8, resume=True)


def test_micro_batches_make_the_steps_of_one_batch(tmp_path):
    # BatchNorm sees micro-batches, so its statistics are kept out of this
    settings = [*WITHOUT_DRAWS, "train.freeze_batch_norm=1.0"]
    whole = run(tmp_path / "whole", 3, *settings, "dataloader.train.batch_size=4")
    parts = run(tmp_path / "parts", 3, *settings, "dataloader.train.batch_size=2", "train.accumulate=2")
    for name, value in whole["model"].items():
        if value.is_floating_point():
            torch.testing.assert_close(parts["model"][name], value, rtol=1e-4, atol=1e-5, msg=name)


def test_frozen_statistics_stay_and_are_what_normalises(tmp_path):
    frozen = run(tmp_path / "frozen", 4, "train.freeze_batch_norm=0.5")["model"]
    name = "decoder.convstream.convs.0.bn"
    assert frozen[f"{name}.num_batches_tracked"] == 2
    half = read_checkpoint(tmp_path / "frozen" / "model_0000001.pth")["model"]
    assert torch.equal(frozen[f"{name}.running_mean"], half[f"{name}.running_mean"])
    assert not torch.equal(frozen[f"{name}.weight"], half[f"{name}.weight"])  # the rest goes on learning
    free = run(tmp_path / "free", 4)["model"]
    assert free[f"{name}.num_batches_tracked"] == 4
    assert not torch.equal(free[f"{name}.running_mean"], half[f"{name}.running_mean"])


def test_a_frozen_norm_has_the_gradients_of_torchs_batch_norm_in_eval_mode():
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
    norm.running_mean.uniform_(-1, 1)
    norm.running_var.uniform_(0.5, 2)
    norm.eval()
    x, weights = torch.rand(2, 3, 6, 6), torch.rand(2, 4, 6, 6)
    gradients = []
    for forward in (lambda: conv_norm(x, conv, norm), lambda: norm(conv(x))):
        conv.zero_grad()
        norm.zero_grad()
        (forward() * weights).sum().backward()
        gradients.append([conv.weight.grad.clone(), norm.weight.grad.clone(), norm.bias.grad.clone()])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_clipping_bounds_the_gradient_and_its_norm_is_logged_before(tmp_path, monkeypatch):
    import json

    seen = []
    original = torch.optim.AdamW.step

    def step(self, *arguments, **settings):
        gradients = [p.grad.flatten() for group in self.param_groups for p in group["params"] if p.grad is not None]
        seen.append(float(torch.cat(gradients).norm()))
        return original(self, *arguments, **settings)

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    run(tmp_path / "clipped", 2, "train.clip_grad_norm=0.01", "lr_multiplier.warmup_length=0.6")
    run(tmp_path / "free", 2, "train.clip_grad_norm=null", "lr_multiplier.warmup_length=0.6")
    assert seen[:2] == pytest.approx([0.01, 0.01], rel=1e-4)
    for name, first in (("clipped", 0), ("free", 2)):
        lines = [json.loads(line) for line in (tmp_path / name / "metrics.json").read_text().splitlines()]
        assert lines[0]["grad_norm"] == pytest.approx(seen[2], rel=1e-5)
        assert first == 0 or [line["grad_norm"] for line in lines] == pytest.approx(seen[2:], rel=1e-5)


class WithNotANumber(SyntheticMatting):
    """One image of the second batch holds a NaN."""

    def __getitem__(self, key):
        sample = super().__getitem__(key)
        self.served = getattr(self, "served", 0) + 1
        if self.served == 3:
            sample["image"][1, 5, 7] = float("nan")
            self.poisoned = sample["name"]
        return sample


def test_a_gradient_that_is_not_finite_stops_the_run_before_it_reaches_the_weights(tmp_path, monkeypatch):
    original = torch.nn.utils.clip_grad_norm_

    def spoil(parameters, *arguments):
        parameters = list(parameters)
        parameters[3].grad.view(-1)[0] = float("nan")
        return original(parameters, *arguments)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", spoil)
    with pytest.raises(NonFiniteLossError, match=r"gradient is not finite at iteration 0: unknown_l1_loss=0\.\d+"):
        run(tmp_path, 4, "train.checkpointer.period=1")
    assert not list(tmp_path.glob("model_*.pth"))


def test_a_trimap_of_other_values_is_counted_as_the_model_sees_it():
    net = small_model()
    trainer = SystemTrainer(net, None, precision=Precision(False, "bf16", torch.device("cpu")))
    trimap = torch.tensor([0, 128 / 255, 0.5, 1]).view(1, 1, 2, 2)
    rest = {"image": torch.zeros(1, 3, 2, 2), "alpha": torch.zeros(1, 1, 2, 2)}
    batches = [net.prepare({**rest, "trimap": each}) for each in (trimap, torch.zeros(1, 1, 2, 2))]
    counts = trainer._mean_counts(batches, 2)
    assert counts["unknown_pixels"].item() == 1.0


@pytest.mark.slow
def test_a_compiled_model_is_not_compiled_anew_at_each_iteration(tmp_path):
    torch._dynamo.utils.counters.clear()
    run(tmp_path, 10, "train.compile=True", *WITHOUT_DRAWS, "dataloader.train.dataset.size=32")
    assert 0 < torch._dynamo.utils.counters["frames"]["total"] <= 6


def test_a_sample_that_is_not_finite_is_named(tmp_path):
    from detectron2.config import LazyCall

    config = load_config(CONFIG, overrides(tmp_path, 6))
    config.dataloader.train.dataset = LazyCall(WithNotANumber)(size=64, samples_per_epoch=100)
    with pytest.raises(NonFiniteLossError, match=r"iteration 1 .*nan.*not finite: image of \w+"):
        train(config)


class Numbered(Dataset, CropSized):
    """Sample (epoch, index) says which it is and how large its crop would be."""

    def __init__(self, size: int, crop_size: int = 4):
        self.size, self.crop_size = size, crop_size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, key):
        return {"key": torch.tensor(key), "crop": self.crop_size}

    def with_crop_size(self, crop_size: int) -> "Numbered":
        return Numbered(self.size, crop_size)


def keys_and_crops(loader, count: int) -> tuple[list, list]:
    batches = list(itertools.islice(iter(loader), count))
    return [tuple(key) for batch in batches for key in batch["key"].tolist()], [
        batch["crop"].tolist() for batch in batches
    ]


@pytest.mark.parametrize("start", [0, 1, 3, 4, 6])
def test_a_late_crop_changes_sizes_and_not_the_order_of_samples(start):
    common = {"num_workers": 0, "seed": 3, "pin_memory": False}
    plain, _ = keys_and_crops(build_train_loader(Numbered(10), 1, **common), 30)
    late = {"late_start": 3, "late_crop_size": 8, "late_batch_size": 2}
    keys, crops = keys_and_crops(
        build_train_loader(Numbered(10), 4, start_iteration=start, **late, **common), 7 - start
    )
    sizes = [4, 4, 4, 2, 2, 2, 2]
    first = sum(sizes[:start])
    assert keys == plain[first : sum(sizes)]
    assert crops == [[4] * 4, [4] * 4, [4] * 4, [8] * 2, [8] * 2, [8] * 2, [8] * 2][start:]


def test_late_settings_count_iterations_and_not_micro_batches():
    late = {"late_start": 2, "late_crop_size": 8, "accumulate": 3, "num_workers": 0, "pin_memory": False}
    _, crops = keys_and_crops(build_train_loader(Numbered(10), 1, **late), 8)
    assert np.ravel(crops).tolist() == [4] * 6 + [8] * 2


@pytest.mark.parametrize("late", [{"late_start": 2}, {"late_crop_size": 8}, {"late_batch_size": 2}])
def test_half_a_late_setting_is_refused(late):
    with pytest.raises(InputError, match="late_start and a late size belong together"):
        build_train_loader(Numbered(10), 1, **late)


def test_a_mixture_enlarges_the_crops_of_all_its_parts():
    mixture = Mixture([(Numbered(4), 1), (Numbered(4), 1)], 4)
    assert {mixture.with_crop_size(9)[0, index]["crop"] for index in range(4)} == {9}
    assert {mixture[0, index]["crop"] for index in range(4)} == {4}
