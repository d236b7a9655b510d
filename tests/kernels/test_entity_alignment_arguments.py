"""What entity alignment refuses, and in which words."""

import pytest
import torch
from reelmill.kernels import align_entities

REGION, ENTITY = torch.zeros(3, 4), torch.zeros(5, 4)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"region_RD": torch.zeros(2, 3, 4)}, r"region_RD must have shape \(R, D\) with D >= 1, got \(2, 3, 4\)"),
        ({"region_RD": torch.zeros(3, 0)}, r"region_RD must have shape \(R, D\) with D >= 1, got \(3, 0\)"),
        ({"region_RD": REGION.int()}, "region_RD must be float16, bfloat16, float32 or float64, got torch.int32"),
        (
            {"entity_KD": torch.zeros(5, 3)},
            r"entity_KD must have shape \(K, 4\) with K >= 1, the D of region_RD, got \(5, 3\)",
        ),
        ({"entity_KD": torch.zeros(0, 4)}, r"with K >= 1, the D of region_RD, got \(0, 4\)"),
        ({"entity_KD": torch.zeros(4)}, r"with K >= 1, the D of region_RD, got \(4,\)"),
        (
            {"entity_KD": ENTITY.half()},
            r"entity_KD must be torch.float32 \(the dtype of region_RD\), got torch.float16",
        ),
        ({"entity_KD": ENTITY.to("meta")}, r"entity_KD must be on cpu \(the device of region_RD\), got meta"),
        ({"scale": float("inf")}, "scale must be finite, got inf"),
        ({"scale": float("nan")}, "scale must be finite, got nan"),
        ({"scale": torch.ones(1)}, r"scale must be a number or a 0-d float tensor, got torch.float32 \(1,\)"),
        ({"scale": torch.tensor(3)}, r"scale must be a number or a 0-d float tensor, got torch.int64 \(\)"),
        ({"scale": torch.ones((), device="meta")}, r"scale must be on cpu \(the device of region_RD\), got meta"),
        (
            {"noise_RK": torch.zeros(3, 4)},
            r"noise_RK must be torch.float32 \(3, 5\) \(the R, K of the sides\), got torch.float32 \(3, 4\)",
        ),
        ({"noise_RK": torch.zeros(3, 5).double()}, r"noise_RK must be torch.float32 \(3, 5\) .*got torch.float64"),
        (
            {"noise_RK": torch.zeros(3, 5, requires_grad=True)},
            "noise_RK must not require a gradient: detach it",
        ),
        ({"noise_RK": torch.zeros(3, 5, device="meta")}, r"noise_RK must be on cpu \(the device of region_RD\)"),
        (
            {"noise_RK": torch.zeros(3, 5), "seed": 1},
            "noise_RK and seed must not both be given: the seed draws noise",
        ),
        ({"seed": 1.5}, "seed must be an integer of 64 bits, or a 0-d int64 tensor, got 1.5"),
        ({"seed": True}, "seed must be an integer of 64 bits, or a 0-d int64 tensor, got True"),
        ({"seed": 2**63}, "seed must be an integer of 64 bits, or a 0-d int64 tensor, got 9223372036854775808"),
        ({"seed": torch.zeros(1).long()}, r"seed must be an int or a 0-d int64 tensor, got torch.int64 \(1,\)"),
        ({"seed": torch.tensor(1, dtype=torch.int32)}, r"seed must be an int or a 0-d int64 tensor, got torch.int32"),
        (
            {"seed": torch.tensor(1, device="meta")},
            r"seed must be on cpu \(the device of region_RD\), got meta",
        ),
        ({"impl": "cuda"}, "impl must be one of auto, reference, cpu, triton, got 'cuda'"),
        ({"impl": "triton"}, r"impl='triton' needs tensors on CUDA, got cpu \(TRITON_INTERPRET=1 interprets it\)"),
    ],
)
def test_wrong_arguments_are_named(monkeypatch, change, message):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with pytest.raises(ValueError, match=message):
        align_entities(**({"region_RD": REGION, "entity_KD": ENTITY, "scale": 1.0} | change))
