"""Fused operations of video-language training: a plain PyTorch reference, a blocked CPU path and Triton for each."""

from .late_interaction import LateInteraction, late_interaction
from .segments import Segments

__all__ = ["LateInteraction", "Segments", "late_interaction"]
