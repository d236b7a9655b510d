"""Faults put into the kernels of entity alignment by hand: the checks of the other tests must see each of them."""

import importlib.util
from pathlib import Path

import pytest
import torch
from reelmill.kernels import align_entities
from reelmill.kernels.entity_alignment import backward_kernel, forward_kernel, triton
from reelmill.tests.kernels.region_inputs import RegionInputs

pytestmark = [
    pytest.mark.usefixtures("poisoned_memory"),
    pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning"),  # NumPy interprets, faults overflow
]

FAULTS = [
    ("later ties win over tiles", "forward_kernel", "top > best", "top >= best"),
    ("later splits win ties", "forward_kernel", "key > best", "key >= best"),
    ("an undefined logit loses", "forward_kernel", "0x7FFFFFFF), UNDEFINED)", "0x7FFFFFFF), ABSENT)"),
    ("a mask of absent entities is missing", "forward_kernel", "keys = tl.where((j < K)[None, :], keys, ABSENT)", ""),
    ("the index is that of the tile", "forward_kernel", "j0 + lowest", "lowest"),
    ("regions are not normalised", "tile_kernel", "products * row[:, None]", "products"),
    ("entities are not normalised", "tile_kernel", " * column[None, :]\n    if noise", "\n    if noise"),
    (
        "a stride of the noise is one of the rows",
        "tile_kernel",
        "i.to(tl.int64)[:, None] * K",
        "i.to(tl.int64)[:, None] * R",
    ),
    ("the noise has the other sign", "tile_kernel", "return -tl.log(-", "return tl.log(-"),
    ("rows and columns share a stream", "tile_kernel", "j, COLUMN_STREAM", "j, ROW_STREAM"),
    ("half of the seed is lost", "tile_kernel", "(seed >> 32)", "(seed >> 63)"),
    (
        "absent entities take a share",
        "backward_kernel",
        "tl.where((j < K)[None, :], tl.exp(",
        "tl.where((j < K + 1)[None, :], tl.exp(",
    ),
    ("the mean pull is left out", "backward_kernel", "(pulls - mean[:, None])", "pulls"),
    ("the gradient leaves out a length", "backward_kernel", " * column[None, :]\n    where", "\n    where"),
    ("a part overwrites those before", "backward_kernel", "if ADD:", "if False:"),
    (
        "a part reads the first entities",
        "backward_kernel",
        "(first + at).to(tl.int64)[:, None] * D + d[None, :],\n",
        "at.to(tl.int64)[:, None] * D + d[None, :],\n",
    ),
    ("rows go to the next entity", "backward_kernel", "index[None, :] == (first", "index[None, :] == (1 + first"),
    ("regions are not scaled on the way back", "backward_kernel", "work * row[None, :]", "work"),
    (
        "a stride of the work is one of all entities",
        "backward_kernel",
        "i.to(tl.int64)[None, :] * count",
        "i.to(tl.int64)[None, :] * (count + 1)",
    ),
]


@pytest.fixture
def put(monkeypatch, tmp_path, triton_device):
    """Replaces a piece of a kernel's module in a copy of it, and has the copy's kernels launched or called."""

    def replace(module, right, wrong):
        source = (Path(triton.__file__).parent / f"{module}.py").read_text()
        assert right in source
        copy = tmp_path / f"faulty_{module}.py"
        copy.write_text(source.replace(right, wrong))
        spec = importlib.util.spec_from_file_location(f"reelmill.kernels.entity_alignment.{copy.stem}", copy)
        assert spec is not None
        assert spec.loader is not None
        faulty = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(faulty)
        for user in (triton, forward_kernel, backward_kernel):
            for name in vars(user).keys() & vars(faulty).keys():
                kernel = getattr(faulty, name)
                if hasattr(kernel, "fn") and kernel.fn.__module__ == faulty.__name__:
                    monkeypatch.setattr(user, name, kernel)

    for table in (triton.SEARCH, triton.PULL, triton.PRODUCT):
        for key in table:
            monkeypatch.setitem(table, key, triton.Tiles(16, 16, 16, 4, 1))
    monkeypatch.setattr(triton, "PROGRAMS", 2)
    monkeypatch.setattr(triton, "WORK_ELEMENTS", 16 * 32)
    return replace


def check(device):
    """The checks of the other tests, on small cases."""
    region_RD, entity_KD = torch.ones(3, 2), torch.ones(70, 2)
    entity_KD[::3] = -1
    noise_RK = torch.zeros(3, 70)
    noise_RK[1, 50] = torch.nan
    want = align_entities(region_RD, entity_KD, scale=1.0, noise_RK=noise_RK, impl="reference")
    found = align_entities(
        region_RD.to(device), entity_KD.to(device), scale=1.0, noise_RK=noise_RK.to(device), impl="triton"
    )
    for mine, theirs in zip(found, want, strict=True):
        assert mine.nan_to_num(7).cpu().equal(theirs.nan_to_num(7)), "ties: another choice"
    negative = align_entities(-region_RD.to(device), region_RD.to(device), scale=1.0, impl="triton")[1]
    assert negative.tolist() == [0, 0, 0], "index: another choice"
    nothing_RD, all_KD = torch.zeros(16, 1), torch.ones(32, 1)
    for seed in (1, 2**40 + 1):
        want_R = align_entities(nothing_RD, all_KD, scale=1.0, seed=seed, impl="reference")[1]
        drawn = align_entities(nothing_RD.to(device), all_KD.to(device), scale=1.0, seed=seed, impl="triton")[1]
        assert drawn.cpu().equal(want_R), "noise: another choice"
    RegionInputs(18, 37, 5, noisy=True).check("triton", torch.float32, device)


@pytest.mark.parametrize("module", ["forward_kernel", "tile_kernel", "backward_kernel"])
def test_the_right_kernels_pass(triton_device, put, module):
    put(module, "import triton", "import triton")
    check(triton_device)


@pytest.mark.parametrize(
    ("module", "right", "wrong"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS]
)
def test_a_fault_is_seen(triton_device, put, module, right, wrong):
    put(module, right, wrong)
    with pytest.raises(AssertionError, match=r"error .* budget|another choice"):
        check(triton_device)
