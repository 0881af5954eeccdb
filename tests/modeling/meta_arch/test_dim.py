"""Deep Image Matting against the public code's numbers, on weights that are a function of their names."""

import copy
import functools
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor

from engine.config import build, load_config
from engine.inference import Predictor
from engine.inference.tiles import predict_in_tiles
from modeling.backbone import VGG16
from modeling.backbone.pooling import max_pool, max_unpool
from modeling.meta_arch.dim import DIM
from modeling.weights.input_channels import fit_input_channels
from runtime.errors import InputError
from tests.references.dim_weights import GOLDENS, digest, our_name, published

ROOT = Path(__file__).resolve().parents[3]
ARRAYS = np.load(GOLDENS / "cases.npz")
CASES = json.loads((GOLDENS / "cases.json").read_text())


@functools.cache
def weights() -> dict[str, Tensor]:
    return published("vgg16")


@functools.cache
def model_of(stage: int) -> DIM:
    model = build(load_config(str(ROOT / f"configs/DIM_stage{stage}.py")).model)
    state = {our_name(key): value for key, value in weights().items() if stage > 1 or "refiner." not in key}
    model.load_state_dict(state)
    return model.eval()


def array(name: str) -> Tensor:
    return torch.from_numpy(ARRAYS[name])


def picture(name: str) -> Tensor:
    """(1, C, H, W) in [0, 1] of an (H, W) or (H, W, 3) uint8 array."""
    values = array(name)
    return (values[None, None] if values.ndim == 2 else values.permute(2, 0, 1)[None]) / 255


def sample_of(kind: str) -> dict[str, np.ndarray]:
    names = {"test": ("test_image", "test_trimap")}.get(kind, (f"image_{kind}", f"trimap_{kind}"))
    return {"image": ARRAYS[names[0]], "trimap": ARRAYS[names[1]]}


def encoded(model: DIM, image: str, trimap: str):
    with torch.inference_mode():
        return model.encode(model.prepare({"image": picture(image), "trimap": picture(trimap)}))


def loss_batch() -> dict[str, Tensor]:
    def plane(name: str) -> Tensor:
        values = array(f"loss_{name}")
        return (values[:, None] if values.ndim == 3 else values.permute(0, 3, 1, 2)) / 255

    return {"image": plane("merged"), **{name: plane(name) for name in ("trimap", "alpha", "fg", "bg")}}


def test_the_weights_are_those_of_the_goldens():
    assert digest(weights()) == CASES["weights_sha256"]


def test_the_parts_have_the_published_numbers_of_parameters():
    model = model_of(3)
    count = {name: sum(p.numel() for p in part.parameters()) for name, part in model.named_children()}
    assert count["backbone"] == 14_714_688 + 576 + 262_656
    assert (count["decoder"], count["refiner"]) == (11_222_081, 76_801)
    assert sum(count.values()) == 26_276_802
    assert sum(p.numel() for p in model_of(1).parameters()) == 26_276_802 - 76_801
    with_norms = build(load_config(str(ROOT / "configs/DIM_stage3.py"), ["model.backbone.batch_norm=true"]).model)
    assert sum(p.numel() for p in with_norms.backbone.parameters()) == 14_987_392
    assert sum(p.numel() for p in with_norms.parameters()) == 26_286_274


def test_raw_alpha_alpha_and_refined_alpha_are_the_public_ones():
    state = encoded(model_of(3), "image_64x64", "trimap_64x64")
    with torch.inference_mode():
        raw, refined = model_of(3).raw_alphas(state)
    torch.testing.assert_close(raw[0, 0], array("raw_64x64"), atol=3e-5, rtol=0)
    torch.testing.assert_close(raw[0, 0].sigmoid(), array("alpha_64x64"), atol=5e-6, rtol=0)
    torch.testing.assert_close(refined[0, 0].sigmoid(), array("refined_64x64"), atol=5e-6, rtol=0)


