"""Storyboard (SFAR): a class looks for its key frames, by its name and by the steps that it is made of.

    words = Attention(T Wq, [S_n Wk], [S_n Wv]) + T            T the words of a class, S_n those of its steps (Eq. 5-7)
    o = FFN(sum_l coarse_l v_l) + FFN(sum_l fine_l v_l)        the weights of the frames: model/key_frames.py (Eq. 8-12)
    y = scale * cos(t, o)                                      t the text of the class as a whole
    T2V = -mean_b log softmax over videos of y[:, c_b] at b    (Eq. 13; over all videos of the step)
    V2T = -mean_b log softmax over classes of y[b, :] at c_b   (Eq. 14)

Differs from the print by: the losses have their minus sign; the sums of Eq. 13-14 over the videos of a class cancel
with 1/|k_b|, which leaves the two above; the choices of `StoryboardConfig`. A sample of several labels counts as an
equal share of each. The layers FFN are d-4d-d with GELU, added to their input, and begin as nothing; so do the values
of the attention (of 8 heads): at first a model is CLIP whose frames are weighted.

Shapes: B videos, V views, T frames, L frames of all views, C classes, N steps of a class, M texts, W words, D width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from ...shards.bank import Bank
from ...shards.bank.texts import SubTexts
from ...shards.errors import UsageError
from ..config import StoryboardConfig
from ..model import TextStates, VideoStates, VideoTextModel
from ..model.key_frames import coarse_weights, fine_weights, mean_words
from ..model.layers import Mlp, check_heads
from ..model.temporal import TemporalTransformer
from ..model.text import unit
from .method import IGNORED, ClassTexts, Method, Targets


@dataclass(frozen=True, slots=True)
class Storyboards(ClassTexts):
    """The texts of C classes, then the steps of all of them, each once."""

    classes: int
    """C."""
    words: int
    """Word positions that the longest text of a class takes."""
    steps_CN: Tensor
    """int64: the places of each class's steps among the strings; 0 where it has no more. N is 0 for branch global."""
    there_CN: Tensor
    """bool: whether there is a step."""


