"""Pretrained backbones in networks with other input channels than their files, and with layers that these lack."""

import pytest
import torch
from small_models import option_model

from modeling.backbone import ViT
from modeling.meta_arch import System
from modeling.weights.input_channels import PATCH_EMBED
from modeling.weights.loading import load_model
from runtime.errors import InputError


def backbone_file(trimap_scale: float = 0.0, chans: int = 4) -> dict:
    """A checkpoint of the backbone alone: preprocess.py writes 3 channels; 4, the last of zeros, in format 1."""
    state = {key: value.clone() for key, value in option_model(seed=3).state_dict().items() if "decoder" not in key}
    state[PATCH_EMBED][:, 3:] *= trimap_scale
    state[PATCH_EMBED] = state[PATCH_EMBED][:, :chans]
    return {"model": state}


class RGBSystem(System):
    """The backbone of `option_model` without a trimap."""

    inputs = ("image",)

    def __init__(self) -> None:
        super().__init__()
        options = {"window_size": 3, "window_block_indexes": [0], "layer_scale_init": 1.0, "img_size": 64}
        self.backbone = ViT(in_chans=3, embed_dim=32, depth=2, num_heads=2, residual_block_indexes=[1], **options)


@pytest.mark.parametrize(("chans", "trimap_input", "expected"), [(3, "value", 4), (3, "one_hot", 6), (4, "one_hot", 6)])
def test_a_backbone_without_trimap_gets_zeros_and_says_so(chans, trimap_input, expected, caplog):
    checkpoint = backbone_file(chans=chans)
    model = option_model(trimap_input=trimap_input)
    with caplog.at_level("INFO", logger="dinomatte"):
        load_model(model, checkpoint, "b.pth", pretrained=True)
    weight = model.backbone.patch_embed.proj.weight
    assert weight.shape[1] == expected
    assert torch.equal(weight[:, :3], checkpoint["model"][PATCH_EMBED][:, :3])
    assert not weight[:, 3:].any()
    assert f"{PATCH_EMBED}: {chans} input channels changed to {expected}, zeros for the trimap" in caplog.text


def test_files_with_and_without_the_channel_of_zeros_make_the_same_network():
    for trimap_input in ("value", "one_hot"):
        before, now = (option_model(trimap_input=trimap_input) for _ in range(2))
        load_model(before, backbone_file(chans=4), "b.pth", pretrained=True)
        load_model(now, backbone_file(chans=3), "b.pth", pretrained=True)
        assert all(torch.equal(tensor, now.state_dict()[key]) for key, tensor in before.state_dict().items())


@pytest.mark.parametrize("chans", [3, 4])
def test_a_network_without_trimap_takes_the_rgb_encoder_of_either_file(chans, caplog):
    checkpoint, model = backbone_file(chans=chans), RGBSystem()
    with caplog.at_level("INFO", logger="dinomatte"):
        load_model(model, checkpoint, "b.pth", pretrained=True)
    assert torch.equal(model.backbone.patch_embed.proj.weight, checkpoint["model"][PATCH_EMBED][:, :3])
    dropped = f"{PATCH_EMBED}: 4 input channels changed to 3, the trimap's dropped, which was zero"
    assert (dropped in caplog.text) == (chans == 4)


@pytest.mark.parametrize("value", [1e-8, float("nan")])
def test_a_trimap_channel_that_is_not_zero_is_not_dropped(value):
    checkpoint, model = backbone_file(), RGBSystem()
    checkpoint["model"][PATCH_EMBED][5, 3, 2, 7] = value
    before = model.backbone.patch_embed.proj.weight.clone()
    with pytest.raises(InputError, match=r"^b\.pth: .* fourth input channel trained on trimaps") as caught:
        load_model(model, checkpoint, "b.pth", pretrained=True)
    assert "\n" not in str(caught.value)
    assert torch.equal(model.backbone.patch_embed.proj.weight, before)


def test_a_trained_model_of_four_channels_does_not_lose_one():
    """Only initial weights are fitted, a channel of zeros too."""
    with pytest.raises(InputError, match=r"other shape: backbone\.patch_embed"):
        load_model(RGBSystem(), backbone_file(), "t.pth")


def test_an_encoder_of_another_patch_size_is_refused():
    checkpoint = backbone_file(chans=3)
    checkpoint["model"][PATCH_EMBED] = torch.zeros(32, 3, 8, 8)
    with pytest.raises(InputError, match=r"other shape: .*\(32, 4, 8, 8\) in the file, \(32, 4, 16, 16\) in the model"):
        load_model(option_model(), checkpoint, "b.pth", pretrained=True)


def test_a_trained_trimap_channel_computes_what_it_did(caplog):
    checkpoint = backbone_file(trimap_scale=1.0)
    value, one_hot = option_model(), option_model(trimap_input="one_hot")
    load_model(value, checkpoint, "b.pth", pretrained=True)
    with caplog.at_level("INFO", logger="dinomatte"):
        load_model(one_hot, checkpoint, "b.pth", pretrained=True)
    assert "the trimap's values as regions" in caplog.text
    trimap = torch.randint(0, 3, (1, 1, 64, 96), generator=torch.Generator().manual_seed(0)) / 2
    image = torch.rand(1, 3, 64, 96)
    with torch.inference_mode():
        expected, got = (model.eval().backbone(model._inputs(image, trimap)) for model in (value, one_hot))
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_the_file_s_tensors_stay_as_they_were():
    checkpoint = backbone_file()
    before = checkpoint["model"][PATCH_EMBED].clone()
    load_model(option_model(trimap_input="one_hot"), checkpoint, "b.pth", pretrained=True)
    assert torch.equal(checkpoint["model"][PATCH_EMBED], before)


def test_fewer_channels_than_in_the_file_are_refused():
    checkpoint = {"model": option_model(trimap_input="one_hot").backbone.state_dict(prefix="backbone.")}
    with pytest.raises(InputError, match=r"other shape: .*\(32, 6, 16, 16\) in the file, \(32, 4, 16, 16\)"):
        load_model(option_model(), checkpoint, "b.pth", pretrained=True)


def test_a_trained_model_of_another_coding_is_refused():
    """Only initial weights are fitted: resuming and inference need the model that was trained."""
    with pytest.raises(InputError, match=r"other shape: backbone\.patch_embed"):
        load_model(option_model(trimap_input="one_hot"), {"model": option_model().state_dict()}, "t.pth")


def test_merge_projections_start_fresh_from_a_backbone_alone(caplog):
    model = option_model()
    model.backbone = ViT(
        embed_dim=32, depth=2, num_heads=2, residual_block_indexes=[1], layer_scale_init=1.0, merge_block_indexes=[0]
    )
    checkpoint = backbone_file()
    with caplog.at_level("INFO", logger="dinomatte"):
        load_model(model, checkpoint, "b.pth", pretrained=True)
    assert "newly initialised: " in caplog.text
    assert "backbone.merge." in caplog.text
    with pytest.raises(InputError, match=r"missing: backbone\.merge"):
        load_model(model, {"model": {**option_model().state_dict()}}, "t.pth")
