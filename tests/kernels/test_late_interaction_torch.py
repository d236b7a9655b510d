"""Late interaction as torch sees it: registrations, compilation, autocast, counted FLOPs."""

import pytest
import torch
from reelmill.kernels import late_interaction
from torch.utils.flop_counter import FlopCounterMode


def arguments(inputs, save, impl="cpu", weights=(0.5, 0.5)):
    segments = inputs.segments
    return (
        inputs.video_BVD, inputs.text_PD, inputs.mask_BV, segments.offsets, segments.owners, segments.order,
        segments.slot, list(weights), True, save, impl,
    )  # fmt: skip


def test_opcheck_passes(make_inputs):
    op = torch.ops.reelmill.late_interaction.default
    inputs = make_inputs(3, 4, [3, 1, 5], 8, masked=True)
    torch.library.opcheck(op, arguments(inputs, [False, False]))
    inputs.video_BVD.requires_grad_()
    inputs.text_PD.requires_grad_()
    torch.library.opcheck(op, arguments(inputs, [True, True]))


def test_opcheck_passes_for_triton(make_inputs, triton_device):
    inputs = make_inputs(3, 4, [3, 1, 5], 8)
    inputs.segments = inputs.segments.to(triton_device)
    inputs.video_BVD = inputs.video_BVD.to(triton_device).requires_grad_()
    inputs.text_PD = inputs.text_PD.to(triton_device)
    checks = ["test_schema", "test_autograd_registration", "test_faketensor"]
    torch.library.opcheck(
        torch.ops.reelmill.late_interaction.default, arguments(inputs, [True, True], "triton"), test_utils=checks
    )


@pytest.mark.parametrize("dynamic", [False, True])
def test_it_compiles_into_one_graph(make_inputs, dynamic):
    inputs = make_inputs(5, 4, [3, 1, 5], 8, masked=True)

    def loss(video_BVD, text_PD, mask_BV):
        scores = late_interaction(video_BVD, text_PD, inputs.segments, video_mask_BV=mask_BV, return_argmax=True)
        return scores.scores_BC.logsumexp(1).sum() + scores.frame_BP.sum()

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for B in (3, 5) if dynamic else (5,):
        results = []
        for function in (loss, compiled):
            sides = [inputs.video_BVD[:B].clone().requires_grad_(), inputs.text_PD.clone().requires_grad_()]
            value = function(sides[0], sides[1], inputs.mask_BV[:B])
            value.backward()
            results.append((value, sides[0].grad, sides[1].grad))
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_autocast_casts_both_sides_and_keeps_the_scores_wide(make_inputs):
    inputs = make_inputs(3, 4, [3, 1, 5], 8)
    video_BVD, text_PD = inputs.video_BVD.requires_grad_(), inputs.text_PD.to(torch.bfloat16)
    rounded_BC = late_interaction(video_BVD.to(torch.bfloat16), text_PD, inputs.segments)
    with torch.autocast("cpu", torch.bfloat16):
        scores_BC = late_interaction(video_BVD, text_PD, inputs.segments)
        scores_BC.sum().backward()
    assert scores_BC.dtype == torch.float32
    assert torch.equal(scores_BC, rounded_BC)
    assert video_BVD.grad.dtype == torch.float32
    with torch.autocast("cpu", torch.float16):
        assert not torch.equal(late_interaction(video_BVD, text_PD.float(), inputs.segments), rounded_BC)
    with torch.autocast("cpu", torch.bfloat16):
        exact_BC = late_interaction(video_BVD.double(), text_PD.double(), inputs.segments)
    assert exact_BC.dtype == torch.float64


@pytest.mark.parametrize(("frozen", "products"), [(False, 3), (True, 2)])
def test_flops_are_counted(make_inputs, frozen, products):
    inputs = make_inputs(3, 4, [3, 1, 5], 8)
    video_BVD, text_PD = inputs.video_BVD.requires_grad_(), inputs.text_PD.requires_grad_(not frozen)
    with FlopCounterMode(display=False) as counter:
        late_interaction(video_BVD, text_PD, inputs.segments).sum().backward()
    assert counter.get_total_flops() == products * 2 * 3 * 4 * 9 * 8


def test_a_second_derivative_is_refused(make_inputs):
    inputs = make_inputs(3, 4, [3, 1, 5], 8)
    video_BVD = inputs.video_BVD.requires_grad_()
    (grad,) = torch.autograd.grad(
        late_interaction(video_BVD, inputs.text_PD, inputs.segments).square().sum(), video_BVD, create_graph=True
    )
    with pytest.raises(RuntimeError, match="late_interaction cannot be differentiated twice; impl='reference' can"):
        grad.sum().backward()


def test_a_gradient_needs_the_saved_indices(make_inputs):
    inputs = make_inputs(3, 4, [3, 1, 5], 8)
    inputs.video_BVD.requires_grad_()
    with pytest.raises(ValueError, match="save must be True for each direction that has a weight"):
        torch.ops.reelmill.late_interaction(*arguments(inputs, [True, False]))
