"""What the model sees: frames of clips as a loader gives them, as strips of pictures for a page."""

import io

import torch
from PIL import Image
from torch import Tensor

from ..engine import ClipLoader

MAX_FRAMES = 8  # a strip wider than this is too small on a phone


def contact_sheet(loader: ClipLoader, clips: int = 12) -> list[tuple[str, bytes]]:
    """Take clips out of a loader and lay the frames of each in a row.

    Args:
        loader: best a fresh one of evaluation form; its position moves on.
        clips: how many strips, at most as many as it has; samples that do not decode are left out.

    Returns:
        (caption, JPEG bytes) per clip; the caption is the label and the key.
    """
    mean_C = torch.tensor(loader.config.mean)[:, None, None]
    std_C = torch.tensor(loader.config.std)[:, None, None]
    strips: list[tuple[str, bytes]] = []
    for batch in loader:
        rows = zip(batch.clips_BVTCHW, batch.labels_B.tolist(), batch.keys, batch.valid_B.tolist(), strict=True)
        for views_VTCHW, label, key, valid in rows:
            if valid and len(strips) < clips:
                name = loader.classes[label] if label >= 0 else "no label"
                strips.append((f"{name} · {key}", _jpeg(views_VTCHW[0].cpu() * std_C + mean_C)))
        if len(strips) == clips:
            break
    return strips


def _jpeg(frames_TCHW: Tensor) -> bytes:
    """Up to eight frames in [0, 1], evenly spread, side by side."""
    kept = torch.linspace(0, len(frames_TCHW) - 1, min(len(frames_TCHW), MAX_FRAMES)).round().long()
    strip_HWC = torch.cat(list(frames_TCHW[kept]), dim=2).permute(1, 2, 0)
    pixels = (strip_HWC.clamp(0, 1) * 255).round().to(torch.uint8).contiguous()
    file = io.BytesIO()
    Image.fromarray(pixels.numpy()).save(file, "JPEG", quality=85)
    return file.getvalue()
