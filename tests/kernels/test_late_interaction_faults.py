"""Faults put into the kernels of late interaction by hand: the checks of the other tests must see each of them."""

import importlib.util
from pathlib import Path

import pytest
import torch
from reelmill.kernels import late_interaction
from reelmill.kernels.late_interaction import triton

pytestmark = [
    pytest.mark.usefixtures("poisoned_memory"),
    pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning"),  # NumPy interprets, faults divide by zero
]

KERNELS = {
    "forward_kernel": ("forward_kernel",),
    "backward_kernel": ("video_gradient_kernel", "text_gradient_kernel"),
}

FAULTS = [
    ("later ties win over steps", "forward_kernel", "best > best_v", "best >= best_v"),
    ("later frames win ties", "forward_kernel", "best > best_t", "best >= best_t"),
    ("the index is that of the step", "forward_kernel", "j0 + lowest", "lowest"),
    ("negative keys are not turned", "forward_kernel", "bits ^ ((bits >> 31) & 0x7FFFFFFF))\n", "bits)\n"),
    ("absent prompts count", "forward_kernel", "valid[:, None] & present[None, :], keys", "valid[:, None], keys"),
    ("masked frames count", "forward_kernel", "valid = valid & (tl.load(mask_ptr", "valid = valid | (tl.load(mask_ptr"),
    ("the mean counts masked frames", "forward_kernel", "mask=b < B, other=1), 1)", "mask=b < B, other=1), V)"),
    ("the weights are swapped", "forward_kernel", "score += weight_v * sum_v", "score += weight_t * sum_v"),
    ("a stride of the prompts is one of the videos", "forward_kernel", "None, :] * V + f", "None, :] * B + f"),
    ("the gradient has the other sign", "backward_kernel", "row // B, grad * share", "row // B, -grad * share"),
    ("the gradient is not shared by frames", "backward_kernel", "share = weight_v / count", "share = weight_v"),
    ("prompts count from the first class", "backward_kernel", "prompt == j - first", "prompt == j"),
    ("a stride of the gradient is one of the frames", "backward_kernel", "c * B + b, mask", "c * V + b, mask"),
    ("a stride of the rows is one of the videos", "backward_kernel", "B + row % B) * V", "B + row % B) * B"),
    ("splits overlap", "backward_kernel", "range(split * per_split,", "range(0,"),
]  # fmt: skip


@pytest.fixture
def put(monkeypatch, tmp_path, triton_device):
    """Replaces a piece of a kernel's module in a copy of it, and has the copy's kernels launched, in small tiles."""

    def replace(module, right, wrong):
        source = (Path(triton.__file__).parent / f"{module}.py").read_text()
        assert right in source
        copy = tmp_path / f"faulty_{module}.py"
        copy.write_text(source.replace(right, wrong))
        spec = importlib.util.spec_from_file_location(copy.stem, copy)
        assert spec is not None
        assert spec.loader is not None
        faulty = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(faulty)
        for name in KERNELS[module]:
            monkeypatch.setattr(triton, name, getattr(faulty, name))

    for table in (triton.FORWARD, triton.BACKWARD):
        for key in table:
            monkeypatch.setitem(table, key, triton.Tiles(16, 16, 16, 4, 1))
    monkeypatch.setattr(triton, "PROGRAMS", 12)
    return replace


def check(make_inputs, device):
    """The checks of the other tests, on one small case with more frames than a tile has rows."""
    inputs = make_inputs(3, 20, [3, 37, 1], 4, masked=True)
    inputs.check("triton", torch.float32, device, weights=(0.7, 0.3))
    video_BVD, text_PD = (4 * inputs.video_BVD).round(), (2 * inputs.text_PD).round()  # small integers tie often
    video_BVD[:, 17], text_PD[19] = video_BVD[:, 2], text_PD[4]
    options = {"video_mask_BV": inputs.mask_BV, "return_argmax": True}
    want = late_interaction(video_BVD, text_PD, inputs.segments, impl="reference", **options)
    options["video_mask_BV"] = inputs.mask_BV.to(device)
    found = late_interaction(
        video_BVD.to(device), text_PD.to(device), inputs.segments.to(device), impl="triton", **options
    )
    assert found.prompt_BVC.cpu().equal(want.prompt_BVC), "indices: another prompt"
    assert found.frame_BP.cpu().equal(want.frame_BP), "indices: another frame"


def test_the_right_kernels_pass(make_inputs, triton_device, put):
    for module in KERNELS:
        put(module, "triton.jit", "triton.jit")
    check(make_inputs, triton_device)


@pytest.mark.parametrize(
    ("module", "right", "wrong"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS]
)
def test_a_fault_is_seen(make_inputs, triton_device, put, module, right, wrong):
    put(module, right, wrong)
    with pytest.raises(AssertionError, match=r"error .* budget|indices: "):
        check(make_inputs, triton_device)
