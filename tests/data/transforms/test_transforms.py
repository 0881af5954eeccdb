"""The steps of a training sample one by one, and all together against the public recipe restated literally."""

import dataclasses
from math import cos, pi, radians, sin, tan

import cv2
import numpy as np
import pytest
from skimage.transform import AffineTransform

from data.images.trimap import trimap_from_alpha
from data.training import dim_recipe
from data.training.dim_recipe import DimRecipe, Layer, draw_sample, make_crop
from data.transforms import (
    Affine,
    AffineRange,
    ColourJitter,
    LanczosAlpha,
    affine_for,
    affine_map,
    choose_corner,
    composite,
    crop_map,
    crop_trimap,
    draw_affine,
    draw_colour_jitter,
    draw_interpolation,
    enlarged_size,
    jitter_colour,
    join_alphas,
    join_foregrounds_exact,
    join_foregrounds_legacy,
    leaves_background,
    read_stretched,
    read_through,
    read_where,
    resize_map,
    unknown_corners,
)
from runtime.errors import InputError
from tests.references import public_recipe


def rng(seed=0):
    return np.random.default_rng(seed)


# --- pixel maps


@pytest.mark.parametrize("size", [(30, 40), (47, 33)])
def test_resize_map_places_pixels_where_cv2_resize_does(size):
    image = cv2.GaussianBlur(rng().random((60, 80)).astype(np.float32), (0, 0), 3)
    mapped = read_through(image, resize_map(image.shape, size), size, cv2.INTER_LINEAR)
    np.testing.assert_allclose(mapped, cv2.resize(image, size[::-1]), atol=2e-3)  # warps round to 1/32 pixel


def test_composed_maps_equal_one_step_after_the_other():
    image = rng().integers(0, 256, (50, 70, 3), dtype=np.uint8)
    one_by_one = cv2.resize(image, (140, 100), interpolation=cv2.INTER_LINEAR)[20:60, 10:90]
    composed = read_through(image, resize_map((50, 70), (100, 140)) @ crop_map(20, 10), (40, 80), cv2.INTER_LINEAR)
    assert np.abs(one_by_one.astype(int) - composed).max() <= 6  # 1/32 pixel of random noise


def test_stretched_background_window_is_within_one_of_its_pixels():
    column = np.repeat(np.arange(200, dtype=np.uint8)[None], 150, axis=0)  # the value is the column
    canvas, corner, size = (600, 1000), (37, 421), (128, 128)
    window = read_stretched(column, canvas, corner, size, cv2.INTER_LINEAR)
    wanted = cv2.resize(column, canvas[::-1])[37 : 37 + 128, 421 : 421 + 128]
    assert window.shape == size
    assert np.abs(window.astype(int) - wanted).max() <= 1


@pytest.mark.parametrize("shape", [(1, 1), (3, 2000), (640, 480)])
def test_stretched_background_of_any_size_fills_the_window(shape):
    image = np.full((*shape, 3), 7, np.uint8)
    for corner in ((0, 0), (600, 900)):
        assert (read_stretched(image, (700, 1000), corner, (100, 100), cv2.INTER_CUBIC) == 7).all()


def turned(angle=0.3, shrink=1.4):
    return np.array([[shrink * cos(angle), -sin(angle), 40], [sin(angle), shrink * cos(angle), -10], [0, 0, 1.0]])


@pytest.mark.parametrize("interpolation", [cv2.INTER_LANCZOS4, cv2.INTER_CUBIC, cv2.INTER_LINEAR])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_chosen_pixels_are_read_as_if_all_were(interpolation, channels):
    image = cv2.GaussianBlur(rng().integers(0, 256, (150, 170, *channels), dtype=np.uint8), (0, 0), 2)
    wanted = rng(1).random((61, 83)) < 0.3
    read = read_where(wanted, image, turned(), interpolation)
    whole = read_through(image, turned(), wanted.shape, interpolation)
    assert np.abs(read.astype(int) - whole)[wanted].max() <= 2  # positions on a tie of 1/32 pixel
    assert (read[~wanted] == 0).all()
    np.testing.assert_array_equal(
        read_where(wanted, image, crop_map(5, 7), interpolation)[wanted], image[5:66, 7:90][wanted]
    )


