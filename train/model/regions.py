"""The regions of a frame: patches that are alike become one token on their way through the image encoder.

Between attention and MLP of every block up to the second last, r tokens merge into those that they resemble most, by
the keys of the attention (Bolya et al., "Token Merging"; ALT Eq. 1-3). The class token stays alone, and the last block
merges nothing: without merging the frame is what `encode_image` says, to the bit.

Shapes: F frames, N tokens of a frame, P patches, H heads, K the width of a head, W of the tower, D of the joint space.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ...kernels import match_tokens, merge_tokens, size_bias
from ...shards.errors import UsageError
from ..config import ModelConfig


class Regions(NamedTuple):
    """What is found in F frames, in the joint space, of any length."""

    frames_FD: Tensor
    """Each frame as a whole."""
    regions_FND: Tensor
    """The class token, then the regions."""
    region_of_FP: Tensor
    """int64: the place among the N of the region that each patch went into."""


class RegionReader:
    """Runs open_clip's vision transformer block by block; has no weights of its own."""

    def __init__(self, visual: Any, config: ModelConfig) -> None:
        """Args: `visual` is the image tower; `config` says how much merges, and whether the tower learns.

        Raises:
            UsageError: a tower that is no vision transformer with a class token and plain attention.
        """
        _check_tower(visual)
        rule = config.regions
        self._visual, self._merge, self._space = visual, rule.merge, rule.space
        self._proportional = rule.proportional == "always" or (
            rule.proportional == "auto" and config.video_learns == "none"
        )

    @property
    def count(self) -> int:
        """N: the tokens of a frame that come out, the class token among them."""
        tokens: int = self._visual.positional_embedding.shape[0]
        for _ in self._visual.transformer.resblocks[:-1]:
            tokens -= min(self._merge, (tokens - 1) // 2)
        return tokens

    def __call__(self, pictures_FCHW: Tensor) -> Regions:
        """(F, 3, H, W) normalised pictures → what is in them."""
        *blocks, last = self._visual.transformer.resblocks
        x_FNW: Tensor = self._visual._embeds(pictures_FCHW)
        region_of_FN = torch.arange(x_FNW.shape[1], device=x_FNW.device).expand(x_FNW.shape[:2])
        size_FN: Tensor | None = None
        for block in blocks:
            x_FNW, size_FN, target_FN = self._run(_merging_block, block, x_FNW, size_FN, self._merge)
            if target_FN is not None:
                region_of_FN = target_FN.long().gather(1, region_of_FN)
        out_FNW, _, _ = self._run(_merging_block, last, x_FNW, size_FN, 0)
        tokens_FNW = {"second-last": lambda: x_FNW, "last": lambda: out_FNW, "values": lambda: _alone(last, x_FNW)}
        frames_FD = self._project(out_FNW, first=True)
        return Regions(frames_FD, self._project(tokens_FNW[self._space]()), region_of_FN[:, 1:])

    def _run(
        self, step: Callable[..., Any], block: Any, x_FNW: Tensor, size_FN: Tensor | None, merge: int
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        bias_FN = None if size_FN is None or not self._proportional else size_bias(size_FN)
        inputs = (block, x_FNW, size_FN, bias_FN, merge)
        again = self._visual.transformer.grad_checkpointing and torch.is_grad_enabled()
        found: tuple[Tensor, Tensor | None, Tensor | None] = (
            checkpoint(step, *inputs, use_reentrant=False) if again else step(*inputs)
        )
        return found

    def _project(self, tokens_FNW: Tensor, *, first: bool = False) -> Tensor:
        """Tokens in the joint space, or the first of each frame alone."""
        normed: Tensor = self._visual.ln_post(tokens_FNW)
        normed = normed[:, 0] if first else normed
        return normed if self._visual.proj is None else normed @ self._visual.proj


def _merging_block(
    block: Any, x_FNW: Tensor, size_FN: Tensor | None, bias_FN: Tensor | None, merge: int
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """A block with merging inside; also the sizes of its tokens, and where each token went (None: it stayed)."""
    normed_FNW = block.ln_1(x_FNW)
    attended_FNW = block.ls_1(_attend(block, normed_FNW, bias_FN))
    target_FN = None
    if merge:
        matching = match_tokens(_mean_keys(block.attn, normed_FNW), merge)
        x_FNW, size_FN = merge_tokens(attended_FNW, matching, size_BN=size_FN, residual_BND=x_FNW)
        target_FN = matching.target_BN
    else:
        x_FNW = x_FNW + attended_FNW
    return x_FNW + block.ls_2(block.mlp(block.ln_2(x_FNW))), size_FN, target_FN


def _attend(block: Any, normed_FNW: Tensor, bias_FN: Tensor | None) -> Tensor:
    """The block's attention, with `bias_FN` added to the logits of each key."""
    attention = block.attn
    if bias_FN is None:
        attended: Tensor = block.attention(normed_FNW)
        return attended
    # by hand: nn.MultiheadAttention would copy the bias for every query and head
    qkv_FN3W = functional.linear(normed_FNW, attention.in_proj_weight, attention.in_proj_bias)
    qkv_FN3HK = qkv_FN3W.view(*normed_FNW.shape[:2], 3, attention.num_heads, -1)
    q_FHNK, k_FHNK, v_FHNK = qkv_FN3HK.permute(2, 0, 3, 1, 4)
    bias = bias_FN[:, None, None, :].to(q_FHNK.dtype)
    attended_FHNK = functional.scaled_dot_product_attention(q_FHNK, k_FHNK, v_FHNK, attn_mask=bias)
    out_FNW: Tensor = attention.out_proj(attended_FHNK.transpose(1, 2).flatten(2))
    return out_FNW


@torch.no_grad()
def _mean_keys(attention: nn.MultiheadAttention, normed_FNW: Tensor) -> Tensor:
    """(F, N, K): the mean over heads of the keys. It is linear, so the weights are averaged, not the keys."""
    assert attention.in_proj_weight is not None
    heads, width = attention.num_heads, normed_FNW.shape[-1]
    weight_KW = attention.in_proj_weight[width : 2 * width].view(heads, -1, width).mean(0)
    bias = attention.in_proj_bias
    bias_K = None if bias is None else bias[width : 2 * width].view(heads, -1).mean(0)
    return functional.linear(normed_FNW, weight_KW, bias_K)


def _alone(block: Any, x_FNW: Tensor) -> Tensor:
    """The block with every token seeing itself alone: its value in place of the attention (Zhou et al., MaskCLIP)."""
    attention, width = block.attn, x_FNW.shape[-1]
    bias = attention.in_proj_bias
    values_FNW = functional.linear(
        block.ln_1(x_FNW), attention.in_proj_weight[-width:], None if bias is None else bias[-width:]
    )
    x_FNW = x_FNW + block.ls_1(attention.out_proj(values_FNW))
    out_FNW: Tensor = x_FNW + block.ls_2(block.mlp(block.ln_2(x_FNW)))
    return out_FNW


def _check_tower(visual: Any) -> None:
    blocks = getattr(getattr(visual, "transformer", None), "resblocks", [])
    plain = len(blocks) > 0 and all(isinstance(block.attn, nn.MultiheadAttention) for block in blocks)
    pooled = getattr(visual, "pool_type", None) == "tok" and visual.attn_pool is None
    if not plain or not pooled or not isinstance(visual.patch_dropout, nn.Identity):
        raise UsageError(
            "model.video 'regions' needs an image encoder that is open_clip's vision transformer with plain attention, "
            "a class token and no patch dropout"
        )
    if len(blocks) < 2:
        raise UsageError(f"model.video 'regions' needs an image encoder of 2 blocks at least, got {len(blocks)}")
