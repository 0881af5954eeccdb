"""Sparse decoding equals dense decoding wherever alpha is asked for, and its work follows the unknown region."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from modeling.backbone import ViT
from modeling.criterion import MattingCriterion
from modeling.decoder import DetailCapture
from modeling.decoder.sparse import bands
from modeling.decoder.sparse import decode as sparse
from modeling.decoder.sparse.costs import COSTS
from modeling.decoder.sparse.receptive_field import ReceptiveField
from modeling.decoder.sparse.upsampled_conv import UpsampledConv, axis_weights, low_length, low_start
from modeling.meta_arch import ViTMatte

WIDTHS = {
    "as published": {"img_chans": 4, "convstream_out": [6, 8, 10], "fusion_out": [12, 10, 8, 6]},
    "with a prior": {"img_chans": 7, "convstream_out": [6, 8, 10], "fusion_out": [12, 10, 8, 6]},
    "two levels": {"img_chans": 4, "convstream_out": [6], "fusion_out": [12, 6]},
    "with a gate": {
        "img_chans": 7,
        "convstream_out": [6, 8, 10],
        "fusion_out": [12, 10, 8, 6],
        "candidates": [4, 6],
    },
    "no stream": {"img_chans": 5, "convstream_out": [], "fusion_out": [8]},
}


@pytest.fixture(autouse=True)
def always_sparse(monkeypatch):
    """At the sizes of these tests the dense decoder is cheaper; take the sparse one all the same."""
    monkeypatch.setattr(sparse, "is_cheaper", lambda *arguments: True)


def make_decoder(in_chans: int = 12, **widths) -> DetailCapture:
    """Random in every tensor, with logits of a few units, so that errors show in alpha."""
    generator = torch.Generator().manual_seed(0)
    decoder = DetailCapture(in_chans=in_chans, **widths or WIDTHS["as published"]).eval()
    for name, value in decoder.state_dict().items():
        if "running_var" in name:
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
        elif value.dim() == 4:
            value.copy_(torch.randn(value.shape, generator=generator) * (2 / value[0].numel()) ** 0.5)
        elif value.dim():
            value.copy_(0.5 + 0.5 * torch.randn(value.shape, generator=generator))
    return decoder


def make_inputs(decoder: DetailCapture, batch: int, size: tuple[int, int], in_chans: int = 12):
    generator = torch.Generator().manual_seed(1)
    scale = 2 ** len(decoder.fusion_blks)
    features = torch.randn(batch, in_chans, size[0] // scale, size[1] // scale, generator=generator)
    return features, torch.randn(batch, decoder.img_chans, *size, generator=generator)


def band(size: tuple[int, int], width: float, seed: int = 0) -> torch.Tensor:
    """Pixels within `width` of a smooth random level line, (1, 1, H, W) bool."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, 1, 4, 4, generator=generator)
    smooth = F.interpolate(coarse, size=size, mode="bicubic", align_corners=True)
    return smooth.abs() < width


def assert_equals_dense(decoder, features, images, unknown):
    with torch.no_grad():
        alpha = decoder(features, images, unknown)
        dense = decoder(features, images)
    assert alpha.shape == dense.shape
    assert alpha.dtype == torch.float32
    torch.testing.assert_close(alpha[unknown], dense[unknown], atol=1e-5, rtol=0)
    assert (alpha[~unknown] == 0).all()


