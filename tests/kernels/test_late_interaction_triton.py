"""The Triton kernels against the float64 reference: on the GPU where there is one, else in Triton's interpreter."""

import pytest
import torch
from reelmill.kernels import late_interaction
from reelmill.kernels.late_interaction import triton

pytestmark = pytest.mark.usefixtures("poisoned_memory")

SHAPES = [
    (1, 1, [1], 1, False),
    (3, 5, [3, 1, 7], 10, True),  # few frames and prompts, a width below one step
    (9, 8, [36] * 20, 33, False),  # several steps over a class, more videos and classes than a tile holds
    (2, 70, [70, 3, 65], 65, True),  # more frames than a tile has rows, classes longer than it has columns
]


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles so small that every loop goes round more than once."""
    for table in (triton.FORWARD, triton.BACKWARD):
        for key in table:
            monkeypatch.setitem(table, key, triton.Tiles(16, 16, 16, 4, 1))
    monkeypatch.setattr(triton, "PROGRAMS", 12)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_float32_errs_no_more_than_twice_eager(triton_device, make_inputs, shape):
    *sizes, masked = shape
    make_inputs(*sizes, masked=masked).check("triton", torch.float32, triton_device)


@pytest.mark.parametrize("options", [{"reduce": "sum"}, {"weights": (1, 0)}, {"weights": (0, 1)}, {"weights": (2, -1)}])
def test_options_err_no_more_than_twice_eager(triton_device, make_inputs, options):
    make_inputs(3, 5, [3, 1, 7], 10, masked=True).check("triton", torch.float32, triton_device, **options)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_dtypes_err_no_more_than_twice_eager(triton_device, make_inputs, dtype):
    make_inputs(5, 6, [9, 2, 30], 40, masked=True).check("triton", dtype, triton_device)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("V", [5, 20])
def test_every_loop_goes_round(triton_device, make_inputs, small_tiles, V, dtype):
    make_inputs(3, V, [3, 37, 1, 18], 20, masked=True).check("triton", dtype, triton_device)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_gradients_of_like_classes_cancel_and_keep_their_digits(triton_device, make_inputs, dtype):
    inputs = make_inputs(2, 3, [1, 1], 8)
    inputs.text_PD[1] = inputs.text_PD[0]
    inputs.grad_BC = torch.tensor([[1.01, -1.0], [-1.0, 1.01]])
    _, truth, _ = inputs.results("reference", dtype, torch.float64)
    _, grad_video, _ = inputs.results("triton", dtype, None, triton_device)
    torch.testing.assert_close(grad_video.double(), truth, rtol=0.01, atol=1e-6)


def test_small_gradients_survive_float16(triton_device, make_inputs):
    inputs = make_inputs(3, 5, [3, 1, 7], 10)
    inputs.grad_BC *= 1e-9  # far below the smallest float16
    _, grad_video, grad_text = inputs.results("triton", torch.float16, None, triton_device, reduce="sum")
    assert not grad_video.any()  # it has no digits for them at the end
    inputs.grad_BC *= 1e4
    _, _, truth = inputs.results("reference", torch.float16, torch.float64, reduce="sum")
    _, _, grad_text = inputs.results("triton", torch.float16, None, triton_device, reduce="sum")
    torch.testing.assert_close(grad_text.double(), truth, rtol=1e-3, atol=6e-8)


@pytest.mark.parametrize("V", [5, 20])
def test_indices_ties_and_masks_are_those_of_the_reference(triton_device, make_inputs, small_tiles, V):
    inputs = make_inputs(3, V, [3, 18, 1], 3, masked=True)
    video_BVD, text_PD = (4 * inputs.video_BVD).round(), (2 * inputs.text_PD).round()  # small integers tie often
    truth = late_interaction(
        video_BVD, text_PD, inputs.segments, video_mask_BV=inputs.mask_BV, return_argmax=True, impl="reference"
    )
    for weights in ((0.5, 0.5), (1, 0), (0, 1)):
        mine = late_interaction(
            video_BVD.to(triton_device), text_PD.to(triton_device), inputs.segments.to(triton_device),
            video_mask_BV=inputs.mask_BV.to(triton_device), weights=weights, return_argmax=True, impl="triton",
        )  # fmt: skip
        assert torch.equal(mine.prompt_BVC.cpu(), truth.prompt_BVC)
        assert torch.equal(mine.frame_BP.cpu(), truth.frame_BP)
    assert (truth.prompt_BVC == -1).any()
    assert (truth.frame_BP == -1).any()


@pytest.mark.parametrize("V", [5, 20])
def test_nan_reaches_the_scores_that_depend_on_it_and_no_other(triton_device, make_inputs, small_tiles, V):
    inputs = make_inputs(4, V, [3, 1, 18], 8)
    mask_BV = torch.ones(4, V, dtype=torch.bool)
    mask_BV[1, 2] = False
    hit_BC = torch.zeros(4, 3, dtype=torch.bool)
    hit_BC[2], hit_BC[:, 2] = True, True
    inputs.video_BVD[1, 2] = torch.nan  # masked
    inputs.video_BVD[2, 4, 1] = -torch.nan
    inputs.text_PD[21, 0] = torch.nan
    for weights in ((0.5, 0.5), (1, 0), (0, 1)):
        scores_BC = late_interaction(
            inputs.video_BVD.to(triton_device), inputs.text_PD.to(triton_device), inputs.segments.to(triton_device),
            video_mask_BV=mask_BV.to(triton_device), weights=weights, impl="triton",
        )  # fmt: skip
        assert scores_BC.isnan().cpu().equal(hit_BC)


def test_masked_nan_reaches_no_gradient(triton_device, make_inputs):
    inputs = make_inputs(3, 5, [3, 1, 7], 10, masked=True)
    clean = inputs.results("triton", torch.float32, None, triton_device)
    inputs.video_BVD = inputs.video_BVD.masked_fill(~inputs.mask_BV[:, :, None], torch.nan)
    for mine, want in zip(inputs.results("triton", torch.float32, None, triton_device), clean, strict=True):
        assert torch.equal(mine, want)


def test_the_same_inputs_give_the_same_bits(triton_device, make_inputs, small_tiles):
    inputs = make_inputs(5, 6, [9, 2, 18], 20)
    first, again = (inputs.results("triton", torch.bfloat16, None, triton_device) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_an_empty_batch_has_no_scores(triton_device, make_inputs):
    scores_BC, grad_video, grad_text = make_inputs(0, 4, [3, 1], 8).results(
        "triton", torch.float32, None, triton_device
    )
    assert (scores_BC.shape, grad_video.shape) == ((0, 2), (0, 4, 8))
    assert not grad_text.any()


def test_float64_is_refused(triton_device, make_inputs):
    with pytest.raises(ValueError, match=r"impl='triton' takes float16, bfloat16 or float32, got torch.float64"):
        make_inputs(1, 2, [3], 4).results("triton", torch.float64)
