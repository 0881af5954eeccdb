"""The rasteriser against areas, colours and ramps worked out by hand."""

import numpy as np
import pytest

pytest.importorskip("numba", reason="the renderer needs numba (requirements/render.txt)")

from data.rendering import raster
from data.rendering.camera import Camera
from data.rendering.curves import even, grid_faces, helices, resampled
from data.rendering.lighting import Density, Lights
from data.rendering.model import Finish, Mesh, Model, Strands
from data.rendering.scene import Projected, extended, foreground_and_alpha, rasterised, shaded

SIZE = 32
NO_STRANDS = {
    "strands": np.zeros((0, 7), np.float32),
    "strand_colours": np.zeros((0, 3), np.float32),
    "starts": np.zeros(1, np.int64),
}
NO_FACES = {
    "vertices": np.zeros((0, 7), np.float32),
    "faces": np.zeros((0, 3), np.int32),
    "vertex_colours": np.zeros((0, 3), np.float32),
}


def box_offsets(passes: int = 1024) -> np.ndarray:
    return raster.pass_offsets(np.random.default_rng(0), passes, filter_width=1.0, box=True)


def projected(points: list, depth: float = 5.0, radius: float = 0.0, defocus: float = 0.0, motion=(0, 0)) -> np.ndarray:
    """Rows of `raster.accumulate` at pixel positions."""
    rows = [[x, y, depth, radius, defocus, *motion] for x, y in points]
    return np.array(rows, np.float32)


def triangles(points: list, colour=(1, 1, 1), **kwargs) -> Projected:
    faces = np.arange(len(points), dtype=np.int32).reshape(-1, 3)
    colours = np.tile(np.float32(colour), (len(points), 1))
    return Projected(**NO_STRANDS, vertices=projected(points, **kwargs), faces=faces, vertex_colours=colours)


def strand(points: list, radius: float, colour=(1, 1, 1), **kwargs) -> Projected:
    colours = np.tile(np.float32(colour), (len(points), 1))
    starts = np.array([0, len(points)])
    return Projected(projected(points, radius=radius, **kwargs), colours, starts, **NO_FACES)


def square(left: float, top: float, side: float) -> list:
    a, b, c, d = (left, top), (left + side, top), (left, top + side), (left + side, top + side)
    return [a, b, c, b, d, c]


def test_a_triangle_covers_its_area_and_half_of_the_pixels_its_edge_halves():
    picture = rasterised(triangles([(4, 4), (24, 4), (4, 24)]), box_offsets(), SIZE)
    alpha = picture[..., 3]
    assert alpha.sum() == pytest.approx(200, rel=2e-3)  # half of 20 x 20
    on_the_diagonal = alpha[np.arange(5, 23), 27 - np.arange(5, 23)]  # x + y = 28 cuts these from corner to corner
    np.testing.assert_allclose(on_the_diagonal, 0.5, atol=0.01)
    assert (alpha[5:13, 5:13] == 1).all()  # inside, all passes hit


def test_an_edge_between_pixels_gives_the_fraction():
    alpha = rasterised(triangles(square(8.25, 8, 10)), box_offsets(), SIZE)[..., 3]
    assert alpha[12, 8] == pytest.approx(0.75, abs=0.005)
    assert alpha[12, 18] == pytest.approx(0.25, abs=0.005)


@pytest.mark.parametrize("angle", [0, 10, 30, 45, 62, 90])
@pytest.mark.parametrize("width", [0.2, 1.0, 5.0])
def test_a_strand_covers_length_times_width_at_any_angle(angle, width):
    direction = np.array([np.cos(np.radians(angle)), np.sin(np.radians(angle))])
    ends = np.array([16, 16]) + np.outer([-10, 0, 10], direction)
    alpha = rasterised(strand(ends.tolist(), radius=width / 2), box_offsets(4096), SIZE)[..., 3]
    assert alpha.sum() == pytest.approx(20 * width, rel=0.02)


def test_a_tapered_strand_covers_its_trapezium():
    points = projected([(4, 10), (28, 14)])
    points[:, raster.RADIUS] = [2.0, 0.0]
    one = Projected(points, np.ones((2, 3), np.float32), np.array([0, 2]), **NO_FACES)
    assert rasterised(one, box_offsets(), SIZE)[..., 3].sum() == pytest.approx(np.hypot(24, 4) * 2, rel=0.02)


def test_neighbouring_triangles_leave_no_crack():
    rng = np.random.default_rng(0)
    y, x = np.meshgrid(np.linspace(-8, 40, 60), np.linspace(-8, 40, 60), indexing="ij")
    points = np.stack([x, y], -1).reshape(-1, 2) + rng.uniform(-0.2, 0.2, (3600, 2))
    net = Projected(
        **NO_STRANDS, vertices=projected(points.tolist()), faces=grid_faces(60, 60).astype(np.int32),
        vertex_colours=np.ones((3600, 3), np.float32),
    )  # fmt: skip
    assert (rasterised(net, box_offsets(256), SIZE)[..., 3] == 1).all()


