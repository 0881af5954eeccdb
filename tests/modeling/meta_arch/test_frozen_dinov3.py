"""The trimap-free system: features in their places, frozen in fact, any size, bands, and settings that do not fit."""

import pytest
import torch
from torch import Tensor, nn

from engine.training.freezing import freeze
from engine.training.param_groups import param_groups
from modeling.backbone import Encoder, ViT
from modeling.criterion.edge_criterion import EdgeCriterion
from modeling.decoder.feature_decoder import FeatureDecoder
from modeling.meta_arch import FrozenDINOv3
from modeling.meta_arch.frozen_dinov3 import FEATURES
from runtime.errors import InputError

MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def system(out_blocks=(0, 2), seed: int = 0, encoder: Encoder | None = None, criterion=None, **decoder) -> FrozenDINOv3:
    torch.manual_seed(seed)
    encoder = encoder or ViT(
        in_chans=3, embed_dim=24, depth=3, num_heads=2, layer_scale_init=1.0, rope_rescale=2.0, drop_path_rate=0.5
    )
    decoder = FeatureDecoder(24, len(out_blocks), **{"dims": [16, 12, 8], "detail_stem": [4, 5, 6], **decoder})
    return FrozenDINOv3(
        backbone=encoder,
        decoder=decoder,
        criterion=criterion or EdgeCriterion(),
        pixel_mean=MEAN,
        pixel_std=STD,
        out_blocks=out_blocks,
    )


class PatchMeans(Encoder):
    """The mean colour of each patch, in 24 channels."""

    in_chans, patch_size, embed_dim = 3, 16, 24

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def features(self, x, blocks):
        means = nn.functional.avg_pool2d(x, 16).repeat(1, 8, 1, 1)
        return [self.scale * means for _ in blocks]