class _Steps(nn.Module):
    """Words of a class, mixed with those of its steps (Eq. 5-7)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        check_heads(width, heads)
        self.heads = heads
        self.query, self.key, self.value = (nn.Linear(width, width, bias=False) for _ in range(3))
        nn.init.zeros_(self.value.weight)

    def forward(self, words_CWD: Tensor, steps_CSD: Tensor, counts_CS: Tensor) -> Tensor:
        """(C, W, D); S are the words of all steps of a class."""

        def split(x_CSD: Tensor) -> Tensor:
            return x_CSD.view(*x_CSD.shape[:2], self.heads, -1).transpose(1, 2)

        mixed_CHWK = functional.scaled_dot_product_attention(
            split(self.query(words_CWD)),
            split(self.key(steps_CSD)),
            split(self.value(steps_CSD)),
            attn_mask=counts_CS[:, None, None, :],
        )
        return words_CWD + mixed_CHWK.transpose(1, 2).flatten(2)


class Storyboard(Method):
    """Sums a video up for every class, and compares what came of it with the class."""

    def __init__(
        self, model: VideoTextModel, config: StoryboardConfig, bank: Bank | None, steps: Mapping[int, SubTexts]
    ) -> None:
        """Args: `bank` holds the actions, None for the branch global; `steps` the sub-texts by action id.

        Raises:
            UsageError: the heads do not divide the width of the joint space.
        """
        super().__init__(model)
        self._config, self._bank, self._subtexts = config, bank, steps
        width, branches = model.width, _branches(config)
        self.couples_videos, self.reads_words = config.t2v_weight > 0, bool(branches)
        self.temporal = (
            TemporalTransformer(width, layers=config.temporal_layers, heads=config.heads, max_frames=config.max_frames)
            if config.temporal_layers
            else None
        )
        self.steps = _Steps(width, config.heads) if "coarse" in branches else None
        layers = branches if config.feedforward else ()
        self.feedforward = nn.ModuleDict({name: Mlp(width, 4 * width, silent=True) for name in layers})

    def describe(self, classes: Sequence[str], *, training: bool = False) -> Storyboards:
        """The text of each class and its steps: the same whatever other classes there are."""
        strings = {self._config.prompt.replace("{action}", name): place for place, name in enumerate(classes)}
        words = self.model.text.tokenize(list(strings)).shape[1]
        rows = []
        for steps in self._steps_of(classes) if _branches(self._config) else [()] * len(classes):
            rows.append([strings.setdefault(text, len(strings)) for text in steps])
        longest = max(map(len, rows))
        steps_CN = torch.tensor([row + [0] * (longest - len(row)) for row in rows], dtype=torch.int64)
        there_CN = torch.tensor([[place < len(row) for place in range(longest)] for row in rows])
        return Storyboards(
            tuple(strings), len(classes), words, steps_CN.to(self.device), there_CN.bool().to(self.device)
        )

    def forward(self, video: VideoStates, texts: Storyboards, states: TextStates) -> Tensor:
        """(B, C) logits; frames of all views together, after the temporal layers of each."""
        frames_BLD, text_CD = self._frames(video), states.texts_MD[: texts.classes]
        keep = self._config.preselect
        if not _branches(self._config):
            cosines_BC = unit(frames_BLD.mean(1)) @ text_CD.T
        elif not self.training and 0 < keep < texts.classes:
            cosines_BC = self._preselected(frames_BLD, texts, states, keep)
        else:
            cosines_BC = self._cosines(frames_BLD, texts, states)
        return cosines_BC * self.model.log_scale.exp()

    def scores(self, outputs_B: Tensor, texts: Storyboards, states: TextStates) -> Tensor:
        """The outputs are the scores."""
        return outputs_B

    def loss(self, outputs_B: Tensor, texts: Storyboards, states: TextStates, targets: Targets) -> dict[str, Tensor]:
        """Eq. 13-15; label smoothing is V2T's alone."""
        config, several_BC = self._config, targets.targets_BC
        several_BC = None if several_BC is None else functional.normalize(several_BC.to(outputs_B.dtype), p=1, dim=1)

        def of_videos(labels_B: Tensor) -> Tensor:
            counts_B1 = (labels_B != IGNORED)[:, None]
            chances_BC = outputs_B.masked_fill(~counts_B1, torch.finfo(outputs_B.dtype).min).log_softmax(0)
            return _shared(chances_BC, labels_B, several_BC)

        def of_classes(labels_B: Tensor) -> Tensor:
            chances_BC = outputs_B.log_softmax(1)
            even_B = -chances_BC.mean(1).masked_fill(labels_B == IGNORED, 0)
            smoothing = self.label_smoothing
            return (1 - smoothing) * _shared(chances_BC, labels_B, several_BC) + smoothing * even_B

        parts = {"t2v": (config.t2v_weight, of_videos), "v2t": (config.v2t_weight, of_classes)}
        return {name: weight * targets.mean(losses_of) for name, (weight, losses_of) in parts.items() if weight}

    @torch.no_grad()
    def key_frames(self, video: VideoStates, texts: Storyboards, states: TextStates) -> dict[str, Tensor]:
        """The weights of the frames by branch, (B, C, L) each; frames of all views, one after another."""
        return self._weights(self._frames(video), texts, states, slice(None))

    def _steps_of(self, classes: Sequence[str]) -> list[tuple[str, ...]]:
        assert self._bank is not None  # every branch but global has one
        found = []
        for name in classes:
            steps = self._subtexts.get(self._bank.find(name).action_id)
            if steps is None:
                raise UsageError(
                    f"class {name!r} must have sub-texts in the bank, but has none: `reelmill bank subtexts` makes them"
                )
            found.append(steps.texts)
        return found

    def _frames(self, video: VideoStates) -> Tensor:
        """(B, L, D) of length 1."""
        if self.temporal is None:
            return video.frames_BLD
        with self.model.autocast():
            frames_NTD = self.temporal(video.frames_BVTD.flatten(0, 1))
        return unit(frames_NTD).view_as(video.frames_BLD)

    def _cosines(self, frames_BLD: Tensor, texts: Storyboards, states: TextStates) -> Tensor:
        """(B, C) without the scale; a chunk of classes at a time."""
        chunk = self._config.class_chunk
        parts = [slice(start, start + chunk) for start in range(0, texts.classes, chunk)]

        def of(part: slice) -> Tensor:
            weights = self._weights(frames_BLD, texts, states, part)
            return self._cosine(weights, frames_BLD, states.texts_MD[: texts.classes][part])

        again = len(parts) > 1 and torch.is_grad_enabled()
        return torch.cat([checkpoint(of, part, use_reentrant=False) if again else of(part) for part in parts], dim=1)

    def _preselected(self, frames_BLD: Tensor, texts: Storyboards, states: TextStates, keep: int) -> Tensor:
        """(B, C) without the scale: the best `keep` classes as they are scored, the others in order behind them."""
        weights = self._weights(frames_BLD, texts, states, slice(None))
        text_CD = states.texts_MD[: texts.classes]
        first_BC = self._cosine(weights, frames_BLD, text_CD, feedforward=False)
        best_BK = first_BC.topk(keep).indices
        best_BKL = best_BK[:, :, None].expand(-1, -1, frames_BLD.shape[1])
        chosen = {name: weights_BCL.gather(1, best_BKL) for name, weights_BCL in weights.items()}
        return (first_BC - 2).scatter(1, best_BK, self._cosine(chosen, frames_BLD, text_CD[best_BK]))

    def _weights(self, frames_BLD: Tensor, texts: Storyboards, states: TextStates, part: slice) -> dict[str, Tensor]:
        """(B, C, L) weights of the frames, by branch, for some classes."""
        config, weights = self._config, {}
        words_MWD, counts_MW = states.words_MWD, states.is_word_MW
        assert words_MWD is not None  # reads_words
        assert counts_MW is not None
        if config.count == "all":
            counts_MW = torch.ones_like(counts_MW)
        steps_CN, there_CN = texts.steps_CN[part], texts.there_CN[part]
        if self.steps is not None:
            own = slice(*part.indices(texts.classes)[:2]), slice(texts.words)
            words_CWD = self._mixed_words(
                words_MWD[own], words_MWD[steps_CN], counts_MW[steps_CN] & there_CN[:, :, None]
            )
            rule: Any = {"tau": config.tau, "denominator": config.denominator, "words": config.words}
            weights["coarse"] = coarse_weights(words_CWD, counts_MW[own], frames_BLD, **rule)
        if "fine" in _branches(config):
            steps_CND = mean_words(words_MWD, counts_MW)[steps_CN]
            weights["fine"] = fine_weights(steps_CND, there_CN, frames_BLD, tau=config.tau)
        return weights

    def _mixed_words(self, words_CWD: Tensor, steps_CNWD: Tensor, counts_CNW: Tensor) -> Tensor:
        assert self.steps is not None
        with self.model.autocast():
            mixed_CWD: Tensor = self.steps(words_CWD, steps_CNWD.flatten(1, 2), counts_CNW.flatten(1, 2))
        return mixed_CWD

    def _cosine(
        self, weights: Mapping[str, Tensor], frames_BLD: Tensor, text_CD: Tensor, *, feedforward: bool = True
    ) -> Tensor:
        """(B, C) of the classes whose texts these are: (C, D), or (B, C, D) for classes of each video's own."""
        total_BCD = torch.zeros((), dtype=frames_BLD.dtype, device=frames_BLD.device)
        for name, weights_BCL in weights.items():
            branch_BCD = weights_BCL @ frames_BLD
            if feedforward and name in self.feedforward:
                with self.model.autocast():
                    branch_BCD = branch_BCD + self.feedforward[name](branch_BCD)
            total_BCD = total_BCD + branch_BCD
        return (unit(total_BCD) * text_CD).sum(-1)


def _branches(config: StoryboardConfig) -> tuple[str, ...]:
    """Those with weights of the frames."""
    return {"both": ("coarse", "fine"), "coarse": ("coarse",), "fine": ("fine",), "global": ()}[config.branches]


def _shared(chances_BC: Tensor, labels_B: Tensor, several_BC: Tensor | None) -> Tensor:
    """(B,) losses: minus the logarithm of the chance of each label, in equal shares; 0 for `IGNORED`."""
    ignored_B = labels_B == IGNORED
    if several_BC is None:
        losses_B = -chances_BC.gather(1, labels_B.masked_fill(ignored_B, 0)[:, None])[:, 0]
    else:
        losses_B = -(several_BC * chances_BC).sum(1)
    return losses_B.masked_fill(ignored_B, 0)
