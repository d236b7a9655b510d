"""Classes that are the mean of their synonyms: README.md beside this file says what is computed and how."""

from .op import SynonymLoss, synonym_cross_entropy, synonym_similarity

__all__ = ["SynonymLoss", "synonym_cross_entropy", "synonym_similarity"]
