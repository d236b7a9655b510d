"""Entity alignment as torch sees it: registrations, compilation, autocast, counted FLOPs."""

from typing import Any

import pytest
import torch
from reelmill.kernels import align_entities
from reelmill.kernels.entity_alignment import triton  # noqa: F401  (loaded before its kernels are interpreted)
from reelmill.tests.kernels.region_inputs import RegionInputs
from torch.utils.flop_counter import FlopCounterMode

OP = torch.ops.reelmill.align_entities.default


@pytest.mark.parametrize("learns", [False, True])
@pytest.mark.parametrize("drawn", [False, True])
def test_opcheck_passes(drawn, learns):
    inputs = RegionInputs(5, 9, 4, noisy=not drawn)
    for leaf in (inputs.region_RD, inputs.entity_KD, inputs.scale):
        leaf.requires_grad_(learns)
    seed = torch.tensor(3) if drawn else None
    torch.library.opcheck(OP, (inputs.region_RD, inputs.entity_KD, inputs.scale, inputs.noise_RK, seed, "cpu"))


def test_opcheck_passes_for_triton(triton_device):
    inputs = RegionInputs(5, 9, 4)
    region_RD, entity_KD, scale = (
        side.to(triton_device) for side in (inputs.region_RD, inputs.entity_KD, inputs.scale)
    )
    checks = ["test_schema", "test_autograd_registration", "test_faketensor"]
    seed = torch.tensor(3, device=triton_device)
    torch.library.opcheck(OP, (region_RD.requires_grad_(), entity_KD, scale, None, seed, "triton"), test_utils=checks)


@pytest.mark.parametrize("dynamic", [False, True])
def test_it_compiles_into_one_graph(dynamic):
    def loss(region_RD, entity_KD, log_scale, seed):
        aligned_RD, index_R = align_entities(region_RD, entity_KD, scale=log_scale.exp(), seed=seed)
        plain_RD, _ = align_entities(region_RD, entity_KD, scale=10.0, seed=4)
        return (aligned_RD * index_R[:, None]).sum() + plain_RD.square().sum()

    inputs = RegionInputs(6, 30, 5)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager", dynamic=dynamic)
    for R, seed in ((6, 1), (6, 2), (5, 2)) if dynamic else ((6, 1), (6, 2)):
        results = []
        for function in (loss, compiled):
            sides = [inputs.region_RD[:R], inputs.entity_KD, torch.tensor(2.0)]
            leaves = [side.clone().requires_grad_() for side in sides]
            value = function(leaves[0], leaves[1], leaves[2], torch.tensor(seed))
            results.append((value, *torch.autograd.grad(value, leaves)))
        assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


def test_a_compiled_function_takes_a_new_integer_seed():
    inputs = RegionInputs(6, 30, 5)

    def align(seed):
        return align_entities(inputs.region_RD, inputs.entity_KD, scale=1.0, seed=seed)[1]

    compiled = torch.compile(align, fullgraph=True, backend="aot_eager")
    for seed in (1, 2, 3):
        assert compiled(seed).equal(align(seed))


def test_nothing_is_read_back_to_know_a_shape():
    region_RD, entity_KD = torch.empty(7, 4, device="meta"), torch.empty(9, 4, device="meta")
    scale, seed = torch.empty((), device="meta"), torch.empty((), dtype=torch.int64, device="meta")
    aligned_RD, index_R = align_entities(region_RD, entity_KD, scale=scale, seed=seed)
    assert (aligned_RD.shape, index_R.shape, index_R.dtype) == ((7, 4), (7,), torch.int64)


def test_autocast_casts_both_sides_and_leaves_scale_and_noise():
    inputs = RegionInputs(40, 60, 8, noisy=True, scale=30.03)
    region_RD, entity_KD = inputs.region_RD.requires_grad_(), inputs.entity_KD
    options: dict[str, Any] = {"scale": inputs.scale, "noise_RK": inputs.noise_RK}
    want_RD, want_R = align_entities(region_RD.bfloat16(), entity_KD.bfloat16(), **options)
    (want_grad_RD,) = torch.autograd.grad(want_RD, region_RD, inputs.up_RD.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        aligned_RD, index_R = align_entities(region_RD, entity_KD.bfloat16(), **options)
        (grad_RD,) = torch.autograd.grad(aligned_RD, region_RD, inputs.up_RD.bfloat16())
    assert aligned_RD.dtype == torch.bfloat16
    assert grad_RD.dtype == torch.float32
    for mine, want in ((aligned_RD, want_RD), (index_R, want_R), (grad_RD, want_grad_RD)):
        assert mine.equal(want)
    with torch.autocast("cpu", torch.bfloat16):
        exact_RD, _ = align_entities(region_RD.double(), entity_KD.double(), scale=30.03)
    assert exact_RD.dtype == torch.float64


def test_a_scale_of_any_float_dtype_gets_its_gradient_in_it():
    inputs = RegionInputs(20, 30, 5)
    for dtype in (torch.float64, torch.bfloat16):
        scale = torch.tensor(20.0, dtype=dtype, requires_grad=True)
        aligned_RD, _ = align_entities(inputs.region_RD, inputs.entity_KD, scale=scale)
        (gradient,) = torch.autograd.grad(aligned_RD, scale, inputs.up_RD)
        want = inputs.results("cpu", torch.float32)["scale gradient"]
        assert gradient.dtype == dtype
        torch.testing.assert_close(gradient, want.to(dtype))


@pytest.mark.parametrize(("learns", "products"), [("region", 4), ("scale", 4), ("entity", 4), ("region entity", 5)])
def test_flops_are_counted(learns, products):
    inputs = RegionInputs(3, 9, 5)
    sides = {"region": inputs.region_RD, "entity": inputs.entity_KD, "scale": inputs.scale}
    for name in learns.split():
        sides[name].requires_grad_()
    with FlopCounterMode(display=False) as counter:
        align_entities(inputs.region_RD, inputs.entity_KD, scale=inputs.scale)[0].sum().backward()
    assert counter.get_total_flops() == products * 2 * 3 * 9 * 5


@pytest.mark.parametrize("impl", ["cpu", "reference"])
def test_a_second_derivative_is_refused(impl):
    inputs = RegionInputs(3, 9, 5)
    region_RD = inputs.region_RD.requires_grad_()
    aligned_RD, index_R = align_entities(region_RD, inputs.entity_KD, scale=3.0, impl=impl)
    assert not index_R.requires_grad
    (grad_RD,) = torch.autograd.grad(aligned_RD.square().sum(), region_RD, create_graph=True)
    if impl == "reference":
        grad_RD.square().sum().backward()
        assert region_RD.grad is not None
        assert region_RD.grad.any()
        return
    with pytest.raises(RuntimeError, match="align_entities cannot be differentiated twice; impl='reference' can"):
        grad_RD.sum().backward()
