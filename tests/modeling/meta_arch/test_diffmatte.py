"""DiffMatte against the public code's numbers, on weights that are a function of their names."""

import functools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from engine.config import build, load_config
from modeling.diffusion import GaussianDiffusion, Strategy
from modeling.meta_arch.diffmatte import DiffMatte
from runtime.errors import InputError
from tests.references.diffmatte_weights import GOLDENS, read_keys, state

ROOT = Path(__file__).resolve().parents[3]
CONFIGS = {"vits": "ViTS", "vitb": "ViTB", "res34": "Res34", "swint": "SwinT"}
INPUTS = np.load(GOLDENS / "inputs.npz")
CASES = json.loads((GOLDENS / "cases.json").read_text())
SIZES = ("96x128", "70x101", "64x90")


@functools.cache
def weights(variant: str) -> dict[str, Tensor]:
    return state(read_keys(variant))


def published(variant: str, *overrides: str) -> DiffMatte:
    model = build(load_config(str(ROOT / "configs" / f"DiffMatte_{CONFIGS[variant]}.py"), list(overrides)).model)
    model.load_state_dict(weights(variant))
    return model.eval()


def inputs_of(size: str) -> dict[str, Tensor]:
    image = torch.from_numpy(INPUTS[f"{size}/image"]).permute(2, 0, 1)[None] / 255
    return {"image": image, "trimap": torch.from_numpy(INPUTS[f"{size}/trimap"])[None, None]}


def noise_of(size: str, name: str = "noise") -> Tensor:
    return torch.from_numpy(INPUTS[f"{size}/{name}"])[None, None]


def golden(variant: str, name: str) -> Tensor:
    return torch.from_numpy(np.load(GOLDENS / f"cases_{variant}.npz")[name])


@pytest.fixture(scope="module")
def vits() -> DiffMatte:
    return published("vits")


class Sampled:
    """The sampler of a model on one picture, step by step and before the trimap's values are written over it."""

    def __init__(self, model: DiffMatte, size: str, diffusion: GaussianDiffusion | None = None) -> None:
        self.model, self.size = model, size
        self.diffusion = diffusion or model.diffusion
        with torch.inference_mode():
            self.state = model.encode(model.prepare(inputs_of(size)))

    def __call__(self, strategy: str, **options) -> Tensor:
        before, self.model.diffusion = self.model.diffusion, self.diffusion
        try:
            with torch.inference_mode():
                return self.diffusion.sample(
                    lambda x_t, time: self.model._estimate(self.state, x_t, time),
                    noise_of(self.size), Strategy.parse(strategy), **options,
                )[0, 0]  # fmt: skip
        finally:
            self.model.diffusion = before


def assert_alpha(found: Tensor, expected: Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(found, expected.clamp(0, 1), atol=atol, rtol=0)


@pytest.mark.parametrize("size", SIZES)
def test_the_decoder_estimates_what_the_public_one_does(vits, size):
    sampled = Sampled(vits, size)
    for time in (0.1, 0.4, 0.7, 1.0):
        if f"{size}/x_t_{time}" in INPUTS:
            with torch.inference_mode():
                x0 = vits._estimate(sampled.state, noise_of(size, f"x_t_{time}"), time)[0, 0]
            torch.testing.assert_close(x0, golden("vits", f"{size}/x0_{time}"), atol=2e-5, rtol=0)


@pytest.mark.parametrize(("size", "steps"), [("96x128", 1), ("96x128", 2), ("70x101", 5), ("64x90", 10), ("62x250", 2)])
def test_alpha_after_n_ddim_steps_is_the_public_ones(vits, size, steps):
    assert_alpha(Sampled(vits, size)(f"ddim{steps}"), golden("vits", f"{size}/ddim{steps}_alpha"))


def test_each_of_ten_steps_is_the_public_one(vits):
    seen = []
    Sampled(vits, "70x101")("ddim10", observe=lambda index, x_t, x0: seen.append((x_t[0, 0], x0[0, 0])))
    noisy, estimates = (torch.stack(pictures) for pictures in zip(*seen, strict=True))
    torch.testing.assert_close(estimates, golden("vits", "70x101/ddim10_x0"), atol=2e-5, rtol=0)
    torch.testing.assert_close(noisy[1:], golden("vits", "70x101/ddim10_x")[:-1], atol=2e-5, rtol=0)


def test_ddpm_is_right_where_the_public_one_is_not(vits):
    noises = iter(torch.from_numpy(INPUTS["70x101/step_noise"])[:, None, None])
    seen = []
    found = Sampled(vits, "70x101")(
        "ddpm5", step_noise=lambda: next(noises), observe=lambda index, x_t, x0: seen.append(x_t[0, 0])
    )
    assert_alpha(found, golden("vits", "70x101/ddpm5_alpha"))
    torch.testing.assert_close(torch.stack(seen[1:3]), golden("vits", "70x101/ddpm5_x"), atol=2e-5, rtol=0)
    released = golden("vits", "70x101/ddpm5_alpha_released")
    assert (found - released.clamp(0, 1)).abs().max() > 0.01


@pytest.mark.parametrize(
    ("name", "diffusion", "atol"),
    [
        *((f"ddim5_alpha_{name}", GaussianDiffusion(name), 1e-5) for name in ("cosine", "sigmoid", "power")),
        ("ddim5_alpha_scale1", GaussianDiffusion(scale=1.0), 1e-5),
        ("ddim5_alpha_predict_eps", GaussianDiffusion(predict_xstart=False), 1e-3),
    ],
)
def test_other_processes_are_the_public_ones(vits, name, diffusion, atol):
    assert_alpha(Sampled(vits, "70x101", diffusion)("ddim5"), golden("vits", f"70x101/{name}"), atol)


def test_the_prediction_has_the_trimaps_values_in_both_known_regions(vits):
    """The release writes background alone; its rule for foreground never applies."""
    inputs = inputs_of("70x101")
    kept = {name: value.clone() for name, value in inputs.items()}
    with torch.inference_mode():
        found = vits.predict(**inputs, strategy="ddim10", noise=noise_of("70x101"))[0, 0]
    torch.testing.assert_close(255 * found, golden("vits", "70x101/ddim10_output"), atol=2e-3, rtol=0)
    assert all(torch.equal(inputs[name], value) for name, value in kept.items())  # the release writes into its batch


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variant", "size", "steps"),
    [
        ("vitb", "96x128", 10),
        ("res34", "70x101", 10),
        ("res34", "64x90", 1),
        ("swint", "70x101", 10),
        ("swint", "64x90", 1),
    ],
)
def test_the_other_variants_sample_as_the_public_ones(variant, size, steps):
    assert_alpha(Sampled(published(variant), size)(f"ddim{steps}"), golden(variant, f"{size}/ddim{steps}_alpha"))


