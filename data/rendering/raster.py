"""The rasteriser: an accumulation buffer for strands and triangles (Haeberli and Akeley, SIGGRAPH 1990).

Each pass draws everything into a z-buffer with one sample per pixel. The position of the sample in the pixel, on the
lens and in time is the same for all pixels of a pass and differs between passes. The mean over the passes is
premultiplied colour and coverage with antialiasing, depth of field and motion blur, without noise along edges.
"""

import numpy as np
from numba import njit

FAR = np.float32(1e30)
INSIDE, OUTSIDE = np.float32(-1e-5), np.float32(1 + 1e-5)  # slightly beyond 0 and 1, so that rounding leaves no cracks
U, V, DEPTH, RADIUS, DEFOCUS, MOVE_U, MOVE_V = range(7)  # columns of projected points


def pass_offsets(rng: np.random.Generator, passes: int, filter_width: float, box: bool = False) -> np.ndarray:
    """Sample positions of `passes` passes: (passes, 5) pixel x and y, lens x and y (unit disc), time in [-0.5, 0.5].

    The pixel filter is a tent `filter_width` pixels to either side, or with `box` a square of side `filter_width`.
    Each pair follows Roberts's R2 sequence from a random start. Lens and time are shuffled.
    """
    pixel, lens = _r2(rng, passes), rng.permutation(_r2(rng, passes))
    if not box:  # inverse of the tent's distribution function, shifted to be symmetric
        pixel = np.where(pixel < 0.5, np.sqrt(2 * pixel) - 1, 1 - np.sqrt(np.maximum(0, 2 - 2 * pixel)))
    else:
        pixel = pixel - 0.5
    radius, angle = np.sqrt(lens[:, 0]), 2 * np.pi * lens[:, 1]
    time = rng.permutation((np.arange(passes) + rng.random()) / passes) - 0.5
    columns = (*(pixel * filter_width).T, radius * np.cos(angle), radius * np.sin(angle), time)
    return np.stack(columns, axis=1).astype(np.float32)


def _r2(rng: np.random.Generator, count: int) -> np.ndarray:
    plastic = 1.32471795724474602596
    return (rng.random(2) + np.arange(count)[:, None] * np.array([1 / plastic, 1 / plastic**2])) % 1


@njit(cache=True, fastmath=True, nogil=True)
def accumulate(strands, strand_colours, starts, vertices, faces, vertex_colours, offsets, total):
    """Add all passes of strands and triangles into `total` and divide by their number.

    Args:
        strands: (N, 7) float32 projected points, columns U .. MOVE_V in pixels (depth in any unit); strand i is
            rows starts[i] to starts[i + 1] - 1.
        strand_colours: (N, 3) float32.
        vertices, vertex_colours: (V, 7) and (V, 3) float32; faces: (F, 3) int32.
        offsets: (passes, 5) float32 of `pass_offsets`.
        total: (H, W, 4) float32 zeros, which become premultiplied colour and coverage.
    """
    height, width = total.shape[:2]
    depth = np.empty((height, width), np.float32)
    item = np.empty((height, width), np.int32)  # the nearest item: point i that ends a segment, or -1 - face
    first, second = np.empty((height, width), np.float32), np.empty((height, width), np.float32)  # position on the item
    xy = np.empty((len(vertices), 2), np.float32)
    passes = len(offsets)
    for k in range(passes):
        depth[:] = FAR
        _draw_triangles(vertices, faces, offsets[k], xy, depth, item, first, second)
        _draw_strands(strands, starts, offsets[k], depth, item, first)
        for y in range(height):
            for x in range(width):
                if depth[y, x] >= FAR:
                    continue
                total[y, x, 3] += 1
                i, a, b = item[y, x], first[y, x], second[y, x]
                if i >= 0:
                    for c in range(3):
                        total[y, x, c] += strand_colours[i - 1, c] + a * (
                            strand_colours[i, c] - strand_colours[i - 1, c]
                        )
                else:
                    f = faces[-1 - i]
                    for c in range(3):
                        p, q, r = vertex_colours[f[0], c], vertex_colours[f[1], c], vertex_colours[f[2], c]
                        total[y, x, c] += (1 - a - b) * p + a * q + b * r
    total /= np.float32(passes)


@njit(cache=True, fastmath=True, nogil=True)
def depth_map(vertices, faces, height, width):
    """Depth of the nearest triangle at each pixel centre, (H, W) float32, FAR where there is none."""
    depth = np.empty((height, width), np.float32)
    depth[:] = FAR
    item = np.empty((height, width), np.int32)
    first, second = np.empty((height, width), np.float32), np.empty((height, width), np.float32)
    xy = np.empty((len(vertices), 2), np.float32)
    _draw_triangles(vertices, faces, np.zeros(5, np.float32), xy, depth, item, first, second)
    return depth


