"""The segmentation system: the public head's numbers, any size, its loss, and what it states."""

import functools

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from references import dinov2_weights as published
from small_models import small_segmentation

from engine.inference import Predictor
from metrics.segmentation import confusion_matrix
from modeling.backbone import DINOV3_PIXEL_STATISTICS, ViT
from modeling.meta_arch import Segmentation
from modeling.pretrained import Architecture, convert
from modeling.weights.loading import load_model
from runtime.errors import InputError

MEAN, STD = DINOV3_PIXEL_STATISTICS["lvd1689m"]
PERSON = [
    {"name": "background", "colour": [0, 0, 0], "value": 0},
    {"name": "person", "colour": [0, 255, 0], "value": 1},
]


@functools.cache
def dinov2(variant: str) -> Segmentation:
    """DINOv2 ViT-S/14 with the public head, on the weights of the goldens."""
    conversion = convert(published.state(variant))
    vit = ViT(**Architecture.from_metadata(conversion.metadata).vit_arguments())
    model = Segmentation(backbone=vit, classes=PERSON, pixel_mean=MEAN, pixel_std=STD)
    head = {key.replace("decode_head", "decoder"): tensor for key, tensor in published.state("head").items()}
    load_model(model, {"model": conversion.model | head, "metadata": conversion.metadata}, "goldens")
    return model.eval()


@functools.cache
def goldens():
    return {name: torch.from_numpy(array) for name, array in published.goldens().items()}


def golden_image(height: int = 98, width: int = 140):
    return (goldens()["image_98x140"].permute(2, 0, 1) / 255)[None, :, :height, :width]


@pytest.mark.parametrize("variant", ["plain", "reg"])
@torch.no_grad()
def test_logits_are_those_of_the_public_head(variant):
    model, golden = dinov2(variant), goldens()
    state = model.encode({"image": golden_image()})
    torch.testing.assert_close(model.decoder(state.maps)[0], golden[f"{variant}_logits"], rtol=0, atol=1e-5)
    torch.testing.assert_close(model.logits(state)[0], golden[f"{variant}_logits_resized"], rtol=0, atol=1e-5)
    state = model.encode({"image": golden_image(90, 133)})
    assert (state.padded, state.corner) == ((98, 140), (4, 3))
    torch.testing.assert_close(model.logits(state)[0], golden[f"{variant}_padded_cropped"], rtol=0, atol=1e-5)


def test_the_head_has_the_published_number_of_parameters_and_its_variants_theirs():
    model = dinov2("plain")
    assert sum(parameter.numel() for parameter in model.decoder.parameters()) == 6146
    assert model.out_layers == [8, 9, 10, 11]
    for settings, expected in (
        ({"head_in_index": [3]}, 2 * 384 + 2 * 384 + 2),  # "linear" of the public notebook
        ({"head_norm": False}, 2 * 1536 + 2),
        ({"head_in_index": [3], "head_norm": False, "head_chans": 256}, 384 * 256 * 9 + 256 + 256 * 2 + 2),
    ):
        other = Segmentation(backbone=model.backbone, classes=PERSON, pixel_mean=MEAN, pixel_std=STD, **settings)
        assert sum(parameter.numel() for parameter in other.decoder.parameters()) == expected


@torch.no_grad()
def test_the_head_reads_the_maps_that_its_indexes_name():
    model = small_segmentation(out_layers=[0, 2, 3], head_in_index=[2, 0]).eval()
    image = torch.rand(1, 3, 28, 42)
    pixels = (image - model.pixel_mean) / model.pixel_std
    blocks = [model.backbone.features(pixels, [block])[0] for block in (3, 0)]
    torch.testing.assert_close(torch.cat(model.encode({"image": image}).maps, 1), torch.cat(blocks, 1))
    with pytest.raises(
        InputError, match=r"expected head_in_index of 0 to 2, places in out_layers \[0, 2, 3\], got \[3\]"
    ):
        small_segmentation(out_layers=[0, 2, 3], head_in_index=[3])


@pytest.mark.parametrize("size", [(640, 640), (101, 67), (1, 1), (14, 300)])
def test_masks_have_the_size_of_their_picture(size):
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    for side in (None, 56):
        mask = Predictor(small_segmentation(max_side=side).eval()).one({"image": picture})["mask"]
        assert mask.shape == size
        assert mask.dtype == np.uint8


