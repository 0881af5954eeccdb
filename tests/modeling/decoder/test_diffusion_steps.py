"""DiffMatte's decoder prepared for the steps of a picture equals the decoder itself wherever alpha is asked for."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from modeling.decoder.diffusion_unet import DiffusionUNet
from modeling.decoder.padded_constant import PaddedConstant
from modeling.decoder.sparse import diffusion_steps
from modeling.decoder.sparse.costs import COSTS
from modeling.decoder.sparse.upsampled_conv import axis_weights
from modeling.decoder.sparse.winograd import BlockConv, point_values, point_weights

PLANS = {
    "ViT": {"downsample_in": [7, 6, 8, 10], "upsample_in": [12, 10, 8, 6, 5]},
    "Res34": {"downsample_in": [7, 4, 5, 6, 6], "upsample_in": [9, 7, 7, 6, 5, 4]},
    "no trimap, two levels": {"downsample_in": [4, 5], "upsample_in": [6, 5, 4]},
}


@pytest.fixture(autouse=True)
def one_thread():
    """What is computed here is too small to be divided."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_decoder(plan: str = "ViT") -> DiffusionUNet:
    """Random in every tensor, with raw maps of about one unit."""
    generator = torch.Generator().manual_seed(0)
    widths = PLANS[plan]
    decoder = DiffusionUNet(widths["upsample_in"][-1], emb_channels=8, **widths).eval()
    for name, value in decoder.state_dict().items():
        if "running_var" in name:
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
        elif value.dim() > 1:
            value.copy_(torch.randn(value.shape, generator=generator) * value[0].numel() ** -0.5)
        elif value.dim():
            value.copy_(0.2 + 0.5 * torch.randn(value.shape, generator=generator))
    decoder.decoding = "sparse"
    return decoder


