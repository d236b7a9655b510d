"""Random numbers from a counter."""

import torch
from reelmill.train.methods.counter import uniform

CPU = torch.device("cpu")
MASK = (1 << 64) - 1


def literal(seed: int, place: int) -> float:
    """SplitMix64's finaliser, with Python's integers."""

    def mixed(word: int) -> int:
        word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) & MASK
        return word ^ (word >> 31)

    return (mixed(((place + 1) * 0x9E3779B97F4A7C15 + mixed(seed & MASK)) & MASK) >> 40) / 2**24


def test_numbers_are_the_generators_at_their_place():
    for seed in (0, 7, -3, (1 << 63) - 1):
        found = uniform((3, 5), seed=seed, device=CPU)
        assert found.dtype == torch.float32
        assert found.flatten().tolist() == [literal(seed, place) for place in range(15)]


def test_they_are_uniform_and_near_seeds_have_nothing_in_common():
    drawn = torch.stack([uniform((50_000,), seed=seed, device=CPU) for seed in (4, 5)])
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = torch.stack([torch.histc(row, 20, 0, 1) for row in drawn])
    assert ((counts - 2500).abs() < 250).all()  # five standard deviations
    assert torch.corrcoef(drawn)[0, 1].abs() < 0.025
    assert torch.corrcoef(torch.stack([drawn[0, 1:], drawn[0, :-1]]))[0, 1].abs() < 0.025
