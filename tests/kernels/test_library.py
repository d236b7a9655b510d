import pytest
import torch
from reelmill.kernels import Segments, late_interaction
from reelmill.kernels.launch import architecture
from reelmill.kernels.library import choose


def test_auto_takes_what_the_device_runs():
    assert choose("auto", torch.zeros(1)) == "cpu"
    assert choose("auto", torch.zeros(1, dtype=torch.float64)) == "cpu"
    assert choose("reference", torch.zeros(1)) == "reference"


def test_shapes_pass_through_the_meta_device():
    segments = Segments.from_lengths([2, 3], "meta")
    scores_BC, prompt_BVC, frame_BP = late_interaction(
        torch.empty(4, 6, 8, device="meta"), torch.empty(5, 8, device="meta"), segments, return_argmax=True
    )
    assert (scores_BC.shape, prompt_BVC.shape, frame_BP.shape) == ((4, 2), (4, 6, 2), (4, 5))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_float64_on_cuda_takes_the_reference_and_says_so(caplog):
    assert choose("auto", torch.zeros(1, device="cuda")) == "triton"
    assert choose("auto", torch.zeros(1, device="cuda", dtype=torch.float64)) == "reference"
    assert "takes the plain PyTorch reference" in caplog.text
    with pytest.raises(ValueError, match="impl='cpu' needs tensors on the CPU, got cuda:0"):
        choose("cpu", torch.zeros(1, device="cuda"))


def test_the_interpreter_runs_the_tiles_of_the_oldest_architecture():
    assert architecture(torch.device("cpu")) == 80


def test_the_cpu_path_refuses_other_devices():
    with pytest.raises(ValueError, match="impl='cpu' needs tensors on the CPU, got meta"):
        choose("cpu", torch.zeros(1, device="meta"))
