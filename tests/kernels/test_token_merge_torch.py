"""Token merging as torch sees it: registrations, compilation, autocast, counted FLOPs."""

import pytest
import torch
from reelmill.kernels import match_tokens, merge_tokens, merged_source, size_bias, unmerge_tokens
from torch.utils.flop_counter import FlopCounterMode

OPS = torch.ops.reelmill


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("residual", [False, True])
def test_opcheck_passes(make_tokens, residual, learns):
    tokens = make_tokens(2, 9, 3, 4, 3, sized=residual, residual=residual)
    torch.library.opcheck(OPS.match_tokens.default, (tokens.metric_BNK, 3, 1, "cpu"))
    matching = match_tokens(tokens.metric_BNK, 3)
    rows_BMD = tokens.up_BND[:, :6].clone()
    for leaf in (tokens.x_BND, tokens.residual_BND, rows_BMD):
        if leaf is not None:
            leaf.requires_grad_(learns)
    torch.library.opcheck(
        OPS.merge_tokens.default, (tokens.x_BND, tokens.residual_BND, tokens.size_BN, *matching, "cpu")
    )
    torch.library.opcheck(OPS.unmerge_tokens.default, (rows_BMD, *matching, "cpu"))


def test_opcheck_passes_for_triton(make_tokens, triton_device):
    tokens = make_tokens(1, 9, 3, 4, 3, sized=True, residual=True)
    checks = ["test_schema", "test_autograd_registration", "test_faketensor"]
    metric_BNK, x_BND, residual_BND, size_BN = (
        side.to(triton_device) for side in (tokens.metric_BNK, tokens.x_BND, tokens.residual_BND, tokens.size_BN)
    )
    torch.library.opcheck(OPS.match_tokens.default, (metric_BNK, 3, 1, "triton"), test_utils=checks)
    matching = match_tokens(metric_BNK, 3, impl="triton")
    x_BND.requires_grad_()
    torch.library.opcheck(
        OPS.merge_tokens.default, (x_BND, residual_BND, size_BN, *matching, "triton"), test_utils=checks
    )
    rows_BMD = x_BND.detach()[:, :6].requires_grad_()
    torch.library.opcheck(OPS.unmerge_tokens.default, (rows_BMD, *matching, "triton"), test_utils=checks)


@pytest.mark.parametrize("dynamic", [False, True])
def test_two_mergings_compile_into_one_graph(make_tokens, dynamic):
    def block(x_BND, residual_BND):
        first = match_tokens(x_BND, 4)
        x_BND, size_BN = merge_tokens(x_BND, first, residual_BND=residual_BND)
        second = match_tokens(x_BND, 4)
        x_BND, size_BN = merge_tokens(x_BND, second, size_BN=size_BN)
        source_BMN = merged_source(second, merged_source(first))
        return (x_BND * size_bias(size_BN)[:, :, None]).sum() + source_BMN.sum() + unmerge_tokens(x_BND, second).sum()

    tokens = make_tokens(3, 20, 5, 4, 0, residual=True)
    compiled = torch.compile(block, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for N in (20, 17) if dynamic else (20,):
        results = []
        for function in (block, compiled):
            sides = [side[:, :N].clone().requires_grad_() for side in (tokens.x_BND, tokens.residual_BND)]
            value = function(*sides)
            value.backward()
            results.append((value, sides[0].grad, sides[1].grad))
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_nothing_is_read_back_to_know_a_shape():
    metric_BNK = torch.zeros(2, 9, 4, device="meta")
    matching = match_tokens(metric_BNK, 3)
    merged_BMD, size_BM = merge_tokens(metric_BNK, matching)
    assert (merged_BMD.shape, size_BM.shape) == ((2, 6, 4), (2, 6))
    assert unmerge_tokens(merged_BMD, matching).shape == (2, 9, 4)
    assert merged_source(matching).shape == (2, 6, 9)


def test_autocast_casts_the_metric_and_leaves_the_stream(make_tokens):
    metric_BNK = torch.tensor([[[1, 0], [1, 1.001], [-1, 0], [1, 1]]])  # in bfloat16 both odd tokens are equal
    with torch.autocast("cpu", torch.bfloat16):
        rounded = match_tokens(metric_BNK, 1, protect=0)
    assert rounded.target_BN.tolist() == [[1, 1, 0, 2]]
    assert match_tokens(metric_BNK, 1, protect=0).target_BN.tolist() == [[2, 1, 0, 2]]

    tokens = make_tokens(2, 9, 3, 4, 3, sized=True, residual=True)
    matching = match_tokens(tokens.metric_BNK, 3)
    options = {"residual_BND": tokens.residual_BND, "size_BN": tokens.size_BN}
    want_BMD, _ = merge_tokens(tokens.x_BND, matching, **options)
    with torch.autocast("cpu", torch.bfloat16):
        merged_BMD, _ = merge_tokens(tokens.x_BND, matching, **options)
        assert merged_BMD.equal(want_BMD)
        assert unmerge_tokens(merged_BMD, matching).dtype == torch.float32


def test_flops_are_those_of_the_similarities(make_tokens):
    tokens = make_tokens(3, 9, 5, 8, 3)
    tokens.x_BND.requires_grad_()
    with FlopCounterMode(display=False) as counter:
        merge_tokens(tokens.x_BND, match_tokens(tokens.metric_BNK, 3))[0].sum().backward()
    assert counter.get_total_flops() == 2 * 3 * 5 * 4 * 8


def test_indices_and_sizes_have_no_gradient(make_tokens):
    tokens = make_tokens(2, 9, 3, 4, 3)
    matching = match_tokens(tokens.metric_BNK.requires_grad_(), 3)
    merged_BMD, size_BM = merge_tokens(tokens.x_BND.requires_grad_(), matching)
    assert merged_BMD.requires_grad
    assert not any(tensor.requires_grad for tensor in (*matching, size_BM, merged_source(matching)))


def test_only_who_asks_gets_a_gradient(make_tokens):
    tokens = make_tokens(2, 9, 3, 4, 3, residual=True)
    matching = match_tokens(tokens.metric_BNK, 3)
    tokens.residual_BND.requires_grad_()
    merge_tokens(tokens.x_BND, matching, residual_BND=tokens.residual_BND)[0].sum().backward()
    assert tokens.x_BND.grad is None
    assert tokens.residual_BND.grad is not None


@pytest.mark.parametrize("impl", ["cpu", "reference"])
def test_a_second_derivative_is_refused(make_tokens, impl):
    tokens = make_tokens(2, 9, 3, 4, 3)
    matching = match_tokens(tokens.metric_BNK, 3)
    x_BND = tokens.x_BND.requires_grad_()
    for name, result in (
        ("merge_tokens", merge_tokens(x_BND, matching, impl=impl)[0]),
        ("unmerge_tokens", unmerge_tokens(x_BND[:, :6], matching, impl=impl)),
    ):
        (grad_BND,) = torch.autograd.grad(result.square().sum(), x_BND, create_graph=True)
        if impl == "reference":
            grad_BND.sum().backward()
            continue
        with pytest.raises(RuntimeError, match=f"{name} cannot be differentiated twice; impl='reference' can"):
            grad_BND.sum().backward()
