"""Text prompt perplexity of a set of sub-texts (Storyboard, Eq. 2-4), and the best set of a pool. Pure NumPy.

    sigma_n = (cos(t, s_n) + 1) / 2                               relation of sub-text n to the action's name t
    delta_n = 1 - mean_{n' != n} (cos(s_n, s_n') + 1) / 2         its distance from the others of the set
    printed:  TPP = exp(-mean_n log(alpha(sigma_n) beta(delta_n)))      alpha = beta = identity
    fixed:    TPP = exp(+mean_n log(alpha(sigma_n) beta(delta_n)))      alpha, beta stretch to [eps, 1]

As printed the score falls when relation or distance rise, while the paper selects the highest score and wants related
and diverse sets: near-duplicates win. The fixed form turns the sign, and stretches both scores over the pool of the
action: CLIP's cosines are all alike, and without that unrelated sets win by distance alone. alpha stretches by the
smallest and largest sigma of the candidates, beta by the smallest and largest distance of two candidates; where these
are equal it is 1, as nothing tells the candidates apart. A set of one has nobody to be distant from: beta is 1.

Shapes: P candidates of a pool, N of a set, D width.
"""

import math
from collections.abc import Iterator, Sequence
from itertools import combinations, islice
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Sign = Literal["fixed", "paper"]
F64 = NDArray[np.float64]
EPS = 1e-6
EXACT_SETS = 100_000
"""Up to so many sets of a pool are all scored; beyond, the set is grown one by one."""
_AT_ONCE = 4096


def cosines(text_D: F64, pool_PD: F64) -> tuple[F64, F64]:
    """Cosines of the name with every candidate (P,), and of the candidates among each other (P, P).

    Raises:
        ValueError: the shapes disagree.
    """
    if pool_PD.ndim != 2 or text_D.shape != pool_PD.shape[1:]:
        raise ValueError(f"text_D must have shape {pool_PD.shape[1:]} (the D of pool_PD), got {text_D.shape}")
    text_D, pool_PD = np.asarray(text_D, np.float64), np.asarray(pool_PD, np.float64)
    text_D = text_D / max(float(np.linalg.norm(text_D)), 1e-12)
    pool_PD = pool_PD / np.maximum(np.linalg.norm(pool_PD, axis=1, keepdims=True), 1e-12)
    return pool_PD @ text_D, pool_PD @ pool_PD.T


class Pool:
    """The candidates of one action, ready to score sets of them."""

    def __init__(self, text_D: F64, pool_PD: F64, sign: Sign = "fixed") -> None:
        to_text_P, among_PP = cosines(text_D, pool_PD)
        self.size = len(to_text_P)
        self._sign = -1.0 if sign == "paper" else 1.0
        sigma_P, far_PP = (to_text_P + 1) / 2, 1 - (among_PP + 1) / 2
        self._range = (0.0, 1.0)
        if sign == "fixed":
            sigma_P = _stretch(sigma_P, *_ends(sigma_P))
            self._range = _ends(far_PP[~np.eye(self.size, dtype=bool)])
        self._sigma_P, self._far_PP = sigma_P, far_PP

    def scores(self, sets_SN: NDArray[np.int64]) -> F64:
        """TPP of S sets of N different candidates: (S, N) indices → (S,)."""
        alpha_SN = self._sigma_P[sets_SN]
        N = sets_SN.shape[1]
        if N == 1:
            beta_SN = np.ones_like(alpha_SN)
        else:
            far_SNN = self._far_PP[sets_SN[:, :, None], sets_SN[:, None, :]]
            far_SNN = far_SNN * (1 - np.eye(N))  # a cosine with itself may be off 1 by rounding
            beta_SN = far_SNN.sum(axis=2) / (N - 1)
            if self._sign > 0:
                beta_SN = _stretch(beta_SN, *self._range)
        logs_SN = np.log(np.maximum(alpha_SN, EPS)) + np.log(np.maximum(beta_SN, EPS))
        return np.asarray(np.exp(self._sign * logs_SN.mean(axis=1)))


def tpp(text_D: F64, set_ND: F64, *, sign: Sign = "paper") -> float:
    """TPP of one set that is its own pool."""
    pool = Pool(text_D, set_ND, sign)
    return float(pool.scores(np.arange(pool.size)[None])[0])


def best_set(pool: Pool, count: int) -> tuple[list[int], float]:
    """The set of `count` candidates with the highest TPP, in the order of the pool, and its TPP.

    All sets are scored where there are at most `EXACT_SETS`. Else the set grows greedily: the best candidate alone,
    then each time the one that makes the best larger set. Ties go to the set that comes first.

    Raises:
        ValueError: count < 1, or the pool is empty.
    """
    if count < 1 or not pool.size:
        raise ValueError(f"count must be >= 1 and the pool not empty, got {count} of {pool.size}")
    count = min(count, pool.size)
    if math.comb(pool.size, count) <= EXACT_SETS:
        return _best(pool, combinations(range(pool.size), count))
    chosen, score = _best(pool, ((i,) for i in range(pool.size)))
    while len(chosen) < count:
        grown = (tuple(sorted([*chosen, i])) for i in range(pool.size) if i not in chosen)
        chosen, score = _best(pool, grown)
    return chosen, score


def _best(pool: Pool, sets: Iterator[Sequence[int]]) -> tuple[list[int], float]:
    chosen: list[int] = []
    best = -math.inf
    while some := list(islice(sets, _AT_ONCE)):
        scores = pool.scores(np.array(some, np.int64))
        first = int(scores.argmax())
        if scores[first] > best:
            chosen, best = list(some[first]), float(scores[first])
    return chosen, best


def _ends(values: F64) -> tuple[float, float]:
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)


def _stretch(values: F64, low: float, high: float) -> F64:
    if high - low < EPS:
        return np.ones_like(values)
    return np.clip((values - low) / (high - low), EPS, 1)