@pytest.mark.parametrize("angle", [0.0, 0.3, 2.0])
@pytest.mark.parametrize("shrink", [0.7, 1.0, 2.3])
def test_lanczos_alpha_equals_the_kernel_everywhere(angle, shrink):
    alpha = (hairy((300, 420)) * 255).astype(np.uint8)
    alpha[:70, :90] = 200  # meets the border, and is flat without being known
    size, pixel_map = (280, 330), turned(angle, shrink) @ crop_map(-30, -20)
    x, y = np.meshgrid(np.arange(size[1]), np.arange(size[0]))
    places = [(a * x + b * y + c).astype(np.float32) for a, b, c in pixel_map[:2]]
    whole = cv2.remap(alpha.astype(np.float32), *places, cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_CONSTANT)
    read = LanczosAlpha(alpha).read(pixel_map, size)
    difference = np.abs(read - whole)
    assert (difference > 1e-3).mean() < 1e-3  # float32 sums in another order: other ties of 1/32 pixel
    assert ((whole == 0) == (read == 0)).mean() > 0.999


def test_no_chosen_pixel_reads_nothing():
    assert not read_where(np.zeros((5, 6), bool), np.ones((9, 9, 3), np.uint8), np.eye(3), cv2.INTER_LANCZOS4).any()


# --- affine


def forward(affine, size):
    """Input to output by the inverse of what affine_map gives, in (x, y, 1)."""
    return np.linalg.inv(affine_map(affine, size))


def centred(matrix, size):
    centre = np.array([[1, 0, (size[1] + 1) / 2], [0, 1, (size[0] + 1) / 2], [0, 0, 1.0]])
    return centre @ matrix @ np.linalg.inv(centre)


def test_affine_without_shear_equals_skimage_scale_then_rotation():
    size = (1100, 1500)
    expected = AffineTransform(scale=(1.2, 0.9), rotation=radians(25)).params
    np.testing.assert_allclose(forward(Affine(25, (1.2, 0.9), 0), size), centred(expected, size), atol=1e-9, rtol=1e-12)


def test_affine_with_shear_and_flip_equals_the_matrices_multiplied_by_hand():
    size, angle, shear = (80, 120), radians(-17), radians(8)
    # a column vector is flipped, scaled, then rotated with its x axis leaning by the shear
    flip, scale = np.diag([-1, 1, 1]), np.diag([0.85, 1.1, 1])
    turn = np.array([[cos(angle + shear), -sin(angle + shear), 0], [sin(angle), cos(angle), 0], [0, 0, 1]])
    np.testing.assert_allclose(
        forward(Affine(-17, (0.85, 1.1), 8, (True, False)), size), centred(turn @ scale @ flip, size), atol=1e-9
    )


def test_shear_alone_by_hand():
    linear = affine_map(Affine(shear=10), (99, 99))[:2, :2]
    np.testing.assert_allclose(linear, [[1 / cos(pi / 18), tan(pi / 18)], [0, 1]], atol=1e-12)


def test_affine_map_equals_the_public_matrix_written_out():
    drawn = draw_sample(DimRecipe(), rng(3))
    image = cv2.GaussianBlur(rng().random((1100, 1300, 3)).astype(np.float32), (0, 0), 4)
    expected, _ = public_recipe.warp(image, image[..., 0].copy(), drawn, lambda: cv2.INTER_LINEAR)
    ours = read_through(image, affine_map(drawn.affine, (1100, 1300)), (1100, 1300), cv2.INTER_LINEAR)
    np.testing.assert_array_equal(ours, expected)


def test_small_pictures_are_not_rotated():
    drawn = Affine(20, (1.1, 0.9), 5, (True, False))
    assert affine_for(drawn, AffineRange(), (1023, 900)) == Affine(0, (1.1, 0.9), 5, (True, False))
    assert affine_for(drawn, AffineRange(), (300, 1024)) == drawn


def test_affine_draws_fill_their_ranges():
    generator = rng(1)
    drawn = [draw_affine(generator, AffineRange()) for _ in range(4000)]
    for values, low, high in (
        ([d.angle for d in drawn], -30, 30),
        ([d.scale[0] for d in drawn], 0.8, 1.25),
        ([d.scale[1] for d in drawn], 0.8, 1.25),
        ([d.shear for d in drawn], -10, 10),
    ):
        assert low <= min(values) < low + 0.01 * (high - low)
        assert high - 0.01 * (high - low) < max(values) <= high
        assert np.mean(values) == pytest.approx((low + high) / 2, abs=0.03 * (high - low))
    assert np.mean([d.flip for d in drawn], axis=0) == pytest.approx([0.5, 0.5], abs=0.04)


