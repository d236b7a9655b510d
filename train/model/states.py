"""What the two encoders say: the data that every method reads.

Shapes: B videos, V views, T frames, N regions of a frame, P patches of it, M texts, W words, D the width of the joint
space.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...shards.order import stream_key


class VideoStates(NamedTuple):
    """Of B videos; every embedding has length 1 and is fp32 (fp64 for an fp64 model)."""

    frames_BVTD: Tensor
    """Each frame: on its own, or having seen the others of its view (`model.video` "space-time")."""
    regions_BVTND: Tensor | None = None
    """The regions of each frame, the first of which is its class token; None unless the model finds regions."""
    region_of_BVTP: Tensor | None = None
    """int64: the place among the N of the region that each patch went into, patches row by row."""
    seeds_B: Tensor | None = None
    """int64, of what is drawn for each video in this step: `video_seeds`; None outside of training."""

    @property
    def frames_BLD(self) -> Tensor:
        """The frames of all views, one after another: L = V * T."""
        return self.frames_BVTD.flatten(1, 2)


def video_seeds(seed: int, keys: Sequence[str]) -> Tensor:
    """(B,) int64, one per video: the same however the videos of a step are cut into batches and ranks.

    Args:
        seed: of the step (`Targets.seed`).
        keys: of the B videos.
    """
    words = [stream_key("video", seed, key) for key in keys]
    return torch.tensor([((high << 32) | low) - (1 << 63) for high, low in words], dtype=torch.int64)


class TextStates(NamedTuple):
    """Of M texts; every embedding has length 1 and is fp32 (fp64 for an fp64 model)."""

    texts_MD: Tensor
    """Each text as a whole: what the encoder says at its end."""
    words_MWD: Tensor | None = None
    """The same projection at each word; None unless the method reads words."""
    is_word_MW: Tensor | None = None
    """bool; False at the marks of start and end and after the end."""

    def present(self) -> list[Tensor]:
        """The fields that are not None."""
        return [part for part in self if part is not None]


def cat_states(parts: Sequence[TextStates]) -> TextStates:
    """The texts of all parts, one after another; the parts have the same fields and word positions."""
    columns = zip(*(states.present() for states in parts), strict=True)
    return TextStates(*(torch.cat(column) for column in columns))