def test_colour_is_premultiplied():
    colour = (0.2, 0.5, 0.9)
    for picture in (
        rasterised(triangles([(3.3, 4.1), (25.2, 6.7), (10.9, 27.8)], colour), box_offsets(64), SIZE),
        rasterised(strand([(3, 3), (20, 11), (28, 28)], 0.4, colour), box_offsets(64), SIZE),
    ):
        alpha = picture[..., 3:]
        assert ((alpha > 0) & (alpha < 1)).any()
        np.testing.assert_allclose(picture[..., :3], alpha * np.float32(colour), atol=1e-5)


def test_the_nearer_of_two_wins_whatever_the_order():
    near, far = projected(square(8, 8, 8), depth=2), projected(square(4, 4, 16), depth=3)
    for first, second, nearer in ((near, far, 0), (far, near, 1)):
        colours = np.zeros((12, 3), np.float32)
        colours[6 * nearer : 6 * nearer + 6, 0] = 1  # the near square is red
        both = Projected(
            **NO_STRANDS, vertices=np.concatenate([first, second]), vertex_colours=colours,
            faces=np.arange(12, dtype=np.int32).reshape(-1, 3),
        )  # fmt: skip
        picture = rasterised(both, box_offsets(16), SIZE)
        assert (picture[9:15, 9:15, 0] == 1).all()
        assert (picture[5:7, 5:19, 0] == 0).all()
        assert picture[..., 3].sum() == pytest.approx(256, rel=0.01)  # the union, not the sum


def test_a_strand_passes_behind_a_square_and_before_it():
    for depth, red in ((6.0, 0.0), (4.0, 1.0)):
        base = triangles(square(10, 10, 12), (0, 0, 1), depth=5.0)
        line = strand([(2, 16), (30, 16)], 1.0, (1, 0, 0), depth=depth)
        both = Projected(line.strands, line.strand_colours, line.starts, base.vertices, base.faces, base.vertex_colours)
        picture = rasterised(both, box_offsets(16), SIZE)
        assert picture[15, 15, 0] == pytest.approx(red)
        assert picture[15, 4, 0] == 1  # beside the square it shows in any case


def test_motion_of_known_length_widens_an_edge_to_a_ramp():
    length = 8
    moving = triangles(square(-40, -40, 56), motion=(length, 0))  # the right edge is at x = 16
    alpha = rasterised(moving, box_offsets(4096), SIZE)[10, :, 3]
    centres = np.arange(SIZE) + 0.5
    expected = np.clip((16 + length / 2 - centres) / length, 0, 1)  # linear from 20 down to 12
    np.testing.assert_allclose(alpha[13:19], expected[13:19], atol=0.01)
    assert (alpha[:11] == 1).all()
    assert (alpha[21:] == 0).all()


def test_defocus_of_known_radius_is_a_disc():
    radius = 6
    alpha = rasterised(triangles(square(-64, -32, 80), defocus=radius), box_offsets(4096), SIZE)[10, :, 3]
    d = np.clip((np.arange(SIZE) + 0.5 - 16) / radius, -1, 1)
    expected = 0.5 - (d * np.sqrt(1 - d**2) + np.arcsin(d)) / np.pi  # the share of a disc on one side of a chord
    np.testing.assert_allclose(alpha, expected, atol=0.015)


def test_the_camera_projects_as_a_pinhole_and_blurs_by_the_thin_lens():
    camera = Camera(np.array([0.0, 0, -4]), np.eye(3), focal=100, centre=np.array([16.0, 16]), focus=4, aperture=0.1)
    row = camera.project(np.array([[0.2, -0.1, 0], [0, 0, 4]]), np.array([0.01, 0.01]))
    np.testing.assert_allclose(row[0, :4], [21, 13.5, 4, 0.25], rtol=1e-6)  # 100 * 0.2 / 4 + 16
    assert row[0, raster.DEFOCUS] == 0
    assert abs(row[1, raster.DEFOCUS]) == pytest.approx(100 * 0.1 * (1 / 4 - 1 / 8))  # circle of confusion