@pytest.mark.parametrize("mode", [pytest.param("eval", marks=pytest.mark.slow), "train"])
@pytest.mark.parametrize("stage", ["plain", "stage1", "stage2"])
def test_training_calls_are_the_public_ones(monkeypatch, mode, stage):
    steps = {"stage1": ["model.self_align_stage1_step=0", "model.self_align_stage2_step=null"],
             "stage2": ["model.self_align_stage2_step=0"]}  # fmt: skip
    model = published("vits", *steps.get(stage, ["model.self_align_stage2_step=null"]))
    for module in model.modules():
        module.training = mode == "train" or module is model  # batch normalisation alone differs
    stored = {name: torch.from_numpy(INPUTS[f"train/{name}"]) for name in
              ("image", "trimap", "alpha", "noise", "draw_t", "draw_interval")}  # fmt: skip
    uniform = [stored["draw_interval"]] * (stage == "stage2") + [stored["draw_t"]]
    monkeypatch.setattr(torch, "randn_like", lambda x: stored["noise"].view(x.shape))
    monkeypatch.setattr(torch, "rand", lambda *size, **options: uniform.pop(0))
    encoded = []
    model.backbone.register_forward_hook(lambda *_: encoded.append(1))
    batch = model.prepare({
        "image": stored["image"].permute(0, 3, 1, 2) / 255,
        "trimap": stored["trimap"][:, None],
        "alpha": stored["alpha"][:, None] / 255,
    })  # fmt: skip
    losses = model.losses(batch, model.counts(batch))
    expected = CASES["training"]["vits"][f"{mode}_{stage}"]
    for name, value in {**expected["losses"], **expected["per_pixel"]}.items():  # per pixel where the release is not
        assert float(losses[name].detach()) == pytest.approx(value, rel=1e-5), name
    assert len(encoded) == 1
    assert not uniform
    if mode == "train":
        mean = model.decoder.matting_head.matting_convs[1].running_mean
        torch.testing.assert_close(mean, golden("vits", f"train/train_{stage}_head_running_mean"), atol=1e-5, rtol=0)


SMALL = (
    "model.backbone.embed_dim=24", "model.backbone.num_heads=2", "model.backbone.depth=2", "model.backbone.img_size=64",
    "model.backbone.window_block_indexes=[0]", "model.backbone.residual_block_indexes=[1]",
    "model.decoder.downsample_in=[7,8,8,8]", "model.decoder.upsample_in=[24,8,8,8,8]", "model.decoder.model_channels=8",
)  # fmt: skip


def small(*overrides: str) -> DiffMatte:
    torch.manual_seed(0)
    return build(load_config(str(ROOT / "configs" / "DiffMatte_demo.py"), [*SMALL, *overrides]).model).eval()


