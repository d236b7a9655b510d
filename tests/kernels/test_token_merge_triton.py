"""The Triton kernels of token merging against the float64 reference: on the GPU, or in Triton's interpreter."""

import numpy as np
import pytest
import torch
import triton.runtime.interpreter as interpreter
from reelmill.kernels import Matching, match_tokens, merge_tokens
from reelmill.kernels.token_merge import triton

CUDA = torch.cuda.is_available()
F32, BF16 = torch.float32, torch.bfloat16

pytestmark = pytest.mark.usefixtures("poisoned_memory")


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles so small that every loop goes round more than once."""
    for key in triton.MATCH:
        monkeypatch.setitem(triton.MATCH, key, triton.Tiles(16, 16, 16, 4, 1))
    monkeypatch.setattr(triton, "COUNTED", 16)
    monkeypatch.setattr(triton, "ROWS", 4)
    monkeypatch.setattr(triton, "ROW_ELEMENTS", 16)


@pytest.mark.parametrize(
    "sizes", [(3, 24, 33, 17, 9), (1, 2, 1, 1, 0), (1, 1, 3, 2, 0), (1, 141, 300, 64, 60)], ids=str
)
def test_float32_errs_no_more_than_twice_eager(triton_device, make_tokens, sizes):
    tokens = make_tokens(*sizes, residual=True, sized=True)
    matching = tokens.check_match("triton", torch.float32, triton_device)
    tokens.check_merge(matching, "triton", torch.float32, triton_device)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("options", [{}, {"sized": True}, {"residual": True}], ids=str)
def test_narrow_dtypes_err_no_more_than_twice_eager(triton_device, make_tokens, dtype, options):
    tokens = make_tokens(2, 37, 20, 40, 12, **options)
    matching = tokens.check_match("triton", dtype, triton_device)
    tokens.check_merge(matching, "triton", dtype, triton_device)


@pytest.mark.parametrize(("N", "protect", "dtype"), [(43, 0, F32), (42, 1, BF16), (43, 2, F32), (42, 21, BF16)])
def test_every_loop_goes_round(triton_device, make_tokens, small_tiles, N, protect, dtype):
    tokens = make_tokens(2, N, 20, 20, 17, residual=True, sized=True, protect=protect)
    matching = tokens.check_match("triton", dtype, triton_device)
    tokens.check_merge(matching, "triton", dtype, triton_device)


def tied(B, N):
    """A metric of rows of length 2, and some of 0: all cosines are multiples of a quarter, and many are equal."""
    random = torch.Generator().manual_seed(N)
    where = torch.rand(B, N, 6, generator=random).argsort(dim=2) < 4
    metric_BNK = where * torch.randint(0, 2, (B, N, 6), generator=random).mul(2).sub(1).float()
    metric_BNK[:, 5::7] = 0
    return metric_BNK


@pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")  # NumPy interprets
@pytest.mark.parametrize(("N", "r", "protect"), [(74, 20, 1), (41, 99, 0), (41, 9, 5), (40, 0, 1), (3, 9, 2)])
def test_ties_zeros_and_what_is_undefined_are_those_of_the_reference(triton_device, small_tiles, N, r, protect):
    metric_BNK = tied(2, N)
    metric_BNK[1, 2::9] = torch.nan
    metric_BNK[1, 1::11] = torch.inf
    metric_BNK[0, 0] = 1e30
    want = match_tokens(metric_BNK, r, protect=protect, impl="reference")
    found = match_tokens(metric_BNK.to(triton_device), r, protect=protect, impl="triton")
    for mine, theirs in zip(found, want, strict=True):
        assert mine.cpu().equal(theirs)


def test_strides_and_mixed_dtypes_are_taken_as_they_come(triton_device, make_tokens):
    tokens = make_tokens(2, 10, 4, 6, 4, sized=True, residual=True)
    metric_BNK, x_BND, residual_BND, size_BN = (
        side.to(triton_device) for side in (tokens.metric_BNK, tokens.x_BND, tokens.residual_BND, tokens.size_BN)
    )
    results = []
    for turn in (lambda side: side, lambda side: side.transpose(0, 1).contiguous().transpose(0, 1)):
        matching = match_tokens(turn(metric_BNK), 4, impl="triton")
        branch_BND = x_BND.bfloat16().requires_grad_()
        merged_BMD, _ = merge_tokens(
            turn(branch_BND), matching, size_BN=turn(size_BN), residual_BND=turn(residual_BND), impl="triton"
        )
        assert merged_BMD.dtype == torch.float32
        (grad_BND,) = torch.autograd.grad(merged_BMD.sum(), branch_BND)
        assert grad_BND.dtype == torch.bfloat16
        results.append((*matching, merged_BMD, grad_BND))
    assert all(a.equal(b) for a, b in zip(*results, strict=True))


def test_nan_reaches_the_merged_token_that_it_goes_into_and_no_other(triton_device, make_tokens):
    tokens = make_tokens(2, 12, 3, 4, 4, sized=True)
    matching = match_tokens(tokens.metric_BNK.to(triton_device), 4, impl="triton")
    tokens.x_BND[1, 7, 2] = torch.nan
    merged_BMD, _ = merge_tokens(tokens.x_BND.to(triton_device), matching, impl="triton")
    assert merged_BMD.isnan().nonzero().tolist() == [[1, int(matching.target_BN[1, 7]), 2]]


def test_the_same_inputs_give_the_same_bits(triton_device, make_tokens, small_tiles):
    tokens = make_tokens(2, 25, 20, 20, 9, sized=True, residual=True)
    results = []
    for _ in range(2):
        matching = tokens.match("triton", torch.bfloat16, torch.bfloat16, triton_device)
        merged = tokens.merge(matching, "triton", torch.bfloat16, torch.bfloat16, triton_device)
        results.append((*matching, *merged.values()))
    assert all(a.equal(b) for a, b in zip(*results, strict=True))


def test_an_empty_batch_stays_empty(triton_device, make_tokens):
    tokens = make_tokens(0, 9, 3, 4, 3)
    matching = tokens.match("triton", torch.float32, torch.float32, triton_device)
    found = tokens.merge(matching, "triton", torch.float32, torch.float32, triton_device)
    assert (found["tokens"].shape, found["gradient"].shape) == ((0, 6, 3), (0, 9, 3))


def test_tokens_past_two_to_the_31_elements_are_found(triton_device, monkeypatch):
    """On the CPU the tokens take address space alone: all but two pages of them are never touched."""
    if not CUDA:  # the interpreter would copy every argument back onto itself
        monkeypatch.setattr(interpreter.GridExecutor, "_restore_args_dev", lambda *arguments: None)
    many, D = 2**25 + 3, 64
    rows_BXD = torch.from_numpy(np.zeros((1, many, D), np.float16)).to(triton_device)
    rows_BXD[0, -1], rows_BXD[0, -2] = 3, 5

    def index(*values):
        return torch.tensor([values], dtype=torch.int32, device=triton_device)

    last = Matching(target_BN=index(many - 1, many - 2), order_BN=index(many - 1, many - 2), offsets_BM=index(0, 1, 2))
    collect, collected_BMD, _ = triton.plan_collect(rows_BXD, None, None, last, mean=True)
    spread, spread_BND = triton.plan_spread(rows_BXD, None, None, last)
    for launch, result_B2D in ((collect, collected_BMD), (spread, spread_BND)):
        launch.run()
        assert result_B2D[0, :, 0].tolist() == [3, 5]
        assert result_B2D[0, :, -1].tolist() == [3, 5]


def test_float64_is_refused(triton_device, make_tokens):
    with pytest.raises(ValueError, match=r"impl='triton' takes float16, bfloat16 or float32, got torch.float64"):
        make_tokens(1, 3, 2, 4, 1).match("triton", torch.float64, torch.float64, triton_device)
