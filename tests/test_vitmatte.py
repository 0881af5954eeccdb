"""The architecture: sizes, padding, trimap coding, gradients, and what it does not do to its inputs."""

import pytest
import torch

from modeling.backbone import ViT
from modeling.colour_prior import ColourPrior
from modeling.criterion import MattingCriterion
from modeling.decoder import DetailCapture
from modeling.meta_arch import ViTMatte


def small_model(colour_prior: ColourPrior | None = None, seed: int = 0) -> ViTMatte:
    torch.manual_seed(seed)
    img_chans = 4 + (colour_prior.out_chans if colour_prior else 0)
    return ViTMatte(
        backbone=ViT(
            embed_dim=32, depth=2, num_heads=2, window_size=4, window_block_indexes=[0], residual_block_indexes=[1]
        ),
        decoder=DetailCapture(in_chans=32, img_chans=img_chans, convstream_out=[8, 8, 16], fusion_out=[16, 16, 8, 8]),
        criterion=MattingCriterion(),
        pixel_mean=[0.485, 0.456, 0.406],
        pixel_std=[0.229, 0.224, 0.225],
        colour_prior=colour_prior,
    )  # fmt: skip


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
        lambda t: (t * 255).floor(),  # 0, 127, 255
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
        if recoded.is_floating_point() and recoded.max() < 2:
            recoded = recoded.clamp(max=1)
        torch.testing.assert_close(model(batch | {"trimap": recoded})["phas"], expected, atol=0, rtol=0)


def test_inputs_come_back_unchanged():
    model = small_model(ColourPrior())
    batch = make_batch(50, 64)
    batch["trimap"] = (batch["trimap"] * 255).ceil()
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
