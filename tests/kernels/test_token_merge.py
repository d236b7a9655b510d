"""What merging computes by a matching, on the CPU path and the reference; matching and Triton have their own files."""

import itertools
import sys
from typing import Any

import pytest
import torch
from reelmill.kernels import match_tokens, merge_tokens, merged_source, size_bias, unmerge_tokens
from reelmill.kernels.token_merge import cpu, pages
from torch.utils._python_dispatch import TorchDispatchMode

IMPLS: tuple[Any, ...] = ("reference", "cpu")
DTYPES = (torch.float16, torch.bfloat16, torch.float32)

pytestmark = pytest.mark.usefixtures("poisoned_memory")


def groups(matching, image):
    """The tokens that each merged token of one image is made of, by the order and its offsets."""
    order, offsets = matching.order_BN[image].tolist(), matching.offsets_BM[image].tolist()
    return [order[start:stop] for start, stop in itertools.pairwise(offsets)]


@pytest.mark.parametrize("residual", [False, True])
@pytest.mark.parametrize("sized", [False, True])
@pytest.mark.parametrize("impl", IMPLS)
def test_merging_follows_the_definition(make_tokens, impl, sized, residual):
    tokens = make_tokens(2, 15, 3, 4, 6, sized=sized, residual=residual)
    matching = match_tokens(tokens.metric_BNK.double(), 6)
    found = tokens.merge(matching, impl, torch.float64, torch.float64, "cpu")
    for b in range(2):
        values_ND = tokens.x_BND[b].double() + (tokens.residual_BND[b] if residual else 0)
        sizes_N = tokens.size_BN[b].double() if sized else torch.ones(15, dtype=torch.float64)
        for m, group in enumerate(groups(matching, b)):
            total = sizes_N[group].sum()
            assert found["sizes"][b, m] == total
            mean_D = (sizes_N[group, None] * values_ND[group]).sum(0) / total
            torch.testing.assert_close(found["tokens"][b, m], mean_D)
            torch.testing.assert_close(found["way back"][b, m], tokens.up_BND[b, group].double().sum(0))
            for n in group:
                torch.testing.assert_close(found["gradient"][b, n], tokens.up_BND[b, m].double() * (sizes_N[n] / total))
                assert found["unmerged"][b, n].equal(tokens.up_BND[b, m].double())
    if residual:
        assert found["residual gradient"].equal(found["gradient"])


@pytest.mark.parametrize("impl", IMPLS)
def test_gradients_are_those_of_the_tokens(make_tokens, impl):
    tokens = make_tokens(2, 9, 3, 4, 4, sized=True, residual=True)
    matching = match_tokens(tokens.metric_BNK, 4)
    sides = [side.double().requires_grad_() for side in (tokens.x_BND, tokens.residual_BND)]
    assert torch.autograd.gradcheck(
        lambda x, residual: merge_tokens(
            x, matching, size_BN=tokens.size_BN.double(), residual_BND=residual, impl=impl
        )[0],
        sides,
    )
    rows_BMD = tokens.up_BND[:, :5].double().requires_grad_()
    assert torch.autograd.gradcheck(lambda rows: unmerge_tokens(rows, matching, impl=impl), rows_BMD)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "options", [{}, {"sized": True}, {"residual": True}, {"sized": True, "residual": True}], ids=str
)
def test_the_cpu_path_errs_no_more_than_twice_eager(make_tokens, dtype, options):
    for B, N, D, K, r in ((3, 24, 33, 17, 9), (2, 31, 5, 64, 15), (1, 2, 1, 1, 0)):
        tokens = make_tokens(B, N, D, K, r, **options)
        tokens.check_merge(tokens.check_match("cpu", dtype), "cpu", dtype)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_nothing_merged_into_is_passed_on_to_the_bit(make_tokens, dtype):
    tokens = make_tokens(2, 21, 8, 4, 5, sized=True)
    tokens.size_BN /= 7
    matching = match_tokens(tokens.metric_BNK, 5)
    x_BND = tokens.x_BND.to(dtype).requires_grad_()
    merged_BMD, _ = merge_tokens(x_BND, matching, size_BN=tokens.size_BN)
    up_BMD = torch.randn(merged_BMD.shape).to(dtype)
    (grad_BND,) = torch.autograd.grad(merged_BMD, x_BND, up_BMD)
    for b in range(2):
        for m, group in enumerate(groups(matching, b)):
            if len(group) == 1:
                assert merged_BMD[b, m].equal(x_BND[b, group[0]])
                assert grad_BND[b, group[0]].equal(up_BMD[b, m])


