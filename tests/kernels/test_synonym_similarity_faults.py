"""Faults put into the kernels of synonym classes by hand: the checks of the other tests must see each of them."""

import importlib.util
from pathlib import Path

import pytest
import torch
from reelmill.kernels.synonym_similarity import loss_plan, means_plan, product_plan, tiles, triton
from reelmill.tests.kernels.synonym_inputs import SynonymInputs

pytestmark = [
    pytest.mark.usefixtures("poisoned_memory"),
    pytest.mark.filterwarnings("ignore:.* encountered.*:RuntimeWarning"),  # NumPy interprets, faults divide by zero
]

KERNELS = {
    "means_kernel": (means_plan, ("collect_kernel", "lengths_kernel", "spread_kernel")),
    "product_kernel": (product_plan, ("gradient_kernel", "scores_kernel")),
    "loss_kernel": (loss_plan, ("combine_kernel", "pull_kernel", "statistics_kernel", "video_gradient_kernel")),
}

FAULTS = [
    (
        "a mean is a sum",
        "means_kernel",
        "tl.div_rn(inverse, tl.zeros((ROWS,), tl.float32) + count)",
        "inverse",
    ),
    (
        "a class ends a row early",
        "means_kernel",
        "count = (tl.load(offsets_ptr + c + 1) - first)",
        "count = (tl.load(offsets_ptr + c + 1) - first - 1)",
    ),
    (
        "a later step takes the first rows again",
        "means_kernel",
        "row = first + start + tl",
        "row = first + tl",
    ),
    (
        "a sign",
        "means_kernel",
        "out -= along[:, None] * x",
        "out += along[:, None] * x",
    ),
    (
        "the negative's video is another one",
        "means_kernel",
        "row = tl.load(order_ptr + row",
        "row += 0 * tl.load(order_ptr + row",
    ),
    (
        "a product lacks a part of the width",
        "product_kernel",
        "range(0, D, BLOCK_D)",
        "range(BLOCK_D, D, BLOCK_D)",
    ),
    (
        "a wrong stride",
        "product_kernel",
        "m[:, None] * stride_m",
        "m[:, None]",
    ),
    (
        "ignored videos are read",
        "product_kernel",
        "known = known & (weight != 0)",
        "known = known & (weight == weight)",
    ),
    (
        "absent classes count",
        "loss_kernel",
        'score = tl.where(here, score, float("-inf"))',
        "score = tl.where(here, score, 0.0)",
    ),
    (
        "a maximum is not kept",
        "loss_kernel",
        "        top = new\n",
        "        top = top\n",
    ),
    (
        "the negative is left out",
        "loss_kernel",
        "has = known & (group >= 0) & (group < G)\n        own",
        "has = known & (group < -5)\n        own",
    ),
    (
        "no negative counts as one",
        "loss_kernel",
        'tl.where(group == -1, float("-inf"), float("nan"))',
        "tl.where(group == -1, 0.0, 0.0)",
    ),
    (
        "smoothing is spread on the negative too",
        "loss_kernel",
        "smoothing * total / C)",
        "smoothing * total / (C + 1))",
    ),
    (
        "an ignored video has a loss",
        "loss_kernel",
        "tl.where(target == ignore, 0.0, loss)",
        "loss",
    ),
    (
        "an ignored video pulls",
        "loss_kernel",
        "grad_loss = tl.where(target == ignore, 0.0, grad_loss)",
        "grad_loss = grad_loss + 0.0",
    ),
    (
        "the target does not pull",
        "loss_kernel",
        "c[None, :] == target[:, None], ((1",
        "c[None, :] < 0, ((1",
    ),
    (
        "the gradient of the logarithm is lost",
        "loss_kernel",
        "grad_lse += grad_loss",
        "grad_lse = grad_loss",
    ),
    (
        "the negative's part of the scale is lost",
        "loss_kernel",
        "tl.store(last, own_pull * own",
        "tl.store(last, 0.0 * own",
    ),
]


@pytest.fixture
def put(monkeypatch, tmp_path, triton_device):
    """Replaces a line of a kernel's module in a copy of it, and has the copy's kernels launched."""

    def replace(module, right, wrong):
        source = (Path(triton.__file__).parent / f"{module}.py").read_text()
        assert right in source
        copy = tmp_path / f"faulty_{module}.py"
        text = source.replace(right, wrong)
        copy.write_text(text.replace("from .product_kernel", "from reelmill.kernels.synonym_similarity.product_kernel"))
        spec = importlib.util.spec_from_file_location(copy.stem, copy)
        assert spec is not None
        assert spec.loader is not None
        faulty = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(faulty)
        plan, names = KERNELS[module]
        for name in names:
            monkeypatch.setattr(plan, name, getattr(faulty, name))

    for table in (tiles.SCORES, tiles.GRADIENT):
        for key in table:
            monkeypatch.setitem(table, key, tiles.Tiles(16, 16, 16, 4, 1))
    monkeypatch.setattr(means_plan, "ROW_ELEMENTS", 16)
    monkeypatch.setattr(means_plan, "TILE_ELEMENTS", 64)
    monkeypatch.setattr(loss_plan, "PROGRAMS", 1)
    return replace


def check(device):
    """The checks of the other tests, on one small case."""
    inputs = SynonymInputs(6, [5] + [1] * 17, 18, groups=[2, 1, 3], smoothing=0.2)
    inputs.negative_B = torch.tensor([-1, 2, 0, 1, 0, 2])
    inputs.target_B[::3] = -100
    inputs.check("triton", torch.float32, device)
    inputs.video_BD[0] = torch.nan  # ignored
    leaves = inputs.leaves(torch.float32, torch.float32, device)
    inputs.loss(leaves, "triton", reduction="sum").backward()
    assert all(leaf.grad.isfinite().all() for leaf in leaves), "nan: it came through"


def test_the_right_kernels_pass(triton_device, put):
    for module in KERNELS:
        put(module, "tl.program_id(0)", "tl.program_id(0)")
    check(triton_device)


@pytest.mark.parametrize(
    ("module", "right", "wrong"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS]
)
def test_a_fault_is_seen(triton_device, put, module, right, wrong):
    put(module, right, wrong)
    with pytest.raises(AssertionError, match=r"error .* budget|nan: "):
        check(triton_device)