@st.composite
def unknown_regions(draw):
    """(B, 1, H, W) bool of 1 to 3 images: bands, pixels, corners, borders, rectangles, everything, nothing."""
    size = tuple(16 * draw(st.integers(1, 9)) for _ in range(2))
    regions = []
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["band", "pixels", "corner", "border", "rectangle", "everything", "nothing"]))
        region = torch.zeros(1, 1, *size, dtype=torch.bool)
        y, x = draw(st.integers(0, size[0] - 1)), draw(st.integers(0, size[1] - 1))
        if kind == "band":
            region = band(size, draw(st.floats(0.01, 0.5)), draw(st.integers(0, 99)))
        elif kind == "pixels":
            region[..., y, x] = region[..., size[0] - 1 - y, x // 2] = True
        elif kind == "corner":
            region[..., -draw(st.integers(0, 1)), -draw(st.integers(0, 1))] = True
        elif kind == "border":
            region[..., draw(st.sampled_from([0, -1])), :] = True
            region[..., :, draw(st.sampled_from([0, -1]))] = True
        elif kind == "rectangle":
            region[..., y : y + 40, x : x + 25] = True
        elif kind == "everything":
            region[:] = True
        regions.append(region)
    return torch.cat(regions)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(unknown=unknown_regions(), widths=st.sampled_from(list(WIDTHS)))
def test_equals_dense_in_every_unknown_region(unknown, widths):
    decoder = make_decoder(**WIDTHS[widths])
    assert_equals_dense(decoder, *make_inputs(decoder, len(unknown), tuple(unknown.shape[-2:])), unknown)


@pytest.mark.parametrize("side", sparse.TILE_SIDES)
@pytest.mark.parametrize("chunk_values", [1, 2**21], ids=["tile by tile", "together"])
def test_no_seams_with_any_tile_side(monkeypatch, side, chunk_values):
    monkeypatch.setattr(sparse, "TILE_SIDES", (side,))
    monkeypatch.setitem(COSTS, "cpu", COSTS["cpu"]._replace(chunk_values=chunk_values))
    decoder = make_decoder()
    unknown = torch.cat([torch.ones(1, 1, 112, 208, dtype=torch.bool), band((112, 208), 0.1)])
    assert_equals_dense(decoder, *make_inputs(decoder, 2, (112, 208)), unknown)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(unknown=unknown_regions(), widths=st.sampled_from(list(WIDTHS)), pixels=st.sampled_from([1, 1000, 5000]))
def test_bands_equal_the_whole(unknown, widths, pixels):
    decoder = make_decoder(**WIDTHS[widths])
    decoder.band_pixels = pixels
    assert_equals_dense(decoder, *make_inputs(decoder, len(unknown), unknown.shape[-2:]), unknown)


def test_large_images_are_never_decoded_densely_for_memory(monkeypatch):
    monkeypatch.setattr(sparse, "is_cheaper", lambda *arguments: False)
    decoder = make_decoder()
    decoder.band_pixels = 64 * 64 - 1
    monkeypatch.setattr(decoder, "_decode_all", None)
    features, images = make_inputs(decoder, 1, (64, 64))
    with torch.no_grad():
        assert decoder(features, images, torch.ones(1, 1, 64, 64, dtype=torch.bool)).std() > 0


def test_a_band_reads_all_that_its_pixels_depend_on_and_little_more():
    """For any depth: what the receptive field of a band marks lies within the rows that the band is given."""
    for depth in range(1, 6):
        side = 2**depth
        unknown = torch.zeros(1, 1, 16 * side, side, dtype=torch.bool)
        unknown[..., 8 * side : 9 * side, :] = True  # one row of features
        rows = ReceptiveField.of(unknown[:, 0], depth).features.any(dim=2).nonzero()[:, 1]
        assert rows.min() >= 8 - bands.HALO
        assert rows.max() <= 8 + bands.HALO
        assert rows.max() - rows.min() >= 2 * (bands.HALO - 1)


def test_threads_give_the_same_and_leave_torch_as_it_was():
    decoder = make_decoder()
    unknown = band((512, 512), 0.2)
    features, images = make_inputs(decoder, 1, (512, 512))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(3)
        for mode in (torch.no_grad, torch.inference_mode):
            with mode():
                alpha = decoder(features, images, unknown)
                assert torch.get_num_threads() == 3
                dense = decoder(features, images)
            torch.testing.assert_close(alpha[unknown], dense[unknown], atol=1e-5, rtol=0)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("value", [1e30, float("inf"), float("nan")])
@pytest.mark.parametrize("seed", range(1, 5))
def test_features_outside_the_needed_ones_are_not_read(value, seed):
    decoder = make_decoder()
    size = (160, 224)
    unknown = band(size, 0.05, seed)
    unknown[..., 40 * seed :] = False
    unknown[..., -1, 30 * seed] = True
    features, images = make_inputs(decoder, 1, size)
    needed = decoder.needed_features(unknown)
    assert needed.shape == (1, 1, 10, 14)
    assert not needed.all()
    spoilt = features.masked_fill(~needed, value)
    with torch.no_grad():
        assert torch.equal(decoder(spoilt, images, unknown), decoder(features, images, unknown))
        dense = decoder(spoilt, images)
    torch.testing.assert_close(dense[unknown], decoder(features, images)[unknown], atol=1e-5, rtol=0)


def test_needed_features_are_those_with_a_gradient():
    """What autograd finds in the dense decoder for single pixels, where positive weights keep gradients from zero."""
    decoder = make_decoder()
    for name, value in decoder.state_dict().items():
        value.fill_(0 if "running_mean" in name else 0.01)
    features, images = (x.abs() for x in make_inputs(decoder, 1, (192, 192)))
    features.requires_grad_()
    logits = []
    decoder.matting_head.register_forward_hook(lambda module, inputs, output: logits.append(output))
    decoder(features, images)
    for y, x in [(0, 0), (95, 96), (100, 63), (191, 10)]:
        unknown = torch.zeros(1, 1, 192, 192, dtype=torch.bool)
        unknown[..., y, x] = True
        gradient = torch.autograd.grad(logits[0][unknown].sum(), features, retain_graph=True)[0]
        read = (gradient != 0).any(dim=1, keepdim=True)
        assert torch.equal(decoder.needed_features(unknown), read)


def test_work_follows_the_unknown_share(monkeypatch):
    decoder = make_decoder(in_chans=48, convstream_out=[12, 24, 48], fusion_out=[64, 32, 16, 8])
    size = (512, 512)
    features, images = make_inputs(decoder, 1, size, in_chans=48)

    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)  # the counter sees its own thread only

    def work(unknown: torch.Tensor) -> int:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            decoder(features, images, unknown)
        return counter.get_total_flops()

    everything = work(torch.ones(1, 1, *size, dtype=torch.bool))
    shares = [work(band(size, width)) / everything for width in (0.05, 0.2, 0.5)]
    pixel = torch.zeros(1, 1, *size, dtype=torch.bool)
    pixel[..., 200, 300] = True
    assert work(pixel) < 0.03 * everything
    assert shares[0] < 0.4
    assert shares == sorted(shares)
    assert work(torch.zeros(1, 1, *size, dtype=torch.bool)) == 0


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.bfloat16, 0.05), (torch.float16, 0.01)])
def test_autocast_stays_as_near_to_float32_as_the_dense_decoder(dtype, tolerance):
    decoder = make_decoder()
    features, images = make_inputs(decoder, 2, (64, 96))
    unknown = band((64, 96), 0.3).repeat(2, 1, 1, 1)
    with torch.no_grad():
        expected = decoder(features, images)[unknown]
        with torch.autocast("cpu", dtype=dtype):
            alpha = decoder(features.to(dtype), images, unknown)
            dense = decoder(features.to(dtype), images)[unknown]
    assert alpha.dtype == torch.float32
    error, dense_error = (alpha[unknown] - expected).abs(), (dense - expected).abs()
    assert error.max() < tolerance
    assert error.mean() < 2 * dense_error.mean()


