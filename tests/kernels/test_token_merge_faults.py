"""Faults put into the kernels of token merging by hand: the checks that the other tests make must see each of them."""

import importlib.util
from pathlib import Path

import pytest
import torch
from reelmill.kernels import match_tokens
from reelmill.kernels.token_merge import triton

pytestmark = [
    pytest.mark.usefixtures("poisoned_memory"),
    pytest.mark.filterwarnings("ignore:.* encountered in:RuntimeWarning"),  # NumPy interprets, faults divide by zero
]

KERNELS = {
    "match_kernel": ("match_kernel", "rank_kernel", "place_kernel"),
    "gather_kernel": ("collect_kernel", "spread_kernel"),
}

FAULTS = [
    ("later ties win over tiles", "match_kernel", "top > best", "top >= best"),
    ("later ties merge first", "match_kernel", "f[None, :] < e[:, None]))", "f[None, :] > e[:, None]))"),
    ("an undefined cosine wins", "match_kernel", "0x7FFFFFFF), UNDEFINED)", "0x7FFFFFFF), 2147483647)"),
    ("a mask of protected tokens is missing", "match_kernel", "(f >= start)[None, :] & ", ""),
    ("one side is not normalised", "match_kernel", "products * scale_e[:, None]", "products"),
    ("the odd tokens are not normalised", "match_kernel", " * _inverse_root(square_o)[None, :]", ""),
    ("a stride of the merged is one of the tokens", "gather_kernel", "b = row // M", "b = row // N"),
    ("sizes do not weigh", "gather_kernel", "tl.where(count > 1, size, 1.0)[:, None] * value", "value"),
    (
        "the tokens are lost behind the residual",
        "gather_kernel",
        "value += tl.load(residual",
        "value = tl.load(residual",
    ),
    ("the gradient is not shared", "gather_kernel", "tl.where(count > 1, share, 1.0)[:, None] * value", "value"),
    ("a last token is left out", "gather_kernel", "tl.max(count, axis=0)", "tl.minimum(tl.max(count, axis=0), 2)"),
]


@pytest.fixture
def put(monkeypatch, tmp_path, triton_device):
    """Replaces a line of a kernel's module in a copy of it, and has the copy's kernels launched."""

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

    for key in triton.MATCH:
        monkeypatch.setitem(triton.MATCH, key, triton.Tiles(16, 16, 16, 4, 1))
    return replace


def check(make_tokens, device):
    """The checks of the other tests, on one small case."""
    metric_BNK = torch.ones(2, 38, 4)
    metric_BNK[0, 3::4] = -1
    metric_BNK[1, 4::3] = torch.nan
    want = match_tokens(metric_BNK, 9, protect=3, impl="reference")
    found = match_tokens(metric_BNK.to(device), 9, protect=3, impl="triton")
    assert all(mine.cpu().equal(theirs) for mine, theirs in zip(found, want, strict=True)), "matching: another choice"
    tokens = make_tokens(2, 24, 5, 8, 8, residual=True, sized=True)
    tokens.metric_BNK *= torch.linspace(0.1, 10, 24)[:, None]
    matching = tokens.check_match("triton", torch.float32, device)
    tokens.check_merge(matching, "triton", torch.float32, device)


def test_the_right_kernels_pass(make_tokens, triton_device, put):
    put("match_kernel", "top > best", "top > best")
    put("gather_kernel", "row // M", "row // M")
    check(make_tokens, triton_device)


@pytest.mark.parametrize(
    ("module", "right", "wrong"), [fault[1:] for fault in FAULTS], ids=[fault[0] for fault in FAULTS]
)
def test_a_fault_is_seen(make_tokens, triton_device, put, module, right, wrong):
    put(module, right, wrong)
    with pytest.raises(AssertionError, match=r"error .* budget|matching: "):
        check(make_tokens, triton_device)
