"""What synonym classes compute, on the CPU path and the reference; Triton has a file of its own."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reelmill.kernels import Segments, synonym_cross_entropy, synonym_similarity
from reelmill.kernels.synonym_similarity import cpu
from reelmill.kernels.synonym_similarity.problem import Kept, Problem, Upstream
from reelmill.tests.kernels.synonym_inputs import SynonymInputs
from torch.nn.functional import cross_entropy, normalize
from torch.utils._python_dispatch import TorchDispatchMode

IMPLS: tuple[Any, ...] = ("reference", "cpu")
DTYPES = (torch.float16, torch.bfloat16, torch.float32)

pytestmark = pytest.mark.usefixtures("poisoned_memory")


def unit(row):
    length = math.sqrt(sum(value * value for value in row))
    return [value / length if length else 0.0 for value in row]


def naive_scores(rows, text, lengths, scale, normalized):
    """The definition, one number at a time: a list of scores for each video."""
    scores, firsts = [], [sum(lengths[:c]) for c in range(len(lengths))]
    text = [unit(row) if normalized else row for row in text.double().tolist()]
    for video in rows.double().tolist():
        video = unit(video) if normalized else video
        products = [sum(x * y for x, y in zip(video, row, strict=True)) for row in text]
        classes = [products[first : first + length] for first, length in zip(firsts, lengths, strict=True)]
        scores.append([scale * sum(members) / len(members) for members in classes])
    return scores


@settings(max_examples=40, deadline=None)
@given(
    B=st.integers(1, 4),
    D=st.integers(1, 9),
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=6),
    groups=st.none() | st.lists(st.integers(1, 4), min_size=1, max_size=4),
    smoothing=st.sampled_from([0.0, 0.1, 1.0]),
    normalized=st.booleans(),
    impl=st.sampled_from(IMPLS),
)
def test_scores_and_losses_follow_the_definition(B, D, lengths, groups, smoothing, normalized, impl):
    inputs = SynonymInputs(B, lengths, D, groups=groups, smoothing=smoothing, normalize=normalized)
    leaves = [leaf.detach() for leaf in inputs.leaves(torch.float64, torch.float64)]
    video_BD, text_PD, scale, *negatives = leaves
    want = naive_scores(video_BD, text_PD, lengths, scale.item(), normalized)
    scores_BC = synonym_similarity(
        video_BD, text_PD, inputs.segments, scale=scale.item(), normalize=normalized, impl=impl
    )
    torch.testing.assert_close(scores_BC, torch.tensor(want, dtype=torch.float64))
    own = naive_scores(video_BD, negatives[0], groups, scale.item(), normalized) if groups else []
    loss_B, lse_B = inputs.loss(leaves, impl, return_lse=True)
    for b, scores in enumerate(want):
        group = -1 if inputs.negative_B is None else int(inputs.negative_B[b])
        chosen = scores + ([own[b][group]] if group >= 0 else [])
        lse = max(chosen) + math.log(sum(math.exp(score - max(chosen)) for score in chosen))
        loss = lse - (1 - smoothing) * scores[inputs.target_B[b]] - smoothing * sum(scores) / len(scores)
        assert lse_B[b].item() == pytest.approx(lse, abs=1e-9)
        assert loss_B[b].item() == pytest.approx(loss, abs=1e-9)


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_without_negatives_it_is_torchs_cross_entropy_of_the_similarity(impl, reduction, smoothing):
    inputs = SynonymInputs(7, [3, 1, 5, 2], 6, ignored=True)
    video_BD, text_PD, scale = inputs.leaves(torch.float64, torch.float64)
    scores_BC = synonym_similarity(video_BD, text_PD, inputs.segments, scale=scale, impl="reference")
    options: Any = {"reduction": reduction, "label_smoothing": smoothing}
    mine = inputs.loss([video_BD, text_PD, scale], impl, **options)
    theirs = cross_entropy(scores_BC, inputs.target_B, **options)
    torch.testing.assert_close(mine, theirs)
    ways = [torch.autograd.grad(loss.square().sum(), [video_BD, text_PD, scale]) for loss in (mine, theirs)]
    for one, other in zip(*ways, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("impl", "options"),
    [
        ("reference", {"groups": [2, 1, 3]}),
        ("cpu", {}),
        ("cpu", {"groups": [2, 1, 3], "ignored": True}),
        ("cpu", {"groups": [2, 1, 3, 1], "own": True, "smoothing": 0.3}),
        ("cpu", {"groups": [2], "normalize": False, "ignored": True, "smoothing": 0.3}),
    ],
)
def test_gradients_are_those_of_the_losses_and_the_scores(impl, options):
    inputs = SynonymInputs(4, [3, 1, 5, 3], 6, **options)
    inputs.scale = torch.tensor(2.0)
    leaves = inputs.leaves(torch.float64, torch.float64)
    assert torch.autograd.gradcheck(lambda *leaves: inputs.loss(list(leaves), impl, return_lse=True), leaves)
    assert torch.autograd.gradcheck(
        lambda video_BD, text_PD, scale: synonym_similarity(
            video_BD, text_PD, inputs.segments, scale=scale, normalize=inputs.normalize, impl=impl
        ),
        leaves[:3],
    )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"groups": [3, 1, 9], "ignored": True, "smoothing": 0.1},
        {"groups": [2] * 150, "own": True},
        {"groups": [4], "normalize": False, "smoothing": 1.0},
    ],
    ids=["plain", "ragged", "own", "as they come"],
)
def test_the_cpu_path_errs_no_more_than_twice_eager(dtype, options):
    SynonymInputs(150, [36, 5, 200, 1, 17], 65, **options).check("cpu", dtype)
    SynonymInputs(150, [9] * 130, 33, **options).check("cpu", dtype)


def test_class_vectors_are_not_normalised_again():
    text_PD = torch.tensor([[3.0, 0.0], [0.0, 0.5], [-2.0, 0.0], [1.0, 0.0], [2.0, 0.0]])
    scores_BC = synonym_similarity(torch.tensor([[5.0, 0.0]]), text_PD, [0, 1, 3, 5], scale=10)
    torch.testing.assert_close(scores_BC, torch.tensor([[10.0, -5.0, 10.0]]))
    scores_BC = synonym_similarity(torch.tensor([[5.0, 0.0]]), text_PD, [0, 1, 3, 5], normalize=False)
    torch.testing.assert_close(scores_BC, torch.tensor([[15.0, -5.0, 7.5]]))


@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
def test_rows_of_length_0_count_as_0_and_have_no_gradient(impl, dtype):
    inputs = SynonymInputs(3, [3, 1, 2], 4, groups=[2, 1, 1], own=True)
    inputs.video_BD[1], inputs.text_PD[0], inputs.text_PD[3] = 0, 0, 0
    inputs.negative_ND[2] = 0
    found = inputs.results(impl, dtype)
    assert not found["scores"][1].any()
    assert not found["scores"][:, 1].any()
    assert found["lse"][1].item() == pytest.approx(math.log(4), rel=1e-6)
    assert all(result.isfinite().all() for result in found.values())
    for name, row in (("video", 1), ("text", 0), ("text", 3), ("negatives", 2)):
        assert not found[f"{name} gradient"][row].any()
        assert found[f"{name} gradient"].any()


@pytest.mark.parametrize("impl", IMPLS)
def test_nan_reaches_what_depends_on_it_and_no_other(impl):
    inputs = SynonymInputs(5, [3, 1, 2], 4, groups=[2, 1, 2])
    inputs.negative_B = torch.tensor([-1, 0, 1, 2, 0])
    leaves = [leaf.detach() for leaf in inputs.leaves(torch.float32, torch.float32)]
    leaves[0][3, 1] = torch.nan
    leaves[3][0, 2] = torch.inf  # a length that is not finite is NaN
    loss_B, lse_B = inputs.loss(leaves, impl, return_lse=True)
    assert loss_B.isnan().tolist() == lse_B.isnan().tolist() == [False, True, False, True, True]
    leaves[1][4, 0] = torch.nan
    scores_BC = synonym_similarity(leaves[0], leaves[1], inputs.segments, impl=impl)
    hit_BC = torch.zeros(5, 3, dtype=torch.bool)
    hit_BC[3], hit_BC[:, 2] = True, True
    assert scores_BC.isnan().equal(hit_BC)
    assert inputs.loss(leaves, impl).isnan().all()


@pytest.mark.parametrize("impl", IMPLS)
def test_an_ignored_video_has_no_effect_whatever_it_holds(impl):
    inputs = SynonymInputs(6, [3, 1, 2], 4, groups=[2, 1, 2], smoothing=0.1, ignored=True)
    inputs.negative_B = torch.tensor([0, 0, -1, 1, 2, 0])
    ways = []
    for what in (0.5, torch.nan):
        inputs.video_BD[::3] = what
        leaves = inputs.leaves(torch.float32, torch.float32)
        loss = inputs.loss(leaves, impl, reduction="mean")
        loss.backward()
        ways.append([loss.detach(), *(leaf.grad for leaf in leaves)])
    for clean, dirty in zip(*ways, strict=True):
        assert dirty.equal(clean)
    assert not ways[0][1][::3].any()
    assert ways[0][1][1].any()


@pytest.mark.parametrize("impl", IMPLS)
def test_a_video_without_a_negative_is_not_touched_by_those_of_others(impl):
    inputs = SynonymInputs(3, [3, 1, 2], 4, groups=[2, 1])
    inputs.negative_B = torch.tensor([-1, 1, -1])
    inputs.negative_ND[0] = torch.nan  # no video has this group
    leaves = inputs.leaves(torch.float32, torch.float32)
    inputs.loss(leaves, impl, reduction="sum").backward()
    assert leaves[0].grad.isfinite().all()
    alone = SynonymInputs(3, [3, 1, 2], 4)
    alone.video_BD, alone.text_PD, alone.target_B = inputs.video_BD, inputs.text_PD, inputs.target_B
    plain = alone.leaves(torch.float32, torch.float32)
    alone.loss(plain, impl, reduction="sum").backward()
    torch.testing.assert_close(leaves[0].grad[::2], plain[0].grad[::2])


@pytest.mark.parametrize("impl", IMPLS)
def test_if_all_are_ignored_the_mean_is_nan_and_nothing_is_pulled(impl):
    inputs = SynonymInputs(3, [3, 1], 4)
    inputs.target_B[:] = -100
    leaves = inputs.leaves(torch.float32, torch.float32)
    loss = inputs.loss(leaves, impl, reduction="mean")
    loss.backward()
    assert loss.isnan()
    assert not any(leaf.grad.any() for leaf in leaves)


@pytest.mark.parametrize("impl", IMPLS)
def test_negatives_are_one_row_each_without_offsets(impl):
    inputs = SynonymInputs(4, [3, 1, 2], 5, groups=[1] * 4, own=True)
    video_BD, text_PD, scale, negative_BD = inputs.leaves(torch.float64, torch.float64)
    loss_B = synonym_cross_entropy(
        video_BD, text_PD, inputs.segments, inputs.target_B, scale=scale, negative_PD=negative_BD, reduction="none",
        impl=impl,
    )  # fmt: skip
    scores_BC = synonym_similarity(video_BD, text_PD, inputs.segments, scale=scale)
    own_B1 = scale * (normalize(video_BD) * normalize(negative_BD)).sum(1, keepdim=True)
    want_B = cross_entropy(torch.cat([scores_BC, own_B1], 1), inputs.target_B, reduction="none")
    torch.testing.assert_close(loss_B, want_B)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("impl", IMPLS)
def test_shards_of_the_classes_combine_to_the_whole(impl, smoothing):
    """Two ranks hold classes 0-2 and 3-4; a rank ignores the videos whose class it has not, one has the negatives."""
    inputs = SynonymInputs(6, [3, 1, 2, 4, 2], 5, groups=[2] * 6, own=True, smoothing=smoothing)
    whole = inputs.leaves(torch.float64, torch.float64)
    inputs.loss(whole, impl, reduction="mean").backward()

    video_BD, text_PD, scale, negative_PD = leaves = inputs.leaves(torch.float64, torch.float64)
    parts = []
    for rank, (classes, rows) in enumerate(((slice(0, 3), slice(0, 6)), (slice(3, 5), slice(6, 12)))):
        segments = Segments.from_lengths(inputs.segments.lengths[classes])
        target_B = inputs.target_B - classes.start
        target_B[(target_B < 0) | (target_B >= len(segments))] = -100
        negatives: dict[str, Any] = {"negative_PD": negative_PD, "negative_offsets": inputs.negative_segments}
        part = synonym_cross_entropy(
            video_BD, text_PD[rows], segments, target_B, scale=scale, reduction="none", return_lse=True, impl=impl,
            **(negatives if rank == 0 else {}),
        )  # fmt: skip
        total_B = synonym_similarity(video_BD, text_PD[rows], segments, scale=scale, impl=impl).sum(1)
        parts.append((*part, target_B != -100, total_B))
    losses, logarithms, has, totals = (torch.stack(values) for values in zip(*parts, strict=True))
    target_score_B = torch.where(has, logarithms - losses, 0).sum(0)
    loss_B = logarithms.logsumexp(0) - (1 - smoothing) * target_score_B - smoothing / 5 * totals.sum(0)
    loss = loss_B.mean()
    loss.backward()
    torch.testing.assert_close(loss, inputs.loss(whole, impl, reduction="mean"))
    for mine, theirs in zip(leaves, whole, strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
@pytest.mark.parametrize("impl", IMPLS)
def test_results_are_wide_and_gradients_keep_their_dtype(impl, dtype):
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    found = SynonymInputs(3, [3, 1, 5], 8, groups=[2, 1]).results(impl, dtype)
    assert {found[name].dtype for name in ("loss", "lse", "scores", "scale gradient")} == {wide}
    assert {found[f"{name} gradient"].dtype for name in ("video", "text", "negatives")} == {dtype}


def test_the_scale_keeps_its_dtype():
    inputs = SynonymInputs(3, [3, 1, 5], 8)
    for dtype in (torch.float16, torch.float64):
        scale = torch.tensor(20.0, dtype=dtype, requires_grad=True)
        loss = inputs.loss([inputs.video_BD, inputs.text_PD, scale], "cpu", reduction="sum")
        (grad,) = torch.autograd.grad(loss, scale)
        assert (loss.dtype, grad.dtype) == (torch.float32, dtype)
        assert synonym_similarity(inputs.video_BD, inputs.text_PD, inputs.segments, scale=scale).dtype == torch.float32


@pytest.mark.parametrize("impl", IMPLS)
def test_strides_and_offsets_are_taken_as_they_come(impl):
    inputs = SynonymInputs(6, [3, 1, 5], 4, groups=[2, 1, 3])
    ways = []
    turns = (torch.clone, lambda side: side.T.contiguous().T, lambda side: side.repeat_interleave(2, 1)[:, ::2])
    for turn in turns:
        video_BD, text_PD, scale, negative_PD = inputs.leaves(torch.float32, torch.float32)
        loss = synonym_cross_entropy(
            turn(video_BD), turn(text_PD), [0, 3, 4, 9], inputs.target_B.int(), scale=scale,
            negative_PD=turn(negative_PD), negative_offsets=torch.tensor([0, 2, 3, 6]),
            negative_B=inputs.negative_B.int(), impl=impl,
        )  # fmt: skip
        loss.backward()
        scores_BC = synonym_similarity(turn(video_BD), turn(text_PD), [0, 3, 4, 9], impl=impl)
        ways.append([loss.detach(), scores_BC.detach(), video_BD.grad, text_PD.grad, negative_PD.grad])
    for other in ways[1:]:
        for mine, theirs in zip(ways[0], other, strict=True):
            torch.testing.assert_close(mine, theirs, rtol=0, atol=2e-6)


@pytest.mark.parametrize("impl", IMPLS)
def test_expanded_videos_are_taken_as_they_come(impl):
    inputs = SynonymInputs(5, [3, 1, 5], 4)
    ways = []
    for make in (torch.clone, lambda side: side):
        row_1D = inputs.video_BD[:1].clone().requires_grad_()
        inputs.loss([make(row_1D.expand(5, 4)), inputs.text_PD, inputs.scale], impl, reduction="sum").backward()
        ways.append(row_1D.grad)
    torch.testing.assert_close(*ways)


@pytest.mark.parametrize("impl", IMPLS)
def test_an_empty_batch_has_no_losses(impl):
    inputs = SynonymInputs(0, [3, 1], 8, groups=[2])
    found = inputs.results(impl, torch.float32)
    assert (found["loss"].shape, found["scores"].shape, found["video gradient"].shape) == ((0,), (0, 2), (0, 8))
    assert not any(found[f"{name} gradient"].any() for name in ("text", "negatives", "scale"))


@pytest.mark.parametrize("wanted", range(4))
def test_only_who_asks_gets_a_gradient(wanted):
    inputs = SynonymInputs(5, [3, 1, 5], 4, groups=[2, 1, 3])
    whole = inputs.leaves(torch.float32, torch.float32)
    inputs.loss(whole, "cpu", reduction="sum").backward()
    leaves = [leaf.detach() for leaf in inputs.leaves(torch.float32, torch.float32)]
    leaves[wanted].requires_grad_()
    inputs.loss(leaves, "cpu", reduction="sum").backward()
    assert leaves[wanted].grad.equal(whole[wanted].grad)
    assert all(leaf.grad is None for position, leaf in enumerate(leaves) if position != wanted)


def test_the_same_inputs_give_the_same_bits():
    inputs = SynonymInputs(40, [9] * 200, 64, groups=[3, 1, 2] * 5)
    first, again = (inputs.results("cpu", torch.bfloat16) for _ in range(2))
    assert all(again[name].equal(result) for name, result in first.items())


class LargestTensor(TorchDispatchMode):
    """Remembers the most elements that any tensor of the block had."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_small_blocks_change_nothing_and_never_hold_all_scores_or_all_unit_rows(monkeypatch):
    inputs = SynonymInputs(60, [3, 9, 1, 4] * 30, 16, groups=[2, 1, 3], smoothing=0.1)
    want = inputs.results("cpu", torch.float32)
    for most in (1 << 10, 1):  # a few videos and classes; one
        monkeypatch.setattr(cpu, "BLOCK_ELEMENTS", most)
        for name, result in inputs.results("cpu", torch.float32).items():
            torch.testing.assert_close(result, want[name], rtol=1e-4, atol=1e-5)

    monkeypatch.setattr(cpu, "BLOCK_ELEMENTS", 1 << 10)
    scores, text = 60 * 120, inputs.text_PD.numel()
    with LargestTensor() as seen:
        means_CD, _ = cpu.means(inputs.text_PD, inputs.segments.offsets, inputs.segments.owners, True)
    assert (1 << 10) / 2 < seen.elements <= max(means_CD.numel(), text)
    problem = Problem(inputs.video_BD, means_CD, inputs.scale, inputs.target_B, None, None, 0.1, -100, True)
    with LargestTensor() as seen:
        loss_B, _, kept = cpu.cross_entropy(problem)
        cpu.cross_entropy_backward(problem, Kept(*kept), Upstream(loss_B, loss_B), (True, True, True, False))
    assert seen.elements <= means_CD.numel() < scores / 3
    half_PD = inputs.text_PD.half()
    with LargestTensor() as seen:
        cpu.means(half_PD, inputs.segments.offsets, inputs.segments.owners, True)
    assert seen.elements < text / 2  # never widened as a whole