def test_training_and_gradients_take_the_dense_path():
    decoder = make_decoder()
    features, images = make_inputs(decoder, 2, (32, 48))
    unknown = band((32, 48), 0.3).repeat(2, 1, 1, 1)
    assert torch.equal(decoder(features, images, unknown), decoder(features, images))
    trained, reference = decoder.train(), copy.deepcopy(decoder).train()
    trained(features, images, unknown).sum().backward()
    reference(features, images).sum().backward()
    for ours, theirs in zip(trained.parameters(), reference.parameters(), strict=True):
        assert torch.equal(ours.grad, theirs.grad)


@pytest.mark.parametrize(("start", "length"), [(-1, 18), (0, 16), (15, 18), (16, 16), (31, 18), (32, 16)])
def test_upsampled_conv_equals_interpolate_and_conv2d(start, length):
    """In float64, for patches inside, at and beyond the borders of a 20 x 20 map."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 5, 20, 20, generator=generator, dtype=torch.float64)
    weight = torch.randn(7, 5, 3, 3, generator=generator, dtype=torch.float64)
    expected = F.conv2d(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), weight, padding=1)
    low = low_length(length, odd_start=start % 2 == 1)
    first = low_start(torch.tensor([start]))
    weights = axis_weights(torch.tensor([start]), length, low, 40, torch.float64)
    padded = F.pad(x, (8, 8, 8, 8))[..., first + 8 : first + 8 + low, first + 8 : first + 8 + low]
    out = torch.zeros(1, length, length, 7, dtype=torch.float64)
    UpsampledConv.of(weight).add_to(out, padded.permute(0, 2, 3, 1), weights, weights[0])
    inside = slice(max(start, 0), min(start + length, 40))
    within = slice(inside.start - start, inside.stop - start)
    torch.testing.assert_close(out.permute(0, 3, 1, 2)[..., within, within], expected[..., inside, inside])


def test_dense_where_that_is_cheaper(monkeypatch):
    monkeypatch.undo()
    decoder = DetailCapture().eval()

    def cheaper(unknown: torch.Tensor, decoder: DetailCapture = decoder) -> bool:
        return sparse.is_cheaper(decoder, ReceptiveField.of(unknown[:, 0], 4), unknown[:, 0])

    narrow = DetailCapture(in_chans=8, convstream_out=[8, 8, 8], fusion_out=[8, 8, 8, 8]).eval()
    everything = torch.ones(1, 1, 512, 512, dtype=torch.bool)
    assert not cheaper(band((64, 64), 0.1))
    assert cheaper(band((512, 512), 0.1))
    assert cheaper(everything)
    assert not cheaper(everything, narrow)
    assert cheaper(band((512, 512), 0.001), narrow)
    assert cheaper(everything.repeat(2, 1, 1, 1), narrow)  # for its memory


@pytest.mark.parametrize("decoding", ["sparse", "dense"])
@pytest.mark.parametrize("band_pixels", [1000, 2**22], ids=["in bands", "whole"])
def test_either_way_of_decoding_can_be_asked_for(monkeypatch, decoding, band_pixels):
    decoder = make_decoder()
    decoder.decoding, decoder.band_pixels = decoding, band_pixels
    monkeypatch.setattr(sparse, "is_cheaper", lambda *arguments: decoding == "dense")  # the other way
    inputs, unknown = make_inputs(decoder, 1, (112, 144)), band((112, 144), 0.1)
    assert_equals_dense(decoder, *inputs, unknown)
    monkeypatch.setattr(*{"sparse": (decoder, "_decode_all"), "dense": (sparse, "decode")}[decoding], None)
    with torch.no_grad():
        assert decoder(*inputs, unknown).std() > 0


def small_model(sparse_decoding: bool) -> ViTMatte:
    torch.manual_seed(0)
    return ViTMatte(
        backbone=ViT(embed_dim=24, depth=2, num_heads=2, window_size=4, window_block_indexes=[0]),
        decoder=make_decoder(in_chans=24),
        criterion=MattingCriterion(),
        pixel_mean=[0.5, 0.5, 0.5],
        pixel_std=[0.2, 0.2, 0.2],
        sparse_decoding=sparse_decoding,
    ).eval()


def test_model_returns_the_trimap_where_it_is_known_and_the_dense_matte_elsewhere():
    model, dense_model = small_model(True), small_model(False)
    size = (75, 100)
    generator = torch.Generator().manual_seed(0)
    trimap = torch.cat([band(size, 0.2), band(size, 0.4, seed=1)]) * 0.5
    trimap[..., 60:] = torch.where(trimap[..., 60:] == 0.5, 0.5, 1.0)
    batch = {"image": torch.rand(2, 3, *size, generator=generator), "trimap": trimap}
    with torch.inference_mode():
        alpha, dense = model(batch)["phas"], dense_model(batch)["phas"]
    unknown = trimap == 0.5
    torch.testing.assert_close(alpha[unknown], dense[unknown], atol=1e-5, rtol=0)
    assert torch.equal(alpha[~unknown], trimap[~unknown])
    assert not torch.equal(dense[~unknown], trimap[~unknown])