def picture(height: int, width: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(height * width)
    trimap = torch.full((1, 1, height, width), 0.5)
    trimap[..., : height // 3, :], trimap[..., -height // 4 :, :] = 0, 1
    return {"image": torch.rand(1, 3, height, width, generator=generator), "trimap": trimap}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_self_alignment_learns_through_the_second_pass_alone(dtype):
    """Under autocast, weights that the first pass has rounded without gradient must not serve the second."""
    model = small("model.self_align_stage2_step=0").train()
    batch = model.prepare({**picture(32, 32), "alpha": torch.rand(1, 1, 32, 32)})
    calls = []
    model.decoder.register_forward_hook(lambda *call: calls.append(call[2].requires_grad))
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        sum(model.losses(batch, model.counts(batch)).values()).backward()
    assert calls == [False, True]
    without = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not without


def test_stages_follow_the_iteration():
    model = small("model.self_align_stage1_step=10", "model.self_align_stage2_step=20")
    stages = {}
    for model.iteration in (0, 9, 10, 19, 20, 1000):
        stages[model.iteration] = model.self_alignment()
    assert stages == {0: None, 9: None, 10: "stage1", 19: "stage1", 20: "stage2", 1000: "stage2"}


def test_a_batch_without_unknown_pixels_has_finite_losses():
    model = small().train()
    batch = model.prepare({"image": torch.rand(1, 3, 32, 32), "trimap": torch.ones(1, 1, 32, 32),
                           "alpha": torch.ones(1, 1, 32, 32)})  # fmt: skip
    assert all(torch.isfinite(loss) for loss in model.losses(batch, model.counts(batch)).values())


def test_one_tile_is_the_whole_picture():
    model, inputs = small(), picture(70, 90)
    with torch.inference_mode():
        whole = model.decode(model.encode(inputs))["alpha"]
        tile = model.decode(model.encode_in_tiles(inputs, 96, 32))["alpha"]
    assert torch.equal(whole, tile)


def test_tiles_that_agree_leave_no_seam(monkeypatch):
    """A decoder that gives the same raw map everywhere gives the same alpha everywhere, whatever the tiles."""
    model, inputs = small("model.clamp_known_each_step=false"), picture(100, 170)
    monkeypatch.setattr(model.decoder, "prepared", lambda *_: lambda x_t, time: torch.full_like(x_t, 0.3))
    with torch.inference_mode():
        state = model.encode_in_tiles(inputs, 64, 32)
        assert len(state.parts) > 4
        assert all(tile.top % 32 == 0 and tile.left % 32 == 0 for tile in (part.tile for part in state.parts))
        alpha = model.decode(state)["alpha"][inputs["trimap"] == 0.5]
    torch.testing.assert_close(alpha, torch.full_like(alpha, 1 / (1 + np.exp(-0.3))), atol=1e-5, rtol=0)


def test_noise_depends_on_the_seed_and_the_size_alone():
    model = small()
    inputs = picture(40, 50)
    with torch.inference_mode():
        first = model.predict(**inputs)
        model.predict(**picture(64, 64))
        assert torch.equal(model.predict(**inputs), first)
        pair = {name: torch.cat([value, value]) for name, value in inputs.items()}
        torch.testing.assert_close(model.predict(**pair)[1:], first, atol=1e-5, rtol=0)
        model.set_sampling(seed=1)
        assert not torch.equal(model.predict(**inputs), first)


def test_noise_of_another_size_is_refused():
    with pytest.raises(InputError, match=r"noise: expected the trimap's shape \(1, 1, 40, 50\), got \(1, 1, 64, 64\)"):
        small().predict(**picture(40, 50), noise=torch.zeros(1, 1, 64, 64))


def test_the_encoder_runs_once_for_any_number_of_steps():
    model, calls = small(), []
    model.backbone.register_forward_hook(lambda *_: calls.append(1))
    with torch.inference_mode():
        model.predict(**picture(40, 40), strategy="ddim10")
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["model.sample_strategy=ddim0"], "expected ddim or ddpm"),
        (["model.sample_seed=-1"], "seed: expected 0"),
        (["model.diffusion.scale=1.5"], "scale must be above 0 and at most 1"),
        (["model.clamp_known_each_step=never"], "expected clamp_known_each_step true, false or null"),
        (["model.self_align_prob=5"], "self_align_prob from 0 to 1"),
        (["model.criterion.fuse_trimap=true"], "fuse_trimap is for alphas in"),
        (["model.decoder.downsample_in=[6,8,8,8]"], "must begin with one of"),
        (["model.backbone.embed_dim=32", "model.decoder.upsample_in=[24,8,8,8,8]"], "is made for 24 channels"),
    ],
)
def test_settings_that_do_not_fit_are_refused(overrides, message):
    with pytest.raises(InputError, match=message):
        small(*overrides)