@njit(cache=True, fastmath=True, nogil=True)
def _draw_triangles(vertices, faces, offset, xy, depth, item, first, second):
    height, width = depth.shape
    for i in range(len(vertices)):
        # pixel (0, 0) has its centre at (0.5, 0.5)
        xy[i, 0] = vertices[i, 0] + offset[2] * vertices[i, 4] + offset[4] * vertices[i, 5] - offset[0] - 0.5
        xy[i, 1] = vertices[i, 1] + offset[3] * vertices[i, 4] + offset[4] * vertices[i, 6] - offset[1] - 0.5
    for f in range(len(faces)):
        i, j, k = faces[f, 0], faces[f, 1], faces[f, 2]
        x0, y0, x1, y1, x2, y2 = xy[i, 0], xy[i, 1], xy[j, 0], xy[j, 1], xy[k, 0], xy[k, 1]
        left, right = max(0, int(np.ceil(min(x0, x1, x2)))), min(width - 1, int(np.floor(max(x0, x1, x2))))
        top, bottom = max(0, int(np.ceil(min(y0, y1, y2)))), min(height - 1, int(np.floor(max(y0, y1, y2))))
        if left > right or top > bottom:
            continue
        area = (x1 - x0) * (y2 - y0) - (x2 - x0) * (y1 - y0)
        if abs(area) < 1e-9:
            continue
        inverse = np.float32(1) / area
        b_x, b_y = (y2 - y0) * inverse, (x0 - x2) * inverse  # barycentric b and c of vertices j and k: their slopes
        c_x, c_y = (y0 - y1) * inverse, (x1 - x0) * inverse
        z, z_b, z_c = vertices[i, 2], vertices[j, 2] - vertices[i, 2], vertices[k, 2] - vertices[i, 2]
        for y in range(top, bottom + 1):
            dy = np.float32(y) - y0
            b_row, c_row = dy * b_y, dy * c_y
            for x in range(left, right + 1):
                dx = np.float32(x) - x0
                b, c = b_row + dx * b_x, c_row + dx * c_x
                if b < INSIDE or c < INSIDE or b + c > OUTSIDE:
                    continue
                near = z + b * z_b + c * z_c
                if near < depth[y, x]:
                    depth[y, x], item[y, x], first[y, x], second[y, x] = near, -1 - f, b, c


@njit(cache=True, fastmath=True, nogil=True)
def _draw_strands(points, starts, offset, depth, item, first):
    """Draw each segment as a row (or column) of short spans, whose width along the row is its width / cosine."""
    height, width = depth.shape
    shift_x, shift_y = offset[0] + np.float32(0.5), offset[1] + np.float32(0.5)
    for s in range(len(starts) - 1):
        px = py = pr = np.float32(0)
        steep = False
        for i in range(starts[s], starts[s + 1]):
            x = points[i, 0] + offset[2] * points[i, 4] + offset[4] * points[i, 5] - shift_x
            y = points[i, 1] + offset[3] * points[i, 4] + offset[4] * points[i, 6] - shift_y
            r = points[i, 3]
            if i > starts[s]:
                z, dz = points[i - 1, 2], points[i, 2] - points[i - 1, 2]
                was_steep, steep = steep, abs(y - py) >= abs(x - px)
                if steep:
                    _span_rows(px, py, pr, x, y, r, z, dz, i, depth, item, first, height, width, False)
                else:
                    _span_rows(py, px, pr, y, x, r, z, dz, i, depth, item, first, width, height, True)
                if steep != was_steep and i > starts[s] + 1 and pr > 0.4:
                    _draw_disc(px, py, pr, z, i, depth, item, first)
            px, py, pr = x, y, r


@njit(cache=True, fastmath=True, nogil=True)
def _draw_disc(x, y, radius, z, i, depth, item, first):
    """Fill the notch between a segment cut along rows and one cut along columns with a disc at their joint."""
    height, width = depth.shape
    for v in range(max(0, int(np.ceil(y - radius))), min(height - 1, int(np.floor(y + radius))) + 1):
        half = np.sqrt(max(0, radius * radius - (v - y) * (v - y)))
        for u in range(max(0, int(np.ceil(x - half))), min(width - 1, int(np.floor(x + half))) + 1):
            if z < depth[v, u]:
                depth[v, u], item[v, u], first[v, u] = z, i, 0


@njit(cache=True, fastmath=True, nogil=True, inline="always")
def _span_rows(px, py, pr, x, y, r, z, dz, i, depth, item, first, rows, columns, swapped):
    """Draw segment i - 1 to i, which advances along y by at least as much as along x; `swapped` exchanges the axes."""
    top = max(np.int32(0), np.int32(np.ceil(min(py, y))))
    bottom = min(np.int32(rows - 1), np.int32(np.floor(max(py, y))))
    dx, dy = x - px, y - py
    if top > bottom or dy == 0:
        return
    inverse = np.float32(1) / dy
    slant = np.float32(np.sqrt(dx * dx + dy * dy)) * abs(inverse)
    for row in range(top, bottom + 1):
        t = (np.float32(row) - py) * inverse
        centre, half = px + t * dx, slant * (pr + t * (r - pr))
        near = z + t * dz
        left = max(np.int32(0), np.int32(np.ceil(centre - half)))
        right = min(np.int32(columns - 1), np.int32(np.floor(centre + half)))
        for column in range(left, right + 1):
            v, u = (column, row) if swapped else (row, column)
            if near < depth[v, u]:
                depth[v, u], item[v, u], first[v, u] = near, i, t
