"""What the ops of synonym classes refuse, and in which words."""

from typing import Any

import pytest
import torch
from reelmill.kernels import Segments, synonym_cross_entropy, synonym_similarity

RIGHT: dict[str, Any] = {
    "video_BD": torch.zeros(3, 8),
    "text_PD": torch.zeros(9, 8),
    "segments": Segments.from_lengths([3, 1, 5]),
    "scale": 50.0,
}
LOSS = RIGHT | {"target_B": torch.tensor([0, 2, -100])}
NEGATIVES: dict[str, Any] = {
    "negative_PD": torch.zeros(4, 8),
    "negative_offsets": [0, 1, 4],
    "negative_B": torch.tensor([0, 1, -1]),
}


@pytest.mark.parametrize("op", [synonym_similarity, synonym_cross_entropy])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"video_BD": torch.zeros(3, 1, 8)}, r"video_BD must have shape \(B, D\) with D >= 1, got \(3, 1, 8\)"),
        ({"video_BD": torch.zeros(3, 0)}, r"with D >= 1, got \(3, 0\)"),
        (
            {"video_BD": torch.zeros(3, 8).int()},
            "video_BD must be float16, bfloat16, float32 or float64, got torch.int",
        ),
        ({"text_PD": torch.zeros(9, 7)}, r"text_PD must have shape \(rows, 8\), the D of video_BD, got \(9, 7\)"),
        ({"text_PD": torch.zeros(8, 8)}, r"text_PD must have 9 rows \(those of the segments\), got 8"),
        ({"text_PD": torch.zeros(9, 8).int()}, "text_PD must be float16, bfloat16, float32 or float64, got torch.int"),
        (
            {"text_PD": torch.zeros(9, 8).half()},
            r"text_PD must be torch.float32 \(the dtype of video_BD\), got torch.f",
        ),
        ({"text_PD": torch.zeros(9, 8).to("meta")}, r"text_PD must be on cpu \(the device of video_BD\), got meta"),
        ({"segments": RIGHT["segments"].to("meta")}, r"segments must be on cpu \(the device of text_PD\), got meta"),
        ({"segments": [0, 3, 3, 9]}, "class 1 must have at least one row, got 0"),
        ({"scale": float("inf")}, "scale must be a finite number, got inf"),
        ({"scale": True}, "scale must be a finite number, got True"),
        ({"scale": torch.ones(1)}, r"scale must be a number or a 0-d floating tensor, got torch.float32 \(1,\)"),
        ({"scale": torch.tensor(2)}, r"scale must be a number or a 0-d floating tensor, got torch.int64 \(\)"),
        ({"scale": torch.ones((), device="meta")}, r"scale must be on cpu \(the device of video_BD\), got meta"),
        ({"impl": "cuda"}, "impl must be one of auto, reference, cpu, triton, got 'cuda'"),
        ({"impl": "triton"}, r"impl='triton' needs tensors on CUDA, got cpu \(TRITON_INTERPRET=1 interprets it\)"),
    ],
)
def test_wrong_embeddings_are_named(monkeypatch, op, change, message):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    right = RIGHT if op is synonym_similarity else LOSS
    with pytest.raises(ValueError, match=message):
        op(**(right | change))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"target_B": torch.zeros(2).long()},
            r"target_B must be int64 or int32 \(3,\) \(the B of video_BD\), got torch.int64 \(2,\)",
        ),
        ({"target_B": torch.zeros(3)}, r"target_B must be int64 or int32 \(3,\) .*, got torch.float32 \(3,\)"),
        ({"target_B": torch.zeros(3).long().to("meta")}, r"target_B must be on cpu \(the device of video_BD\), got m"),
        ({"target_B": torch.tensor([0, 3, 1])}, r"target_B must be in 0 .. 2 or -100 \(ignore_index\), got 3"),
        ({"target_B": torch.tensor([0, -1, 1])}, r"target_B must be in 0 .. 2 or -100 \(ignore_index\), got -1"),
        ({"ignore_index": 0}, r"target_B must be in 0 .. 2 or 0 \(ignore_index\), got -100"),
        ({"label_smoothing": 1.5}, "label_smoothing must be 0 to 1, got 1.5"),
        ({"label_smoothing": float("nan")}, "label_smoothing must be 0 to 1, got nan"),
        ({"reduction": "max"}, "reduction must be 'none', 'mean' or 'sum', got 'max'"),
        (
            {"negative_B": torch.zeros(3).long()},
            "negative_PD must be given with negative_offsets and negative_B, got N",
        ),
        ({"negative_offsets": [0, 1]}, "negative_PD must be given with negative_offsets and negative_B, got None"),
        (
            {"negative_PD": torch.zeros(4, 8)},
            "negative_PD must have 3 groups, one for each video, since negative_B is None, got 4",
        ),
        (NEGATIVES | {"negative_PD": torch.zeros(0, 8)}, r"negative_PD must have shape \(rows, 8\), .* got \(0, 8\)"),
        (
            NEGATIVES | {"negative_PD": torch.zeros(5, 8)},
            r"negative_PD must have 4 rows \(those of the segments\), got 5",
        ),
        (NEGATIVES | {"negative_PD": torch.zeros(4, 8).half()}, r"negative_PD must be torch.float32 .*, got torch.f"),
        (NEGATIVES | {"negative_offsets": [0, 2, 2, 4]}, "class 1 must have at least one row, got 0"),
        (NEGATIVES | {"negative_B": torch.zeros(4).long()}, r"negative_B must be int64 or int32 \(3,\) .* \(4,\)"),
        (NEGATIVES | {"negative_B": torch.tensor([0, 1, 2])}, r"negative_B must be in 0 .. 1 or -1 \(none\), got 2"),
        (NEGATIVES | {"negative_B": torch.tensor([0, 1, -2])}, r"negative_B must be in 0 .. 1 or -1 \(none\), got -2"),
    ],
)
def test_wrong_targets_negatives_and_options_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        synonym_cross_entropy(**(LOSS | change))


def test_autocast_does_not_mix_float64():
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(ValueError, match=r"text_PD must be torch\.float32"):
        synonym_similarity(**(RIGHT | {"text_PD": torch.zeros(9, 8).double()}))


def test_a_loss_is_a_tuple_of_its_tensors():
    loss, lse_B = found = synonym_cross_entropy(**(LOSS | NEGATIVES), return_lse=True)
    assert found.loss is loss
    assert found.lse_B is lse_B
    assert lse_B.tolist() == pytest.approx(torch.tensor([4.0, 4.0, 3.0]).log().tolist())
    assert synonym_cross_entropy(**LOSS).item() == pytest.approx(torch.tensor(3.0).log().item())
