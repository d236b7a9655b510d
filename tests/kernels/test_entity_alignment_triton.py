"""The Triton kernels of entity alignment against the float64 reference: on the GPU, or in Triton's interpreter."""

import numpy as np
import pytest
import torch
import triton.runtime.interpreter as interpreter
from reelmill.kernels import align_entities
from reelmill.kernels.entity_alignment import triton
from reelmill.kernels.entity_alignment.problem import Problem
from reelmill.tests.kernels.region_inputs import RegionInputs

CUDA = torch.cuda.is_available()
F32, BF16, F16 = torch.float32, torch.bfloat16, torch.float16

pytestmark = [
    pytest.mark.usefixtures("poisoned_memory"),
    pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning"),  # NumPy interprets
]


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles so small that every loop goes round more than once, and entities in several parts."""
    for table in (triton.SEARCH, triton.PULL, triton.PRODUCT):
        for key in table:
            monkeypatch.setitem(table, key, triton.Tiles(16, 16, 16, 4, 1))
    monkeypatch.setattr(triton, "PROGRAMS", 8)
    monkeypatch.setattr(triton, "WORK_ELEMENTS", 32 * 20)
    monkeypatch.setattr(triton, "TAKE_ROWS", 4)
    monkeypatch.setattr(triton, "TAKE_ELEMENTS", 16)


@pytest.mark.parametrize("options", [{}, {"noisy": True}, {"seed": 5}, {"scale": 100.0, "seed": 1}], ids=str)
def test_float32_errs_no_more_than_twice_eager(triton_device, options):
    RegionInputs(70, 130, 33, **options).check("triton", F32, triton_device)


def test_one_of_each(triton_device):
    RegionInputs(1, 1, 1).check("triton", F32, triton_device)


@pytest.mark.parametrize("dtype", [F16, BF16])
@pytest.mark.parametrize("options", [{}, {"seed": 5}], ids=str)
def test_narrow_dtypes_err_no_more_than_twice_eager(triton_device, dtype, options):
    RegionInputs(70, 130, 70, **options).check("triton", dtype, triton_device)


@pytest.mark.parametrize(("dtype", "options"), [(F32, {"noisy": True}), (F32, {"seed": 5}), (BF16, {"seed": 2})])
def test_every_loop_goes_round(triton_device, small_tiles, dtype, options):
    RegionInputs(38, 50, 20, **options).check("triton", dtype, triton_device)


def test_small_gradients_survive_float16(triton_device):
    inputs = RegionInputs(40, 30, 10)
    inputs.up_RD *= 1e-4  # times a share of a softmax, far below the smallest float16
    inputs.region_RD /= 1e3  # the gradients of short regions are large again
    truth = inputs.results("reference", F16, torch.float64)
    found = inputs.results("triton", F16, None, triton_device)
    assert truth["region gradient"].abs().max() > 0.1
    torch.testing.assert_close(found["region gradient"].double(), truth["region gradient"], rtol=2e-3, atol=2e-3)


def test_ties_zeros_and_what_is_undefined_are_those_of_the_reference(triton_device, small_tiles):
    random = torch.Generator().manual_seed(0)
    entity_KD = torch.randint(-1, 2, (90, 3), generator=random).float()  # few directions, some of length 0
    region_RD = torch.randint(-1, 2, (40, 3), generator=random).float()
    region_RD[7, 1] = torch.nan
    region_RD[8] = torch.inf
    noise_RK = torch.zeros(40, 90)
    noise_RK[20, [70, 60]] = torch.nan
    noise_RK[21] = -torch.inf
    noise_RK[22, 50:] = torch.inf
    for noise in (None, noise_RK):
        want_RD, want_R = align_entities(region_RD, entity_KD, scale=4.0, noise_RK=noise, impl="reference")
        noise = None if noise is None else noise.to(triton_device)
        found_RD, found_R = align_entities(
            region_RD.to(triton_device), entity_KD.to(triton_device), scale=4.0, noise_RK=noise, impl="triton"
        )
        regular = torch.arange(40) != (21 if noise is not None else -1)  # its row is all that eager makes undefined
        regular &= torch.arange(40) != (22 if noise is not None else -1)
        assert found_R.cpu()[7:9].tolist() == [0, 0]
        assert found_R.cpu().equal(want_R)
        torch.testing.assert_close(found_RD.cpu()[regular], want_RD[regular], rtol=0, atol=0, equal_nan=True)


def test_the_noise_is_that_of_the_other_paths(triton_device, small_tiles):
    region_RD, entity_KD = torch.zeros(20, 4), torch.ones(130, 4)
    for seed in (5, -(2**63) + 1):
        want_R = align_entities(region_RD, entity_KD, scale=1.0, seed=seed, impl="reference")[1]
        found_R = align_entities(
            region_RD.to(triton_device),
            entity_KD.to(triton_device),
            scale=1.0,
            seed=torch.tensor(seed, device=triton_device),
            impl="triton",
        )[1]
        assert found_R.cpu().equal(want_R)


def test_strides_are_taken_as_they_come(triton_device):
    inputs = RegionInputs(6, 40, 5, noisy=True)
    assert inputs.noise_RK is not None
    results = []
    for turn in (lambda side: side, lambda side: side.T.contiguous().T):
        region_RD, entity_KD, noise_RK = (
            turn(side.to(triton_device)) for side in (inputs.region_RD, inputs.entity_KD, inputs.noise_RK)
        )
        region_RD, entity_KD = region_RD.requires_grad_(), entity_KD.requires_grad_()
        aligned_RD, index_R = align_entities(region_RD, entity_KD, scale=9.0, noise_RK=noise_RK, impl="triton")
        results.append((aligned_RD, index_R, *torch.autograd.grad(aligned_RD.sum(), (region_RD, entity_KD))))
    for mine, want in zip(*results, strict=True):
        torch.testing.assert_close(mine, want)


def test_the_same_inputs_give_the_same_bits(triton_device, small_tiles):
    inputs = RegionInputs(20, 50, 20, seed=3)
    first, again = (inputs.results("triton", BF16, None, triton_device) for _ in range(2))
    assert all(first[name].equal(again[name]) for name in first)


def test_no_regions_give_no_rows_and_no_gradient(triton_device):
    found = RegionInputs(0, 6, 3, seed=1).results("triton", F32, None, triton_device)
    assert (found["aligned"].shape, found["index"].shape, found["region gradient"].shape) == ((0, 3), (0,), (0, 3))
    assert not found["entity gradient"].any()
    assert found["scale gradient"] == 0


def test_entities_past_two_to_the_31_elements_are_found(triton_device, monkeypatch):
    """On the CPU they take address space alone: all but a few pages of them are never touched."""
    if not CUDA:  # the interpreter would copy every argument back onto itself
        monkeypatch.setattr(interpreter.GridExecutor, "_restore_args_dev", lambda *arguments: None)
    K, D = 2**25 + 3, 64
    entity_KD = torch.from_numpy(np.zeros((K, D), np.float16)).to(triton_device)
    entity_KD[-1], entity_KD[-2] = 3, 5
    region_RD = torch.ones(2, D, dtype=F16, device=triton_device)
    problem = Problem(region_RD, entity_KD, torch.tensor(1.0, device=triton_device), None, None)
    column_K = torch.from_numpy(np.zeros(K, np.float32)).to(triton_device)
    column_K[-2:] = 0.5
    scales = triton.Scales(torch.full((2,), 0.25, device=triton_device), column_K)

    (_, take), (aligned_RD, index_R, _) = triton.plan_forward(problem, scales, 80)
    take.arguments["key_ptr"].fill_(0)
    take.arguments["index_ptr"].copy_(torch.tensor([K - 1, K - 2]).expand_as(take.arguments["index_ptr"]))
    take.run()
    assert index_R.tolist() == [K - 1, K - 2]
    assert aligned_RD[:, [0, -1]].tolist() == [[3, 3], [5, 5]]

    nothing_R = torch.zeros(2, device=triton_device)
    pull, work_RC = triton.plan_pull(problem, scales, nothing_R + 40, nothing_R, region_RD, K - 2, 2, 80)
    pull.run()
    logits_RC = torch.tensor([[5.0, 3.0]] * 2) * D * 0.25 * 0.5
    want_RC = torch.exp(logits_RC - 40) * torch.tensor([5.0, 3.0]) * D * 0.5
    torch.testing.assert_close(work_RC.cpu(), want_RC)
    pulled_RD = torch.zeros(2, D, device=triton_device)
    triton.plan_region(problem, work_RC, pulled_RD, K - 2, 80).run()
    torch.testing.assert_close(
        pulled_RD.cpu(), (want_RC @ torch.tensor([5.0, 3.0]))[:, None].expand(2, D), rtol=1e-4, atol=0
    )


def test_float64_is_refused(triton_device):
    with pytest.raises(ValueError, match=r"impl='triton' takes float16, bfloat16 or float32, got torch.float64"):
        RegionInputs(1, 3, 2).results("triton", torch.float64)
