"""The options of ALT."""

import math
from dataclasses import dataclass
from typing import Literal

from .check import check
from .model import ModelConfig

TEMPLATES = (
    "a video of {action}",
    "a video of a person doing {action}",
    "a short clip that shows {action}",
    "a recording of someone at {action}",
    "this is {action}, a human action",
    "a demonstration of {action}",
    "look, somebody is doing {action}",
    "people can be seen doing {action}",
    "an example of {action}",
    "the action in this video is {action}",
    "a scene of {action}",
    "what is going on here: {action}",
    "{action}",
    "the activity of {action}",
    "footage of {action}",
    "someone is busy with {action}",
)
"""Sixteen sentences of our own, as many as ActionCLIP has."""


@dataclass(frozen=True, kw_only=True, slots=True)
class AltConfig:
    """ALT: every region of a frame takes the text of the entity that it is most like, and from these texts a video is
    understood. The paper's ablations (Table 4): a is align none, cross_attention and convolution false; b is align
    names, level frames; c is level frames; d is the default. Wants `model.text_learns` "none" and, for regions,
    `model.video` "regions".
    """

    name: Literal["alt"] = "alt"
    """The method."""
    align: Literal["entities", "names", "none"] = "entities"
    """What frames are aligned with: the entities of the bank; the classes themselves, so that a video depends on which
    classes it is asked about; or nothing: then the frames themselves are the adapter's queries."""
    level: Literal["regions", "frames"] = "regions"
    """What is aligned: the regions of each frame, its class token among them; or the frame as a whole."""
    alignment_scale: float | None = None
    """Factor of the cosines beside the noise in Eq. 4, > 0; without it that of CLIP's logits. The paper prints none,
    that is 1: then, of a thousand entities, the best one is nearly never chosen in training."""
    noise: bool = True
    """Add Gumbel noise to the choice of an entity in training (Eq. 4)."""
    pool: Literal["mean", "attention", "token-mix"] = "mean"
    """How the tokens of a frame become one vector, of which Eq. 6 only says "reducing": their mean; attention with a
    learnt query; or learnt weights by place. All begin as the mean."""
    residual_mlps: bool = False
    """Add the MLPs of Eq. 6 and 9 to their input, beginning as nothing: a video then starts as the mean of its
    entities' texts. The paper says only MLP."""
    blocks: int = 4
    """Of the adapter, > 0; the paper has 4 for ViT-B and 6 for ViT-L."""
    heads: int = 8
    """Of its attention; must divide the width of the joint space."""
    self_attention: bool = True
    """Attention among the queries of a video (Table 5, SA)."""
    cross_attention: bool = True
    """Attention from the queries to the frames (Table 5, CA)."""
    convolution: bool = True
    """Convolution over time before frames are attended to (Table 5, 1D-Conv); goes with `cross_attention`."""
    conv_kernel: int = 3
    """Frames that it sees, odd and > 0; the paper does not say."""
    positions: bool = True
    """Add learnt places in time, zero at first, to queries and frames, as transformers have; the paper does not say."""
    max_frames: int = 64
    """Frames of a view for which there are such places, > 0."""
    templates: tuple[str, ...] = TEMPLATES
    """Texts of a class, of which it is the mean; {action} is its name. ["{action}"] is the bare name."""
    similarity: Literal["cosine", "dot"] = "cosine"
    """Of class and video: the cosine times CLIP's scale, or, as Eq. 10 prints, the product as it is."""

    def __post_init__(self) -> None:
        for name in ("blocks", "heads", "max_frames"):
            check(getattr(self, name) > 0, f"method.{name}", "> 0", getattr(self, name))
        scale = self.alignment_scale
        check(scale is None or 0 < scale < math.inf, "method.alignment_scale", "> 0 and finite", scale)
        odd = self.conv_kernel > 0 and self.conv_kernel % 2 == 1
        check(odd, "method.conv_kernel", "odd and > 0", self.conv_kernel)
        attends = self.self_attention or self.cross_attention
        check(attends, "method.self_attention", "true where method.cross_attention is false", False)
        reads = self.cross_attention or not self.convolution
        check(reads, "method.convolution", "false where method.cross_attention is false, which reads it", True)
        fit = [text for text in self.templates if text.count("{action}") != 1]
        check(bool(self.templates) and not fit, "method.templates", "texts with {action} in each once", fit[:1])

    def check_inputs(self, model: ModelConfig, features: str | None) -> None:
        """Hold the encoders, or the features in place of videos, to what the method reads.

        Raises:
            UsageError: the text encoder learns, or there are no regions to align.
        """
        fixed = model.text_learns == "none"
        check(fixed, "model.text_learns", "'none' with method alt, whose texts stay as they are", model.text_learns)
        found = self.level == "frames" or model.video == "regions"
        check(found, "model.video", "'regions' with method alt, or method.level 'frames'", model.video)
        frames = self.level == "frames" or features is None
        check(frames, "data.features", "left out where method.level is 'regions', which they have none of", features)
