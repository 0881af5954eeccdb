"""DiffMatte's convolutional and windowed encoders against the public code, on the same weights."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from data.images.trimap_tensors import quantise_trimap_tensor
from modeling.backbone import PriorSwin, ResNet34D
from modeling.backbone.resnet34_d import SpectralConv2d
from modeling.trimap_input import encode_trimap
from tests.references.diffmatte_weights import GOLDENS, read_keys, state

ENCODERS = {"res34": ResNet34D, "swint": PriorSwin}
SIZES = ("96x128", "70x101", "64x90", "62x250")


def padded_input(size: str) -> Tensor:
    """Normalised RGB and one-hot trimap (1, 6, H, W) with zeros below and to the right, to multiples of 32."""
    stored = np.load(GOLDENS / "inputs.npz")
    image = torch.from_numpy(stored[f"{size}/image"]).permute(2, 0, 1)[None] / 255
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]))
    trimap = quantise_trimap_tensor(torch.from_numpy(stored[f"{size}/trimap"])[None, None])
    inputs = torch.cat([(image - mean) / std, encode_trimap(trimap, "one_hot")], dim=1)
    height, width = inputs.shape[-2:]
    return nn.functional.pad(inputs, (0, -width % 32, 0, -height % 32))


@pytest.fixture(scope="module", params=ENCODERS)
def published(request) -> tuple[str, nn.Module]:
    """The name of a variant, and its encoder with the weights of the goldens, loaded under the published names."""
    encoder = ENCODERS[request.param]().eval()
    encoder.load_state_dict(state(read_keys(request.param), "model.backbone."))
    return request.param, encoder


def test_features_equal_the_public_codes(published):
    variant, encoder = published
    golden = np.load(GOLDENS / f"cases_{variant}.npz")
    for size in SIZES:
        with torch.inference_mode():
            features = encoder(padded_input(size))[0]
        chans = len(features)
        assert chans == encoder.embed_dim
        found = {
            "feature_4": features[[0, chans // 3, 2 * chans // 3, chans - 1]],
            "feature_mean": features.mean((1, 2)),
            "feature_std": features.std((1, 2), correction=0),
        }
        for name, value in found.items():
            expected = torch.from_numpy(golden[f"{size}/{name}"])
            torch.testing.assert_close(
                value, expected, atol=1e-4, rtol=0, msg=lambda text, at=(size, name): f"{at} {text}"
            )


def test_an_input_that_is_no_multiple_of_32_is_padded_with_zeros(published):
    _, encoder = published
    whole = padded_input("70x101")
    whole[..., 70:, :] = whole[..., 101:] = 0
    with torch.inference_mode():
        torch.testing.assert_close(encoder(whole[..., :70, :101]), encoder(whole), atol=0, rtol=0)


def test_parameters_are_as_many_as_published():
    """What the public code counts as parameters: its singular vectors too, which are buffers here."""
    for variant, total in (("res34", 14_275_894), ("swint", 27_523_479)):
        tensors = ENCODERS[variant]().state_dict().items()
        statistics = ("running_mean", "running_var", "num_batches_tracked", "relative_position_index")
        assert sum(value.numel() for key, value in tensors if not key.endswith(statistics)) == total


def test_layers_count_the_blocks_over_all_stages():
    """Learning rates that fall with depth: all of a stage must not share those of another stage's blocks."""
    res34, swin = ResNet34D(), PriorSwin()
    res34_parts = (res34.conv1, res34.layer1, res34.layer2, res34.layer3, res34.layer_bottleneck)
    for encoder, parts, expected in (
        (res34, res34_parts, [[0], [1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13]]),
        (swin, (swin.patch_embed, *swin.layers), [[0], [1, 2], [3, 4], [5, 6, 7, 8, 9, 10], [11, 12]]),
    ):
        layers = dict(encoder.parameter_layers())
        assert set(layers) == set(encoder.parameters())
        assert [sorted({layers[parameter] for parameter in part.parameters()}) for part in parts] == expected


def test_images_of_a_batch_do_not_meet(published):
    """Prior tokens are means over one image each."""
    _, encoder = published
    batch = torch.cat([padded_input("96x128"), torch.randn(1, 6, 96, 128)])
    with torch.inference_mode():
        singly = torch.cat([encoder(one[None]) for one in batch])
        torch.testing.assert_close(encoder(batch), singly, atol=1e-4, rtol=0)


def test_swins_prior_rows_and_trimap_channels_start_from_xavier():
    """Of the whole tensors: variance 2 / (fan in + fan out)."""
    torch.manual_seed(0)
    encoder = PriorSwin()
    table = encoder.layers[2].blocks[5].attn.relative_position_bias_table  # (169 + 18, 12)
    for weight, variance, tolerance in (
        (encoder.patch_embed.proj.weight[:, 3:], 2 / (6 * 16 + 96 * 16), 0.05),
        (table[169:], 2 / (187 + 12), 0.25),
        (table[:169], 0.02**2, 0.1),
    ):
        assert weight.var().item() == pytest.approx(variance, rel=tolerance)


def test_res34_starts_as_its_shortcuts_and_blind_to_the_trimap():
    encoder = ResNet34D().eval()
    with torch.inference_mode():
        x = torch.randn(1, 6, 64, 96)
        other = torch.cat([x[:, :3], torch.randn(1, 3, 64, 96)], dim=1)
        torch.testing.assert_close(encoder(x), encoder(other), atol=0, rtol=0)
        stem = torch.relu(torch.randn(1, 64, 16, 24))
        torch.testing.assert_close(encoder.layer1(stem), stem, atol=0, rtol=0)


def test_a_training_step_of_the_spectral_norm_is_torchs():
    """torch.nn.utils.spectral_norm iterates in the order of GCA: v before u."""
    torch.manual_seed(0)
    ours = SpectralConv2d(5, 7, 3, stride=2)
    theirs = nn.utils.spectral_norm(nn.Conv2d(5, 7, 3, stride=2, padding=1, bias=False))
    names = {"weight_u": "weight_u", "weight_v": "weight_v", "weight_bar": "weight_orig"}
    theirs.load_state_dict({theirs_name: ours.module.state_dict()[name] for name, theirs_name in names.items()})
    x = torch.randn(2, 5, 16, 16)
    for _ in range(2):
        found, expected = ours(x), theirs(x)
        torch.testing.assert_close(found, expected)
    found.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(ours.module.weight_bar.grad, theirs.weight_orig.grad, rtol=1e-5, atol=1e-5)
    for name, theirs_name in names.items():
        torch.testing.assert_close(ours.module.state_dict()[name], theirs.state_dict()[theirs_name])
    kept = {name: value.clone() for name, value in ours.state_dict().items()}
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x))
    kernel = ours.module()
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(ours.module(), kernel)
    assert all(torch.equal(value, kept[name]) for name, value in ours.state_dict().items())
