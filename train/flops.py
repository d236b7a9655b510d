"""What a step costs: the multiplications and additions of its encoders and heads, counted by running them once.

Counted are model FLOPs: the forward pass, and twice as much again for the backward pass of what learns. Work that is
done twice to save memory counts once, as is usual for model FLOPs utilisation (MFU).
"""

from typing import Any

import torch
from torch import Tensor

from .methods import Method
from .model.flop_counter import flop_counter
from .model.text_table import TextTable

PEAK_TFLOPS = {
    "A100": {"bf16": 312.0, "fp32": 19.5},
    "H100": {"bf16": 989.4, "fp32": 66.9},
    "H200": {"bf16": 989.4, "fp32": 66.9},
    "B200": {"bf16": 2250.0, "fp32": 80.0},
    "L40S": {"bf16": 362.1, "fp32": 91.6},
}
"""Dense, without sparsity, per second and GPU, in 10^12; SXM boards, NVIDIA's data sheets."""


@torch.no_grad()
def step_flops(method: Method, texts: Any, table: TextTable, frames: Tensor, videos: int) -> int:
    """Of one optimiser step of all ranks.

    Args:
        method: on its device.
        texts: of the classes.
        table: encodes them.
        frames: (1, V, T, ...) those of one video, as `encode_video` takes them.
        videos: of the step.

    The encoder of texts counts for each text once: nothing where what comes before its projection is kept. The method
    must be in training mode: in the other torch's attention is one operation that nothing counts.
    """
    model = method.model
    with flop_counter() as encoder:
        video = model.encode_video(frames)
    states = table.open()
    with flop_counter() as head:
        method(video, texts, states)
    learns = any(weight.requires_grad for weight in model.clip.visual.parameters())
    per_video = encoder.get_total_flops() * (1 + 2 * learns) + head.get_total_flops() * 3
    return int(per_video) * videos + table.flops()


def peak_tflops(device: torch.device, precision: str) -> float | None:
    """What the GPU can do at most, per second in 10^12; None for a CPU and for a GPU that is not in the table."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peaks[precision] for known, peaks in PEAK_TFLOPS.items() if known in name), None)