def test_light_is_attenuated_by_beer_and_lambert():
    """A slab of known density between the light and a point: transmittance exp(-density * thickness)."""
    density = Density(np.full(3, -1.0), np.full(3, 1.0))
    inside = (np.arange(density.grid.shape[2]) * density.cell + density.low[2] > 0.0) & (
        np.arange(density.grid.shape[2]) * density.cell + density.low[2] < 0.5
    )
    density.grid[:, :, inside] = 3.0
    thickness = inside.sum() * density.cell
    below, above = np.array([[0.0, 0, -0.5]]), np.array([[0.0, 0, 0.8]])
    up = np.array([0.0, 0, 1])
    assert density.optical_depth(below, up)[0] == pytest.approx(3 * thickness, rel=0.02)
    assert density.optical_depth(above, up)[0] == pytest.approx(0, abs=1e-3)
    slanted = np.array([0.6, 0, 0.8])  # the way through the slab is longer by 1 / cosine
    assert density.optical_depth(below, slanted)[0] == pytest.approx(3 * thickness / 0.8, rel=0.03)


def test_a_matt_surface_facing_the_light_shines_by_the_cosine():
    one_light = np.array([[0.0, -np.sin(1.0), -np.cos(1.0)]])  # 1 radian from the normal
    lights = Lights(one_light, np.array([[0.5, 0.5, 0.5]]), np.zeros(3), np.zeros(3))
    plane = np.array([[-1.0, -1, 0], [1, -1, 0], [-1, 1, 0], [1, 1, 0]])
    matt = Finish(specular=0, exponent=1, tinted=0, transmitted=0, density=0)
    mesh = Mesh(plane, grid_faces(2, 2), np.full((4, 3), 0.5), matt)
    camera = Camera(np.array([0.0, 0, -4]), np.eye(3), 20, np.array([16.0, 16]), 4.0)
    colours = shaded(Model(meshes=[mesh]), camera, lights, SIZE).vertex_colours
    np.testing.assert_allclose(colours, 0.8 * 0.5 * 0.5 * np.cos(1.0), rtol=1e-4)  # 0.8: the diffuse strength


def test_strands_hidden_by_a_body_are_dropped_and_others_kept():
    ball = Mesh(np.array([[-1.0, -1, 0], [1, -1, 0], [-1, 1, 0], [1, 1, 0]]), grid_faces(2, 2), np.full((4, 3), 0.5))
    behind = np.array([[[0, 0, 0.5], [0.1, 0, 0.5]]])
    before = behind - [0, 0, 1]
    points = np.concatenate([behind, before])
    hairs = Strands(points, np.full((2, 2), 0.01), np.full((2, 1, 3), 0.5))
    camera = Camera(np.array([0.0, 0, -4]), np.eye(3), 20, np.array([16.0, 16]), 4.0)
    lights = Lights(np.array([[0.0, 0, -1]]), np.ones((1, 3)), np.zeros(3), np.zeros(3))
    kept = shaded(Model([hairs], [ball]), camera, lights, SIZE)
    assert len(kept.starts) - 1 == 1
    assert kept.strands[0, raster.DEPTH] == pytest.approx(3.5)


def test_empty_pixels_take_the_colour_nearby_and_alpha_stays():
    picture = np.zeros((37, 53, 4), np.float32)
    picture[10:20, 5:15] = [0.3, 0.2, 0.1, 1.0]
    picture[10:20, 40:45] = [0.05, 0.1, 0.2, 0.5]  # half covered: straight colour 0.1, 0.2, 0.4
    colour = extended(picture)
    np.testing.assert_allclose(colour[12, 8], [0.3, 0.2, 0.1], atol=1e-6)
    np.testing.assert_allclose(colour[12, 42], [0.1, 0.2, 0.4], atol=1e-6)
    np.testing.assert_allclose(colour[14, 3], [0.3, 0.2, 0.1], atol=0.02)
    np.testing.assert_allclose(colour[14, 48], [0.1, 0.2, 0.4], atol=0.05)
    assert colour.min() >= 0.1 - 1e-6  # nowhere black
    foreground, alpha = foreground_and_alpha(picture)
    assert set(np.unique(alpha)) == {0, 128, 255}
    assert foreground.dtype == alpha.dtype == np.uint8


def test_a_resampled_curve_passes_through_its_points_and_an_even_one_has_equal_steps():
    points = np.array([[[0.0, 0, 0], [1, 0, 0], [1, 2, 0], [0, 2, 1]]])
    np.testing.assert_allclose(resampled(points, 31)[:, ::10], points, atol=1e-12)
    steps = np.linalg.norm(np.diff(even(resampled(points, 200), 40), axis=1), axis=-1)
    assert steps.max() / steps.min() < 1.02


def test_a_helix_keeps_its_distance_from_the_axis():
    axis = np.stack([np.zeros(100), np.zeros(100), np.linspace(0, 3, 100)], -1)[None]
    wound = helices(axis, 0.2, np.array([5.0]), np.array([0.3]))
    np.testing.assert_allclose(np.linalg.norm(wound[..., :2], axis=-1), 0.2, atol=1e-9)
    angle = np.unwrap(np.arctan2(wound[0, :, 1], wound[0, :, 0]))
    assert abs(angle[-1] - angle[0]) == pytest.approx(2 * np.pi * 5)
