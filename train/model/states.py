"""What the two encoders say: the data that every method reads.

Shapes: B videos, V views, T frames, M texts, W words, D the width of the joint space.
"""

from typing import NamedTuple

from torch import Tensor


class VideoStates(NamedTuple):
    """Of B videos; every embedding has length 1 and is fp32 (fp64 for an fp64 model)."""

    frames_BVTD: Tensor
    """Each frame on its own."""

    @property
    def frames_BLD(self) -> Tensor:
        """The frames of all views, one after another: L = V * T."""
        return self.frames_BVTD.flatten(1, 2)


class TextStates(NamedTuple):
    """Of M texts; every embedding has length 1 and is fp32 (fp64 for an fp64 model)."""

    texts_MD: Tensor
    """Each text as a whole: what the encoder says at its end."""
    words_MWD: Tensor | None = None
    """The same projection at each word; None unless the method reads words."""
    is_word_MW: Tensor | None = None
    """bool; False at the marks of start and end and after the end."""
