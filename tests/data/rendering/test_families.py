"""Every family gives sound geometry, and a picture that training can use."""

from dataclasses import replace

import cv2
import numpy as np
import pytest

pytest.importorskip("numba", reason="the renderer needs numba (requirements/render.txt)")

from data.rendering.families import FAMILIES
from data.rendering.library import picture
from data.rendering.scene import render


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("seed", [0, 1])
def test_geometry_is_finite_smooth_and_coloured_within_range(family, seed):
    model = FAMILIES[family][0](np.random.default_rng(seed))
    assert model.strands or model.meshes
    for strands in model.strands:
        n, m = strands.points.shape[:2]
        assert np.isfinite(strands.points).all()
        assert strands.radius.shape == (n, m)
        assert (strands.radius > 0).all()
        assert np.broadcast_to(strands.albedo, (n, m, 3)).min() >= 0
        assert strands.albedo.max() <= 1.05
    for mesh in model.meshes:
        assert np.isfinite(mesh.vertices).all()
        assert mesh.faces.min() >= 0
        assert mesh.faces.max() < len(mesh.vertices)
        assert mesh.albedo.shape == mesh.vertices.shape
        assert 0 <= mesh.albedo.min() <= mesh.albedo.max() <= 1.05


@pytest.mark.parametrize("family", ["fur", "hair", "plush", "braid"])
def test_no_strand_is_a_kinked_polyline(family):
    """Neighbouring segments of a strand turn by less than 60 degrees, but for one joint in a thousand."""
    model = FAMILIES[family][0](np.random.default_rng(3))
    for strands in model.strands:
        steps = np.diff(strands.points, axis=1)
        steps /= np.maximum(np.linalg.norm(steps, axis=-1, keepdims=True), 1e-12)
        turn = (steps[:, 1:] * steps[:, :-1]).sum(-1)
        assert np.mean(turn < 0.5) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("family", [*FAMILIES, "2d-hair", "2d-net"])
def test_a_picture_has_known_parts_an_edge_and_bright_enough_colours(family):
    foreground, alpha = picture(family, (0, 1, 1), 96)
    assert foreground.shape == (96, 96, 3)
    assert alpha.shape == (96, 96)
    assert foreground.dtype == alpha.dtype == np.uint8
    assert ((alpha > 5) & (alpha < 250)).mean() > 0.002
    assert 0.02 < alpha.mean() / 255 < 0.98
    assert (foreground[alpha == 0].astype(int).sum(axis=-1) > 0).mean() > 0.9  # continued outwards, not left black
    again, same = picture(family, (0, 1, 1), 96)
    assert (again == foreground).all()
    assert (same == alpha).all()


@pytest.mark.slow
def test_fur_leaves_no_bald_spot():
    """Skin glints between hairs; nowhere does it show as a patch of 5 pixels in a picture of 192."""
    for seed in range(3):
        model = FAMILIES["fur"][0](np.random.default_rng(seed))
        body = replace(model.meshes[0], albedo=np.tile([1.0, 0, 0], (len(model.meshes[0].vertices), 1)))
        coat = [replace(part, albedo=np.tile([0, 0.5, 0.5], (1, 1, 1))) for part in model.strands]
        seen = replace(model, strands=coat, meshes=[body], closest=1.0)
        shown = render(np.random.default_rng(seed + 10), seen, 192, passes=8)
        bare = (shown[..., 0] > shown[..., 1]) & (shown[..., 3] == 1)
        patches = cv2.erode(bare.astype(np.uint8), np.ones((5, 5), np.uint8))
        assert patches.sum() < 1e-3 * (shown[..., 3] == 1).sum()
