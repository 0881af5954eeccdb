"""The architecture: sizes, padding, trimap coding, gradients, and what it does not do to its inputs."""

import pytest
import torch
from small_models import option_model, small_model

from modeling.priors.colour_prior import ColourPrior
from modeling.traceable import TraceableViTMatte
from runtime.errors import InputError


def make_batch(height: int, width: int, seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "image": torch.rand(2, 3, height, width, generator=generator),
        "trimap": torch.randint(0, 3, (2, 1, height, width), generator=generator) / 2,
        "alpha": torch.rand(2, 1, height, width, generator=generator),
    }


@pytest.mark.parametrize("size", [(1, 1), (1, 65), (31, 33), (64, 96), (500, 37)])
@pytest.mark.parametrize("prior", [None, ColourPrior()], ids=["plain", "prior"])
def test_any_size_gives_alpha_of_that_size(size, prior):
    model = small_model(prior).eval()
    with torch.inference_mode():
        phas = model(make_batch(*size))["phas"]
    assert phas.shape == (2, 1, *size)
    assert phas.min() >= 0
    assert phas.max() <= 1


def test_only_the_side_that_needs_it_is_padded():
    seen = []
    model = small_model().eval()
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape[-2:])))
    with torch.inference_mode():
        for size in [(512, 500), (64, 64), (33, 64)]:
            model(make_batch(*size))
    assert seen == [(512, 512), (64, 64), (64, 64)]


@pytest.mark.parametrize(
    "recode",
    [
        lambda t: (t * 255).floor().to(torch.int32),  # 0, 127, 255
        lambda t: (t * 255).ceil().to(torch.uint8),  # 0, 128, 255
        lambda t: t * 128 / 127.5,  # a file's 128 / 255 = 0.50196; 1 becomes 1.0039
        lambda t: (t + 0.1 * (t == 0.5)).clamp(0, 1),
    ],
    ids=["127", "uint8", "128/255", "soft"],
)
def test_every_coding_of_a_trimap_gives_the_same_matte(recode):
    model = small_model().eval()
    batch = make_batch(64, 64)
    with torch.inference_mode():
        expected = model(batch)["phas"]
        recoded = recode(batch["trimap"])
        torch.testing.assert_close(model(batch | {"trimap": recoded})["phas"], expected, atol=0, rtol=0)


def test_floats_up_to_255_are_no_trimap():
    batch = make_batch(32, 32)
    with pytest.raises(ValueError, match=r"expected floats in \[0, 1\] or integers in 0..255, got floats up to 255"):
        small_model().eval()(batch | {"trimap": batch["trimap"] * 255})


def test_inputs_come_back_unchanged():
    model = small_model(ColourPrior())
    batch = make_batch(50, 64)
    batch["trimap"] = (batch["trimap"] * 255).ceil().to(torch.uint8)
    before = {name: value.clone() for name, value in batch.items()}
    sum(model.train()(batch).values()).backward()
    for name, value in before.items():
        assert torch.equal(batch[name], value), name


def test_gradient_reaches_every_parameter():
    model = small_model(ColourPrior()).train()
    torch.nn.init.ones_(model.backbone.blocks[1].residual.norm3.weight)  # else the branch before it is silent
    sum(model(make_batch(64, 64)).values()).backward()
    dead = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert dead == []


def test_zero_trimap_kernel_makes_features_independent_of_the_trimap():
    """What preprocess.py writes into the fourth channel: at step 0 the backbone sees RGB only."""
    model = small_model().eval()
    model.backbone.patch_embed.proj.weight.data[:, 3] = 0
    rgb = torch.rand(1, 3, 64, 96)
    features = [model.backbone(torch.cat([rgb, torch.rand(1, 1, 64, 96)], dim=1)) for _ in range(2)]
    torch.testing.assert_close(features[0], features[1], atol=0, rtol=0)


def test_a_trimap_of_another_size_is_refused():
    batch = make_batch(64, 64)
    with pytest.raises(ValueError, match="64 x 64, trimap 32 x 64"):
        small_model().eval()(batch | {"trimap": batch["trimap"][..., :32]})


def blocks_trimap(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Regions of 20 x 20 pixels, so that some stay known where the encoder sees a smaller image."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 3, (2, 1, -(-height // 20), -(-width // 20)), generator=generator) / 2
    return coarse.repeat_interleave(20, 2).repeat_interleave(20, 3)[:, :, :height, :width].contiguous()


def test_a_one_hot_trimap_enters_as_background_unknown_foreground():
    model = option_model(trimap_input="one_hot").eval()
    seen = []
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.decoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[1]))
    image = torch.rand(1, 3, 2, 3)
    trimap = torch.tensor([[[[0.0, 0.5, 1.0], [1.0, 0.0, 0.5]]]])
    model.predict(image, trimap)
    for inputs in seen:
        assert inputs.shape == (1, 6, 32, 32)
        assert inputs[0, 3:, :2, :3].tolist() == [
            [[1, 0, 0], [0, 1, 0]],
            [[0, 1, 0], [0, 0, 1]],
            [[0, 0, 1], [1, 0, 0]],
        ]
        assert not inputs[:, :, 2:].any()
        assert not inputs[:, :, :, 3:].any()
    assert len(seen) == 2


