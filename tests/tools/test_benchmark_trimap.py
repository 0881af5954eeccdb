"""What tools/benchmark_trimap.py measures, on masks worked out by hand and on two small pictures."""

import numpy as np
import pytest
from systems import Red

from data.images.mask_to_trimap import trimap_from_mask
from data.images.trimap import UNKNOWN
from data.synthetic import SyntheticMatting
from data.testing.eight_bit import EightBit
from tools import benchmark_trimap


def test_a_coarse_mask_is_the_majority_of_each_cell():
    alpha = np.zeros((4, 6), np.uint8)
    alpha[:2, :2] = [[255, 255], [255, 0]]  # three of four
    alpha[:2, 2:4] = [[255, 0], [0, 0]]
    alpha[2:, 4:] = 255
    expected = np.zeros((4, 6), bool)
    expected[:2, :2] = expected[2:, 4:] = True
    np.testing.assert_array_equal(benchmark_trimap.coarse_mask(alpha, 2), expected)
    np.testing.assert_array_equal(benchmark_trimap.coarse_mask(alpha[:, :5], 1), alpha[:, :5] > 127)
    assert benchmark_trimap.coarse_mask(alpha[:3, :5], 2).shape == (3, 5)


def test_the_share_of_soft_pixels_inside_by_hand():
    alpha = np.uint8([[0, 5, 6, 128, 249, 250, 255]])
    trimap = np.uint8([[0, 0, 0, 128, 128, 128, 255]])
    assert benchmark_trimap.soft_inside(trimap, alpha) == pytest.approx(2 / 3)
    assert benchmark_trimap.soft_inside(trimap, np.uint8([[0, 0, 0, 0, 255, 255, 255]])) == 1


def test_the_table_holds_the_shares_of_the_trimaps(monkeypatch, capsys):
    monkeypatch.setattr(benchmark_trimap, "read_system", Red)
    common = ["--images", "2", "--size", "64", "--cells", "1", "--widths", "3"]
    benchmark_trimap.main([*common, "--no-matting"])
    (row,) = capsys.readouterr().out.splitlines()[2:]
    scenes = EightBit(SyntheticMatting(size=64, samples_per_epoch=2, seed=benchmark_trimap.SEED))
    bands, inside = [], []
    for index in range(2):
        alpha = scenes[index]["alpha"]
        unknown = trimap_from_mask(alpha > 127, 3.0) == UNKNOWN
        bands.append(unknown.mean())
        inside.append(unknown[(alpha > 5) & (alpha < 250)].mean())
    assert row == f"| 1 | 3 | {np.mean(inside):.1%} | {np.median(inside):.1%} | {np.mean(bands):.1%} | – |"
    benchmark_trimap.main(common)
    mask_row, row = capsys.readouterr().out.splitlines()[2:]
    assert mask_row.startswith("| 1 | the mask itself")
    assert float(row.split("|")[6]) > 0
