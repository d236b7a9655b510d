"""Late interaction of frames and prompts: README.md beside this file says what it computes and how."""

from .op import LateInteraction, late_interaction
from .reference import late_interaction_reference

__all__ = ["LateInteraction", "late_interaction", "late_interaction_reference"]
