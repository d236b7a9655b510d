"""The noise of entity alignment: pinned, the same in any block, and Gumbel."""

import math

import pytest
import torch
from reelmill.kernels import align_entities
from reelmill.kernels.entity_alignment import cpu
from reelmill.kernels.entity_alignment.noise import exponential_noise, gumbel_noise, noise_keys, random_bits

GOLDEN = {
    0: [882382, 7784548, 5141842, 7620726, 343049, 1324545, 7885918],
    1: [7520043, 1171710, 7797031, 5192939, 5516506, 3110079, 3319592],
    -(2**63): [6921464, 2525031, 4720330, 4588916, 6589631, 959636, 670987],
    2**63 - 1: [4284704, 1539626, 8072230, 5127477, 8335208, 7127312, 2940758],
}
"""The bits of the first two rows and three columns, and those of row 27,903 and column 19,999, by seed."""


def noise(seed, R, K, dtype=torch.float64):
    return gumbel_noise(*noise_keys(torch.tensor(seed), R, K), dtype)


@pytest.mark.parametrize("seed", GOLDEN)
def test_its_integers_are_pinned(seed):
    row_R, column_K = noise_keys(torch.tensor(seed), 27_904, 20_000)
    corner = random_bits(row_R[:2], column_K[:3]).flatten().tolist()
    assert corner + random_bits(row_R[-1:], column_K[-1:]).flatten().tolist() == GOLDEN[seed]


def test_all_seeds_and_positions_have_their_own():
    seeds = (0, 1, 2, 2**32, -1, 2**63 - 1)
    keys = [noise_keys(torch.tensor(seed), 28_000, 20_000) for seed in seeds]
    for rows, columns in keys:
        assert len(rows.unique()) == 28_000
        assert len(columns.unique()) == 20_000
    tables = torch.stack([noise(seed, 100, 100) for seed in seeds]).flatten(1)
    assert torch.corrcoef(tables).sub(torch.eye(len(seeds))).abs().max() < 0.05


def test_it_is_gumbel_and_independent_of_its_neighbours():
    table_RK = noise(7, 1500, 2000)
    assert table_RK.mean().sub(0.5772156649).abs() < 0.004
    assert table_RK.var().sub(math.pi**2 / 6).abs() < 0.01
    exact = torch.exp(-torch.exp(-table_RK.flatten().sort().values))  # of a Gumbel number, uniform
    uniform = torch.arange(1, len(exact) + 1) / len(exact)
    assert (exact - uniform).abs().max() < 1.6 / math.sqrt(len(exact))  # Kolmogorov-Smirnov, p = 0.01
    assert -2.9 < table_RK.min() < -2.3
    assert 12.5 < table_RK.max() < 16.7
    table_RK = (table_RK - table_RK.mean()) / table_RK.std()
    for shift in ((0, 1), (1, 0), (1, 1), (0, 64), (512, 0)):
        assert (table_RK * table_RK.roll(shift, (0, 1))).mean().abs() < 0.003
    squares_RK = table_RK[::2, ::2] * table_RK[1::2, ::2] * table_RK[::2, 1::2] * table_RK[1::2, 1::2]
    assert squares_RK.mean().abs() < 0.006  # the four corners share two rows and two columns


def test_entities_are_drawn_by_their_softmax():
    region_RD, entity_KD = torch.ones(1, 1).expand(40_000, 1), torch.tensor([[1.0], [-1.0], [1.0]])
    _, index_R = align_entities(region_RD, entity_KD, scale=0.5, seed=11)
    want_K = torch.tensor([0.5, -0.5, 0.5]).softmax(0)
    torch.testing.assert_close(index_R.bincount(minlength=3) / 40_000, want_K, rtol=0, atol=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_it_is_the_same_in_any_block(dtype):
    row_R, column_K = noise_keys(torch.tensor(3), 9, 70)
    whole_RK = gumbel_noise(row_R, column_K, dtype)
    assert gumbel_noise(row_R[4:6], column_K[33:], dtype).equal(whole_RK[4:6, 33:])
    torch.testing.assert_close(-exponential_noise(row_R, column_K, dtype).log(), whole_RK)
    torch.testing.assert_close(whole_RK, gumbel_noise(row_R, column_K, torch.float64).to(dtype))


def test_the_blocks_of_the_cpu_path_draw_the_same(monkeypatch):
    region_RD, entity_KD = torch.zeros(30, 4), torch.ones(300, 4)  # nothing but noise
    want_R = noise(5, 30, 300).argmax(1)
    for block in ((256, 4096), (7, 64), (1, 50)):
        monkeypatch.setattr(cpu, "FORWARD_BLOCK", block)
        assert align_entities(region_RD, entity_KD, scale=1.0, seed=5)[1].equal(want_R)
    assert align_entities(region_RD, entity_KD, scale=1.0, seed=5, impl="reference")[1].equal(want_R)
    assert align_entities(region_RD, entity_KD, scale=1.0, seed=torch.tensor(5))[1].equal(want_R)
    assert not align_entities(region_RD, entity_KD, scale=1.0, seed=6)[1].equal(want_R)
