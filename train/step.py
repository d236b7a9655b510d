"""One optimiser step: batches accumulate, ranks add up, texts are encoded once.

What is learnt does not depend on how the videos of a step are cut into batches and ranks, but for rounding.

Shapes: B videos of a batch, S of a rank in the whole step, C classes.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..engine import Batch
from . import distributed
from .config import TrainConfig
from .methods import IGNORED, Method, Targets
from .model import TextStates
from .model.text_table import TextTable


class Result(NamedTuple):
    """What a step did, over this rank's videos; 0-d tensors without gradient, on the device."""

    losses: dict[str, Tensor]
    """This rank's part of each loss: the parts of all ranks add up to it."""
    right: Tensor
    """Videos whose highest score is their class."""
    counted: Tensor
    """Videos of all ranks that count."""


class _Part(NamedTuple):
    """One batch of a step."""

    clips_BVTCHW: Tensor
    labels_B: Tensor
    targets_BC: Tensor | None


_Losses = tuple[dict[str, Tensor], Tensor]
"""The losses by name, and how many answers were right."""


class Step:
    """Makes the gradients of a step."""

    def __init__(self, method: Method, classes: tuple[str, ...], config: TrainConfig) -> None:
        """Of `method`, on its device, for the classes to train on."""
        self._method, self._accumulate, self._seed = method, config.accumulate, config.seed
        self.texts: Any = method.describe(classes, training=True)
        self._table = TextTable(method.model, self.texts.strings, config.model, words=method.reads_words)

    def __call__(self, batch: Batch, step: int) -> Result:
        """Leave the gradients of step `step` (from 0) on the weights, the same on every rank."""
        parts = list(self._parts(batch))
        counted = distributed.total(torch.stack([(part.labels_B != IGNORED).sum() for part in parts]).sum()).float()
        targets = [
            Targets(part.labels_B, counted.clamp(min=1), self._step_seed(step), part.targets_BC) for part in parts
        ]
        states = self._table.open()
        run = self._coupled if self._method.couples_videos else self._separate
        losses, right = run(parts, targets, states)
        self._table.close()
        distributed.add_gradients(self._method.parameters())
        return Result(losses, right, counted)

    def _separate(self, parts: list[_Part], targets: list[Targets], states: TextStates) -> _Losses:
        """Each batch has its own part of the loss."""
        losses: dict[str, Tensor] = {}
        right = torch.zeros((), device=self._method.device)
        for number, (part, target) in enumerate(zip(parts, targets, strict=True)):
            outputs_B = self._outputs(part, states, target.seed, number)
            found = self._method.loss(outputs_B, self.texts, states, target)
            torch.stack(list(found.values())).sum().backward()  # type: ignore[no-untyped-call]
            for name, loss in found.items():
                losses[name] = losses.get(name, 0) + loss.detach()
            right += self._right(outputs_B, states, part.labels_B)
        return losses, right

    def _coupled(self, parts: list[_Part], targets: list[Targets], states: TextStates) -> _Losses:
        """The loss sees the outputs of the whole step: with several batches they are computed twice, first without
        gradients, and the second time with those that the loss asked for. Random numbers are the same both times.
        """
        alone = len(parts) == 1
        outputs = []
        for number, part in enumerate(parts):
            with torch.set_grad_enabled(alone):
                outputs.append(self._outputs(part, states, targets[number].seed, number))
        losses, grad_S = self._whole_loss(torch.cat(outputs), parts, targets[0], states)
        right = torch.zeros((), device=self._method.device)
        for number, (part, output_B) in enumerate(zip(parts, outputs, strict=True)):
            right += self._right(output_B, states, part.labels_B)
            grad_B, grad_S = grad_S[: len(output_B)], grad_S[len(output_B) :]
            again_B = output_B if alone else self._outputs(part, states, targets[number].seed, number)
            again_B.backward(grad_B)  # type: ignore[no-untyped-call]
        return losses, right

    def _whole_loss(
        self, own_S: Tensor, parts: list[_Part], targets: Targets, states: TextStates
    ) -> tuple[dict[str, Tensor], Tensor]:
        """The loss of all ranks' outputs, as this rank's part of it, and its gradient for this rank's outputs."""
        all_S = distributed.gather(own_S).requires_grad_()
        labels_S = distributed.gather(torch.cat([part.labels_B for part in parts]))
        multi = [part.targets_BC for part in parts if part.targets_BC is not None]
        targets_SC = distributed.gather(torch.cat(multi)) if multi else None
        found = self._method.loss(all_S, self.texts, states, targets._replace(labels_B=labels_S, targets_BC=targets_SC))
        (grad_S,) = torch.autograd.grad(torch.stack(list(found.values())).sum(), all_S)
        first, share = distributed.rank() * len(own_S), 1 / distributed.world_size()
        return {name: loss.detach() * share for name, loss in found.items()}, grad_S[first : first + len(own_S)]

    def _outputs(self, part: _Part, states: TextStates, seed: int, number: int) -> Tensor:
        # Seeded anew for each batch, dropout is the same when it runs twice and after a resume: no state is kept.
        torch.manual_seed((seed + (distributed.rank() * self._accumulate + number) * 0x9E3779B97F4A7C15) % (1 << 63))
        outputs_B: Tensor = self._method(self._method.model.encode_video(part.clips_BVTCHW), self.texts, states)
        return outputs_B

    @torch.no_grad()
    def _right(self, outputs_B: Tensor, states: TextStates, labels_B: Tensor) -> Tensor:
        scores_BC = self._method.scores(outputs_B, self.texts, states)
        right_B: Tensor = scores_BC.argmax(dim=1) == labels_B
        return right_B.sum()

    def _parts(self, batch: Batch) -> Iterator[_Part]:
        device, size = self._method.device, -(-len(batch.keys) // self._accumulate)
        for start in range(0, len(batch.keys), size):
            rows = slice(start, start + size)
            labels_B, valid_B = batch.labels_B[rows].to(device), batch.valid_B[rows].to(device)
            multi = None if batch.targets_BC is None else batch.targets_BC[rows].to(device) * valid_B[:, None]
            ignored_B = ~valid_B | (labels_B < 0)
            yield _Part(batch.clips_BVTCHW[rows].to(device), labels_B.masked_fill(ignored_B, IGNORED), multi)

    def _step_seed(self, step: int) -> int:
        return (self._seed * 1_000_003 + step) & 0x7FFF_FFFF_FFFF_FFFF
