"""What late interaction computes, on the CPU path and the reference; the Triton kernels have a file of their own."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reelmill.kernels import Segments, late_interaction
from reelmill.kernels.late_interaction import blocks, cpu
from reelmill.kernels.late_interaction.problem import Problem
from torch.utils._python_dispatch import TorchDispatchMode

IMPLS = ("reference", "cpu")


def naive(video_BVD, text_PD, lengths, mask_BV=None, weights=(0.5, 0.5), reduce="mean"):
    """The definition, one number at a time."""
    scores_BC = torch.zeros(len(video_BVD), len(lengths), dtype=torch.float64)
    for b, frames_VD in enumerate(video_BVD.double().tolist()):
        frames = [f for i, f in enumerate(frames_VD) if mask_BV is None or mask_BV[b, i]]
        first = 0
        for c, length in enumerate(lengths):
            prompts = text_PD[first : first + length].double().tolist()
            first += length
            if not frames:
                continue
            products = [[sum(x * y for x, y in zip(f, p, strict=True)) for p in prompts] for f in frames]
            to_text = sum(max(row) for row in products)
            to_video = sum(max(column) for column in zip(*products, strict=True))
            if reduce == "mean":
                to_text, to_video = to_text / len(frames), to_video / length
            scores_BC[b, c] = weights[0] * to_text + weights[1] * to_video
    return scores_BC


@settings(max_examples=25, deadline=None)
@given(
    B=st.integers(1, 4),
    V=st.integers(1, 6),
    D=st.integers(1, 9),
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=6),
    masked=st.booleans(),
    weights=st.sampled_from([(0.5, 0.5), (1.0, 0.0), (0.0, 1.0), (0.3, -0.7)]),
    reduce=st.sampled_from(["mean", "sum"]),
    impl=st.sampled_from(IMPLS),
)
def test_scores_follow_the_definition(B, V, D, lengths, masked, weights, reduce, impl):
    random = torch.Generator().manual_seed(B * V * D)
    video_BVD = torch.randn(B, V, D, generator=random, dtype=torch.float64)
    text_PD = torch.randn(sum(lengths), D, generator=random, dtype=torch.float64)
    mask_BV = torch.rand(B, V, generator=random) < 0.5 if masked else None
    options = {"weights": weights, "reduce": reduce}
    scores_BC = late_interaction(
        video_BVD, text_PD, Segments.from_lengths(lengths), video_mask_BV=mask_BV, impl=impl, **options
    )
    torch.testing.assert_close(scores_BC, naive(video_BVD, text_PD, lengths, mask_BV, **options))


@pytest.mark.parametrize(
    ("impl", "options", "masked"),
    [
        ("reference", {}, True),
        ("cpu", {}, False),
        ("cpu", {}, True),
        ("cpu", {"reduce": "sum"}, True),
        ("cpu", {"weights": (1, 0)}, True),
        ("cpu", {"weights": (0, 1), "reduce": "sum"}, True),
    ],
)
def test_gradients_are_those_of_the_scores(make_inputs, impl, options, masked):
    inputs = make_inputs(3, 4, [3, 1, 5, 3], 6, masked=masked)
    sides = [side.double().requires_grad_() for side in (inputs.video_BVD, inputs.text_PD)]
    assert torch.autograd.gradcheck(
        lambda video_BVD, text_PD: late_interaction(
            video_BVD, text_PD, inputs.segments, video_mask_BV=inputs.mask_BV, impl=impl, **options
        ),
        sides,
    )


@pytest.mark.parametrize("frozen", ["video", "text"])
def test_a_frozen_side_gets_no_gradient(make_inputs, frozen):
    inputs = make_inputs(3, 4, [3, 1, 5], 6, masked=True)
    both = [inputs.video_BVD.clone().requires_grad_(), inputs.text_PD.clone().requires_grad_()]
    one = [inputs.video_BVD.clone().requires_grad_(frozen != "video"), inputs.text_PD.clone()]
    one[1].requires_grad_(frozen != "text")
    for video_BVD, text_PD in (both, one):
        late_interaction(video_BVD, text_PD, inputs.segments, video_mask_BV=inputs.mask_BV).sum().backward()
    left = 0 if frozen == "text" else 1
    assert one[1 - left].grad is None
    assert torch.equal(one[left].grad, both[left].grad)


@pytest.mark.parametrize("impl", IMPLS)
def test_masked_frames_are_absent(make_inputs, impl):
    inputs = make_inputs(3, 6, [3, 1, 5], 8)
    mask_BV = torch.tensor([[1, 1, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0], [1, 1, 1, 1, 1, 1]], dtype=torch.bool)
    video_BVD = inputs.video_BVD.masked_fill(~mask_BV[:, :, None], torch.nan).requires_grad_()
    text_PD = inputs.text_PD.clone().requires_grad_()
    scores_BC, prompt_BVC, frame_BP = late_interaction(
        video_BVD, text_PD, inputs.segments, video_mask_BV=mask_BV, return_argmax=True, impl=impl
    )
    scores_BC.sum().backward()
    kept = late_interaction(inputs.video_BVD[:1, [0, 1, 3]], inputs.text_PD, inputs.segments, impl=impl)
    torch.testing.assert_close(scores_BC[:1], kept)
    assert scores_BC[1].tolist() == [0.0, 0.0, 0.0]  # no valid frame
    assert (prompt_BVC == -1).all(2).equal(~mask_BV)
    assert set(frame_BP[0].tolist()) <= {0, 1, 3}
    assert (frame_BP[1] == -1).all()
    assert not video_BVD.grad[~mask_BV].any()
    assert text_PD.grad.isfinite().all()


@pytest.mark.parametrize("impl", IMPLS)
def test_the_best_are_named_and_ties_go_to_the_lowest_index(impl):
    text_PD = torch.tensor([[1.0, 0], [0, 1], [0, 1], [1, 0], [1, 0], [-1, 0]])
    video_BVD = torch.tensor([[[0.0, 2], [3, 0], [3, 0], [-1, 0], [0, 0]]])
    segments = Segments.from_lengths([3, 2, 1])
    _, prompt_BVC, frame_BP = late_interaction(video_BVD, text_PD, segments, return_argmax=True, impl=impl)
    assert prompt_BVC.dtype == frame_BP.dtype == torch.int16
    assert prompt_BVC[0].T.tolist() == [[1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert frame_BP.tolist() == [[1, 0, 0, 1, 1, 3]]


@pytest.mark.parametrize("impl", IMPLS)
def test_a_direction_without_weight_is_still_named(make_inputs, impl):
    inputs = make_inputs(2, 3, [3, 2], 4)
    both = late_interaction(inputs.video_BVD, inputs.text_PD, inputs.segments, return_argmax=True)
    for weights in ((1, 0), (0, 1)):
        one = late_interaction(
            inputs.video_BVD, inputs.text_PD, inputs.segments, weights=weights, return_argmax=True, impl=impl
        )
        assert torch.equal(one.prompt_BVC, both.prompt_BVC)
        assert torch.equal(one.frame_BP, both.frame_BP)


@pytest.mark.parametrize("impl", IMPLS)
def test_nan_reaches_the_scores_that_depend_on_it_and_no_other(make_inputs, impl):
    inputs = make_inputs(4, 5, [3, 1, 2, 3], 8)
    clean_BC = late_interaction(inputs.video_BVD, inputs.text_PD, inputs.segments, impl=impl)
    hit_BC = torch.zeros(4, 4, dtype=torch.bool)
    hit_BC[2], hit_BC[:, 3] = True, True
    video_BVD, text_PD = inputs.video_BVD.clone(), inputs.text_PD.clone()
    video_BVD[2, 4, 1] = torch.nan
    text_PD[7, 0] = torch.nan
    for weights in ((0.5, 0.5), (1, 0), (0, 1)):
        scores_BC, prompt_BVC, frame_BP = late_interaction(
            video_BVD, text_PD, inputs.segments, weights=weights, return_argmax=True, impl=impl
        )
        assert scores_BC.isnan().equal(hit_BC)
        if weights == (0.5, 0.5):
            torch.testing.assert_close(scores_BC[~hit_BC], clean_BC[~hit_BC])
    assert (prompt_BVC[0, :, 3] == 1).all()  # the NaN itself, as torch.max has it
    assert (frame_BP[2, :7] == 4).all()


def test_infinities_pass_through(make_inputs):
    inputs = make_inputs(2, 3, [3, 2], 1)
    text_PD = inputs.text_PD.abs()
    text_PD[1] = torch.inf
    for video_BVD in (inputs.video_BVD.abs(), -inputs.video_BVD.abs()):
        mine = late_interaction(video_BVD, text_PD, inputs.segments, return_argmax=True)
        truth = late_interaction(video_BVD, text_PD, inputs.segments, return_argmax=True, impl="reference")
        assert all(torch.equal(a, b) for a, b in zip(mine, truth, strict=True))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("impl", IMPLS)
def test_scores_are_wide_and_gradients_keep_their_dtype(make_inputs, impl, dtype):
    inputs = make_inputs(3, 4, [3, 1, 5], 8)
    video_BVD = inputs.video_BVD.to(dtype).requires_grad_()
    text_PD = inputs.text_PD.to(dtype).requires_grad_()
    scores_BC = late_interaction(video_BVD, text_PD, inputs.segments, impl=impl)
    assert scores_BC.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    scores_BC.sum().backward()
    assert video_BVD.grad.dtype == text_PD.grad.dtype == dtype


@pytest.mark.parametrize("options", [{}, {"reduce": "sum"}, {"weights": (1, 0)}, {"weights": (0, 1)}])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_cpu_path_errs_no_more_than_twice_eager(make_inputs, dtype, options):
    make_inputs(9, 7, [36, 5, 36, 1, 17], 65).check("cpu", dtype, **options)
    make_inputs(9, 7, [36, 5, 36, 1, 17], 65, masked=True).check("cpu", dtype, **options)


def test_strides_and_offsets_are_taken_as_they_come(make_inputs):
    inputs = make_inputs(3, 4, [3, 1, 5], 8)
    want_BC = late_interaction(inputs.video_BVD, inputs.text_PD, inputs.segments)
    strided_BVD = inputs.video_BVD.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    strided_PD = inputs.text_PD.repeat(1, 2)[:, :8]
    for offsets in ([0, 3, 4, 9], torch.tensor([0, 3, 4, 9], dtype=torch.int32)):
        torch.testing.assert_close(late_interaction(strided_BVD, strided_PD, offsets), want_BC, rtol=0, atol=1e-7)


def test_an_empty_batch_has_no_scores(make_inputs):
    inputs = make_inputs(0, 4, [3, 1], 8)
    video_BVD, text_PD = inputs.video_BVD.requires_grad_(), inputs.text_PD.requires_grad_()
    scores_BC = late_interaction(video_BVD, text_PD, inputs.segments)
    assert scores_BC.shape == (0, 2)
    scores_BC.sum().backward()
    assert not text_PD.grad.any()


def test_small_blocks_change_nothing(make_inputs, monkeypatch):
    inputs = make_inputs(7, 5, [4, 4, 2, 4, 2, 9, 4], 8, masked=True)
    results = []
    for most in (1 << 19, 90, 1):  # all classes of a length at once; a few; one video against one class
        monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", most)
        sides = [inputs.video_BVD.clone().requires_grad_(), inputs.text_PD.clone().requires_grad_()]
        outputs = late_interaction(
            sides[0], sides[1], inputs.segments, video_mask_BV=inputs.mask_BV, return_argmax=True
        )
        (outputs[0] * inputs.grad_BC).sum().backward()
        results.append((*outputs, sides[0].grad, sides[1].grad))
    for other in results[1:]:
        for mine, theirs in zip(results[0], other, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)


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


@pytest.mark.parametrize("lengths", [[8] * 400, [400] * 8, list(range(1, 80))])
def test_the_cpu_path_never_holds_the_full_scores(make_inputs, monkeypatch, lengths):
    monkeypatch.setattr(blocks, "BLOCK_ELEMENTS", 1 << 15)
    inputs = make_inputs(48, 8, lengths, 4, masked=True)
    segments = inputs.segments
    problem = Problem(
        inputs.video_BVD, inputs.text_PD, inputs.mask_BV, segments.offsets, segments.owners, segments.order,
        segments.slot, (0.5, 0.5), True,
    )  # fmt: skip
    results = 2 * (sum(lengths) * 48 + len(lengths) * 8 * 48)
    with LargestTensor() as seen:
        _, prompt_CVB, frame_PB = cpu.forward(problem, (True, True))
        cpu.backward(problem, inputs.grad_BC, prompt_CVB, frame_PB, (True, True))
    assert 4 * (1 << 15) / 2 < seen.bytes <= max(8 * (1 << 15), results)
    assert seen.bytes < 4 * 48 * 8 * sum(lengths) / 8


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video_BVD": torch.zeros(3, 8)}, r"video_BVD must have shape \(B, V, D\) with V, D >= 1, got \(3, 8\)"),
        ({"video_BVD": torch.zeros(3, 0, 8)}, r"with V, D >= 1, got \(3, 0, 8\)"),
        ({"text_PD": torch.zeros(9, 7)}, r"text_PD must have shape \(P, 8\), the D of video_BVD, got \(9, 7\)"),
        ({"text_PD": torch.zeros(8, 8)}, r"text_PD must have 9 rows \(those of the segments\), got 8"),
        ({"text_PD": torch.zeros(9, 8).half()}, r"text_PD must be torch.float32 \(the dtype of video_BVD\), got torch"),
        (
            {"text_PD": torch.zeros(9, 8, device="meta")},
            r"text_PD must be on cpu \(the device of video_BVD\), got meta",
        ),
        (
            {"video_BVD": torch.zeros(3, 4, 8).int()},
            "must be float16, bfloat16, float32 or float64, got torch.int",
        ),
        ({"video_BVD": torch.zeros(1, 32769, 8)}, r"up to 32768 frames \(int16 indices\), got 32769"),
        (
            {"video_mask_BV": torch.ones(3, 5).bool()},
            r"bool \(3, 4\) \(the B, V of video_BVD\), got torch.bool \(3, 5\)",
        ),
        ({"video_mask_BV": torch.ones(3, 4)}, r"video_mask_BV must be bool .* got torch.float32 \(3, 4\)"),
        ({"segments": [0, 3, 3, 9]}, "class 1 must have at least one row, got 0"),
        ({"weights": (1, float("nan"))}, r"two finite numbers \(video to text, text to video\), got \(1, nan\)"),
        ({"weights": (1,)}, "two finite numbers"),
        ({"reduce": "max"}, "reduce must be 'mean' or 'sum', got 'max'"),
        ({"impl": "cuda"}, "impl must be one of auto, reference, cpu, triton, got 'cuda'"),
        ({"impl": "triton"}, r"impl='triton' needs tensors on CUDA, got cpu \(TRITON_INTERPRET=1 interprets it\)"),
    ],
)
def test_wrong_arguments_are_named(make_inputs, monkeypatch, change, message):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    inputs = make_inputs(3, 4, [3, 1, 5], 8)
    right = {"video_BVD": inputs.video_BVD, "text_PD": inputs.text_PD, "segments": inputs.segments}
    with pytest.raises(ValueError, match=message):
        late_interaction(**(right | change))


def test_classes_too_long_for_an_index_are_refused():
    text_PD = torch.zeros(32769, 1)
    with pytest.raises(ValueError, match=r"up to 32768 prompts \(int16 indices\), got 32769"):
        late_interaction(torch.zeros(1, 1, 1), text_PD, Segments.from_lengths([32769]))
