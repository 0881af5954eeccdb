"""Closed form in large operations against PyMatting's sparse matrix and a direct solver."""

import numpy as np
import pytest
import torch
from pymatting import cf_laplacian
from scipy import sparse
from scipy.sparse.linalg import spsolve

from modeling.classical.whole_table import laplacian_table, neighbours, solve_whole, table_product
from modeling.priors.closed_form_prior import ClosedFormPrior

EPSILON = 1e-5


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    """Importing PyMatting lets torch have every core, which slows small tensors down on a busy machine."""
    torch.set_num_threads(1)


def scene(size=(21, 26)) -> tuple[torch.Tensor, torch.Tensor]:
    """A noisy two-colour picture (1, 3, H, W) and its trimap, known on both sides, float64."""
    generator = torch.Generator().manual_seed(0)
    ramp = torch.linspace(-0.7, 1.7, size[1], dtype=torch.float64).clamp(0, 1).expand(1, 1, *size)
    noise = torch.rand(1, 3, *size, generator=generator, dtype=torch.float64)
    image = ramp * torch.tensor([0.8, 0.3, 0.2]).view(3, 1, 1) + (1 - ramp) * 0.4 + 0.1 * noise
    return image.double(), torch.where(ramp == 0, 0.0, torch.where(ramp == 1, 1.0, 0.5)).double()


def matrix_of(image: torch.Tensor) -> sparse.csr_matrix:
    return cf_laplacian(image[0].permute(1, 2, 0).numpy(), epsilon=EPSILON, radius=1).tocsr()


def test_every_entry_is_pymattings():
    image, _ = scene()
    height, width = image.shape[-2:]
    matrix = matrix_of(image).toarray()
    table = laplacian_table(image, EPSILON)[0].numpy()
    for y in range(height):
        for x in range(width):
            row = matrix[y * width + x].reshape(height, width)
            for dy in range(-2, 3):
                for dx in range(-2, 3):
                    inside = 0 <= y + dy < height and 0 <= x + dx < width
                    expected = row[y + dy, x + dx] if inside else 0
                    assert table[2 + dy, 2 + dx, y, x] == pytest.approx(expected, abs=1e-9), (y, x, dy, dx)


def test_the_product_is_the_matrix_s():
    image, _ = scene()
    x = torch.rand(1, 1, *image.shape[-2:], generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    product = table_product(laplacian_table(image, EPSILON), x)
    np.testing.assert_allclose(product.flatten().numpy(), matrix_of(image) @ x.flatten().numpy(), atol=1e-9)


def test_neighbours_by_hand():
    x = torch.arange(12.0).view(1, 1, 3, 4)
    around = neighbours(x)
    assert around[0, 2, 2].tolist() == x[0, 0].tolist()
    assert around[0, 1, 4].tolist() == [[0, 0, 0, 0], [2, 3, 0, 0], [6, 7, 0, 0]]  # one row up, two columns right


def test_the_solution_is_that_of_a_direct_solver():
    image, trimap = scene()
    unknown = (trimap == 0.5).flatten().numpy()
    matrix, known = matrix_of(image), trimap.flatten().numpy().copy()
    known[unknown] = 0
    expected = known.copy()
    expected[unknown] = spsolve(matrix[unknown][:, unknown].tocsc(), -(matrix @ known)[unknown])
    alpha = solve_whole(image, trimap == 0.5, trimap, EPSILON, iterations=400)
    np.testing.assert_allclose(alpha.flatten().numpy(), expected, atol=1e-4)


def test_plain_and_preconditioned_gradients_agree():
    image, trimap = (x.float() for x in scene((96, 128)))
    prior = ClosedFormPrior(iterations=300)
    plain = prior(image, trimap)
    prior.effort = prior.effort._replace(iterations=60, plain=False)
    torch.testing.assert_close(plain, prior(image, trimap), atol=0.02, rtol=0)


def test_nothing_to_solve_is_finite():
    for level in (0.0, 0.5, 1.0):
        trimap = torch.full((1, 1, 8, 9), level)
        assert torch.isfinite(solve_whole(torch.zeros(1, 3, 8, 9), trimap == 0.5, trimap, 1e-7, 20)).all()
