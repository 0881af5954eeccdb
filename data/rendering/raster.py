"""The rasteriser: an accumulation buffer of strands and triangles (Haeberli and Akeley, SIGGRAPH 1990).

Each pass draws everything into a z-buffer with one sample a pixel. The sample's place in the pixel, on the lens and in
time is the same for all pixels of a pass and differs between passes, so the mean over the passes is premultiplied
colour and coverage with antialiasing, depth of field and motion blur, and has no noise along an edge.
"""

import numpy as np
from numba import njit

FAR = np.float32(1e30)
INSIDE = -1e-5  # barycentric; a little below 0, so that rounding opens no crack between neighbours
U, V, DEPTH, RADIUS, DEFOCUS, MOVE_U, MOVE_V = range(7)  # columns of projected points


def pass_offsets(rng: np.random.Generator, passes: int, filter_width: float, box: bool = False) -> np.ndarray:
    """Sample positions of `passes` passes: (passes, 5) pixel x and y, lens x and y (unit disc), time in [-0.5, 0.5].

    The pixel filter is a tent `filter_width` pixels to either side, or with `box` a square of side `filter_width`.
    Each pair follows Roberts's R2 sequence from a random start; lens and time come in a shuffled order.
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
        total: (H, W, 4) float32 zeros; premultiplied colour and coverage on return.
    """
    height, width = total.shape[:2]
    depth = np.empty((height, width), np.float32)
    colour = np.empty((height, width, 3), np.float32)
    xy = np.empty((len(vertices), 2), np.float32)
    passes = len(offsets)
    for k in range(passes):
        depth[:] = FAR
        _draw_triangles(vertices, faces, vertex_colours, offsets[k], xy, depth, colour)
        _draw_strands(strands, strand_colours, starts, offsets[k], depth, colour)
        for y in range(height):
            for x in range(width):
                if depth[y, x] < FAR:
                    total[y, x, 3] += 1
                    for c in range(3):
                        total[y, x, c] += colour[y, x, c]
    scale = np.float32(1 / passes)
    for y in range(height):
        for x in range(width):
            for c in range(4):
                total[y, x, c] *= scale


@njit(cache=True, fastmath=True, nogil=True)
def depth_map(vertices, faces, height, width):
    """Depth of the nearest triangle at each pixel centre, (H, W) float32, FAR where there is none."""
    depth = np.empty((height, width), np.float32)
    depth[:] = FAR
    colour = np.empty((height, width, 3), np.float32)
    none = np.zeros((len(vertices), 3), np.float32)
    xy = np.empty((len(vertices), 2), np.float32)
    _draw_triangles(vertices, faces, none, np.zeros(5, np.float32), xy, depth, colour)
    return depth


@njit(cache=True, fastmath=True, nogil=True)
def _draw_triangles(vertices, faces, colours, offset, xy, depth, colour):
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
        inverse = 1 / area
        z0, z1, z2 = vertices[i, 2], vertices[j, 2], vertices[k, 2]
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                a = ((x1 - x) * (y2 - y) - (x2 - x) * (y1 - y)) * inverse
                b = ((x2 - x) * (y0 - y) - (x0 - x) * (y2 - y)) * inverse
                c = 1 - a - b
                if a < INSIDE or b < INSIDE or c < INSIDE:
                    continue
                z = a * z0 + b * z1 + c * z2
                if z < depth[y, x]:
                    depth[y, x] = z
                    for q in range(3):
                        colour[y, x, q] = a * colours[i, q] + b * colours[j, q] + c * colours[k, q]


@njit(cache=True, fastmath=True, nogil=True)
def _draw_strands(points, colours, starts, offset, depth, colour):
    """Each segment as a row (or column) of short spans, whose width along the row is its width across / cosine."""
    height, width = depth.shape
    for s in range(len(starts) - 1):
        px = py = pr = np.float32(0)
        steep = False
        for i in range(starts[s], starts[s + 1]):
            x = points[i, 0] + offset[2] * points[i, 4] + offset[4] * points[i, 5] - offset[0] - np.float32(0.5)
            y = points[i, 1] + offset[3] * points[i, 4] + offset[4] * points[i, 6] - offset[1] - np.float32(0.5)
            r = points[i, 3]
            if i > starts[s]:
                was_steep, steep = steep, abs(y - py) >= abs(x - px)
                if steep:
                    _span_rows(px, py, pr, x, y, r, points, colours, i, depth, colour, height, width, False)
                else:
                    _span_rows(py, px, pr, y, x, r, points, colours, i, depth, colour, width, height, True)
                if steep != was_steep and i > starts[s] + 1 and pr > 0.4:
                    _draw_disc(px, py, pr, points, colours, i - 1, depth, colour)
            px, py, pr = x, y, r


@njit(cache=True, fastmath=True, nogil=True)
def _draw_disc(x, y, radius, points, colours, i, depth, colour):
    """Close the notch between a segment cut along rows and one cut along columns: a disc at their joint."""
    height, width = depth.shape
    for v in range(max(0, int(np.ceil(y - radius))), min(height - 1, int(np.floor(y + radius))) + 1):
        half = np.sqrt(max(0, radius * radius - (v - y) * (v - y)))
        for u in range(max(0, int(np.ceil(x - half))), min(width - 1, int(np.floor(x + half))) + 1):
            if points[i, 2] < depth[v, u]:
                depth[v, u] = points[i, 2]
                for q in range(3):
                    colour[v, u, q] = colours[i, q]


@njit(cache=True, fastmath=True, nogil=True, inline="always")
def _span_rows(px, py, pr, x, y, r, points, colours, i, depth, colour, rows, columns, swapped):
    """Draw segment i - 1 to i, which advances along y by at least as much as along x; `swapped` exchanges the axes."""
    dy = y - py
    first, last = max(0, int(np.ceil(min(py, y)))), min(rows - 1, int(np.floor(max(py, y))))
    if first > last or dy == 0:
        return
    dx = x - px
    slant = np.sqrt(dx * dx + dy * dy) / abs(dy)
    inverse = 1 / dy
    pz, dz = points[i - 1, 2], points[i, 2] - points[i - 1, 2]
    for row in range(first, last + 1):
        t = (row - py) * inverse
        centre, half = px + t * dx, slant * (pr + t * (r - pr))
        z = pz + t * dz
        for column in range(max(0, int(np.ceil(centre - half))), min(columns - 1, int(np.floor(centre + half))) + 1):
            v, u = (column, row) if swapped else (row, column)
            if z < depth[v, u]:
                depth[v, u] = z
                for q in range(3):
                    colour[v, u, q] = colours[i - 1, q] + t * (colours[i, q] - colours[i - 1, q])
