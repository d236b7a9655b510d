"""Attention over time inside an open_clip vision transformer: before each block, the patches at the same place of all
frames look at each other (TimeSformer's divided attention: time, then space).

    x[p, t] += A(norm(x[p, :]) + place)[t]        for each patch p, before the block's own attention over space

A begins as zero, so that the model begins as the one that reads frame by frame. Differs from TimeSformer by: every
frame keeps a class token of its own, which takes no part in the attention over time (TimeSformer has one per video, the
mean of its copies in all frames); places in time are added in each attention, not once to the input, so that the order
of frames reaches the blocks that learn where those before them are frozen.

Shapes: N views, T frames, P tokens of a frame with its class token first, K width of the transformer, D of the joint
space.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ...shards.errors import UsageError

PLACE_STD = 0.02


class TimeAttention(nn.Module):
    """What the patches of a place have to say to each other over time."""

    def __init__(self, width: int, heads: int, frames: int) -> None:
        """For at most `frames` frames."""
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.place_TK = nn.Parameter(torch.randn(frames, width) * PLACE_STD)
        self.attention = nn.MultiheadAttention(width, heads, batch_first=True)
        nn.init.zeros_(self.attention.out_proj.weight)
        nn.init.zeros_(self.attention.out_proj.bias)

    def forward(self, tokens_NTPK: Tensor) -> Tensor:
        """The same tokens with what their patches learnt; class tokens as they were."""
        N, T, P, K = tokens_NTPK.shape
        patches_LTK = tokens_NTPK[:, :, 1:].transpose(1, 2).reshape(N * (P - 1), T, K)
        seen_LTK = self.norm(patches_LTK) + self.place_TK[:T].to(patches_LTK.dtype)
        learnt_LTK = self.attention(seen_LTK, seen_LTK, seen_LTK, need_weights=False)[0]
        learnt_NTPK = learnt_LTK.reshape(N, P - 1, T, K).transpose(1, 2)
        return tokens_NTPK + nn.functional.pad(learnt_NTPK, (0, 0, 1, 0))


class SpaceTime(nn.Module):
    """The weights that attention over time adds to a vision transformer, and the way through both."""

    def __init__(self, visual: Any, *, blocks: int, frames: int) -> None:
        """Args: `visual` is an image encoder of open_clip; `blocks` the last blocks to come before, 0 for all.

        Raises:
            UsageError: `visual` is no vision transformer, or has fewer blocks.
        """
        super().__init__()
        plain = hasattr(visual, "_embeds") and hasattr(getattr(visual, "transformer", None), "resblocks")
        if not plain or not isinstance(visual.patch_dropout, nn.Identity):
            needed = "an image encoder that is open_clip's vision transformer, without patch dropout"
            raise UsageError(f"model.video 'space-time' needs {needed}")
        depth = len(visual.transformer.resblocks)
        if blocks > depth:
            raise UsageError(f"model.time_blocks must be at most the {depth} blocks of the image encoder, got {blocks}")
        self.first = depth - (blocks or depth)
        """Blocks without attention over time."""
        self.frames = frames
        width, heads = visual.transformer.width, visual.transformer.resblocks[0].attn.num_heads
        self.layers = nn.ModuleList(TimeAttention(width, heads, frames) for _ in range(depth - self.first))

    def forward(self, visual: Any, frames_NTCHW: Tensor) -> Tensor:
        """(N, T, 3, H, W) normalised frames of views → (N, T, D), each frame having seen the others of its view.

        Raises:
            UsageError: more frames than there are places.
        """
        N, T = frames_NTCHW.shape[:2]
        if self.frames < T:
            raise UsageError(f"data.frames must be at most model.max_frames, {self.frames}, got {T}")
        tokens = visual._embeds(frames_NTCHW.flatten(0, 1))
        transformer = visual.transformer
        for index, block in enumerate(transformer.resblocks):
            time = self.layers[index - self.first] if index >= self.first else None
            if transformer.grad_checkpointing and torch.is_grad_enabled():
                tokens = checkpoint(_run, block, time, tokens, T, transformer.batch_first, use_reentrant=False)
            else:
                tokens = _run(block, time, tokens, T, transformer.batch_first)
        pooled = visual._pool(tokens)[0]
        if visual.proj is not None:
            pooled = pooled @ visual.proj
        return pooled.reshape(N, T, -1)  # type: ignore[no-any-return]


def _run(block: nn.Module, time: nn.Module | None, tokens: Tensor, frames: int, batch_first: bool) -> Tensor:
    """(N * T, P, K) tokens through time and space."""
    if time is not None:
        tokens = time(tokens.reshape(-1, frames, *tokens.shape[1:])).flatten(0, 1)
    if batch_first:
        return block(tokens)  # type: ignore[no-any-return]
    return block(tokens.transpose(0, 1)).transpose(0, 1)  # type: ignore[no-any-return]
