"""What CoCo describes a class by: a definition, and captions of videos of it, out of a bank.

Shapes: C classes, R texts of a kind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...shards.bank import Action, Bank
from ...shards.bank.texts import Definition
from ...shards.errors import UsageError
from ..config import CocoConfig


@dataclass(frozen=True, slots=True)
class CocoSources:
    """Where the texts are."""

    bank: Bank
    """Its descriptions are the captions."""
    definitions: Mapping[int, Sequence[Definition]]
    """By action id; empty where classes are described by captions alone."""
    relevance: Mapping[int, NDArray[np.float32]]
    """Of the descriptions, by action id; empty where captions are drawn."""
    seed: int = 0
    """Of the draw."""


def tell_definition(name: str, sources: CocoSources, config: CocoConfig) -> str:
    """The definition of a class, in the words that the text encoder reads (D^l).

    Raises:
        UsageError: the class is no action of the bank, or has no definition.
    """
    known = sources.definitions.get(sources.bank.find(name).action_id, ())
    fitting = [each for each in known if config.definition_source in ("", each.source)]
    if not fitting:
        source = f" of source {config.definition_source!r}" if config.definition_source else ""
        raise UsageError(
            f"class {name!r} must have a definition{source} in the bank's definitions.parquet, but has none; "
            '`reelmill bank entities --definitions FILES` adds them, method.describe_by "captions" does without'
        )
    return config.definition.replace("{action}", name).replace("{definition}", fitting[0].text)


def choose_captions(name: str, sources: CocoSources, config: CocoConfig) -> list[str]:
    """The k captions of a class (D^c), all of them where there are fewer; the same whatever other classes there are.

    Raises:
        UsageError: the class is no action of the bank, or has no description, or there are more than k and none of
            them has a relevance to choose by.
    """
    action = sources.bank.find(name)
    if not action.descriptions:
        raise UsageError(
            f'class {name!r} must have descriptions in the bank, but has none; method.describe_by "definitions" does '
            "without"
        )
    if config.choose == "drawn" or action.descriptions <= config.captions:
        return sources.bank.draw(action.action_id, config.captions, seed=sources.seed)
    texts = sources.bank.descriptions(action.action_id)
    return [texts[place] for place in _most_relevant(action, sources, config.captions)]


def _most_relevant(action: Action, sources: CocoSources, k: int) -> list[int]:
    """Places of the k most relevant descriptions, the earlier of equals first, unscored ones last."""
    scores = sources.relevance.get(action.action_id)
    if scores is None or len(scores) != action.descriptions or np.isnan(scores).all():
        raise UsageError(
            f"the {action.descriptions} descriptions of {action.name!r} must have relevance for {k} to be chosen by "
            'it: `reelmill bank select` makes a bank that has, method.choose "drawn" does without'
        )
    order = np.argsort(np.where(np.isnan(scores), np.inf, -scores), kind="stable")
    return [int(place) for place in order[:k]]
