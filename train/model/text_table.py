"""The texts of a run, encoded once per optimiser step: however many batches accumulate, and shared by all ranks.

A recipe that encodes all prompts in every micro-batch on every rank spends more on text than on video (ViFi-CLIP on
Kinetics-400: 7.2 of 13.9 TFLOP; with 36 prompts per class 38 times the video). Here each rank encodes its share of the
texts, everybody gets all embeddings, the losses of the step gather their gradient, and the share goes backward once.

Shapes: M texts, W token positions, K the width of the tower, D of the joint space.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..config import ModelConfig
from ..distributed import gather, rank, total, world_size
from .clip import VideoTextModel
from .flop_counter import flop_counter
from .states import TextStates, cat_states


class TextTable:
    """M texts and what the encoder says of them now."""

    def __init__(self, model: VideoTextModel, texts: Sequence[str], config: ModelConfig, *, words: bool) -> None:
        """Encode at once what will not change.

        Args:
            model: on its device, with what learns and what does not already set by `learn`.
            texts: M >= 1 of them.
            config: what of the encoder learns, and how many texts go through it at a time.
            words: also keep the embedding of every word.
        """
        self._model, self._learns, self._chunk, self._words = model, config.text_learns, config.text_chunk, words
        tokens_MW = model.text.tokenize(texts)
        self._rows = len(tokens_MW)
        share = -(-self._rows // world_size())  # the last ranks repeat the last text, so that all have as many
        mine = torch.arange(rank() * share, (rank() + 1) * share).clamp(max=self._rows - 1)
        self._tokens_MW = tokens_MW[mine].to(model.log_scale.device)
        self._fixed: list[Tensor] = []
        self._leaves: list[Tensor] = []
        self._graph: list[Tensor] = []
        with torch.no_grad():
            if self._learns == "projection":
                self._fixed = [self._before_projection(part) for part in torch.split(self._tokens_MW, self._chunk)]
            elif self._learns == "none":
                self._states = self._everybodys(self._encode_all())

    def open(self) -> TextStates:
        """The embeddings with the weights of this step, for all losses of the step to read."""
        if self._learns == "none":
            return self._states
        alone = len(self._tokens_MW) <= self._chunk  # then the graph is kept, and the encoder runs once
        with torch.set_grad_enabled(alone and torch.is_grad_enabled()):
            own = self._encode_all()
        self._graph = _floats(own) if alone else []
        states = self._everybodys(own)
        if torch.is_grad_enabled():
            self._leaves = [part.requires_grad_() for part in _floats(states)]
        return states

    def close(self) -> None:
        """Send what the losses left on the embeddings back into the encoder; call it once, after all of them."""
        leaves, self._leaves = self._leaves, []
        if not leaves:
            return
        grads = [self._own_rows(total(torch.zeros_like(leaf) if leaf.grad is None else leaf.grad)) for leaf in leaves]
        if self._graph:
            torch.autograd.backward(self._graph, grads)
            self._graph = []
            return
        for start in range(0, len(self._tokens_MW), self._chunk):
            outputs = _floats(self._encode(start))
            torch.autograd.backward(outputs, [grad[start : start + self._chunk] for grad in grads])

    @torch.no_grad()
    def flops(self) -> int:
        """Multiplications and additions of all ranks in a step, forward and backward, each text once."""
        if self._learns != "all":
            return 0
        with flop_counter() as counter:
            self._model.text.encode(self._tokens_MW[:1], words=self._words)
        return int(counter.get_total_flops()) * self._rows * 3

    def _encode_all(self) -> TextStates:
        return cat_states([self._encode(start) for start in range(0, len(self._tokens_MW), self._chunk)])

    def _encode(self, start: int) -> TextStates:
        tokens_MW = self._tokens_MW[start : start + self._chunk]
        with self._model.autocast():
            if not self._fixed:
                return self._model.text.encode(tokens_MW, words=self._words)
            return self._model.text.project(self._fixed[start // self._chunk], tokens_MW)

    def _before_projection(self, tokens_MW: Tensor) -> Tensor:
        with self._model.autocast():
            return self._model.text.hidden(tokens_MW, words=self._words)

    def _everybodys(self, own: TextStates) -> TextStates:
        """The rows of all ranks, without those that repeat."""
        return TextStates(*(gather(part)[: self._rows] for part in own.present()))

    def _own_rows(self, grad: Tensor) -> Tensor:
        """The share of this rank; a repeated row has no gradient of its own."""
        share = len(self._tokens_MW)
        mine = grad.new_zeros((share, *grad.shape[1:]))
        part = grad[rank() * share : (rank() + 1) * share]
        mine[: len(part)] = part
        return mine


def _floats(states: TextStates) -> list[Tensor]:
    return [part for part in states.present() if part.is_floating_point()]