@torch.no_grad()
def test_large_pictures_are_seen_smaller_and_the_argmax_comes_last():
    model = small_segmentation(max_side=56).eval()
    image = torch.rand(1, 3, 90, 201)
    state = model.encode({"image": image})
    assert (state.seen, state.padded, state.corner) == ((25, 56), (28, 56), (1, 0))
    small = F.interpolate(image, size=(25, 56), mode="bilinear", antialias=True)
    pixels = F.pad((small - model.pixel_mean) / model.pixel_std, (0, 0, 1, 2))
    grid = model.decoder(model.backbone.features(pixels, model.out_layers))
    logits = F.interpolate(grid, size=(28, 56), mode="bilinear")[:, :, 1:26]
    expected = F.interpolate(logits, size=(90, 201), mode="bilinear").softmax(1)
    torch.testing.assert_close(model.decode(state)["mask"], expected)
    large = model.train().encode({"image": image})  # a training crop is seen as it is
    assert large.seen == (90, 201)


def test_evaluation_is_deterministic_and_leaves_batch_norm_alone():
    model = small_segmentation(dropout=0.5).eval()
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    batch = {"image": torch.rand(2, 3, 30, 45)}
    with torch.no_grad():
        first, second, alone = model(batch)["mask"], model(batch)["mask"], model({"image": batch["image"][:1]})["mask"]
    assert torch.equal(first, second)
    torch.testing.assert_close(alone, first[:1])
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())


def test_the_loss_is_torch_s_cross_entropy_and_ignores_255():
    model = small_segmentation().train()
    batch = {"image": torch.rand(2, 3, 28, 28), "mask": torch.randint(0, 2, (2, 28, 28))}
    batch["mask"][0, :20] = 255
    torch.manual_seed(0)
    loss = model(batch)["cross_entropy_loss"]
    matrix = model.training_confusion()
    logits = small_segmentation().train()
    logits = logits.logits(logits.encode(batch))
    torch.testing.assert_close(loss, F.cross_entropy(logits, batch["mask"], ignore_index=255))
    masks = [(logits.argmax(1)[i].numpy().astype(np.uint8), batch["mask"][i].numpy().astype(np.uint8)) for i in (0, 1)]
    assert np.array_equal(matrix, sum(confusion_matrix(*pair, 2) for pair in masks))
    assert model.training_confusion() is None  # it was handed out
    batch["mask"][:] = 255
    assert model(batch)["cross_entropy_loss"] == 0


def test_unequal_micro_batches_weigh_their_pixels():
    """Two micro-batches, of which one is half ignored, against one batch; BatchNorm is left out, as it sees parts."""
    model = small_segmentation(head_norm=False).train()
    batch = {"image": torch.rand(2, 3, 28, 28), "mask": torch.randint(0, 2, (2, 28, 28))}
    batch["mask"][0, :14] = 255
    whole = model(batch)["cross_entropy_loss"]
    parts = [{name: tensor[i : i + 1] for name, tensor in batch.items()} for i in (0, 1)]
    mean = torch.stack([model.counts(part)["pixels"] for part in parts]).mean()
    losses = [model(model.prepare(part), {"pixels": mean})["cross_entropy_loss"] for part in parts]
    torch.testing.assert_close(sum(losses) / 2, whole)


def test_gradients_reach_every_parameter_and_frozen_backbones_have_none():
    model = small_segmentation().train()
    batch = {"image": torch.rand(2, 3, 28, 28), "mask": torch.randint(0, 2, (2, 28, 28))}
    model(batch)["cross_entropy_loss"].backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())
    frozen = small_segmentation(drop_path_rate=0.5)
    frozen.freeze(list(frozen.backbone.parameters()))
    frozen.train()
    assert not frozen.backbone.training
    assert frozen.decoder.training
    first, second = frozen(batch)["cross_entropy_loss"], frozen(batch)["cross_entropy_loss"]
    assert first == second  # no depth is dropped, and BatchNorm's batch is the same
    first.backward()
    assert all(
        (parameter.grad is None) == name.startswith("backbone.") for name, parameter in frozen.named_parameters()
    )
