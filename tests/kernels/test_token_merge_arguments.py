"""What token merging refuses, and in which words."""

import pytest
import torch
from reelmill.kernels import Matching, match_tokens, merge_tokens, merged_source, size_bias, unmerge_tokens

RIGHT_METRIC, RIGHT_X = torch.zeros(2, 8, 4), torch.zeros(2, 8, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"metric_BNK": torch.zeros(8, 4)}, r"metric_BNK must have shape \(B, N, K\) with N, K >= 1, got \(8, 4\)"),
        ({"metric_BNK": torch.zeros(2, 0, 4)}, r"with N, K >= 1, got \(2, 0, 4\)"),
        ({"metric_BNK": RIGHT_METRIC.int()}, "metric_BNK must be float16, bfloat16, float32 or float64, got torch.int"),
        ({"r": -1}, "r must be an integer >= 0, got -1"),
        ({"r": 1.5}, "r must be an integer >= 0, got 1.5"),
        ({"protect": -1}, "protect must be an integer >= 0, got -1"),
        ({"protect": True}, "protect must be an integer >= 0, got True"),
        ({"impl": "cuda"}, "impl must be one of auto, reference, cpu, triton, got 'cuda'"),
    ],
)
def test_wrong_arguments_of_matching_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        match_tokens(**({"metric_BNK": RIGHT_METRIC, "r": 2} | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"x_BND": RIGHT_X[0]},
            r"x_BND must have shape \(2, 8, D\) with D >= 1, the B and N of the matching, got \(8, 3",
        ),
        ({"x_BND": RIGHT_X[:, :7]}, r"x_BND must have shape \(2, 8, D\) .*, got \(2, 7, 3\)"),
        ({"x_BND": RIGHT_X.int()}, "x_BND must be float16, bfloat16, float32 or float64, got torch.int32"),
        ({"x_BND": RIGHT_X.to("meta")}, r"x_BND must be on cpu \(as the matching is\), got meta"),
        ({"residual_BND": RIGHT_X[:1]}, r"residual_BND must have shape \(2, 8, 3\) \(as x_BND has\), got \(1, 8, 3\)"),
        (
            {"residual_BND": RIGHT_X.int()},
            "residual_BND must be float16, bfloat16, float32 or float64, got torch.int32",
        ),
        (
            {"residual_BND": RIGHT_X.double()},
            "float64 goes with float64: x_BND is torch.float32, residual_BND torch.float64",
        ),
        ({"residual_BND": RIGHT_X.to("meta")}, r"residual_BND must be on cpu \(the device of x_BND\), got meta"),
        (
            {"size_BN": torch.ones(2, 8).bfloat16()},
            r"size_BN must be torch.float32 \(2, 8\) \(the B, N of x_BND\), got torch.bfloat16 \(2, 8\)",
        ),
        ({"size_BN": torch.ones(2, 7)}, r"size_BN must be torch.float32 \(2, 8\) .*, got torch.float32 \(2, 7\)"),
        (
            {"size_BN": torch.ones(2, 8, requires_grad=True)},
            "size_BN must not require a gradient: sizes are counts, detach them",
        ),
        ({"size_BN": torch.ones(2, 8, device="meta")}, r"size_BN must be on cpu \(the device of x_BND\), got meta"),
    ],
)
def test_wrong_arguments_of_merging_are_named(change, message):
    matching = match_tokens(RIGHT_METRIC, 2)
    with pytest.raises(ValueError, match=message):
        merge_tokens(**({"x_BND": RIGHT_X, "matching": matching} | change))


def test_wrong_arguments_of_the_others_are_named():
    matching = match_tokens(RIGHT_METRIC, 2)
    with pytest.raises(
        ValueError, match=r"merged_BMD must have shape \(2, 6, D\) with D >= 1, the B and M of the match"
    ):
        unmerge_tokens(RIGHT_X, matching)
    with pytest.raises(
        ValueError, match=r"source_BMN must be bool \(2, 8, N\), the B and the tokens of .* torch.float32"
    ):
        merged_source(matching, RIGHT_X)
    with pytest.raises(ValueError, match=r"source_BMN must be on cpu \(as the matching is\), got meta"):
        merged_source(matching, RIGHT_X.bool().to("meta"))
    with pytest.raises(ValueError, match=r"size_BN must be float32 or float64 \(B, N\), got torch.bfloat16 \(2, 8\)"):
        size_bias(torch.ones(2, 8).bfloat16())


def test_a_matching_is_a_tuple_of_its_tensors():
    target_BN, order_BN, offsets_BM = matching = match_tokens(RIGHT_METRIC, 2)
    assert isinstance(matching, Matching)
    assert (target_BN.shape, order_BN.shape, offsets_BM.shape) == ((2, 8), (2, 8), (2, 7))
