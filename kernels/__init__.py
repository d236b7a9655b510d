"""Fused operations of video-language training: a plain PyTorch reference, a blocked CPU path and Triton for each."""

from .entity_alignment import align_entities
from .late_interaction import LateInteraction, late_interaction
from .segments import Segments
from .synonym_similarity import SynonymLoss, synonym_cross_entropy, synonym_similarity
from .token_merge import Matching, match_tokens, merge_tokens, merged_source, size_bias, unmerge_tokens

__all__ = [
    "LateInteraction",
    "Matching",
    "Segments",
    "SynonymLoss",
    "align_entities",
    "late_interaction",
    "match_tokens",
    "merge_tokens",
    "merged_source",
    "size_bias",
    "synonym_cross_entropy",
    "synonym_similarity",
    "unmerge_tokens",
]
