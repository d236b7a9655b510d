"""ALT's video adapter: texts of entities ask the frames of a video what happens (Eq. 6-9).

Shapes: B views, T frames, N tokens of a frame, D width.
"""

import torch
from torch import Tensor, nn

from ..config import AltConfig
from .layers import Attention, Mlp, check_frames


class VideoAdapter(nn.Module):
    """From the tokens of each frame, and the texts that they are aligned with, to one vector per view."""

    def __init__(self, width: int, config: AltConfig, *, tokens: int) -> None:
        """Args: `tokens` is N, which only the pooling "token-mix" reads.

        Raises:
            UsageError: the heads do not divide the width.
        """
        super().__init__()
        mlp = _ResidualMlp if config.residual_mlps else Mlp
        self.frames = nn.Sequential(_Pool(width, config.pool, tokens), mlp(width, width))
        self.asks = (
            None if config.align == "none" else nn.Sequential(_Pool(width, config.pool, tokens), mlp(width, width))
        )
        self.video = mlp(width, width)
        self.places = nn.Parameter(torch.zeros(config.max_frames, width)) if config.positions else None
        self.blocks = nn.ModuleList(_Block(width, config) for _ in range(config.blocks))

    def forward(self, aligned_BTND: Tensor | None, tokens_BTND: Tensor) -> Tensor:
        """Understand each view.

        Args:
            aligned_BTND: the text of the entity of each token; None where nothing is aligned: frames ask themselves.
            tokens_BTND: the tokens of each frame.

        Returns:
            (B, D) of any length (Eq. 9).

        Raises:
            UsageError: more frames than places.
        """
        frames_BTD = self.frames(tokens_BTND)
        asks_BTD = frames_BTD if self.asks is None else self.asks(aligned_BTND)
        if self.places is not None:
            check_frames(frames_BTD.shape[1], len(self.places))
            places_TD = self.places[: frames_BTD.shape[1]]
            frames_BTD, asks_BTD = frames_BTD + places_TD, asks_BTD + places_TD
        for block in self.blocks:
            asks_BTD = block(asks_BTD, frames_BTD)
        video_BD: Tensor = self.video(asks_BTD.mean(1))
        return video_BD


class _Block(nn.Module):
    """Eq. 8 as a decoder's block that normalises first, with an MLP behind; what is off has no weights."""

    def __init__(self, width: int, config: AltConfig) -> None:
        super().__init__()
        heads, kernel = config.heads, config.conv_kernel
        self.attends, self.reads, self.convolves = config.self_attention, config.cross_attention, config.convolution
        if self.attends:
            self.norm_self, self.self_attention = nn.LayerNorm(width), Attention(width, heads)
        if self.reads:
            self.norm_cross, self.norm_frames = nn.LayerNorm(width), nn.LayerNorm(width)
            self.cross_attention = Attention(width, heads)
        if self.convolves:
            self.convolution = nn.Conv1d(width, width, kernel, padding=kernel // 2)
        self.norm_mlp, self.mlp = nn.LayerNorm(width), Mlp(width, 4 * width)

    def forward(self, asks_BTD: Tensor, frames_BTD: Tensor) -> Tensor:
        if self.attends:
            normed_BTD = self.norm_self(asks_BTD)
            asks_BTD = asks_BTD + self.self_attention(normed_BTD, normed_BTD)
        if self.convolves:  # of the frames as they came, not as the block before left them
            frames_BTD = frames_BTD + self.convolution(frames_BTD.transpose(1, 2)).transpose(1, 2)
        if self.reads:
            asks_BTD = asks_BTD + self.cross_attention(self.norm_cross(asks_BTD), self.norm_frames(frames_BTD))
        out_BTD: Tensor = asks_BTD + self.mlp(self.norm_mlp(asks_BTD))
        return out_BTD


class _ResidualMlp(Mlp):
    """Added to its input, and begins as nothing."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__(width, hidden, silent=True)

    def forward(self, input: Tensor) -> Tensor:
        first, activation, last = self
        out: Tensor = input + last(activation(first(input)))
        return out


class _Pool(nn.Module):
    """The tokens of a frame as one vector: the mean, or weights that begin as the mean's."""

    def __init__(self, width: int, kind: str, tokens: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(width)) if kind == "attention" else None
        self.mix = nn.Parameter(torch.full((tokens,), 1 / tokens)) if kind == "token-mix" else None

    def forward(self, tokens_BTND: Tensor) -> Tensor:
        if self.query is not None:
            weights = (tokens_BTND @ self.query).softmax(-1)
        elif self.mix is not None:
            weights = self.mix
        else:
            return tokens_BTND.mean(-2)
        return (weights[..., None] * tokens_BTND).sum(-2)