@pytest.mark.parametrize("stage", [1, 3])
def test_a_picture_of_any_size_is_padded_by_reflection_as_in_the_public_test(stage):
    model = model_of(stage)
    with torch.inference_mode():
        raw, refined = model.raw_alphas(encoded(model, "test_image", "test_trimap"))
    alpha = (raw if refined is None else refined)[0, 0].sigmoid()
    torch.testing.assert_close(alpha, array(f"test_stage{stage}_padded"), atol=5e-6, rtol=0)


@pytest.mark.parametrize("stage", [1, 3])
def test_the_written_levels_are_the_public_ones(stage):
    found = Predictor(model_of(stage)).one(sample_of("test"))["alpha"]
    expected = ARRAYS[f"test_stage{stage}_uint8"]
    height, width = expected.shape
    padded = 255 * ARRAYS[f"test_stage{stage}_padded"][:height, :width].clip(0, 1)
    may_differ = np.abs(padded % 1 - 0.5) < 1e-3  # close to a half, either level is right
    assert np.array_equal(found[~may_differ], expected[~may_differ])
    assert np.abs(found.astype(int) - expected).max() <= 1
    trimap = ARRAYS["test_trimap"]
    assert np.array_equal(found[trimap != 128], trimap[trimap != 128])


def backward(model: DIM, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """The gradients of the losses' sum, by parameter."""
    learning = {name: p for name, p in model.named_parameters() if p.requires_grad}
    return dict(zip(learning, torch.autograd.grad(sum(losses.values()), learning.values()), strict=True))


@pytest.mark.parametrize("stage", [pytest.param(1, marks=pytest.mark.slow), 2, 3])
def test_losses_and_gradients_of_each_stage_are_the_public_ones(stage):
    """Where a pool's maxima or two alphas are equal but for rounding, a gradient jumps: 3e-4 in place of 1e-4.

    That is how much the public code differs from itself between processors.
    """
    model = model_of(stage).train()
    losses = model(loss_batch())
    expected = CASES["losses"][f"stage{stage}"]
    names = {"alpha_loss": "loss_alpha", "composition_loss": "loss_comp", "refinement_loss": "loss_refine"}
    assert {names[name] for name in losses} == expected["losses"].keys()
    for name, loss in losses.items():
        assert loss.item() == pytest.approx(expected["losses"][names[name]], rel=1e-5)
    assert sum(losses.values()).item() == pytest.approx(expected["total"], rel=1e-5)
    doubled = copy.deepcopy(model).double()  # no jumps of our own
    found = backward(doubled, doubled({name: value.double() for name, value in loss_batch().items()}))
    norms = {our_name(key): value for key, value in CASES["grad_norm"][f"stage{stage}"].items()}
    assert found.keys() == norms.keys()
    for name, norm in norms.items():
        assert found[name].norm().item() == pytest.approx(norm, rel=3e-4), name
    model.eval()


def test_gradients_are_those_of_torch_s_own_pooling_and_unpooling_to_the_bit():
    model = model_of(3).train()
    ours = backward(model, model(loss_batch()))
    batch = model.prepare(loss_batch())
    image = (batch["image"] - model.pixel_mean) / model.pixel_std
    x, indices = torch.cat([image, torch.where(batch["trimap"] == 0.5, 128 / 255, batch["trimap"])], dim=1), []
    for number in range(1, 6):
        x, index = F.max_pool2d(getattr(model.backbone, f"layer{number}")(x), 2, return_indices=True)
        indices.append(index)
    x = F.relu(model.decoder.deconv6_1(F.relu(model.backbone.conv6(x))))
    for number in range(5, 0, -1):
        x = F.relu(getattr(model.decoder, f"deconv{number}_1")(F.max_unpool2d(x, indices[number - 1], 2)))
    raw = model.decoder.deconv1(x)
    x = torch.cat([image, raw.sigmoid()], dim=1)
    for number in (1, 2, 3):
        x = F.relu(getattr(model.refiner, f"refine_conv{number}")(x))
    refined = (raw + model.refiner.refine_pred(x)).sigmoid()
    theirs = backward(model, model.criterion(raw.sigmoid(), refined, batch))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    model.eval()


def test_of_equal_values_the_first_is_pooled():
    maxima, places = max_pool(array("tie_input"))
    assert torch.equal(maxima, array("tie_values"))
    assert torch.equal(flat_indices(places), array("tie_indices"))
    assert torch.equal(max_unpool(array("tie_low"), places), array("tie_unpooled"))


def flat_indices(places: Tensor) -> Tensor:
    """row * width + column in the pool's input."""
    height, width = places.shape[-2:]
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    places = places.long()
    return (2 * rows + places // 2) * 2 * width + 2 * columns + places % 2


def test_pools_of_a_flat_picture_tie_as_in_the_public_code():
    model = model_of(3)
    state = encoded(model, "flat_image", "flat_trimap")
    for number, places in enumerate(state.places, start=1):
        indices = flat_indices(places)[0]
        assert indices.sum() == CASES["flat_idx_sum"][str(number)]
        found = hashlib.sha256(indices.numpy().astype("<i8").tobytes()).hexdigest()
        assert found == CASES[f"flat_idx_{number}_sha256"]
    assert np.array_equal(indices.numpy(), ARRAYS["flat_idx_5"])
    with torch.inference_mode():
        raw, _ = model.raw_alphas(state)
    torch.testing.assert_close(raw[0, 0], array("flat_raw"), atol=3e-5, rtol=0)


def test_unpooling_is_that_of_torch_and_its_gradient_too():
    torch.manual_seed(0)
    x = torch.randint(-2, 3, (2, 3, 8, 12)).double().requires_grad_()  # many ties
    maxima, places = max_pool(x)
    values, indices = F.max_pool2d(x, 2, return_indices=True)
    assert torch.equal(flat_indices(places), indices)
    low = torch.randn_like(maxima).requires_grad_()
    ours, theirs = max_unpool(low, places), F.max_unpool2d(low, indices, 2)
    assert torch.equal(ours, theirs)
    grad = torch.randn_like(ours)
    for mine, other in ((ours, theirs), (maxima, values)):
        weight = grad if mine.shape == grad.shape else grad[..., ::2, ::2]
        leaf = low if mine is ours else x
        assert torch.equal(*(torch.autograd.grad(out, leaf, weight)[0] for out in (mine, other)))


def test_training_steps_are_allowed_where_only_deterministic_algorithms_are():
    model = narrow(3).train()
    torch.use_deterministic_algorithms(True)
    try:
        batch = batch_of(64)
        gradients = []
        for _ in range(2):
            model.zero_grad()
            sum(model(batch).values()).backward()
            gradients.append([p.grad.clone() for p in model.parameters()])
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(*pair) for pair in zip(*gradients, strict=True))


@pytest.mark.parametrize("batch_norm", [False, True])
def test_a_zero_fourth_channel_gives_torchvision_s_features(batch_norm):
    torch.manual_seed(0)
    reference = getattr(torchvision.models, "vgg16_bn" if batch_norm else "vgg16")(weights=None).features.eval()
    ours = VGG16(batch_norm=batch_norm).eval()
    stages = [ours.layer1, ours.layer2, ours.layer3, ours.layer4, ours.layer5]
    modules = [module for stage in stages for module in (*stage, None)]  # None for the pool
    assert len(modules) == len(reference)
    with torch.no_grad():
        for mine, theirs in zip(modules, reference, strict=True):
            if mine is not None and mine.state_dict():
                state = theirs.state_dict()
                if mine is ours.layer1[0]:
                    named = {"backbone.layer1.0.weight": state["weight"]}
                    expected = {"backbone.layer1.0.weight": mine.weight}
                    state["weight"] = fit_input_channels(named, expected)["backbone.layer1.0.weight"]
                    assert not state["weight"][:, 3].any()
                mine.load_state_dict(state)
        ours.conv6.weight.copy_(torch.eye(512)[..., None, None])
        if batch_norm:
            ours.bn.eps = 0.0
        x = torch.rand(1, 3, 64, 96)
        found = ours(torch.cat([x, torch.rand(1, 1, 64, 96)], dim=1))
        torch.testing.assert_close(found, reference(x), atol=1e-5, rtol=1e-5)


# ---- narrow networks


def narrow(stage: int, *overrides: str) -> DIM:
    torch.manual_seed(0)
    settings = ["model.backbone.widths=[8,8,16,16,16]", *overrides]
    return build(load_config(str(ROOT / f"configs/DIM_stage{stage}.py"), settings).model).eval()


def batch_of(side: int, count: int = 1) -> dict[str, Tensor]:
    """A soft disc over noise."""
    generator = torch.Generator().manual_seed(0)
    fg, bg = (torch.rand(count, 3, side, side, generator=generator) * 0.5 + start for start in (0.5, 0))
    axis = torch.linspace(-1, 1, side)
    alpha = (2.5 - 4 * (axis[:, None] ** 2 + axis**2).sqrt()).clamp(0, 1).expand(count, 1, side, side)
    trimap = torch.where((alpha > 0) & (alpha < 1), 0.5, alpha)
    return {"image": alpha * fg + (1 - alpha) * bg, "trimap": trimap, "alpha": alpha, "fg": fg, "bg": bg}


@pytest.mark.parametrize("size", [(1, 1), (5, 40), (16, 64), (17, 64), (31, 1), (33, 95)])
def test_an_image_smaller_than_five_pools_allow_is_padded_by_its_edge(size):
    model = narrow(3)
    image, trimap = torch.rand(1, 3, *size), torch.full((1, 1, *size), 0.5)
    state = model.encode(model.prepare({"image": image, "trimap": trimap}))
    modes = ["reflect" if -side % 32 < side else "edge" for side in size]
    normalised = ((image - model.pixel_mean) / model.pixel_std)[0].numpy()
    rows = np.pad(normalised, ((0, 0), (0, -size[0] % 32), (0, 0)), mode=modes[0])
    expected = np.pad(rows, ((0, 0), (0, 0), (0, -size[1] % 32)), mode=modes[1])
    assert np.array_equal(state.image[0].numpy(), expected)
    alpha = model.predict(image, trimap)
    assert alpha.shape == (1, 1, *size)
    assert torch.isfinite(alpha).all()


def test_tiles_give_the_whole_picture_s_alpha_away_from_seams():
    """Tiles begin at multiples of 32, so that their pools lie where the picture's do; alpha sees some 190 pixels."""
    model = narrow(3)
    inputs = {"image": torch.rand(1, 3, 800, 64), "trimap": torch.full((1, 1, 800, 64), 0.5)}

    def raw_of(inputs):
        height, width = inputs["image"].shape[-2:]
        return {"raw": model.raw_alphas(model.encode(inputs))[1][..., :height, :width]}

    with torch.inference_mode():
        whole = raw_of(inputs)["raw"]
        aligned, shifted = (
            (predict_in_tiles(raw_of, inputs, size, 128, multiple)["raw"] - whole).abs().amax(dim=(0, 1, 3))
            / whole.std()
            for size, multiple in ((512, model.tile_multiple), (520, 1))
        )
    assert aligned[:288].max() < 1e-5  # the second tile begins there
    assert aligned[512:].max() < 1e-5
    assert 1e-3 < aligned[288:512].max() < 0.05
    assert shifted[520:].max() > 1


@pytest.mark.parametrize("mode", ["whole", "tiles"])
def test_the_predictor_gives_tiles_that_begin_where_pools_do(mode):
    model = narrow(3)
    sample = {"image": np.random.default_rng(0).integers(0, 256, (300, 520, 3), np.uint8)}
    sample["trimap"] = np.full((300, 520), 128, np.uint8)
    sample["trimap"][:40] = 255
    seen = []
    encode = model.encode
    model.encode = lambda inputs, scale: seen.append(inputs["trimap"].storage_offset()) or encode(inputs, scale)
    predictor = Predictor(model, mode=mode, max_memory=10**9)
    predictor.plan = lambda height, width: predictor._plans(height, width)[-1]
    alpha = predictor.one(sample)["alpha"]
    assert (alpha[:40] == 255).all()
    assert len(seen) == (1 if mode == "whole" else 6)
    assert all(offset // 520 % 32 == 0 and offset % 520 % 32 == 0 for offset in seen)


def test_stage_2_leaves_the_encoder_decoder_as_it_is_and_stage_3_changes_both():
    for stage in (2, 3):
        model = narrow(stage, "model.backbone.batch_norm=true").train()
        frozen = {key: value.clone() for key, value in model.state_dict().items() if not key.startswith("refiner.")}
        refiner = model.refiner.refine_conv1.weight.clone()
        optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-2)
        for _ in range(2):
            optimizer.zero_grad()
            sum(model(batch_of(64, count=2)).values()).backward()
            optimizer.step()
        same = {key: torch.equal(model.state_dict()[key], value) for key, value in frozen.items()}
        assert all(same.values()) if stage == 2 else not any(same[key] for key in same if key.endswith("weight"))
        assert not torch.equal(model.refiner.refine_conv1.weight, refiner)
        assert model.backbone.training == model.decoder.training == model.backbone.layer1[1].training == (stage == 3)
        assert model.refiner.training


def test_one_sample_is_learned():
    model, batch = narrow(1).train(), batch_of(64)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = sum(model(batch).values())
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert min(losses) < losses[0] / 5


def test_no_unknown_pixel_is_no_loss_and_no_gradient():
    model, batch = narrow(3).train(), batch_of(64)
    batch["trimap"] = batch["alpha"].round()
    losses = model(batch)
    assert [loss.item() for loss in losses.values()] == [0, 0, 0]
    sum(losses.values()).backward()
    assert not any(p.grad.any() for p in model.parameters())


def test_a_trimap_with_other_levels_of_unknown_has_the_same_losses():
    """The public code compares with 128 / 255: 127 or a resized edge leaves nothing to learn, silently."""
    model, batch = narrow(3).train(), batch_of(64)
    expected = model(batch)
    for level in (127 / 255, 0.4, 0.6):
        other = {**batch, "trimap": torch.where(batch["trimap"] == 0.5, level, batch["trimap"])}
        assert all(torch.equal(loss, expected[name]) for name, loss in model(other).items())


def test_images_of_one_size_share_a_batch_and_keep_their_alphas():
    model, rng = narrow(3), np.random.default_rng(0)
    samples = [
        {"image": rng.integers(0, 256, (50, 70, 3), np.uint8), "trimap": rng.choice([0, 128, 255], (50, 70))}
        for _ in range(3)
    ]
    samples = [{"image": sample["image"], "trimap": sample["trimap"].astype(np.uint8)} for sample in samples]
    predictor = Predictor(model)
    for sample, joined in zip(samples, predictor(samples), strict=True):
        assert np.abs(joined["alpha"].astype(int) - predictor.one(sample)["alpha"]).max() <= 1
    assert predictor.padded_shape(50, 70) == (50, 70)  # the padding reflects, so other sizes share no batch


@pytest.mark.parametrize(
    ("stage", "settings", "message"),
    [
        (1, ["model.stage=4"], "expected stage 1 without a refiner, or stage 2 or 3 with one, got 4 without"),
        (1, ["model.stage=2"], "got 2 without"),
        (3, ["model.stage=1"], "got 1 with"),
        (1, ["model.decoder.widths=[1,2,3,4,5]"], "decoder.widths must be the backbone's"),
        (1, ["model.backbone.widths=[8,8]"], "widths must be 5 numbers of channels, got"),
        (1, ["model.backbone.widths=[8,8,8,8,0]"], "widths must be 5 numbers of channels, got"),
        (1, ["model.backbone.in_chans=3"], "backbone.in_chans must be 4"),
    ],
)
def test_settings_that_do_not_fit_are_one_line(stage, settings, message):
    with pytest.raises(InputError, match=message):
        build(load_config(str(ROOT / f"configs/DIM_stage{stage}.py"), settings).model)


def test_what_it_cannot_do_is_one_line():
    with pytest.raises(InputError, match="mode reduced: DIM has no encoder that could see a smaller image"):
        Predictor(narrow(1), mode="reduced")
    with pytest.raises(InputError, match="cannot export a DIM to ONNX"):
        narrow(1).traceable()
    with pytest.raises(InputError, match="compile: DIM has no part that can be compiled"):
        narrow(1).compile_encoder()