@pytest.mark.parametrize("bad", [{"scale": (0, 1)}, {"scale": (2, 1)}, {"shear": 90}, {"flip_prob": 1.5}])
def test_affine_ranges_out_of_range_are_refused(bad):
    with pytest.raises(InputError, match="expected"):
        AffineRange(**bad)


# --- interpolation


def test_random_interpolation_draws_four_kernels_equally_and_linear_always_one():
    generator = rng()
    drawn = [draw_interpolation(generator, "random") for _ in range(4000)]
    counts = np.unique(drawn, return_counts=True)[1]
    assert len(counts) == 4
    assert counts.min() > 900
    assert {draw_interpolation(generator, "linear") for _ in range(20)} == {cv2.INTER_LINEAR}


# --- crop


@pytest.mark.parametrize("side", [64, 512])
def test_enlarged_size_equals_the_repeated_public_enlargement(side):
    for height, width in rng().integers(side // 4, 3 * side, size=(300, 2)):
        h, w = int(height), int(width)
        ratio = 1.1 * side / h if h < w else 1.1 * side / w
        while h < side + 1 or w < side + 1:
            h, w = int(h * ratio), int(w * ratio)
        assert enlarged_size((int(height), int(width)), side) == (h, w)


def test_tiny_crops_still_get_a_canvas_that_holds_them():
    assert enlarged_size((8, 8), 8) == (9, 9)  # the public loop would never end: int(1.1 * 8) is 8


def blob_trimap(size=(300, 400)):
    trimap = np.zeros(size, np.uint8)
    cv2.circle(trimap, (210, 140), 60, 128, -1)
    cv2.circle(trimap, (210, 140), 50, 255, -1)
    return trimap


@pytest.mark.parametrize("canvas", [(300, 400), (301, 397), (900, 1200)])
def test_crops_are_centred_on_an_unknown_pixel_and_lie_inside(canvas):
    trimap, side = blob_trimap(), 128
    for u in np.linspace(0, 0.999, 25):
        corner = choose_corner(trimap, canvas, side, (u, 0.5))
        assert all(0 <= start <= length - side for start, length in zip(corner, canvas, strict=True))
        cropped = crop_trimap(trimap, canvas, corner, side)
        assert cropped.shape == (side, side)
        assert cropped[side // 2, side // 2] == 128


def test_every_candidate_can_be_chosen():
    corners = unknown_corners(blob_trimap(), (300, 400), 128)
    chosen = {choose_corner(blob_trimap(), (300, 400), 128, (u, 0)) for u in np.linspace(0, 1, 5000)[:-1]}
    assert chosen == {tuple(corner) for corner in corners.tolist()}


def test_without_enough_unknown_the_crop_is_anywhere():
    trimap = np.zeros((300, 400), np.uint8)
    assert choose_corner(trimap, (300, 400), 128, (0, 0)) == (0, 0)
    assert choose_corner(trimap, (300, 400), 128, (0.9999, 0.9999)) == (172, 272)
    trimap[140:144, 200:204] = 128  # one candidate: fewer than ten
    assert choose_corner(trimap, (300, 400), 128, (0, 0)) == (0, 0)


# --- colour


def test_colour_jitter_by_hand():
    # HSV of (0.5, 0.25, 0.25): hue 0, saturation 0.5, value 0.5, everywhere, so the means are 0.5 too
    fg = np.tile(np.float32([0.5, 0.25, 0.25]), (2, 3, 1))
    jittered = jitter_colour(fg, np.ones((2, 3), np.float32), ColourJitter(hue=-120, saturation=0.5, value=-0.5))
    # shift 0.5 * (1.1 - 0.5) / 10 = 0.03: saturation 0.53, value 0.47; hue -120 is 240, pure blue
    low = 0.47 * (1 - 0.53)
    np.testing.assert_allclose(jittered, np.tile([low, low, 0.47], (2, 3, 1)), atol=1e-5)


def test_colour_jitter_reflects_at_both_ends():
    fg = np.float32([[[1, 1, 1], [0.1, 0.1, 0.1]]])  # mean value 0.55: the shift is +-0.055
    alpha = np.ones((1, 2), np.float32)
    up = jitter_colour(fg, alpha, ColourJitter(0, 0, 1))[0].max(axis=1)
    np.testing.assert_allclose(up, [2 - 1.055, 0.155], atol=1e-5)
    black = jitter_colour(np.zeros_like(fg), alpha, ColourJitter(0, 0, -1))  # |0 - 0.11|
    np.testing.assert_allclose(black.max(axis=2), 0.11, atol=1e-5)


def test_colour_jitter_takes_its_means_where_the_foreground_is_visible():
    fg = np.float32([[[0.2, 0.2, 0.2], [1, 1, 1]]])
    value = jitter_colour(fg, np.float32([[0.01, 0]]), ColourJitter(0, 0, 1))[0, 0].max()
    assert value == pytest.approx(0.2 + (1.1 - 0.2) / 10, abs=1e-5)


def test_colour_jitter_leaves_an_invisible_foreground_and_its_arguments_alone():
    fg = rng().random((8, 8, 3)).astype(np.float32)
    before, jitter = fg.copy(), ColourJitter(30, 0.9, -0.9)
    np.testing.assert_array_equal(jitter_colour(fg, np.zeros((8, 8), np.float32), jitter), fg)
    jittered = jitter_colour(fg, np.ones((8, 8), np.float32), jitter)
    np.testing.assert_array_equal(fg, before)
    assert jittered.min() >= 0
    assert jittered.max() <= 1


def test_colour_jitter_equals_the_public_one():
    fg = rng().random((40, 50, 3)).astype(np.float32)
    alpha = np.clip(rng(1).random((40, 50)) * 2 - 1, 0, 1).astype(np.float32)
    for seed in range(6):
        drawn = draw_sample(DimRecipe(), rng(seed))
        expected = public_recipe._jitter(fg, alpha, drawn)
        np.testing.assert_allclose(jitter_colour(fg, alpha, drawn.jitter), expected, atol=1e-5)


def test_colour_draws_fill_their_ranges():
    generator = rng(5)
    drawn = [draw_colour_jitter(generator) for _ in range(3000)]
    assert {d.hue for d in drawn} == set(range(-40, 40))
    for name in ("saturation", "value"):
        values = [getattr(d, name) for d in drawn]
        assert -1 <= min(values) < -0.99
        assert 0.99 < max(values) < 1


# --- layers


def test_composite_equation_by_hand():
    fg, bg = np.full((1, 3, 3), 200, np.float32), np.full((1, 3, 3), 100, np.float32)
    image = composite(fg, bg, np.float32([[0, 0.25, 1]]))
    np.testing.assert_array_equal(image[0, :, 0], [100, 125, 200])
    assert (fg == 200).all()
    assert (bg == 100).all()


def test_two_half_transparent_layers_let_a_quarter_through():
    assert join_alphas(np.float32([[0.5]]), np.float32([[0.5]])) == pytest.approx(0.75)


def test_exact_colour_of_two_foregrounds_by_hand():
    f1, f2 = np.full((1, 4, 3), 200, np.uint8), np.full((1, 4, 3), 50, np.uint8)
    a1, a2 = np.float32([[0.5, 0.5, 0, 0]]), np.float32([[0, 0.5, 0.5, 0]])
    exact = join_foregrounds_exact(f1, a1, f2, a2)[0, :, 0]
    # a2 = 0: F1 alone; both half: (100 + 0.25 * 50) / 0.75 = 150; a1 = 0: F2 alone; neither: free, F1
    np.testing.assert_allclose(exact, [200, 150, 50, 200], atol=1e-4)
    legacy = join_foregrounds_legacy(f1, a1, f2)[0, :, 0]
    np.testing.assert_array_equal(legacy, [125, 125, 50, 50])  # the second shows where it is transparent


def test_exact_colour_composites_as_one_layer_over_the_other():
    generator = rng(2)
    f1, f2 = generator.integers(0, 256, (2, 9, 7, 3), dtype=np.uint8)
    a1, a2 = generator.random((2, 9, 7)).astype(np.float32)
    bg = generator.random((9, 7, 3)).astype(np.float32) * 255
    over = composite(f1.astype(np.float32), composite(f2.astype(np.float32), bg, a2), a1)
    joint = composite(join_foregrounds_exact(f1, a1, f2, a2), bg, join_alphas(a1, a2))
    np.testing.assert_allclose(joint, over, atol=1e-3)


def test_layers_that_cover_everything_leave_no_background():
    opaque, open_left = np.full((20, 30), 255, np.uint8), np.full((20, 30), 255, np.uint8)
    open_left[:, :10] = 0
    assert not leaves_background(opaque, open_left)
    assert leaves_background(open_left, open_left)
    assert not leaves_background(open_left, np.full((7, 5), 255, np.uint8))


def test_a_single_open_place_is_found():
    for seed in range(20):
        alpha, behind = np.full((70, 90), 255, np.uint8), np.full((35, 45), 255, np.uint8)
        row, column = rng(seed).integers((70, 90))
        alpha[row, column] = 254
        assert not leaves_background(alpha, behind)
        behind[row // 2, column // 2] = 0
        assert leaves_background(alpha, behind)


# --- trimaps made in part


def hairy(size=(420, 610), seed=0):
    """A soft disc with one-pixel hairs, float in [0, 1]."""
    alpha = scene(size, seed).alpha
    for x, y in rng(seed).integers(0, min(size), (40, 2)):
        cv2.line(alpha, (size[1] // 2, size[0] // 2), (int(x), int(y)), 255, 1, cv2.LINE_AA)
    return alpha.astype(np.float32) / 255


def grid_of(alpha, **erosions):
    drawn = draw(0, **{"foreground_erosion": 11, "background_erosion": 28, **erosions})
    canvas = alpha.shape

    def read(pixel_map, size):
        return read_through(alpha, pixel_map, size, cv2.INTER_LINEAR)

    return dim_recipe._TrimapGrid(read, np.eye(3), canvas, drawn)


PARTS = [(slice(0, 420), slice(0, 610)), (slice(100, 333), slice(201, 409)), (slice(0, 50), slice(580, 610))]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("sides", [(1, 1), (11, 28), (29, 2)])
def test_a_part_of_the_trimap_equals_eroding_the_whole_canvas(part, sides):
    alpha = hairy()
    grid = grid_of(alpha, foreground_erosion=sides[0], background_erosion=sides[1])
    whole = trimap_from_alpha(alpha, *sides)
    np.testing.assert_array_equal(grid.trimap(part)[part], whole[part])


@pytest.mark.parametrize("start", [(0, 0), (64, 66), (101, 47)])
def test_centres_from_every_fourth_pixel_are_unknown_in_the_whole_trimap(start):
    alpha = hairy()
    grid = grid_of(alpha)
    part = slice(start[0], 420 - start[0]), slice(start[1], 610 - start[1])
    thinned = grid.trimap(part, step=4)[part][::4, ::4]
    whole = trimap_from_alpha(alpha, 11, 28)[part][::4, ::4]
    assert (whole[thinned == 128] == 128).all()
    assert (thinned == 128).sum() > 0.9 * (whole == 128).sum()


def test_erosion_by_thinned_ellipses_equals_looking_at_every_fourth_pixel():
    alpha = hairy((120, 160))
    ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (13, 13)) > 0
    thinned = trimap_from_alpha(alpha[2::4, 1::4], 13, 13, step=4)
    places = [4 * k for k in range(-6 // 4 + 1, 2)]
    for row, column in np.ndindex(thinned.shape):
        seen = [
            alpha[2 + 4 * row + dy, 1 + 4 * column + dx]
            for dy in places
            for dx in places
            if ellipse[6 + dy, 6 + dx] and 0 <= 2 + 4 * row + dy < 120 and 0 <= 1 + 4 * column + dx < 160
        ]
        expected = 255 if min(seen) >= 1 - 1e-5 else 0 if max(seen) <= 1e-5 else 128
        assert thinned[row, column] == expected


@pytest.mark.parametrize("trimap_size", [640, None])
@pytest.mark.parametrize("seed", range(3))
def test_trimap_of_the_crop_is_that_of_the_whole_canvas(monkeypatch, trimap_size, seed):
    layer, drawn = scene((1060, 1400), seed), draw(seed, squeeze=False)
    recipe = DimRecipe(interpolation="linear", trimap_size=trimap_size)
    place = dim_recipe.place_crop(read_of(layer, drawn), layer.size, drawn, recipe)
    cells = (640, 640) if trimap_size else layer.size
    to_layer = affine_map(drawn.affine, layer.size) @ resize_map(layer.size, cells)
    whole = trimap_from_alpha(
        read_of(layer, drawn)(to_layer, cells), drawn.foreground_erosion, drawn.background_erosion
    )
    wanted = crop_trimap(whole, layer.size, place.corner, 512)
    assert (place.trimap != wanted).mean() < 1e-3  # maps that begin elsewhere are rounded elsewhere
    assert place.trimap[256, 256] == 128


def read_of(layer, drawn):
    alpha = layer.alpha.astype(np.float32) / 255
    return lambda pixel_map, size: np.clip(read_through(alpha, pixel_map, size, drawn.interpolation_alpha), 0, 1)


# --- the recipe as a whole


@pytest.mark.parametrize("double", ["legacy", "exact"])
@pytest.mark.parametrize("kernel", [cv2.INTER_NEAREST, cv2.INTER_CUBIC, cv2.INTER_LANCZOS4])
def test_a_crop_without_layers_is_the_same_to_the_bit(double, kernel):
    kernels = dict.fromkeys(("interpolation_fg", "interpolation_fg2", "interpolation_alpha2"), kernel)
    for seed in range(3):
        drawn = draw(seed, squeeze=False, **kernels)
        inputs = scene((300, 420), seed), scene((200, 300), seed + 4), scene((100, 90), 5).fg, drawn
        recipe = DimRecipe(128, double_foreground=double)
        whole, bare = make_crop(*inputs, recipe), make_crop(*inputs, recipe, return_layers=False)
        for name in ("image", "alpha", "trimap"):
            np.testing.assert_array_equal(getattr(whole, name), getattr(bare, name))
        assert bare.fg is None
        assert bare.bg is None


def scene(size=(1060, 1400), seed=0, markers=()):
    """A smooth coloured layer with a soft disc as alpha; markers are bright dots at (x, y)."""
    generator = rng(seed)
    fg = cv2.resize(generator.random((9, 12, 3)).astype(np.float32), size[::-1], interpolation=cv2.INTER_CUBIC)
    fg = np.clip(fg * 140 + 20, 0, 255)
    y, x = np.mgrid[: size[0], : size[1]]
    alpha = np.clip((0.3 * min(size) - np.hypot(x - size[1] / 2, y - size[0] / 2)) / 25 + 0.5, 0, 1)
    for cx, cy in markers:
        dot = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 6.0**2))
        fg = fg * (1 - dot[..., None]) + 255 * dot[..., None]
        alpha = np.maximum(alpha, dot)
    return Layer(fg.astype(np.uint8), (alpha * 255).astype(np.uint8))


def fast_and_literal(monkeypatch, layer, second, bg, drawn, place=(0.5, 0.5), side=512):
    """Both pipelines with bilinear kernels, cut at the same `place` of the canvas (0 top left, 1 bottom right)."""
    canvas = enlarged_size((640, 640) if drawn.squeeze else layer.size, side)
    corner = tuple(int(p * (length - side)) for p, length in zip(place, canvas, strict=True))
    recipe = DimRecipe(crop_size=side, interpolation="linear")
    monkeypatch.setattr(dim_recipe, "choose_corner", lambda *_: corner)
    fast = make_crop(layer, second, bg, drawn, recipe)

    def linear():
        return cv2.INTER_LINEAR

    fg, alpha = layer.fg, layer.alpha.astype(np.float32) / 255
    if second is not None:
        fg, alpha = public_recipe.join(fg, alpha, second.fg, second.alpha.astype(np.float32) / 255, linear)
    fg, alpha = public_recipe.squeeze(fg, alpha, drawn, linear)
    fg, alpha = public_recipe.warp(fg, alpha, drawn, linear)
    trimap = public_recipe.trimap_640(alpha, drawn, linear)
    crop = public_recipe.random_crop(fg, alpha, trimap, bg, side, drawn, linear, corner)
    return fast, public_recipe.finish(crop, drawn)


def draw(seed, **changes):
    return dataclasses.replace(draw_sample(DimRecipe(interpolation="linear"), rng(seed)), **changes)


CASES = {
    "plain": {"squeeze": False},
    "squeezed": {"squeeze": True},
    "second foreground": {"squeeze": False, "second": True},
    "second foreground, squeezed": {"squeeze": True, "second": True},
    "enlarged": {"squeeze": False, "size": (300, 420)},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_fused_recipe_equals_the_public_one_step_by_step(monkeypatch, case, seed):
    settings = dict(CASES[case])
    layer = scene(settings.pop("size", (1060, 1400)), seed)
    second = scene((700, 900), seed + 9) if settings.pop("second", False) else None
    bg = scene((480, 640), seed + 5).fg
    fast, literal = fast_and_literal(monkeypatch, layer, second, bg, draw(seed, **settings))

    assert np.abs(fast.alpha - literal["alpha"][0]).mean() < 0.001
    for name in ("image", "fg", "bg"):
        difference = np.abs(getattr(fast, name).transpose(2, 0, 1) - literal[name])
        assert difference.mean() < 1 / 255, name
    assert (fast.trimap != literal["trimap"][0]).mean() < 0.02  # rims: each public resize is half a cell off


@pytest.mark.parametrize("squeeze", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_marker_lands_where_the_public_recipe_puts_it(monkeypatch, squeeze, seed):
    black = Layer(np.zeros((1060, 1400, 3), np.uint8), np.zeros((1060, 1400), np.uint8))
    y, x = np.mgrid[:1060, :1400]
    dot = 255 * np.exp(-((x - 760) ** 2 + (y - 500) ** 2) / (2 * 8.0**2))
    layer = Layer(np.repeat(dot.astype(np.uint8)[..., None], 3, axis=2), dot.astype(np.uint8))
    drawn = draw(seed, squeeze=squeeze, jitter=ColourJitter())
    fast, literal = fast_and_literal(monkeypatch, layer, None, black.fg, drawn)
    np.testing.assert_allclose(centroid(fast.alpha), centroid(literal["alpha"][0]), atol=0.1)
    # the foreground moved with its alpha; its darkest levels differ by the rounding of 8 bits
    np.testing.assert_allclose(centroid(fast.fg[..., 0]), centroid(fast.alpha), atol=0.1)


def centroid(weights):
    y, x = np.mgrid[: weights.shape[0], : weights.shape[1]]
    return (weights * x).sum() / weights.sum(), (weights * y).sum() / weights.sum()


@pytest.mark.parametrize("seed", range(4))
def test_crop_centres_come_from_the_same_places_as_in_the_public_recipe(seed):
    drawn, layer = draw(seed, squeeze=False), scene()
    alpha = layer.alpha.astype(np.float32) / 255
    _, alpha = public_recipe.warp(layer.fg, alpha, drawn, lambda: cv2.INTER_LINEAR)
    public = public_recipe.trimap_640(alpha, drawn, lambda: cv2.INTER_LINEAR).astype(np.uint8)
    ours = []

    def spy(trimap, canvas, side, u):
        ours.append(unknown_corners(trimap, canvas, side))
        return choose_corner(trimap, canvas, side, u)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dim_recipe, "choose_corner", spy)
        make_crop(layer, None, scene((480, 640), 5).fg, drawn, DimRecipe(interpolation="linear"))
    found, wanted = ({tuple(c) for c in corners.tolist()} for corners in (ours[0], public_corners(public)))
    assert len(found & wanted) / len(found | wanted) > 0.9
    assert len(found) == pytest.approx(len(wanted), rel=0.05)


def public_corners(trimap, side=512):
    return unknown_corners(trimap, trimap.shape, side)


@pytest.mark.parametrize("seed", range(12))
def test_known_regions_of_the_trimap_agree_with_alpha(seed):
    recipe = DimRecipe(crop_size=256)
    crop = make_crop(
        scene((500, 640), seed), scene((400, 500), seed + 1), scene().fg, draw_sample(recipe, rng(seed)), recipe
    )
    assert set(np.unique(crop.trimap)) <= {0, 128, 255}
    assert crop.alpha[crop.trimap == 255].min(initial=1) >= 0.99
    assert crop.alpha[crop.trimap == 0].max(initial=0) <= 0.01


def test_image_is_the_composite_of_what_is_returned():
    recipe = DimRecipe(crop_size=128)
    crop = make_crop(scene((300, 420)), scene((200, 300), 4), scene((100, 90), 5).fg, draw(8), recipe)
    alpha = crop.alpha[..., None]
    np.testing.assert_allclose(crop.image, alpha * crop.fg + (1 - alpha) * crop.bg, atol=1e-6)
    for part in (crop.image, crop.fg, crop.bg, crop.alpha):
        assert part.dtype == np.float32
        assert 0 <= part.min() <= part.max() <= 1
    assert crop.image.shape == (128, 128, 3)


def test_arguments_come_back_unchanged():
    layer, second, bg = scene((300, 420)), scene((200, 300), 4), scene((100, 90), 5).fg
    before = [part.copy() for part in (layer.fg, layer.alpha, second.fg, second.alpha, bg)]
    for part in (layer.fg, layer.alpha, second.fg, second.alpha, bg):
        part.flags.writeable = False
    for double in ("legacy", "exact"):
        make_crop(layer, second, bg, draw(3), DimRecipe(crop_size=128, double_foreground=double))
    for part, kept in zip((layer.fg, layer.alpha, second.fg, second.alpha, bg), before, strict=True):
        np.testing.assert_array_equal(part, kept)


def test_exact_and_legacy_differ_only_where_the_first_is_soft(monkeypatch):
    monkeypatch.setattr(dim_recipe, "choose_corner", lambda *_: (60, 20))
    layer, second, bg = scene((300, 420)), scene((300, 420), 4), scene((100, 90), 5).fg
    drawn = draw(3, squeeze=False, jitter=ColourJitter(), affine=Affine())
    exact, legacy = (
        make_crop(layer, second, bg, drawn, DimRecipe(128, double_foreground=d, colour_jitter=False, affine=None))
        for d in ("exact", "legacy")
    )
    alone = make_crop(layer, None, bg, drawn, DimRecipe(128, colour_jitter=False, affine=None))
    np.testing.assert_array_equal(exact.alpha, legacy.alpha)
    opaque = alone.alpha == 1
    soft = (alone.alpha > 0.2) & (alone.alpha < 0.8)
    np.testing.assert_allclose(exact.fg[opaque], legacy.fg[opaque], atol=1 / 255)
    assert np.abs(exact.fg[soft] - legacy.fg[soft]).max() > 0.05


def test_second_foreground_is_left_out_where_the_two_cover_everything():
    full = Layer(scene((300, 420)).fg, np.full((300, 420), 255, np.uint8))
    drawn, recipe = draw(1), DimRecipe(128)
    with_second = make_crop(scene((300, 420)), full, full.fg, drawn, recipe)
    alone = make_crop(scene((300, 420)), None, full.fg, drawn, recipe)
    np.testing.assert_array_equal(with_second.image, alone.image)


@pytest.mark.parametrize("level", [0, 255])
def test_alpha_without_unknown_gives_a_whole_crop_at_its_own_scale(level):
    layer = Layer(scene((300, 420)).fg, np.full((300, 420), level, np.uint8))
    crop = make_crop(layer, None, layer.fg, draw(0, squeeze=False), DimRecipe(128, affine=None))
    assert (crop.trimap == level).all()
    assert (crop.alpha == level / 255).all()


def test_trimap_at_the_foregrounds_own_size_keeps_thin_hairs_unknown():
    alpha = np.zeros((1280, 1280), np.uint8)
    alpha[:, 641] = 255  # between the samples of a 640 grid read by nearest pixel
    layer = Layer(np.zeros((1280, 1280, 3), np.uint8), alpha)
    drawn = draw(0, squeeze=False, foreground_erosion=1, background_erosion=5, interpolation_alpha=cv2.INTER_NEAREST)
    native = make_crop(layer, None, layer.fg, drawn, DimRecipe(512, trimap_size=None, affine=None))
    assert native.alpha.max() == 1
    assert (native.trimap[native.alpha == 1] != 0).all()


def test_recipe_probabilities_and_erosions_are_as_set():
    generator, recipe = rng(4), DimRecipe(trimap_erosion=(3, 7))
    drawn = [draw_sample(recipe, generator) for _ in range(3000)]
    assert np.mean([d.double_foreground for d in drawn]) == pytest.approx(0.5, abs=0.03)
    assert np.mean([d.squeeze for d in drawn]) == pytest.approx(0.25, abs=0.03)
    assert {d.foreground_erosion for d in drawn} == {d.background_erosion for d in drawn} == set(range(3, 8))


@pytest.mark.parametrize(
    "bad",
    [
        {"crop_size": 0},
        {"trimap_erosion": (0, 29)},
        {"trimap_erosion": (9, 3)},
        {"trimap_size": 0},
        {"double_foreground_prob": 2},
        {"resize640_prob": -1},
        {"double_foreground": "right"},
        {"interpolation": "cubic"},
    ],
)
def test_recipe_settings_out_of_range_are_refused(bad):
    with pytest.raises(InputError, match="expected"):
        DimRecipe(**bad)
