"""torchvision beside a CPU build of torch."""

import importlib

import torch
from reelmill.torchvision_ops import import_torchvision, is_missing_operator

MISSING = RuntimeError("operator torchvision::nms does not exist")


def test_only_a_cpu_build_with_the_known_failure_takes_the_path():
    assert is_missing_operator(MISSING, None)
    assert not is_missing_operator(MISSING, "13.0")
    assert not is_missing_operator(RuntimeError("out of memory"), None)


def test_what_open_clip_needs_of_torchvision_is_there_afterwards():
    import_torchvision()
    import_torchvision()
    frozen = importlib.import_module("torchvision.ops.misc").FrozenBatchNorm2d(3)
    crop = importlib.import_module("torchvision.transforms").CenterCrop(4)
    assert torch.ops.torchvision.nms.default is not None
    pixels = torch.ones(1, 3, 8, 8)
    assert crop(pixels).shape == (1, 3, 4, 4)
    torch.testing.assert_close(frozen(pixels), pixels, rtol=1e-4, atol=0)
