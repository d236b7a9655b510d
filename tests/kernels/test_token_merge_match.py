"""Which tokens are chosen to merge, on the CPU path and the reference."""

import itertools
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reelmill.kernels import match_tokens, merge_tokens

IMPLS: tuple[Any, ...] = ("reference", "cpu")

pytestmark = pytest.mark.usefixtures("poisoned_memory")


def naive_match(metric_NK, r, protect):
    """The definition for one image: the tokens that each merged token is made of, in the merged order."""
    units = [[value / (sum(v * v for v in row) ** 0.5 or 1) for value in row] for row in metric_NK.double().tolist()]
    odd = [n for n in range(1, len(units), 2) if n >= protect]
    best = []
    for n in range(0, len(units), 2):
        cosines = [sum(a * b for a, b in zip(units[n], units[o], strict=True)) for o in odd]
        if n >= protect and odd:
            best.append((-max(cosines), n, odd[cosines.index(max(cosines))]))
    merging = {n: o for _, n, o in sorted(best)[: min(r, max(0, len(units) - protect) // 2)]}
    kept = [[n] for n in range(0, len(units), 2) if n not in merging]
    return kept + [sorted([o, *(n for n in merging if merging[n] == o)]) for o in range(1, len(units), 2)]


def groups(matching, image):
    """The tokens that each merged token of one image is made of, by the order and its offsets."""
    order, offsets = matching.order_BN[image].tolist(), matching.offsets_BM[image].tolist()
    return [order[start:stop] for start, stop in itertools.pairwise(offsets)]


def ties(B, N, seed=0):
    """A metric of rows of length 2, so that all cosines are multiples of a quarter and many are equal."""
    random = torch.Generator().manual_seed(seed)
    where = torch.rand(B, N, 6, generator=random).argsort(dim=2) < 4
    return where * torch.randint(0, 2, (B, N, 6), generator=random).mul(2).sub(1).float()


@settings(max_examples=60, deadline=None)
@given(
    B=st.integers(1, 3),
    N=st.integers(1, 14),
    r=st.integers(0, 9),
    protect=st.integers(0, 5),
    tied=st.booleans(),
    impl=st.sampled_from(IMPLS),
)
def test_matching_follows_the_definition(B, N, r, protect, tied, impl):
    metric_BNK = ties(B, N, seed=N) if tied else torch.randn(B, N, 5, generator=torch.Generator().manual_seed(N))
    matching = match_tokens(metric_BNK, r, protect=protect, impl=impl)
    assert (matching.tokens, matching.merged) == (N, N - min(r, max(0, N - protect) // 2))
    for image, metric_NK in enumerate(metric_BNK):
        want = naive_match(metric_NK, r, protect)
        assert groups(matching, image) == want
        target_N = matching.target_BN[image].tolist()
        assert all(target_N[n] == m for m, tokens in enumerate(want) for n in tokens)


@pytest.mark.parametrize("impl", IMPLS)
def test_ties_go_to_the_lowest_position_of_both_kinds(impl):
    one, other = [1.0, 0.0], [0.0, 1.0]
    metric_BNK = torch.tensor([[one, other, one, one, one, one, other, other, one, one]])
    # All even tokens have a partner of cosine 1: the first odd token like them is 3, that of token 6 is 1.
    for r, merging in ((1, {0: 3}), (3, {0: 3, 2: 3, 4: 3}), (4, {0: 3, 2: 3, 4: 3, 6: 1})):
        found = groups(match_tokens(metric_BNK, r, protect=0, impl=impl), 0)
        into = {n: group for group in found for n in group if len(group) > 1 and n % 2 == 0}
        assert {n: next(o for o in group if o % 2) for n, group in into.items()} == merging


@pytest.mark.parametrize("impl", IMPLS)
def test_zero_lengths_and_what_is_undefined(impl):
    rows = {
        "one": [1.0, 0.0],
        "back": [-1.0, 0.0],
        "zero": [0.0, 0.0],
        "nan": [torch.nan, 1.0],
        "inf": [torch.inf, 1.0],
    }

    def merging(*names, r):
        matching = match_tokens(torch.tensor([[rows[name] for name in names]]), r, protect=0, impl=impl)
        return [group for group in groups(matching, 0) if len(group) > 1]

    assert merging("one", "back", "zero", "one", "one", "zero", r=2) == [[0, 3, 4]]
    assert merging("one", "back", "back", "zero", r=2) == [[1, 2], [0, 3]]  # cosine 0 is above cosine -1
    assert merging("zero", "zero", "back", "one", r=1) == [[0, 1]]
    for wrong in ("nan", "inf"):
        assert merging(wrong, "one", "one", "back", r=1) == [[1, 2]]  # what is undefined merges last
        assert merging(wrong, "one", "back", "one", r=1) == [[1, 2]]  # also below cosine -1
        assert merging("one", wrong, "one", "back", r=2) == [[0, 2, 3]]  # and is chosen last
        assert merging(wrong, "one", "one", wrong, r=2) == [[0, 1, 2]]  # if it must, the first odd token takes it
    large_BNK = torch.tensor([[[1e30], [1e30], [1e10], [1e10]]])
    assert groups(match_tokens(large_BNK, 1, protect=0, impl=impl), 0) == [[0], [1], [2, 3]]


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("protect", [0, 1, 2, 3])
@pytest.mark.parametrize("N", [2, 7, 8])
def test_as_many_merge_as_can_and_none_that_is_protected(impl, N, protect):
    metric_BNK = torch.ones(1, N, 2)
    most = max(0, N - protect) // 2
    for r in (0, most, most + 1, 1000):
        matching = match_tokens(metric_BNK, r, protect=protect, impl=impl)
        assert matching.merged == N - min(r, most)
        assert all(len(group) == 1 for group in groups(matching, 0) if min(group) < protect)
        moved_BMD, _ = merge_tokens(metric_BNK.clone(), matching, impl=impl)
        assert moved_BMD.shape == (1, matching.merged, 2)
    assert groups(match_tokens(metric_BNK, 0, protect=protect, impl=impl), 0) == [
        [n] for n in (*range(0, N, 2), *range(1, N, 2))
    ]
