"""The Triton kernels of synonym classes against the float64 reference: on the GPU, or in Triton's interpreter."""

import numpy as np
import pytest
import torch
import triton.runtime.interpreter as interpreter
from reelmill.kernels import synonym_similarity
from reelmill.kernels.synonym_similarity import loss_plan, means_plan, product_plan, tiles, triton
from reelmill.tests.kernels.synonym_inputs import SynonymInputs

CUDA = torch.cuda.is_available()
F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16

pytestmark = pytest.mark.usefixtures("poisoned_memory")


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles so small that every loop goes round more than once, and blocks of a few videos."""
    for table in (tiles.SCORES, tiles.GRADIENT):
        for key in table:
            monkeypatch.setitem(table, key, tiles.Tiles(16, 16, 16, 4, 1))
    monkeypatch.setattr(means_plan, "ROW_ELEMENTS", 32)
    monkeypatch.setattr(means_plan, "TILE_ELEMENTS", 256)
    monkeypatch.setattr(loss_plan, "PROGRAMS", 4)
    monkeypatch.setattr(product_plan, "PROGRAMS", 12)
    monkeypatch.setattr(triton, "PULL_ELEMENTS", 200)


CASES = [
    SynonymInputs(1, [1], 1, normalize=False),
    SynonymInputs(5, [9, 1, 7], 33, groups=[2, 1, 3], ignored=True, smoothing=0.1),
    SynonymInputs(34, [2] * 20, 34, groups=[1] * 34, own=True),
    SynonymInputs(9, [3, 200, 1], 20, normalize=False, smoothing=1.0, groups=[4]),
]


@pytest.mark.parametrize("inputs", CASES, ids=["one", "ragged", "tiles", "as they come"])
def test_float32_errs_no_more_than_twice_eager(triton_device, inputs):
    inputs.check("triton", F32, triton_device)


@pytest.mark.parametrize("dtype", [F16, BF16])
@pytest.mark.parametrize("normalize", [True, False])
def test_narrow_dtypes_err_no_more_than_twice_eager(triton_device, dtype, normalize):
    inputs = SynonymInputs(7, [9, 2, 5, 1] * 4, 40, groups=[2, 1, 3], ignored=True, smoothing=0.2, normalize=normalize)
    inputs.check("triton", dtype, triton_device)


@pytest.mark.parametrize(("dtype", "own"), [(F32, False), (BF16, True)])
def test_every_loop_goes_round(triton_device, small_tiles, dtype, own):
    groups = [2] * 18 if own else [3, 7, 1]
    inputs = SynonymInputs(18, [1, 9, 1] * 6, 34, groups=groups, own=own, ignored=True, smoothing=0.1)
    inputs.check("triton", dtype, triton_device)


@pytest.mark.filterwarnings("ignore:(invalid value|All-NaN slice) encountered:RuntimeWarning")  # NumPy interprets
def test_nan_reaches_what_depends_on_it_and_no_other(triton_device, small_tiles):
    inputs = SynonymInputs(19, [3, 1, 2] * 6, 4, groups=[2, 1, 2])
    inputs.negative_B = torch.tensor([-1, 0, 1, 2] * 4 + [-1, 1, 1])
    leaves = [leaf.detach() for leaf in inputs.leaves(F32, F32, triton_device)]
    leaves[0][3, 1] = torch.nan
    leaves[3][0, 2] = torch.inf  # a length that is not finite is NaN
    loss_B, lse_B = inputs.loss(leaves, "triton", return_lse=True)
    hit_B = inputs.negative_B == 0
    hit_B[3] = True
    assert loss_B.isnan().cpu().equal(hit_B)
    assert lse_B.isnan().cpu().equal(hit_B)
    leaves[1][4, 0] = torch.nan
    scores_BC = synonym_similarity(leaves[0], leaves[1], inputs.segments.to(triton_device), impl="triton")
    hit_BC = torch.zeros(19, 18, dtype=torch.bool)
    hit_BC[3], hit_BC[:, 2] = True, True
    assert scores_BC.isnan().cpu().equal(hit_BC)


@pytest.mark.parametrize("dtype", [F32, BF16])
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_an_ignored_video_has_no_effect_whatever_it_holds(triton_device, dtype):
    inputs = SynonymInputs(6, [3, 1, 2], 4, groups=[2, 1, 2], smoothing=0.1, ignored=True)
    inputs.negative_B = torch.tensor([0, 0, -1, 1, 2, 0])
    ways = []
    for what in (0.5, torch.nan):
        inputs.video_BD[::3] = what
        leaves = inputs.leaves(dtype, dtype, triton_device)
        loss = inputs.loss(leaves, "triton", reduction="mean")
        loss.backward()
        ways.append([loss.detach(), *(leaf.grad for leaf in leaves)])
    for clean, dirty in zip(*ways, strict=True):
        assert dirty.equal(clean)
    assert not ways[0][1][::3].any()
    assert ways[0][1][1].any()


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_indices_out_of_range_give_nan_and_read_nothing(triton_device):
    inputs = SynonymInputs(5, [3, 1, 2], 4, groups=[2, 1])
    inputs.target_B = torch.tensor([0, 3, -1, 2, 1])
    inputs.negative_B = torch.tensor([0, 1, -1, 2, -2])
    leaves = inputs.leaves(F32, F32, triton_device)
    loss_B = inputs.loss(leaves, "triton")
    loss_B.sum().backward()
    assert loss_B.isnan().tolist() == [False, True, True, True, True]
    assert leaves[0].grad.isnan().any(1).tolist() == [False, True, True, True, True]


def test_rows_of_length_0_count_as_0_and_have_no_gradient(triton_device):
    inputs = SynonymInputs(3, [3, 1, 2], 4, groups=[2, 1, 1], own=True)
    inputs.video_BD[1], inputs.text_PD[0], inputs.text_PD[3] = 0, 0, 0
    found = inputs.results("triton", F32, None, triton_device)
    assert not found["scores"][1].any()
    assert not found["scores"][:, 1].any()
    assert all(result.isfinite().all() for result in found.values())
    for name, row in (("video", 1), ("text", 0), ("text", 3)):
        assert not found[f"{name} gradient"][row].any()


def test_strides_are_taken_as_they_come(triton_device):
    inputs = SynonymInputs(6, [3, 1, 5], 4, groups=[2, 1, 3], ignored=True)
    ways = []
    for turn in (torch.clone, lambda side: side.T.contiguous().T):
        leaves = inputs.leaves(F32, F32, triton_device)
        video_BD, text_PD, scale, negative_PD = leaves
        loss = inputs.loss([turn(video_BD), turn(text_PD), scale, turn(negative_PD)], "triton", reduction="mean")
        loss.backward()  # an expanded gradient
        ways.append([loss.detach(), *(leaf.grad for leaf in leaves)])
    assert all(mine.equal(theirs) for mine, theirs in zip(*ways, strict=True))


@pytest.mark.parametrize("dtype", [F16, BF16])
def test_gradients_that_cancel_keep_their_digits(triton_device, dtype):
    """The class of a video, and a class like it: what they pull to cancels."""
    inputs = SynonymInputs(2, [1, 1], 8)
    inputs.text_PD[1] = inputs.text_PD[0] * 1.01
    inputs.target_B = torch.tensor([0, 1])
    inputs.scale = torch.tensor(1.0)
    truth = inputs.results("reference", dtype, torch.float64)
    found = inputs.results("triton", dtype, None, triton_device)
    torch.testing.assert_close(found["video gradient"].double(), truth["video gradient"], rtol=0.02, atol=2e-5)


def test_the_same_inputs_give_the_same_bits(triton_device, small_tiles):
    inputs = SynonymInputs(7, [9, 2, 18], 20, groups=[2, 1])
    first, again = (inputs.results("triton", BF16, None, triton_device) for _ in range(2))
    assert all(again[name].equal(result) for name, result in first.items())


def test_an_empty_batch_has_no_losses(triton_device):
    found = SynonymInputs(0, [3, 1], 8, groups=[2]).results("triton", F32, None, triton_device)
    assert (found["loss"].shape, found["scores"].shape, found["video gradient"].shape) == ((0,), (0, 2), (0, 8))
    assert not any(found[f"{name} gradient"].any() for name in ("text", "negatives", "scale"))


@pytest.mark.parametrize("wanted", range(4))
def test_only_who_asks_gets_a_gradient(triton_device, wanted):
    inputs = SynonymInputs(3, [3, 1, 5], 4, groups=[2, 1, 3])
    truth = inputs.results("reference", F32)
    leaves = [leaf.detach() for leaf in inputs.leaves(F32, F32, triton_device)]
    leaves[wanted].requires_grad_()
    loss_B, lse_B = inputs.loss(leaves, "triton", return_lse=True)
    (loss_B * inputs.up_B.to(triton_device) + lse_B * inputs.up_lse_B.to(triton_device)).sum().backward()
    name = ("video", "text", "scale", "negatives")[wanted]
    torch.testing.assert_close(leaves[wanted].grad.cpu(), truth[f"{name} gradient"], rtol=1e-4, atol=1e-5)
    assert all(leaf.grad is None for position, leaf in enumerate(leaves) if position != wanted)


def test_rows_past_two_to_the_31_elements_are_found(triton_device, monkeypatch):
    """On the CPU the rows take address space alone: all but a few pages of them are never touched."""
    if not CUDA:  # the interpreter would copy every argument back onto itself
        monkeypatch.setattr(interpreter.GridExecutor, "_restore_args_dev", lambda *arguments: None)
    many, D = 2**25 + 3, 64
    rows_XD = torch.from_numpy(np.zeros((many, D), np.float16)).to(triton_device)
    rows_XD[-1], rows_XD[-2] = 3, 4
    ends = torch.tensor([many - 2, many - 1, many], device=triton_device)
    collect, means_CD, inverse_X = means_plan.plan_means(rows_XD, ends, True)
    collect.run()
    assert means_CD[:, 0].tolist() == [0.125, 0.125]
    assert inverse_X[-2:].tolist() == [1 / 32, pytest.approx(1 / 24)]
    order = torch.tensor([many - 1, many - 2, many - 1], device=triton_device)
    sums_2D = torch.empty_like(means_CD)
    weight_X = torch.from_numpy(np.zeros(many, np.float32)).to(triton_device)
    weight_X[-2:] = torch.tensor([1.0, 2.0])
    offsets = torch.tensor([0, 1, 3], device=triton_device)
    means_plan.plan_collect(rows_XD, order, offsets, weight_X, None, sums_2D, False).run()
    assert sums_2D[:, -1].tolist() == [6, 10]


def test_float64_is_refused(triton_device):
    with pytest.raises(ValueError, match=r"impl='triton' takes float16, bfloat16 or float32, got torch.float64"):
        SynonymInputs(1, [3], 4).results("triton", torch.float64)
