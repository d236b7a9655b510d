"""A transformer over the frames of a view, added to them: Storyboard's temporal layers, as BIKE has them.

Shapes: B views, T frames, D width.
"""

import torch
from torch import Tensor, nn

from .layers import Attention, Mlp, check_frames


class TemporalTransformer(nn.Module):
    """frames + layers(frames + places): every frame learns of the others and of its place in time.

    Layers normalise first, and begin as nothing, as do the places: until then a frame keeps its direction.
    """

    def __init__(self, width: int, *, layers: int, heads: int, max_frames: int) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.zeros(max_frames, width))
        self.layers = nn.ModuleList(_Layer(width, heads) for _ in range(layers))

    def forward(self, frames_BTD: Tensor) -> Tensor:
        """(B, T, D) → (B, T, D).

        Raises:
            UsageError: more frames than places.
        """
        check_frames(frames_BTD.shape[1], len(self.places))
        x_BTD = frames_BTD + self.places[: frames_BTD.shape[1]]
        for layer in self.layers:
            x_BTD = layer(x_BTD)
        return frames_BTD + x_BTD


class _Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_1, self.attention = nn.LayerNorm(width), Attention(width, heads, silent=True)
        self.norm_2, self.mlp = nn.LayerNorm(width), Mlp(width, 4 * width, silent=True)

    def forward(self, x_BTD: Tensor) -> Tensor:
        normed_BTD = self.norm_1(x_BTD)
        x_BTD = x_BTD + self.attention(normed_BTD, normed_BTD)
        out_BTD: Tensor = x_BTD + self.mlp(self.norm_2(x_BTD))
        return out_BTD