@pytest.mark.parametrize("encoder_scale", [1, 2, 3])
@pytest.mark.parametrize("size", [(64, 96), (70, 131)])
def test_a_trimap_of_values_is_a_special_case_of_a_one_hot_one(size, encoder_scale):
    """Kernels of 0, w / 2 and w on the three regions do what a kernel w on the values does."""
    value, one_hot = option_model().eval(), option_model(seed=1, trimap_input="one_hot").eval()
    target = one_hot.state_dict()
    for key, weight in value.state_dict().items():
        if weight.shape != target[key].shape:  # first convolutions of backbone and decoder, the decoder's last fusion
            w = weight[:, 3:4]
            weight = torch.cat([weight[:, :3], 0 * w, w / 2, w, weight[:, 4:]], dim=1)
        target[key] = weight
    one_hot.load_state_dict(target)
    image, trimap = torch.rand(2, 3, *size), blocks_trimap(*size)
    for sparse in (True, False):
        value.sparse_decoding = one_hot.sparse_decoding = sparse
        with torch.inference_mode():
            expected, got = (model.predict(image, trimap, encoder_scale) for model in (value, one_hot))
        assert expected[trimap == 0.5].std() > 0.05
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"trimap_input": "one_hot", "in_chans": 4},
            r"backbone\.in_chans must be 6 \(RGB and 3 of the trimap\), got 4",
        ),
        ({"in_chans": 6}, r"backbone\.in_chans must be 4 \(RGB and 1 of the trimap\), got 6"),
        ({"trimap_input": "one_hot", "img_chans": 4}, r"decoder\.img_chans must be 6 .* got 4"),
        ({"img_chans": 6}, r"decoder\.img_chans must be 4 .* got 6"),
        ({"trimap_input": "onehot"}, r"trimap_input must be one of \['value', 'one_hot'\], got 'onehot'"),
    ],
)
def test_channels_that_do_not_fit_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        option_model(**settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patch_size": 8}, "patch size 8 needs 3 fusion blocks, .* got 4; give decoder.fusion_out 3 widths"),
        ({"patch_size": 32}, "patch size 32 needs 5 fusion blocks, .* got 4"),
        ({"fusions": 3}, "patch size 16 needs 4 fusion blocks, .* got 3"),
        ({"patch_size": 14}, "patch size 14 cannot be used with this decoder"),
        ({"patch_size": 1}, "patch size 1 cannot be used with this decoder"),
        ({"size_divisibility": 24}, "size_divisibility must be a multiple of backbone.patch_size 16, got 24"),
        ({"size_divisibility": 0}, "size_divisibility must be a multiple of backbone.patch_size 16, got 0"),
        ({"patch_size": 64, "fusions": 6}, "size_divisibility must be a multiple of backbone.patch_size 64, got 32"),
    ],
)
def test_a_patch_size_that_the_decoder_cannot_bring_to_the_image_is_refused_in_one_line(settings, message):
    with pytest.raises(InputError, match=message) as caught:
        option_model(**settings)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("patch_size", "fusions"), [(2, 1), (8, 3), (32, 5)])
@pytest.mark.parametrize("encoder_scale", [1, 2])
def test_other_patch_sizes_run_sparse_as_dense_and_train(patch_size, fusions, encoder_scale):
    model = option_model(patch_size=patch_size, fusions=fusions).eval()
    image, trimap = torch.rand(1, 3, 75, 131), blocks_trimap(75, 131)[:1]
    alphas = []
    for sparse in (True, False):
        model.sparse_decoding = sparse
        with torch.inference_mode():
            alphas.append(model.predict(image, trimap, encoder_scale)[trimap == 0.5])
    assert alphas[0].std() > 0.02
    torch.testing.assert_close(*alphas, atol=1e-5, rtol=0)
    if encoder_scale == 1:
        with torch.inference_mode():
            traced = TraceableViTMatte(model)(image, trimap)[trimap == 0.5]
        torch.testing.assert_close(traced, alphas[0], atol=1e-5, rtol=0)
    losses = model.train()({"image": image, "trimap": trimap, "alpha": trimap})
    sum(losses.values()).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.decoder.parameters())


@pytest.mark.parametrize("size", [(64, 64), (50, 131)])
def test_a_one_hot_trimap_can_be_traced(size):
    model = option_model(trimap_input="one_hot").eval()
    image, trimap = torch.rand(2, 3, *size), blocks_trimap(*size)
    with torch.inference_mode():
        expected = model({"image": image, "trimap": trimap})["phas"]
        torch.testing.assert_close(TraceableViTMatte(model)(image, trimap), expected, atol=1e-5, rtol=0)


def test_the_losses_of_a_part_divide_by_the_number_in_the_batch():
    model = small_model().train()
    batch = make_batch(64, 64)
    count = int((batch["trimap"] == 0.5).sum())
    own, halved = model(batch), model(model.prepare(batch), {"unknown_pixels": torch.tensor(count / 2)})
    for name in ("unknown_l1_loss", "loss_gradient_penalty"):
        torch.testing.assert_close(halved[name], 2 * own[name])
    rest = batch["trimap"].numel() - count
    torch.testing.assert_close(halved["known_l1_loss"], own["known_l1_loss"] * rest / (rest + count / 2))
    torch.testing.assert_close(halved["loss_pha_laplacian"], own["loss_pha_laplacian"])
