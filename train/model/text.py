"""open_clip's text encoder for contexts of any length, and its words.

Shapes: M texts, W token positions, K the width of the tower, D of the joint space.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...shards.errors import UsageError
from .states import TextStates

CONTEXT_STEP = 8  # text lengths are rounded up to this, so that few shapes occur


class TextTower:
    """The text encoder of an open_clip model, in two parts: up to the last projection, and that projection."""

    def __init__(self, clip: nn.Module, tokenizer: Any) -> None:
        self._clip: Any = clip
        self._text: Any = getattr(clip, "text", clip)
        self._tokenizer = tokenizer

    @property
    def projection(self) -> nn.Parameter | nn.Module | None:
        """The last projection, or None where the tower has none."""
        projection: nn.Parameter | nn.Module | None = getattr(self._text, "text_projection", None)
        return projection

    def last(self) -> list[nn.Parameter]:
        """The weights of the last projection."""
        projection = self.projection
        if projection is None:
            return []
        return list(projection.parameters()) if isinstance(projection, nn.Module) else [projection]

    def parameters(self) -> list[nn.Parameter]:
        """Every weight of the encoder."""
        if self._text is not self._clip:
            return list(self._text.parameters())
        own = [self._clip.positional_embedding, self._clip.text_projection]
        parts = (self._clip.token_embedding, self._clip.transformer, self._clip.ln_final)
        return [weight for part in parts for weight in part.parameters()] + [w for w in own if w is not None]

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """(M, W) int64 tokens; W is the longest text rounded up to a multiple of 8 where the tower allows the cut.

        A causal tower that is read at the end-of-text token never sees what follows it, so the cut changes nothing.
        Texts longer than the model's context lose their end.
        """
        tokens_MW = self.whole_context(texts)
        if not self.may_cut:
            return tokens_MW
        longest = int(tokens_MW.argmax(dim=1).max()) + 1  # end-of-text has the highest id
        return tokens_MW[:, : -(-longest // CONTEXT_STEP) * CONTEXT_STEP]

    def whole_context(self, texts: Sequence[str]) -> Tensor:
        """(M, W) int64 tokens, W the context of the model."""
        tokens_MW: Tensor = self._tokenizer(list(texts))
        return tokens_MW

    def encode(self, tokens_MW: Tensor, *, words: bool = False) -> TextStates:
        """(M, W) tokens out of `tokenize` → their embeddings.

        Raises:
            UsageError: `words` of a tower that is not causal and read at its end.
        """
        if not self.may_cut:
            if words:
                raise UsageError("the method reads words: model.name must be a model whose text tower is CLIP's own")
            return TextStates(unit(self._clip.encode_text(tokens_MW)))
        return self.project(self.hidden(tokens_MW, words=words), tokens_MW)

    def hidden(self, tokens_MW: Tensor, *, words: bool = False) -> Tensor:
        """(M, W) tokens → what comes before the projection: (M, K) at the ends, or (M, W, K) with `words`."""
        text, length = self._text, tokens_MW.shape[1]
        hidden_MWK = text.token_embedding(tokens_MW) + text.positional_embedding[:length]
        normed_MWK: Tensor = text.ln_final(text.transformer(hidden_MWK, attn_mask=text.attn_mask[:length, :length]))
        return normed_MWK if words else _at(normed_MWK, _end(tokens_MW))

    def project(self, hidden: Tensor, tokens_MW: Tensor) -> TextStates:
        """What `hidden` gave for these tokens → embeddings."""
        projected = unit(self._project(hidden))
        if hidden.dim() == 2:
            return TextStates(projected)
        end_M = _end(tokens_MW)
        place_W = torch.arange(tokens_MW.shape[1], device=end_M.device)
        return TextStates(_at(projected, end_M), projected, (place_W > 0) & (place_W < end_M[:, None]))

    def _project(self, hidden: Tensor) -> Tensor:
        projection = self.projection
        if projection is None:
            return hidden
        projected: Tensor = projection(hidden) if isinstance(projection, nn.Module) else hidden @ projection
        return projected

    @property
    def may_cut(self) -> bool:
        """Whether the tower is causal and read at the end-of-text token."""
        text = self._text
        pool = getattr(self._clip if text is self._clip else text, _POOL[text is self._clip], None)
        causal = getattr(text, "attn_mask", None) is not None
        return causal and pool == "argmax" and getattr(text, "cls_emb", None) is None


def _end(tokens_MW: Tensor) -> Tensor:
    return tokens_MW.argmax(dim=1)  # the end-of-text token has the highest id


def _at(hidden_MWK: Tensor, place_M: Tensor) -> Tensor:
    return hidden_MWK[torch.arange(len(place_M), device=place_M.device), place_M]


_POOL = {True: "text_pool_type", False: "pool_type"}  # what open_clip calls it in a CLIP, in a separate tower


def unit(embedding: Tensor) -> Tensor:
    """Length 1 along the last dimension, in fp32 at least."""
    wide = embedding if embedding.dtype == torch.float64 else embedding.float()
    return functional.normalize(wide, dim=-1)
