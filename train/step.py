"""One optimiser step: batches accumulate, ranks add up, texts are encoded once.

What is learnt does not depend on how the videos of a step are cut into batches and ranks, but for rounding.

Shapes: B videos of a batch, S of a rank in the whole step, C classes.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..engine import Batch
from ..shards.errors import UsageError
from . import distributed
from .clips import pictures
from .config import TrainConfig
from .flops import step_flops
from .methods import IGNORED, Method, Targets
from .mixing import mix
from .model import TextStates, video_seeds
from .model.text_table import TextTable

MAX_SEED = (1 << 63) - 1
SPREAD = 0x9E3779B97F4A7C15  # an odd number far from any small multiple: seeds of neighbours lie far apart


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

    clips: Tensor
    """Or features in their place."""
    targets: Targets
    generator_seed: int
    """Of dropout: its own for each batch of each rank."""


_Losses = tuple[dict[str, Tensor], Tensor]
"""The losses by name, and how many answers were right."""


class Step:
    """Makes the gradients of a step."""

    def __init__(self, method: Method, classes: tuple[str, ...], config: TrainConfig) -> None:
        """Of `method`, on its device, for the classes to train on."""
        self._method, self._config = method, config
        data = config.data
        if (data.mixup or data.cutmix) and method.couples_videos:
            raise UsageError("data.mixup and data.cutmix must be 0 for a method that compares videos with each other")
        self.texts: Any = method.describe(classes, training=True)
        self._table = TextTable(method.model, self.texts.strings, config.model, words=method.reads_words)

    def __call__(self, batch: Batch, step: int) -> Result:
        """Leave the gradients of step `step` (from 0) on the weights, the same on every rank."""
        labels_S = torch.where(batch.valid_B & (batch.labels_B >= 0), batch.labels_B, IGNORED).to(self._method.device)
        counted = distributed.total((labels_S != IGNORED).sum()).float()
        parts = list(self._parts(batch, labels_S, counted.clamp(min=1), step))
        states = self._table.open()
        losses, right = (self._coupled if self._method.couples_videos else self._separate)(parts, states)
        self._table.close()
        distributed.add_gradients(self._method.parameters())
        return Result(losses, right, counted)

    def flops(self, batch: Batch) -> int:
        """Multiplications and additions of the model in one step, over all ranks; `batch` shows what a video is."""
        frames = pictures(batch)[:1].to(self._method.device)
        return step_flops(self._method, self.texts, self._table, frames, self._config.global_batch)

    def _separate(self, parts: list[_Part], states: TextStates) -> _Losses:
        """Each batch has its own part of the loss."""
        losses: dict[str, Tensor] = {}
        right = torch.zeros((), device=self._method.device)
        for part in parts:
            outputs_B = self._outputs(part, states)
            found = self._method.loss(outputs_B, self.texts, states, part.targets)
            torch.stack(list(found.values())).sum().backward()  # type: ignore[no-untyped-call]
            for name, loss in found.items():
                losses[name] = losses.get(name, 0) + loss.detach()
            right += self._right(outputs_B, states, part)
        return losses, right

    def _coupled(self, parts: list[_Part], states: TextStates) -> _Losses:
        """The loss sees the outputs of the whole step: with several batches they are computed twice, first without
        gradients, and the second time with those that the loss asked for. Random numbers are the same both times.
        """
        alone = len(parts) == 1
        with torch.set_grad_enabled(alone):
            outputs = [self._outputs(part, states) for part in parts]
        losses, grad_S = self._whole_loss(torch.cat(outputs), parts, states)
        right = torch.zeros((), device=self._method.device)
        for part, output_B, grad_B in zip(parts, outputs, torch.split(grad_S, [*map(len, outputs)]), strict=True):
            right += self._right(output_B, states, part)
            again_B = output_B if alone else self._outputs(part, states)
            again_B.backward(grad_B)  # type: ignore[no-untyped-call]
        return losses, right

    def _whole_loss(self, own_S: Tensor, parts: list[_Part], states: TextStates) -> tuple[dict[str, Tensor], Tensor]:
        """The loss of all ranks' outputs, as this rank's part of it, and its gradient for this rank's outputs."""
        all_S = distributed.gather(own_S).requires_grad_()
        targets = [part.targets for part in parts]
        multi = [target.targets_BC for target in targets if target.targets_BC is not None]
        every = targets[0]._replace(
            labels_B=distributed.gather(torch.cat([target.labels_B for target in targets])),
            targets_BC=distributed.gather(torch.cat(multi)) if multi else None,
            seeds_B=None,
        )
        found = self._method.loss(all_S, self.texts, states, every)
        (grad_S,) = torch.autograd.grad(torch.stack(list(found.values())).sum(), all_S)
        first, share = distributed.rank() * len(own_S), 1 / distributed.world_size()
        return {name: loss.detach() * share for name, loss in found.items()}, grad_S[first : first + len(own_S)]

    def _outputs(self, part: _Part, states: TextStates) -> Tensor:
        # Seeded anew for each batch, dropout is the same when it runs twice and after a resume: no state is kept.
        torch.manual_seed(part.generator_seed)
        video = self._method.model.encode_video(part.clips)._replace(seeds_B=part.targets.seeds_B)
        outputs_B: Tensor = self._method(video, self.texts, states)
        return outputs_B

    @torch.no_grad()
    def _right(self, outputs_B: Tensor, states: TextStates, part: _Part) -> Tensor:
        scores_BC = self._method.scores(outputs_B, self.texts, states)
        right_B: Tensor = scores_BC.argmax(dim=1) == part.targets.labels_B
        return right_B.sum()

    def _parts(self, batch: Batch, labels_S: Tensor, counted: Tensor, step: int) -> Iterator[_Part]:
        """The batches of this rank, mixed where the config asks for it."""
        device, size = self._method.device, -(-len(batch.keys) // self._config.accumulate)
        seed = (self._config.seed * 1_000_003 + step) & MAX_SEED
        for number, start in enumerate(range(0, len(batch.keys), size)):
            rows = slice(start, start + size)
            own_seed = (seed + (distributed.rank() * self._config.accumulate + number) * SPREAD) & MAX_SEED
            clips, labels_B = pictures(batch)[rows].to(device), labels_S[rows]
            multi = None if batch.targets_BC is None else batch.targets_BC[rows].to(device)
            targets = Targets(
                labels_B=labels_B,
                counted=counted,
                seed=seed,
                targets_BC=None if multi is None else multi * (labels_B != IGNORED)[:, None],
                seeds_B=video_seeds(seed, batch.keys[rows]).to(device),
            )
            mixed = mix(clips, labels_B, self._config.data, seed=own_seed)
            if mixed is not None:
                clips, (partners_B, share) = mixed.clips_BVTCHW, mixed[1:]
                targets = targets._replace(partner_labels_B=partners_B, share=share)
            yield _Part(clips, targets, own_seed)