@pytest.mark.parametrize("impl", IMPLS)
def test_nan_reaches_the_merged_token_that_it_goes_into_and_no_other(make_tokens, impl):
    tokens = make_tokens(2, 12, 3, 4, 4)
    matching = match_tokens(tokens.metric_BNK, 4)
    n = next(group[-1] for group in groups(matching, 1) if len(group) > 1)
    tokens.x_BND[1, n, 2] = torch.nan
    merged_BMD, _ = merge_tokens(tokens.x_BND, matching, impl=impl)
    assert merged_BMD.isnan().nonzero().tolist() == [[1, int(matching.target_BN[1, n]), 2]]


@pytest.mark.parametrize("impl", IMPLS)
def test_sizes_count_patches_over_many_mergings(impl):
    random = torch.Generator().manual_seed(0)
    first_BND = x_BND = torch.randn(2, 30, 5, generator=random)
    size_BN: torch.Tensor = torch.ones(2, 30)
    source_BMN = torch.eye(30, dtype=torch.bool).expand(2, 30, 30)
    for _ in range(3):
        matching = match_tokens(x_BND, 6, impl=impl)
        x_BND, size_BN = merge_tokens(x_BND, matching, size_BN=size_BN, impl=impl)
        source_BMN = merged_source(matching, source_BMN)
        if source_BMN.shape[1] == 24:
            assert source_BMN.equal(merged_source(matching))
    assert source_BMN.shape == (2, 12, 30)
    assert source_BMN.sum(1).eq(1).all()  # every patch is in one token
    assert source_BMN.sum(2).equal(size_BN.long())
    assert source_BMN[:, 0].nonzero().tolist() == [[0, 0], [1, 0]]  # the class token stands for itself
    torch.testing.assert_close(x_BND, source_BMN.float() @ first_BND / size_BN[:, :, None])


def test_proportional_attention_sees_the_patches_that_a_token_stands_for():
    logit_B1N = torch.tensor([[[0.3, -1.0, 0.7]]])
    value_BND = torch.tensor([[[1.0], [2.0], [5.0]]])
    size_BN = torch.tensor([[1.0, 3.0, 2.0]])
    merged = (logit_B1N + size_bias(size_BN)[:, None]).softmax(2) @ value_BND
    repeats = torch.tensor([1, 3, 2])
    one_by_one = logit_B1N.repeat_interleave(repeats, 2).softmax(2) @ value_BND.repeat_interleave(repeats, 1)
    torch.testing.assert_close(merged, one_by_one)


def test_a_bfloat16_branch_merges_into_a_float32_stream(make_tokens):
    tokens = make_tokens(2, 12, 3, 4, 4, sized=True, residual=True)
    matching = match_tokens(tokens.metric_BNK, 4)
    results = []
    for impl in IMPLS:
        branch_BND = tokens.x_BND.bfloat16().requires_grad_()
        stream_BND = tokens.residual_BND.clone().requires_grad_()
        merged_BMD, size_BM = merge_tokens(
            branch_BND, matching, size_BN=tokens.size_BN, residual_BND=stream_BND, impl=impl
        )
        (merged_BMD * tokens.up_BND[:, :8]).sum().backward()
        assert (branch_BND.grad.dtype, stream_BND.grad.dtype) == (torch.bfloat16, torch.float32)
        assert not size_BM.requires_grad
        results.append((merged_BMD.detach(), stream_BND.grad, branch_BND.grad))
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
@pytest.mark.parametrize("impl", IMPLS)
def test_tokens_keep_their_dtype_and_sizes_are_wide(make_tokens, impl, dtype):
    tokens = make_tokens(2, 9, 3, 4, 3)
    matching = match_tokens(tokens.metric_BNK.to(dtype), 3, impl=impl)
    assert {part.dtype for part in matching} == {torch.int32}
    merged_BMD, size_BM = merge_tokens(tokens.x_BND.to(dtype), matching, impl=impl)
    assert merged_BMD.dtype == unmerge_tokens(merged_BMD, matching, impl=impl).dtype == dtype
    assert size_BM.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert size_BM.sum(1).tolist() == [9, 9]