@pytest.mark.parametrize("grid", [(4, 9), (2, 8), (6, 11), (12, 27), (1, 1)])  # the first two and the fourth: squares
def test_features_stay_in_the_places_of_their_patches_on_any_grid(grid):
    rows, columns = grid
    values = torch.rand(1, 3, rows, columns)
    image = values.repeat_interleave(16, dim=2).repeat_interleave(16, dim=3)
    features = system([-1], encoder=PatchMeans()).encode({"image": image}).features
    expected = (values - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    torch.testing.assert_close(features[:, :3], expected, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_a_transposed_image_has_the_transposed_shape_and_a_size_between_patches_is_padded_not_stretched():
    model = system().eval()
    image = torch.rand(1, 3, 50, 83)
    assert model.predict(image).shape == (1, 1, 50, 83)
    assert model.predict(image.mT).shape == (1, 1, 83, 50)
    padded = model.padding_colour.view(1, 3, 1, 1).expand(1, 3, 64, 96).clone()
    padded[..., :50, :83] = image
    torch.testing.assert_close(model.predict(padded)[..., :50, :83], model.predict(image), rtol=0, atol=1e-6)
    assert model.encode({"image": torch.rand(1, 3, 224, 230)}).pixels.shape[-2:] == (224, 240)  # only what needs it


def test_an_image_smaller_than_a_patch_is_refused_in_one_line():
    for height, width in ((15, 40), (40, 9), (1, 1)):
        with pytest.raises(InputError, match=f"{width} x {height} pixels is smaller than a patch of 16 x 16"):
            system().eval().predict(torch.rand(1, 3, height, width))


@pytest.mark.parametrize(("names", "out_blocks"), [(["backbone"], (0, 2)), (["first_2"], (0, 1))])
def test_frozen_features_are_the_same_in_training_and_evaluation_to_the_bit(names, out_blocks):
    model = system(out_blocks)
    freeze(model, names)
    image = torch.rand(2, 3, 48, 64)
    training = [model.train().encode({"image": image}).features for _ in range(2)]
    evaluation = model.eval().encode({"image": image}).features
    for features in training:
        assert not features.requires_grad or names != ["backbone"]
        assert torch.equal(features, evaluation)
    learning = system(out_blocks).train()  # the augmentations are there where nothing is frozen
    assert not torch.equal(*(learning.encode({"image": image}).features for _ in range(2)))


def loss_of(model: FrozenDINOv3) -> Tensor:
    torch.manual_seed(3)
    return sum(model.train()({"image": torch.rand(2, 3, 48, 64), "alpha": torch.rand(2, 1, 48, 64)}).values())


def test_gradients_reach_the_decoder_and_what_of_the_encoder_is_not_frozen():
    for names, frozen in ((["backbone"], range(3)), (["first_2"], range(2)), (["first_0"], ()), ([], ())):
        model = system(out_blocks=(2,))
        freeze(model, names)
        loss_of(model).backward()
        for index, block in enumerate(model.backbone.blocks):
            assert all((p.grad is None) == (index in frozen) for p in block.parameters())
        assert (model.backbone.patch_embed.proj.weight.grad is None) == bool(names)
        assert (model.backbone.norm.weight.grad is None) == (names == ["backbone"])
        assert all(parameter.grad is not None for parameter in model.decoder.parameters())
    with pytest.raises(InputError, match="expected at most first_3, the number of blocks, got 'first_4'"):
        freeze(system(), ["first_4"])


def test_blocks_that_learn_have_a_rate_of_their_own():
    model = system()
    freeze(model, ["first_1"])
    groups = param_groups(model, 1e-3, 0.1, pretrained_lr_mult=0.1)
    rates = {parameter: group["lr"] for group in groups for parameter in group["params"]}
    names = {name: rates.get(parameter) for name, parameter in model.named_parameters()}
    assert names["backbone.blocks.0.attn.qkv.weight"] is None
    assert names["backbone.blocks.1.attn.qkv.weight"] == names["backbone.norm.weight"] == pytest.approx(1e-4)
    assert names["decoder.input_proj.weight"] == names["decoder.stem.convs.0.conv_block.0.bias"] == pytest.approx(1e-3)


@pytest.mark.parametrize("settings", [{}, {"detail_stem": None}, {"boundary_refinement": True}])
@torch.inference_mode()
def test_an_image_decoded_in_bands_is_the_image_decoded_at_once(settings):
    model = system(**settings).double().eval()
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_(std=0.2)
    image = torch.rand(1, 3, 520, 40, dtype=torch.double)
    whole = model.predict(image)
    assert whole.std() > 1e-3
    model.decoder.band_pixels = 48 * 64  # bands of 64 rows
    torch.testing.assert_close(model.predict(image), whole.float(), rtol=0, atol=1e-7)


@torch.inference_mode()
def test_a_reduced_encoder_sees_the_same_picture_at_a_fraction_of_the_patches():
    model = system([-1], encoder=PatchMeans()).eval()
    ramp = torch.linspace(0, 1, 160).expand(1, 3, 160, 160)
    whole, reduced = (model.encode({"image": ramp}, scale).features for scale in (1, 2))
    assert reduced.shape == whole.shape
    torch.testing.assert_close(reduced[..., 1:-1, 1:-1], whole[..., 1:-1, 1:-1], rtol=0, atol=0.02)
    assert model.predict(ramp, encoder_scale=2).shape == (1, 1, 160, 160)


def test_kept_features_stand_for_the_encoder_and_need_it_frozen():
    model = system()
    batch = {"image": torch.rand(2, 3, 40, 64), "alpha": torch.rand(2, 1, 40, 64)}
    with pytest.raises(InputError, match=r"train.cache_features: the encoder is trained; .*train.freeze=\[backbone\]"):
        model.frozen_features(model.prepare(batch))
    freeze(model, ["backbone"])
    features = model.frozen_features(model.prepare(batch))
    assert features.shape == (2, 48, 3, 4)
    expected = model.train()(batch)
    model.backbone.forward = model.backbone.features = None  # not called again
    kept = model({**batch, FEATURES: features})
    assert all(torch.equal(kept[name], loss) for name, loss in expected.items())
    with pytest.raises(InputError, match=r"features: expected a grid of \[3, 4\], got \[2, 4\]"):
        model({**batch, FEATURES: features[:, :, :2]})


def test_a_trimap_and_layers_are_read_where_settings_ask_for_them():
    model = system(trimap_input=True, criterion=EdgeCriterion(composition_weight=1.0)).train()
    batch = {name: torch.rand(1, 3, 32, 32) for name in ("image", "fg", "bg")} | {"alpha": torch.rand(1, 1, 32, 32)}
    with pytest.raises(InputError, match="needs image, trimap, alpha, fg, bg; the batch lacks trimap"):
        model(batch)
    losses = model({**batch, "trimap": torch.full((1, 1, 32, 32), 0.5)})
    assert set(losses) == {"alpha_loss", "gradient_loss", "laplacian_loss", "composition_loss"}
    with pytest.raises(InputError, match=r"the image is \(32, 32\) pixels \(height, width\), its trimap \(32, 16\)"):
        model({**batch, "trimap": torch.full((1, 1, 32, 16), 0.5)})


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(InputError, match=r"backbone\.in_chans must be 3"):
        system(encoder=ViT(in_chans=4, embed_dim=24, depth=3, num_heads=2))
    with pytest.raises(InputError, match=r"expected a decoder of 2 maps .*\[0, 2\].* of 48 channels"):
        system(encoder=ViT(in_chans=3, embed_dim=48, depth=3, num_heads=2))
    for blocks in ([2, -1], [1, 1]):
        with pytest.raises(InputError, match="expected different out_blocks, got"):
            system(blocks)
    with pytest.raises(InputError, match="patches of 16 pixels, got 8"):
        system(encoder=ViT(in_chans=3, embed_dim=24, depth=3, num_heads=2, patch_size=8))


@torch.inference_mode()
def test_a_compiled_system_predicts_the_same_and_keeps_its_names():
    model = system().eval()
    image, names = torch.rand(1, 3, 48, 32), list(model.state_dict())
    expected, calls = model.predict(image), []

    def backend(graph, example_inputs):
        calls.append(graph)
        return graph.forward

    model.compile_encoder(backend=backend)
    torch.testing.assert_close(model.predict(image), expected)
    assert len(calls) >= 2  # a block and the decoder
    assert list(model.state_dict()) == names
