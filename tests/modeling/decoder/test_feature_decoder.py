"""The frozen system's decoder against the public code's numbers."""

import pytest
import torch

from modeling.decoder.feature_decoder import BoundaryRefinement, FeatureDecoder
from runtime.errors import InputError
from tests.references.frozen_weights import ARRAYS, NUMBERS, REFINER, digest, our_state, state

TOKENS = [name for name in ARRAYS.files if "tokens_" in name]


def published(width: int, refined: bool = False) -> FeatureDecoder:
    decoder = FeatureDecoder(width, boundary_refinement=refined)
    decoder.load_state_dict(our_state(width, refined))
    return decoder.eval()


def case(name: str) -> tuple[int, torch.Tensor, tuple[int, int], str]:
    """Width, map of features, size of the image, and the name of its alpha, of an array of tokens."""
    prefix, _, rest = name.partition("tokens_")
    width, grid, _, size = rest.split("_")
    tokens = torch.from_numpy(ARRAYS[name]).float()
    features = tokens.transpose(1, 2).unflatten(2, [int(side) for side in grid.split("x")])
    return int(width), features, tuple(int(side) for side in size.split("x")), f"{prefix}alpha_{rest}"


def golden(name: str) -> torch.Tensor:
    return torch.from_numpy(ARRAYS[name])[:, None]


def test_the_test_weights_are_those_of_the_goldens():
    for width in ("384", "768"):
        assert digest(state(f"decoder_{width}")) == NUMBERS["weights_sha256"][width]
    assert digest(state(REFINER)) == NUMBERS["weights_sha256"][REFINER]


def test_parameters_are_as_many_as_published():
    for width in (384, 768, 1024):
        count = sum(parameter.numel() for parameter in FeatureDecoder(width).parameters())
        assert count == NUMBERS["parameters"][str(width)]
    assert sum(parameter.numel() for parameter in BoundaryRefinement().parameters()) == 9858


@pytest.mark.parametrize("name", TOKENS)
@torch.inference_mode()
def test_alpha_is_the_public_decoder_s_on_squares_and_right_on_rectangles(name):
    width, features, (height, columns), alpha = case(name)
    decoder, (rows, grid_columns) = published(width), features.shape[-2:]
    at_a_quarter = decoder(features, torch.zeros(len(features), 3, 4 * rows, 4 * grid_columns))
    torch.testing.assert_close(at_a_quarter, golden(f"{alpha}_decoder"), rtol=0, atol=3e-6)
    resized = decoder(features, torch.zeros(len(features), 3, height, columns))
    torch.testing.assert_close(resized, golden(f"{alpha}_resized"), rtol=0, atol=3e-6)


@torch.inference_mode()
def test_boundary_refinement_is_the_public_one_also_where_it_clamps():
    width, features, size, alpha = case("tokens_384_8x8_to_128x128")
    refined = published(width, refined=True)(features, torch.zeros(len(features), 3, *size))
    torch.testing.assert_close(refined, golden(f"{alpha}_refined"), rtol=0, atol=3e-6)
    refiner = BoundaryRefinement()
    refiner.load_state_dict({key.removeprefix(f"{REFINER}."): value for key, value in state(REFINER).items()})
    output = refiner(golden("refiner_input").float() / 255)
    torch.testing.assert_close(output, golden("refiner_output"), rtol=0, atol=3e-6)
    assert [int((output == value).sum()) for value in (0, 1)] == NUMBERS["refiner_clamped_pixels"]


def test_training_uses_and_updates_batch_statistics_as_published():
    width, features, size, alpha = case("tokens_384_8x8_to_128x128")
    decoder = published(width).train()
    output = decoder(features, torch.zeros(len(features), 3, *size))
    torch.testing.assert_close(output.detach(), golden(f"{alpha}_train_mode"), rtol=0, atol=1e-5)
    norm = decoder.decoder_blocks[0].conv_block[1]
    for name in ("mean", "var"):
        expected = torch.from_numpy(ARRAYS[f"train_mode_running_{name}_block0_bn1"])
        torch.testing.assert_close(getattr(norm, f"running_{name}"), expected, rtol=0, atol=1e-5)


def test_convolutions_start_as_published_and_transposed_ones_as_pytorch_s():
    torch.manual_seed(0)
    decoder = FeatureDecoder(384)
    first = decoder.decoder_blocks[0].conv_block[0]
    assert first.weight.detach().std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)  # Kaiming, fan out
    assert not first.bias.any()
    assert [round(block.weight.detach().std().item(), 3) for block in decoder.upsample_blocks] == [0.013, 0.018]
    assert all(block.bias.any() for block in decoder.upsample_blocks)


def detailed(**settings) -> FeatureDecoder:
    torch.manual_seed(1)
    decoder = FeatureDecoder(24, 2, dims=[16, 12, 8], detail_stem=[4, 5, 6], **settings)
    for module in decoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    return decoder


@torch.inference_mode()
def test_the_stem_brings_detail_of_a_single_pixel_and_features_what_is_far_around():
    decoder = detailed().double().eval()
    maps = torch.randn(1, 48, 12, 14, dtype=torch.double)
    pixels = torch.randn(1, 3, 192, 224, dtype=torch.double)
    alpha = decoder(maps, pixels)
    assert alpha.shape == (1, 1, 192, 224)
    pixels[:, :, 100, 120] += 1
    moved = (decoder(maps, pixels) - alpha).abs()[0, 0]
    assert moved[100, 120] > 0.1 * moved.max()
    rows, columns = torch.nonzero(moved > 0).T
    assert (rows - 100).abs().max() <= 24  # the stem's own reach
    assert (columns - 120).abs().max() <= 24
    pixels[:, :, 100, 120] -= 1
    maps[:, 24:, 0, 0] += 1
    moved = (decoder(maps, pixels) - alpha).abs()[0, 0]
    assert moved[:16, :16].max() > 0
    rows, columns = torch.nonzero(moved > 0).max(dim=0).values.tolist()
    assert max(rows, columns) < 16 + decoder.reach - 15  # `reach` is counted from any pixel of a patch


@pytest.mark.parametrize("refined", [False, True])
def test_every_parameter_of_the_detailed_decoder_learns_with_and_without_checkpointing(refined):
    gradients = []
    for checkpointed in (False, True):
        decoder = detailed(boundary_refinement=refined, use_act_checkpoint=checkpointed).train()
        torch.manual_seed(2)
        maps = torch.randn(2, 48, 3, 2)
        decoder(maps, torch.randn(2, 3, 48, 32)).sum().backward()
        gradients.append({name: parameter.grad for name, parameter in decoder.named_parameters()})
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients[0].values())
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


def test_a_trimap_is_a_channel_of_the_stem():
    decoder = detailed(trimap_input=True).eval()
    maps, pixels = torch.randn(1, 48, 2, 2), torch.randn(1, 4, 32, 32)
    alpha = decoder(maps, pixels)
    pixels[:, 3, 16:] += 0.5
    assert not torch.equal(decoder(maps, pixels), alpha)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"dims": [256, 128]}, "expected three dims"),
        ({"num_maps": 0}, "one map or more"),
        ({"detail_stem": [16, 24]}, "detail_stem must be three numbers"),
        ({"trimap_input": True}, "trimap_input is a channel of the stem"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        FeatureDecoder(**settings)
    with pytest.raises(InputError, match="expected features of patches of 16 pixels, got 14"):
        FeatureDecoder().check_patch_size(14)