def make_inputs(decoder: DiffusionUNet, batch: int, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and guide."""
    generator = torch.Generator().manual_seed(1)
    coarse = [side // decoder.patch_size for side in size]
    features = torch.randn(batch, decoder.features_chans, *coarse, generator=generator)
    return features, torch.randn(batch, decoder.in_chans - 1, *size, generator=generator)


def noise_like(guide: torch.Tensor, seed: int = 2) -> torch.Tensor:
    return torch.randn(guide[:, :1].shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def assert_equals_dense(decoder, features, guide, unknown, dense_features=None):
    """For two steps, as a step must leave nothing behind for the next."""
    raw_map = decoder.prepared(features, guide, unknown)
    dense_features = features if dense_features is None else dense_features
    for seed, time in enumerate([1.0, 0.3]):
        x_t = noise_like(guide, seed)
        expected = decoder(dense_features, guide, x_t, torch.full((len(x_t),), time))
        raw = raw_map(x_t, time)
        assert raw.dtype == torch.float32
        torch.testing.assert_close(raw[unknown], expected[unknown], atol=1e-5 * float(expected.abs().max()), rtol=0)
        assert (raw[~unknown] == 0).all()


def rectangle(size: tuple[int, int], y: int, x: int, height: int, width: int) -> torch.Tensor:
    region = torch.zeros(1, 1, *size, dtype=torch.bool)
    region[..., y : y + height, x : x + width] = True
    return region


@st.composite
def unknown_regions(draw):
    """(B, 1, H, W) bool of one or two pictures: rectangles and pixels, anywhere, or everything, or nothing."""
    size = tuple(32 * draw(st.integers(1, 4)) for _ in range(2))
    regions = []
    for _ in range(draw(st.integers(1, 2))):
        y, x = (draw(st.sampled_from([0, side - 1, draw(st.integers(0, side - 1))])) for side in size)
        extent = draw(st.sampled_from([(1, 1), (1, 999), (999, 1), (20, 30), (999, 999)]))
        regions.append(rectangle(size, y, x, *extent) | rectangle(size, size[0] - 1 - y, x // 2, 1, 1))
        if draw(st.integers(0, 9)) == 0:
            regions[-1] = torch.zeros_like(regions[-1])
    return torch.cat(regions)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(unknown=unknown_regions(), plan=st.sampled_from(list(PLANS)))
def test_equals_the_decoder_in_every_unknown_region(unknown, plan):
    decoder = make_decoder(plan)
    assert_equals_dense(decoder, *make_inputs(decoder, len(unknown), tuple(unknown.shape[-2:])), unknown)


@pytest.mark.parametrize(("band_pixels", "blocks"), [(1, 7), (3000, 1), (3000, 10**6), (2**20, 7)])
def test_no_seams_between_bands_or_pieces(monkeypatch, band_pixels, blocks):
    monkeypatch.setattr(diffusion_steps, "BAND_PIXELS", band_pixels)
    monkeypatch.setitem(COSTS, "cpu", COSTS["cpu"]._replace(chunk_blocks=blocks))
    decoder = make_decoder()
    size = (96, 80)
    unknown = torch.cat([rectangle(size, 0, 17, 999, 20), rectangle(size, 60, 0, 9, 999)])
    assert_equals_dense(decoder, *make_inputs(decoder, 2, size), unknown)


@pytest.mark.parametrize("plan", PLANS)
def test_all_pixels_and_dense_steps(plan):
    decoder = make_decoder(plan)
    decoder.decoding = "dense"
    inputs = make_inputs(decoder, 2, (64, 96))
    assert_equals_dense(decoder, *inputs, rectangle((64, 96), 5, 70, 40, 99).expand(2, -1, -1, -1))
    everything = torch.ones(2, 1, 64, 96, dtype=torch.bool)
    assert_equals_dense(decoder, *inputs, everything)
    x_t = noise_like(inputs[1])
    with torch.no_grad():
        assert torch.equal(decoder.prepared(*inputs)(x_t, 0.4), decoder.prepared(*inputs, everything)(x_t, 0.4))


@pytest.mark.parametrize("plan", PLANS)
def test_features_that_are_not_needed_are_not_read(plan):
    decoder = make_decoder(plan)
    size = (160, 192)
    features, guide = make_inputs(decoder, 1, size)
    unknown = rectangle(size, 66, 3, 5, 9) | rectangle(size, 159, 100, 1, 1)
    needed = decoder.needed_features(unknown)
    assert not needed.all()
    assert_equals_dense(decoder, features.masked_fill(~needed, torch.nan), guide, unknown, dense_features=features)


def test_needed_features_are_those_with_a_gradient():
    """What autograd finds for single pixels, where positive weights keep gradients from zero."""
    decoder = make_decoder()
    for name, value in decoder.state_dict().items():
        value.fill_(0 if "running_mean" in name else 0.01)
    features, guide = (x.abs() for x in make_inputs(decoder, 1, (160, 160)))
    features.requires_grad_()
    raw = decoder(features, guide, noise_like(guide).abs(), torch.ones(1))
    for y, x in [(0, 0), (95, 96), (100, 63), (159, 10)]:
        gradient = torch.autograd.grad(raw[0, 0, y, x], features, retain_graph=True)[0]
        read = (gradient != 0).any(dim=1, keepdim=True)
        assert torch.equal(decoder.needed_features(rectangle((160, 160), y, x, 1, 1)), read)


def test_threads_modes_and_autocast_give_the_same():
    decoder = make_decoder()
    size = (192, 192)
    features, guide = make_inputs(decoder, 1, size)
    unknown = rectangle(size, 20, 30, 99, 120)
    x_t = noise_like(guide)
    with torch.no_grad():
        expected = decoder.prepared(features, guide, unknown)(x_t, 0.5)
    torch.set_num_threads(3)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        raw = decoder.prepared(features, guide, unknown)(x_t, 0.5)
    assert torch.get_num_threads() == 3
    torch.testing.assert_close(raw, expected, atol=1e-5, rtol=0)


def test_a_step_multiplies_less_than_half_of_what_the_decoder_does_and_less_where_less_is_unknown():
    decoder = DiffusionUNet(
        16, downsample_in=[7, 16, 32, 64], upsample_in=[192, 128, 64, 32, 16]
    ).eval()  # half as wide as the published one
    decoder.decoding = "sparse"
    size = (256, 256)
    features, guide = make_inputs(decoder, 1, size)
    x_t = noise_like(guide)

    def work(call) -> int:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            call()
        return counter.get_total_flops()

    dense = work(lambda: decoder(features, guide, x_t, torch.ones(1)))
    shares = []
    for height in (256, 64, 16):
        steps = decoder.prepared(
            features, guide, rectangle(size, 64, 0, height, 256) | rectangle(size, 0, 0, height, 9)
        )
        shares.append(work(lambda steps=steps: steps(x_t, 0.5)) / dense)
    assert shares[0] < 0.45
    assert shares[2] < 0.5 * shares[1] < 0.25 * shares[0]


def test_small_pictures_are_decoded_densely():
    decoder = make_decoder()
    decoder.decoding = "auto"
    small, large = (torch.ones(1, 1, side, side, dtype=torch.bool) for side in (64, 512))
    features, guide = make_inputs(decoder, 1, (64, 64))
    assert not isinstance(decoder.prepared(features, guide, small), diffusion_steps.SparseSteps)
    features, guide = make_inputs(decoder, 1, (512, 512))
    assert isinstance(decoder.prepared(features, guide, large), diffusion_steps.SparseSteps)


def patches_of(x: torch.Tensor) -> torch.Tensor:
    """The one 6 x 6 map (1, C, 6, 6) as a patch."""
    return x[0].flatten(1).T.contiguous()


def test_block_conv_equals_conv2d():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 5, 6, 6, generator=generator, dtype=torch.float64)
    weight = torch.randn(7, 5, 3, 3, generator=generator, dtype=torch.float64)
    bias = torch.randn(7, generator=generator, dtype=torch.float64)
    out = torch.zeros(16, 7, dtype=torch.float64)
    BlockConv.of(weight)(point_values(patches_of(x)), bias, out)
    expected = F.conv2d(x, weight, bias)
    torch.testing.assert_close(out.T.view(1, 7, 4, 4), expected)
    BlockConv.of(weight)(point_values(patches_of(x)), None, out, add=True)
    torch.testing.assert_close(out.T.view(1, 7, 4, 4), 2 * expected - bias[:, None, None])


def test_phases_equal_an_upsampled_convolution():
    """Inside the border; the decoder's tests cover the border and the transposed convolution."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 5, 6, 6, generator=generator, dtype=torch.float64)
    weight = torch.randn(7, 5, 3, 3, generator=generator, dtype=torch.float64)
    taps = axis_weights(torch.tensor([2]), 2, 3, limit=8, dtype=torch.float64)[0]
    out = torch.zeros(64, 7, dtype=torch.float64)
    BlockConv(point_weights(weight, taps))(point_values(patches_of(x)), None, out)
    expected = F.conv2d(F.interpolate(x, scale_factor=2, mode="bilinear"), weight, padding=1)[..., 2:-2, 2:-2]
    torch.testing.assert_close(out.view(2, 4, 4, 2, 7).permute(4, 1, 0, 2, 3).reshape(1, 7, 8, 8), expected)


@pytest.mark.parametrize("size", [(2, 2), (2, 5), (6, 3)])
def test_padded_constant_equals_conv2d_of_a_constant_map(size):
    generator = torch.Generator().manual_seed(0)
    weight, constant = torch.randn(7, 5, 3, 3, generator=generator), torch.randn(5, generator=generator)
    padded = PaddedConstant(weight, size)
    expected = F.conv2d(constant[None, :, None, None].expand(1, 5, *size), weight, padding=1)
    torch.testing.assert_close(padded(constant)[padded.kinds].permute(2, 0, 1)[None], expected)


def test_tiles_that_share_weights_and_memory_do_not_disturb_each_other():
    decoder = make_decoder()
    features, guide = make_inputs(decoder, 1, (96, 128))
    small, large = rectangle((96, 128), 40, 40, 5, 5), torch.ones(1, 1, 96, 128, dtype=torch.bool)
    x_t = noise_like(guide)
    with torch.no_grad():
        first = decoder.prepared(features, guide, small)
        before = first(x_t, 0.5)
        second = decoder.prepared(features, guide, large, like=first)
        expected = decoder.prepared(features, guide, large)(x_t, 0.5)
        assert torch.equal(second(x_t, 0.5), expected)
        assert torch.equal(first(x_t, 0.5), before)
