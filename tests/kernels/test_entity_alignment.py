"""What entity alignment computes, on the CPU path and the reference; noise, torch and Triton have their own files."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from reelmill.kernels import align_entities
from reelmill.kernels.entity_alignment import cpu
from reelmill.kernels.entity_alignment.problem import Problem
from reelmill.tests.kernels.region_inputs import RegionInputs
from torch.utils._python_dispatch import TorchDispatchMode

IMPLS = ("reference", "cpu")
DTYPES = (torch.float16, torch.bfloat16, torch.float32)

pytestmark = pytest.mark.usefixtures("poisoned_memory")


def naive(inputs):
    """The choice and the gradients of the region by their equations, one number at a time."""
    regions, entities = inputs.region_RD.double().tolist(), inputs.entity_KD.double().tolist()
    units = [[x / math.hypot(*row) for x in row] for row in entities]
    index, gradients = [], []
    for i, region in enumerate(regions):
        length = math.hypot(*region)
        cosines = [sum(x / length * y for x, y in zip(region, unit, strict=True)) for unit in units]
        logits = [inputs.scale.item() * cosine for cosine in cosines]
        if inputs.noise_RK is not None:
            logits = [logit + noise for logit, noise in zip(logits, inputs.noise_RK[i].double().tolist(), strict=True)]
        index.append(logits.index(max(logits)))
        shares = [math.exp(logit - max(logits)) for logit in logits]
        shares = [share / sum(shares) for share in shares]
        up = inputs.up_RD[i].double().tolist()
        pulls = [sum(x * y for x, y in zip(up, entity, strict=True)) for entity in entities]
        mean = sum(share * pull for share, pull in zip(shares, pulls, strict=True))
        of_logits = [share * (pull - mean) for share, pull in zip(shares, pulls, strict=True)]
        of_unit = [
            inputs.scale.item() * sum(of * unit[d] for of, unit in zip(of_logits, units, strict=True))
            for d in range(len(region))
        ]
        along = sum(of * x / length for of, x in zip(of_unit, region, strict=True))
        gradients.append([(of - along * x / length) / length for of, x in zip(of_unit, region, strict=True)])
    return torch.tensor(index), torch.tensor(gradients, dtype=torch.float64)


@settings(max_examples=25, deadline=None)
@given(
    R=st.integers(1, 5),
    K=st.integers(1, 9),
    D=st.integers(1, 7),
    scale=st.sampled_from([1.0, 20.0, -3.0, 0.0]),
    noisy=st.booleans(),
    impl=st.sampled_from(IMPLS),
)
def test_choice_and_gradient_follow_the_definition(R, K, D, scale, noisy, impl):
    inputs = RegionInputs(R, K, D, scale=scale, noisy=noisy)
    found = inputs.results(impl, torch.float64)
    index_R, grad_RD = naive(inputs)
    if noisy or scale:
        assert found["aligned"].equal(inputs.entity_KD.double()[index_R])
        if D > 1:  # else cosines are 1 and -1, and what is equal is rounded
            assert found["index"].equal(index_R)
    torch.testing.assert_close(found["region gradient"], grad_RD, rtol=1e-9, atol=1e-10)


def smooth(region_RD, entity_KD, scale, noise_RK, fixed_KD, hot_RK):
    """The function whose true gradient is the straight-through one: `fixed_KD` and `hot_RK` are constants."""
    unit = torch.nn.functional.normalize
    logits_RK = scale * (unit(region_RD, dim=1) @ unit(entity_KD, dim=1).T) + noise_RK
    return logits_RK.softmax(1) @ fixed_KD + hot_RK @ entity_KD


@pytest.mark.parametrize("impl", IMPLS)
def test_gradients_are_those_of_the_smooth_function(impl):
    inputs = RegionInputs(3, 7, 4, scale=3.0, noisy=True)
    assert inputs.noise_RK is not None
    noise_RK, fixed_KD = inputs.noise_RK.double(), inputs.entity_KD.double()
    hot_RK = torch.nn.functional.one_hot(inputs.results(impl, torch.float64)["index"], 7).double()

    class StraightThrough(torch.autograd.Function):
        """Forward the smooth function, backward the op."""

        @staticmethod
        def forward(ctx, *leaves):
            ctx.save_for_backward(*leaves)
            return smooth(leaves[0], leaves[1], leaves[2], noise_RK, fixed_KD, hot_RK)

        @staticmethod
        def backward(ctx, grad_RD):
            with torch.enable_grad():
                leaves = [leaf.detach().requires_grad_() for leaf in ctx.saved_tensors]
                aligned_RD, _ = align_entities(leaves[0], leaves[1], scale=leaves[2], noise_RK=noise_RK, impl=impl)
            return torch.autograd.grad(aligned_RD, leaves, grad_RD)

    leaves = [side.double().requires_grad_() for side in (inputs.region_RD, inputs.entity_KD, inputs.scale)]
    assert torch.autograd.gradcheck(StraightThrough.apply, leaves)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options", [{}, {"noisy": True}, {"seed": 5}, {"scale": 100.0}, {"scale": 1.0}], ids=str)
def test_the_cpu_path_errs_no_more_than_twice_eager(monkeypatch, dtype, options):
    RegionInputs(150, 130, 33, **options).check("cpu", dtype)
    monkeypatch.setattr(cpu, "FORWARD_BLOCK", (4, 64))
    monkeypatch.setattr(cpu, "BACKWARD_ELEMENTS", 1 << 10)
    monkeypatch.setattr(cpu, "STEP", 40)
    RegionInputs(50, 130, 20, **options).check("cpu", dtype)
    RegionInputs(1, 1, 1, **options).check("cpu", dtype)


@pytest.mark.parametrize("dtype", [*DTYPES, torch.float64])
@pytest.mark.parametrize("impl", IMPLS)
def test_rows_are_the_entities_to_the_bit_in_their_dtype(impl, dtype):
    inputs = RegionInputs(20, 50, 7, seed=3)
    found = inputs.results(impl, dtype)
    assert found["aligned"].equal(inputs.entity_KD.to(dtype)[found["index"]])
    assert found["index"].dtype == torch.int64
    assert found["region gradient"].dtype == found["entity gradient"].dtype == dtype
    assert len(found["index"].unique()) > 5


@pytest.mark.parametrize("impl", IMPLS)
def test_an_entity_gets_the_gradient_of_the_rows_that_it_became(impl):
    inputs = RegionInputs(20, 5, 3, scale=0.0)
    inputs.noise_RK = torch.zeros(20, 5)
    inputs.noise_RK[torch.arange(20), torch.arange(20) % 4] = 1
    found = inputs.results(impl, torch.float64)
    assert found["index"].tolist() == [0, 1, 2, 3] * 5
    want_KD = torch.zeros(5, 3, dtype=torch.float64)
    want_KD[:4] = inputs.up_RD.double().view(5, 4, 3).sum(0)
    torch.testing.assert_close(found["entity gradient"], want_KD)
    assert not found["region gradient"].any()


@pytest.mark.parametrize("impl", IMPLS)
def test_ties_go_to_the_lowest_index(monkeypatch, impl):
    monkeypatch.setattr(cpu, "FORWARD_BLOCK", (2, 128))
    entity_KD = torch.zeros(700, 2)
    entity_KD[:, 1] = 1.0
    entity_KD[[70, 71, 300, 699], :] = torch.tensor([2.0, 0])
    region_RD = torch.tensor([[3.0, 0], [0, 1], [0, 0], [-1, 0], [1, 0]])
    assert align_entities(region_RD, entity_KD, scale=10.0, impl=impl)[1].tolist() == [70, 0, 0, 0, 70]
    noise_RK = torch.full((5, 700), -torch.inf)
    noise_RK[:, [5, 650]] = 0
    assert align_entities(region_RD, entity_KD, scale=10.0, noise_RK=noise_RK, impl=impl)[1].tolist() == [5] * 5


@pytest.mark.parametrize("impl", IMPLS)
def test_a_length_of_zero_has_cosine_zero_and_no_gradient_from_it(impl):
    inputs = RegionInputs(4, 6, 3, scale=5.0)
    inputs.region_RD[1] = 0
    inputs.entity_KD[2] = 0
    inputs.region_RD[3] = -inputs.entity_KD[[0, 1, 3, 4, 5]].sum(0)
    found = inputs.results(impl, torch.float64)
    assert found["index"][1] == 0  # all are equal
    assert not found["region gradient"][1].any()
    assert all(result.isfinite().all() for result in found.values())
    chosen = found["index"] == 2
    torch.testing.assert_close(found["entity gradient"][2], inputs.up_RD.double()[chosen].sum(0))


@pytest.mark.parametrize("impl", IMPLS)
def test_noise_of_minus_infinity_rules_an_entity_out(impl):
    inputs = RegionInputs(5, 6, 3)
    inputs.noise_RK = torch.zeros(5, 6)
    inputs.noise_RK[:, 2:] = -torch.inf
    found = inputs.results(impl, torch.float64)
    want = inputs.results(impl, torch.float64)
    inputs.entity_KD, inputs.noise_RK = inputs.entity_KD[:2], None
    want = inputs.results(impl, torch.float64)
    torch.testing.assert_close(found["region gradient"], want["region gradient"])
    torch.testing.assert_close(found["entity gradient"][:2], want["entity gradient"])
    assert not found["entity gradient"][2:].any()
    assert found["index"].equal(want["index"])


@pytest.mark.parametrize("impl", IMPLS)
def test_nan_reaches_the_regions_whose_logits_hold_it_and_no_other(monkeypatch, impl):
    monkeypatch.setattr(cpu, "FORWARD_BLOCK", (2, 64))
    inputs = RegionInputs(5, 150, 4)
    inputs.noise_RK = torch.zeros(5, 150)
    inputs.noise_RK[3, [140, 90]] = torch.nan
    inputs.region_RD[1, 2] = torch.nan
    inputs.region_RD[2] = torch.inf
    found = inputs.results(impl, torch.float32)
    assert found["aligned"].isnan().all(1).tolist() == [False, True, True, True, False]
    assert found["index"][1:4].tolist() == [0, 0, 90]
    assert found["region gradient"].isnan().any(1).tolist() == [False, True, True, True, False]
    inputs.entity_KD[100, 0] = torch.nan
    found = inputs.results(impl, torch.float32)
    assert found["aligned"].isnan().all()
    assert found["index"].tolist() == [100, 0, 0, 90, 100]


@pytest.mark.parametrize("impl", IMPLS)
def test_strides_are_taken_as_they_come(impl):
    inputs = RegionInputs(6, 40, 5, noisy=True)
    assert inputs.noise_RK is not None

    def results(region_RD, entity_KD, noise_RK):
        region_RD = region_RD.detach().requires_grad_()
        entity_KD = entity_KD.detach().requires_grad_()
        aligned_RD, index_R = align_entities(region_RD, entity_KD, scale=9.0, noise_RK=noise_RK, impl=impl)
        return aligned_RD, index_R, *torch.autograd.grad(aligned_RD.sum(), (region_RD, entity_KD))  # expanded upstream

    sides = inputs.region_RD, inputs.entity_KD, inputs.noise_RK
    strided = [side.T.contiguous().T.repeat_interleave(2, 1)[:, ::2] for side in sides]
    assert not any(side.is_contiguous() for side in strided)
    for mine, want in zip(results(*strided), results(*sides), strict=True):
        torch.testing.assert_close(mine, want)
    expanded = [side[:1].expand_as(side) for side in sides]
    for mine, want in zip(results(*expanded), results(*(side.clone() for side in expanded)), strict=True):
        torch.testing.assert_close(mine, want)


@pytest.mark.parametrize("impl", IMPLS)
def test_no_regions_give_no_rows_and_no_gradient(impl):
    found = RegionInputs(0, 6, 3, seed=1).results(impl, torch.float32)
    assert (found["aligned"].shape, found["index"].shape, found["region gradient"].shape) == ((0, 3), (0,), (0, 3))
    assert not found["entity gradient"].any()
    assert found["scale gradient"] == 0


@pytest.mark.parametrize("learns", [(0,), (1,), (2,), (0, 2)])
def test_only_who_asks_gets_a_gradient(learns):
    inputs = RegionInputs(6, 40, 5, seed=2)
    want = list(inputs.results("cpu", torch.float32).values())[2:]
    sides = [inputs.region_RD, inputs.entity_KD, inputs.scale]
    for n, side in enumerate(sides):
        side.requires_grad_(n in learns)
    aligned_RD, _ = align_entities(sides[0], sides[1], scale=sides[2], seed=2)
    aligned_RD.backward(inputs.up_RD)
    for n, (side, gradient) in enumerate(zip(sides, want, strict=True)):
        if n not in learns:
            assert side.grad is None
        else:
            assert side.grad is not None
            assert side.grad.equal(gradient)


class LargestTensor(TorchDispatchMode):
    """Remembers the most bytes that any tensor of the block had."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.bytes = max(self.bytes, tensor.untyped_storage().nbytes())
        return result


def test_the_cpu_path_never_holds_all_logits(monkeypatch):
    monkeypatch.setattr(cpu, "FORWARD_BLOCK", (16, 128))
    monkeypatch.setattr(cpu, "BACKWARD_ELEMENTS", 1 << 13)
    monkeypatch.setattr(cpu, "STEP", 128)
    inputs = RegionInputs(400, 500, 3)
    problem = Problem(inputs.region_RD, inputs.entity_KD, inputs.scale, None, torch.tensor(4))
    with LargestTensor() as seen:
        _, index_R, best_R = cpu.forward(problem)
        cpu.backward(problem, index_R, best_R, inputs.up_RD, (True, True, True))
    assert 4 * (1 << 13) / 2 < seen.bytes <= 4 * (1 << 13)


def test_the_same_inputs_give_the_same_bits():
    inputs = RegionInputs(40, 300, 33, seed=8)
    first, again = (inputs.results("cpu", torch.bfloat16) for _ in range(2))
    assert all(first[name].equal(again[name]) for name in first)
