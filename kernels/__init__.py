"""Fused operations of video-language training: a plain PyTorch reference, a blocked CPU path and Triton for each."""

from .late_interaction import LateInteraction, late_interaction
from .segments import Segments
from .token_merge import Matching, match_tokens, merge_tokens, merged_source, size_bias, unmerge_tokens

__all__ = [
    "LateInteraction",
    "Matching",
    "Segments",
    "late_interaction",
    "match_tokens",
    "merge_tokens",
    "merged_source",
    "size_bias",
    "unmerge_tokens",
]
