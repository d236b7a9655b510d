"""Rows past 2**31 elements for the kernels of matching and of late interaction: on a CPU, address space alone.

Their last program is the one that gets there. The interpreter runs that one, a GPU runs all of them.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
import triton.runtime.interpreter as interpreter
from reelmill.kernels.late_interaction import triton as late_triton
from reelmill.kernels.late_interaction.problem import Problem
from reelmill.kernels.token_merge import triton as merge_triton

CUDA = torch.cuda.is_available()


@pytest.fixture
def run(triton_device, monkeypatch):
    """Runs a launch: in the interpreter its last program, without copying every argument back onto itself."""

    def run_last(launch):
        if CUDA:
            launch.run()
            return
        last = [count - 1 for count in (*launch.grid, 1, 1)][:3]

        def program_id(builder, axis):
            return interpreter.TensorHandle(np.array([last[axis]], dtype=np.int32), interpreter.tl.int32)

        monkeypatch.setattr(interpreter.InterpreterBuilder, "create_get_program_id", program_id)
        monkeypatch.setattr(interpreter.GridExecutor, "_restore_args_dev", lambda *arguments: None)
        replace(launch, grid=(1,)).run()

    return run_last


@pytest.fixture
def zeros(triton_device):
    """Zeros that no page of memory is taken for until it is written to."""

    def make(*shape, dtype=np.float16):
        return torch.from_numpy(np.zeros(shape, dtype)).to(triton_device)

    return make


def make_problem(video_BVD, text_PD, offsets, weights=(0.5, 0.5)):
    C = len(offsets) - 1
    order = torch.arange(C, dtype=torch.int32, device=video_BVD.device)
    owners = torch.zeros(1, dtype=torch.int32, device=video_BVD.device).expand(len(text_PD))
    return Problem(video_BVD, text_PD, None, offsets.to(video_BVD.device), owners, order, 4, weights, False)


def test_matching(run, zeros):
    B, N, K = 2**19 + 1, 64, 64
    metric_BNK = zeros(B, N, K)
    metric_BNK[-1, :, 1] = 1
    metric_BNK[-1, 2::2, :2] = torch.tensor([3.0, 4.0])
    metric_BNK[-1, 7, :2] = torch.tensor([6.0, 8.0])
    (match, *_), _ = merge_triton.plan_match(metric_BNK, 4, 1, 80)
    run(match)
    partner_BE = match.arguments["partner_ptr"]
    assert partner_BE[-1].tolist() == [0, *[3] * 31]


def test_late_interaction_of_the_last_video(run, zeros):
    video_BVD, text_PD = zeros(2**22 + 1, 8, 64), zeros(3, 64)
    video_BVD[-1, 6, 2] = 3
    text_PD[1, 2] = 2
    problem = make_problem(video_BVD, text_PD, torch.tensor([0, 3]))
    launch, (scores_BC, prompt_CVB, frame_PB) = late_triton.plan_forward(problem, (True, True), 80)
    run(launch)
    assert scores_BC[-1].tolist() == [6]
    assert prompt_CVB[0, :, -1].tolist() == [0, 0, 0, 0, 0, 0, 1, 0]
    assert frame_PB[:, -1].tolist() == [0, 6, 0]


def test_late_interaction_of_the_last_class(run, zeros):
    C = 2**22 + 1
    video_BVD, text_PD = zeros(64, 8, 512), zeros(C, 512)
    video_BVD[63, 6, 500] = 3
    text_PD[-1, 500] = 2
    problem = make_problem(video_BVD, text_PD, torch.arange(C + 1))
    launch, (scores_BC, prompt_CVB, _) = late_triton.plan_forward(problem, (True, True), 80)
    prompt_CVB[-1, :, 63] = -1
    run(launch)
    assert scores_BC[63, -1].item() == 6
    assert prompt_CVB[-1, :, 63].tolist() == [0] * 8  # past 2**31 elements too


def test_late_interaction_of_the_last_prompt(run, zeros):
    P = 2**25 + 3
    video_BVD, text_PD = zeros(64, 8, 1), zeros(P, 1)
    video_BVD[:, 6] = 3
    text_PD[-2:] = 2
    problem = make_problem(video_BVD, text_PD, torch.tensor([P - 3, P]))  # only the last class
    launch, (scores_BC, _, frame_PB) = late_triton.plan_forward(problem, (True, True), 80)
    run(launch)
    assert frame_PB[-3:, 63].tolist() == [0, 6, 6]  # past 2**31 elements too
    assert scores_BC[63].tolist() == [9]


def test_the_gradient_of_the_text_from_the_last_video(run, zeros, monkeypatch):
    monkeypatch.setattr(late_triton, "PROGRAMS", 2**30)  # one program for each tile of frames
    monkeypatch.setattr(late_triton, "MAX_SPLITS", 2**30)
    B = 2**22 + 1
    video_BVD = zeros(B, 8, 64)
    video_BVD[-1, 7, 2] = 3
    problem = make_problem(video_BVD, zeros(1, 64), torch.tensor([0, 1]), (0.0, 1.0))
    frame_PB = zeros(1, B, dtype=np.int16)
    frame_PB[0, -1] = 7
    grad_BC, prompt_CVB = zeros(B, 1, dtype=np.float32), zeros(1, 8, B, dtype=np.int16)
    grad_BC[-1] = 5
    launch, parts = late_triton.plan_gradient(problem, False, grad_BC, prompt_CVB, frame_PB, 80)
    run(launch)
    assert parts[-1, 0, :4].tolist() == [0, 0, 15, 0]


def test_the_gradient_of_the_video_from_the_last_prompt(run, zeros, monkeypatch):
    monkeypatch.setattr(late_triton, "PROGRAMS", 2**30)
    monkeypatch.setattr(late_triton, "MAX_SPLITS", 2**30)
    P = 2**25 + 3
    text_PD = zeros(P, 64)
    text_PD[-1, 2] = 3
    problem = make_problem(zeros(1, 1, 64), text_PD, torch.tensor([0, P]), (0.0, 1.0))
    problem = problem._replace(owners=zeros(P, dtype=np.int32))
    grad_BC, prompt_CVB = zeros(1, 1, dtype=np.float32) + 5, zeros(1, 1, 1, dtype=np.int16)
    launch, parts = late_triton.plan_gradient(problem, True, grad_BC, prompt_CVB, zeros(P, 1, dtype=np.int16), 80)
    run(launch)
    assert parts[-1, 0, 0, :4].tolist() == [0, 0, 15, 0]
