"""Sub-texts of an action (Storyboard): candidates, the set that is chosen of them, and how texts are compared."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .clip_text import Embed
from .origin import Left, Origin
from .prompts import normalise
from .tpp import Pool, Sign, best_set

HASHED_WIDTH = 512
_WORD = re.compile(r"[^\W_]+")


def choose(
    action: str, candidates: Sequence[str], count: int, *, embed: Embed | None, sign: Sign
) -> tuple[list[str], float | None, list[Left]]:
    """The sub-texts of one action.

    Args:
        action: its name: the global text of the paper.
        candidates: normalised here; repeated ones go.
        count: how many to take, >= 1; all where there are fewer.
        embed: how texts become vectors. None takes the first `count` candidates, without a score.
        sign: of the score.

    Returns:
        The chosen texts in the order of the candidates, their TPP, and what was left out.
    """
    texts, left = [], []
    for text in candidates:
        clean = normalise(text)
        if not clean or clean in texts:
            left.append(Left(action, "duplicate" if clean else "empty", text))
        else:
            texts.append(clean)
    if not texts:
        return [], None, left
    if embed is None:
        chosen, score = list(range(min(count, len(texts)))), None
    else:
        vectors = embed([action, *texts])
        chosen, score = best_set(Pool(vectors[0], vectors[1:], sign), count)
    left += [Left(action, "not_selected", text) for n, text in enumerate(texts) if n not in chosen]
    return [texts[n] for n in chosen], score, left


def subtext_rows(action_id: int, texts: Sequence[str], tpp: float | None, origin: Origin) -> list[dict[str, Any]]:
    """The chosen sub-texts as rows of subtexts.parquet."""
    return [
        {"action_id": action_id, "n": n, "text": text, "tpp": tpp} | origin.columns() for n, text in enumerate(texts)
    ]


def hashed_words(texts: Sequence[str]) -> NDArray[np.float64]:
    """An offline stand-in for a text encoder: every word adds a sign to one of 512 places, both by its hash.

    It knows that texts share words, and nothing of what words mean: it tells repetitions apart, not relations.

    Returns:
        (len(texts), 512) fp64.
    """
    vectors = np.zeros((len(texts), HASHED_WIDTH))
    for row, text in enumerate(texts):
        for word in _WORD.findall(text.lower()):
            digest = int.from_bytes(hashlib.blake2b(word.encode(), digest_size=8).digest(), "big")
            vectors[row, digest % HASHED_WIDTH] += 1 if digest >> 63 else -1
    return vectors
