"""Straight-through alignment of regions with entities: README.md beside this file says what it computes and how."""

from .op import align_entities

__all__ = ["align_entities"]
