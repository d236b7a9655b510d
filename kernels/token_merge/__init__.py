"""Merging of like tokens: README.md beside this file says what it computes and how."""

from .matching import Matching
from .op import match_tokens, merge_tokens, unmerge_tokens
from .sources import merged_source, size_bias

__all__ = ["Matching", "match_tokens", "merge_tokens", "merged_source", "size_bias", "unmerge_tokens"]
