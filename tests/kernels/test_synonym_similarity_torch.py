"""Synonym classes as torch sees them: registrations, compilation, autocast, counted FLOPs."""

from typing import Any

import pytest
import torch
from reelmill.kernels import Segments, synonym_cross_entropy, synonym_similarity
from reelmill.kernels.synonym_similarity import triton  # noqa: F401  the interpreter replaces what is imported
from reelmill.tests.kernels.synonym_inputs import SynonymInputs
from torch.utils.flop_counter import FlopCounterMode

OPS = torch.ops.reelmill


def calls(inputs, impl, device, learns):
    """The three ops with their arguments, as leaves that learn or not."""
    segments = inputs.segments.to(device)
    video_BD, text_PD, scale, *_ = (leaf.detach() for leaf in inputs.leaves(torch.float32, torch.float32, device))
    means_CD, _ = OPS.synonym_means(text_PD, segments.offsets, segments.owners, True, impl)
    negatives_GD = None if inputs.negative_ND is None else means_CD[:2].clone()
    negative_B = None if inputs.negative_B is None else inputs.negative_B.to(device)
    for leaf in (video_BD, text_PD, scale, means_CD, negatives_GD):
        if leaf is not None:
            leaf.requires_grad_(learns)
    yield OPS.synonym_means.default, (text_PD, segments.offsets, segments.owners, True, impl)
    yield OPS.synonym_similarity.default, (video_BD, means_CD, True, impl)
    target_B = inputs.target_B.to(device)
    yield (
        OPS.synonym_cross_entropy.default,
        (video_BD, means_CD, scale, target_B, negatives_GD, negative_B, 0.1, -100, True, impl),
    )


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("groups", [None, [2, 1]])
def test_opcheck_passes(learns, groups):
    inputs = SynonymInputs(3, [3, 1, 5], 8, groups=groups, ignored=True)
    for op, arguments in calls(inputs, "cpu", "cpu", learns):
        torch.library.opcheck(op, arguments)


def test_opcheck_passes_for_triton(triton_device):
    inputs = SynonymInputs(3, [3, 1, 5], 8, groups=[2, 1], ignored=True)
    checks = ["test_schema", "test_autograd_registration", "test_faketensor"]
    for op, arguments in calls(inputs, "triton", triton_device, True):
        torch.library.opcheck(op, arguments, test_utils=checks)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_the_loss_compiles_into_one_graph(dynamic, own):
    inputs = SynonymInputs(5, [3, 1, 5], 8, groups=[1] * 5, own=own, ignored=True, smoothing=0.1)

    def step(video_BD, text_PD, scale, negative_PD, target_B, negative_B):
        loss, lse_B = synonym_cross_entropy(
            video_BD, text_PD, inputs.segments, target_B, scale=scale.exp(), negative_PD=negative_PD,
            negative_B=negative_B, return_lse=True,
        )  # fmt: skip
        return loss + lse_B.sum() + synonym_similarity(video_BD, text_PD, inputs.segments, scale=scale).square().sum()

    compiled = torch.compile(step, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for B in (3, 5) if dynamic else (5,):
        ways = []
        functions: tuple[Any, ...] = (step, compiled)
        for function in functions:
            video_BD, text_PD, scale, negative_PD = inputs.leaves(torch.float32, torch.float32)
            leaves = [side.detach().requires_grad_() for side in (video_BD[:B], text_PD, scale / 10, negative_PD[:B])]
            negative_B = None if own else inputs.negative_B[:B].clamp(max=B - 1)
            value = function(*leaves, inputs.target_B[:B], negative_B)
            value.backward()
            ways.append([value, *(leaf.grad for leaf in leaves)])
        for mine, theirs in zip(*ways, strict=True):
            torch.testing.assert_close(mine, theirs)


def test_nothing_is_read_back_to_know_a_shape():
    video_BD, text_PD = torch.empty(4, 8, device="meta"), torch.empty(5, 8, device="meta")
    segments = Segments.from_lengths([2, 3], "meta")
    assert synonym_similarity(video_BD, text_PD, segments).shape == (4, 2)
    target_B = torch.zeros(4, dtype=torch.int64, device="meta")
    loss, lse_B = synonym_cross_entropy(
        video_BD, text_PD, segments, target_B, scale=50, negative_PD=text_PD[:4], return_lse=True
    )
    assert (loss.shape, lse_B.shape) == ((), (4,))


def test_autocast_casts_embeddings_and_nothing_else():
    inputs = SynonymInputs(4, [3, 1, 5], 8, groups=[2, 1])
    inputs.scale = torch.tensor(20.03)  # no bfloat16
    rounded = inputs.results("cpu", torch.bfloat16)
    leaves = inputs.leaves(torch.float32, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        loss_B, lse_B = inputs.loss(leaves, "cpu", return_lse=True)
        scores_BC = synonym_similarity(leaves[0], leaves[1].bfloat16(), inputs.segments, scale=leaves[2])
        loss_B.sum().backward()
    assert loss_B.equal(rounded["loss"])
    assert lse_B.equal(rounded["lse"])
    assert scores_BC.equal(rounded["scores"])
    assert {leaf.grad.dtype for leaf in leaves} == {torch.float32}
    with torch.autocast("cpu", torch.bfloat16):
        exact_B = inputs.loss(inputs.leaves(torch.float64, torch.float64), "cpu")
    assert exact_B.equal(inputs.results("cpu", torch.float64)["loss"])


@pytest.mark.parametrize(("frozen", "products"), [(None, 4), ("video", 3), ("text", 3)])
def test_flops_are_counted(frozen, products):
    inputs = SynonymInputs(3, [3, 1, 5], 8)
    video_BD, text_PD, scale = (leaf.detach() for leaf in inputs.leaves(torch.float32, torch.float32))
    video_BD.requires_grad_(frozen != "video")
    text_PD.requires_grad_(frozen != "text")
    with FlopCounterMode(display=False) as counter:
        inputs.loss([video_BD, text_PD, scale], "cpu").sum().backward()
    assert counter.get_total_flops() == products * 2 * 3 * 3 * 8  # forward, again in the backward, two gradients
    with FlopCounterMode(display=False) as counter:
        synonym_similarity(video_BD, text_PD, inputs.segments).sum().backward()
    assert counter.get_total_flops() == (products - 1) * 2 * 3 * 3 * 8


@pytest.mark.parametrize("impl", ["cpu", "reference"])
def test_a_second_derivative_is_refused(impl):
    inputs = SynonymInputs(3, [3, 1, 5], 8, groups=[2, 1])
    leaves = inputs.leaves(torch.float32, torch.float32)
    scores_BC = synonym_similarity(leaves[0], leaves[1], inputs.segments, impl=impl)
    for name, result in (("synonym_cross_entropy", inputs.loss(leaves, impl)), ("synonym_similarity", scores_BC)):
        for side in (0, 1):
            (grad,) = torch.autograd.grad(result.square().sum(), leaves[side], create_graph=True)
            if impl == "reference":
                grad.sum().backward(retain_graph=True)
                continue
            with pytest.raises(RuntimeError, match=f"{name}.* cannot be differentiated twice; impl='reference' can"):
                grad.sum().backward(retain_graph=True)