@pytest.mark.parametrize("impl", IMPLS)
def test_strides_are_taken_as_they_come(make_tokens, impl):
    tokens = make_tokens(3, 10, 4, 6, 4, sized=True, residual=True)

    def results(x_BND, residual_BND, size_BN, metric_BNK):
        x_BND = x_BND.detach().requires_grad_()
        matching = match_tokens(metric_BNK, 4, impl=impl)
        merged_BMD, size_BM = merge_tokens(x_BND, matching, size_BN=size_BN, residual_BND=residual_BND, impl=impl)
        (grad_BND,) = torch.autograd.grad(merged_BMD.sum(), x_BND)  # an expanded gradient
        return (
            merged_BMD,
            size_BM,
            grad_BND,
            unmerge_tokens(merged_BMD.transpose(0, 1).clone().transpose(0, 1), matching),
        )

    sides = tokens.x_BND, tokens.residual_BND, tokens.size_BN, tokens.metric_BNK
    strided = [side.transpose(0, 1).contiguous().transpose(0, 1).repeat_interleave(2, -1)[..., ::2] for side in sides]
    assert not any(side.is_contiguous() for side in strided)
    assert all(a.equal(b) for a, b in zip(results(*sides), results(*strided), strict=True))
    expanded = [side[:1].expand_as(side) for side in sides]
    assert all(a.equal(b) for a, b in zip(results(*expanded), results(*(e.clone() for e in expanded)), strict=True))


@pytest.mark.parametrize("impl", IMPLS)
def test_an_empty_batch_stays_empty(make_tokens, impl):
    tokens = make_tokens(0, 9, 3, 4, 3, sized=True, residual=True)
    matching = match_tokens(tokens.metric_BNK, 3, impl=impl)
    found = tokens.merge(matching, impl, torch.float32, torch.float32, "cpu")
    assert (found["tokens"].shape, found["sizes"].shape) == ((0, 6, 3), (0, 6))
    assert found["gradient"].shape == found["residual gradient"].shape == found["unmerged"].shape == (0, 9, 3)


class LargestTensor(TorchDispatchMode):
    """Remembers the most bytes that any tensor of the block had."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return result


def test_small_blocks_change_nothing_and_never_hold_all_similarities(make_tokens, monkeypatch):
    tokens = make_tokens(3, 400, 4, 2, 100, residual=True)
    want = match_tokens(tokens.metric_BNK, 100)
    merged_BMD, _ = merge_tokens(tokens.x_BND, want, residual_BND=tokens.residual_BND)
    monkeypatch.setattr(cpu, "BLOCK_ELEMENTS", 1 << 11)
    with LargestTensor() as seen:
        found = cpu.match(tokens.metric_BNK, 100, 1)
    assert all(a.equal(b) for a, b in zip(found, want, strict=True))
    assert seen.bytes < 4 * 3 * 200 * 200 / 8
    again_BMD, _ = merge_tokens(tokens.x_BND, want, residual_BND=tokens.residual_BND)
    assert again_BMD.equal(merged_BMD)
    monkeypatch.setattr(cpu, "BLOCK_ELEMENTS", 1)
    assert all(
        a.equal(b)
        for a, b in zip(
            match_tokens(tokens.metric_BNK[:, :9], 3),
            match_tokens(tokens.metric_BNK[:, :9], 3, impl="reference"),
            strict=True,
        )
    )


def test_the_same_inputs_give_the_same_bits(make_tokens):
    tokens = make_tokens(8, 65, 48, 16, 30, sized=True, residual=True)
    results = []
    for _ in range(2):
        matching = match_tokens(tokens.metric_BNK.bfloat16(), 30)
        results.append((*matching, *tokens.merge(matching, "cpu", torch.bfloat16, torch.bfloat16, "cpu").values()))
    assert all(a.equal(b) for a, b in zip(*results, strict=True))


@pytest.mark.skipif(sys.platform != "linux", reason="huge pages are asked for on Linux alone")
def test_large_results_are_paged_in_by_huge_pages():
    large = pages.empty((pages.LARGE_BYTES // 4 + 1, 1), torch.float32)
    assert large.fill_(1).sum() == large.numel()
    middle, flags = large.data_ptr() + large.nbytes // 2, []
    with open("/proc/self/smaps") as maps:
        for line in maps:
            first = line.split()[0]
            if "-" in first:
                start, stop = (int(end, 16) for end in first.split("-"))
            elif first == "VmFlags:" and start <= middle < stop:
                flags = line.split()
    assert "hg" in flags
