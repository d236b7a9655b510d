"""TPP as printed and as corrected, the best set of a pool, and how candidates become sub-texts."""

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import reelmill
from hypothesis import given, settings
from hypothesis import strategies as st
from reelmill.engine.bank.texts import tpp as tpp_module
from reelmill.engine.bank.texts.clip_text import open_clip_texts
from reelmill.engine.bank.texts.origin import Origin
from reelmill.engine.bank.texts.subtexts import choose, hashed_words, subtext_rows
from reelmill.engine.bank.texts.tpp import EPS, Pool, best_set, cosines, tpp
from reelmill.shards.errors import UsageError

WIDTH = 64
TEXT = np.eye(WIDTH)[0]


def around(cosine, first, count=4):
    """Vectors with this cosine to the text, independent otherwise."""
    others = np.eye(WIDTH)[first : first + count]
    return cosine * TEXT + math.sqrt(1 - cosine**2) * others


RELATED = around(0.872, 1)
UNRELATED = around(0.0, 10)
COPIES = (around(0.872, 20, 1) + 0.02 * np.eye(WIDTH)[30:34]) / 1.0002


def literal(text, subtexts, sign, alpha=lambda x: x, beta=lambda x: x):
    """Equations 2-4, line by line."""

    def cos(a, b):
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    N = len(subtexts)
    total = 0.0
    for n in range(N):
        sigma = (cos(text, subtexts[n]) + 1) / 2
        delta = 1 - sum((cos(subtexts[n], subtexts[m]) + 1) / 2 for m in range(N) if m != n) / (N - 1)
        total += math.log(alpha(sigma) * beta(delta))
    return math.exp(sign * total / N)


def test_as_printed_near_duplicates_win():
    related, unrelated, copies = (tpp(TEXT, some) for some in (RELATED, UNRELATED, COPIES))
    assert related == pytest.approx(8.9, abs=0.05)
    assert unrelated == pytest.approx(4.0)
    assert copies > 800
    assert copies > related > unrelated


def test_with_the_sign_alone_unrelated_ones_win():
    related, unrelated, copies = (literal(TEXT, some, +1) for some in (RELATED, UNRELATED, COPIES))
    assert related == pytest.approx(0.112, abs=0.001)
    assert unrelated == pytest.approx(0.25)
    assert copies < 0.0013
    assert unrelated > related > copies


def test_corrected_the_related_and_different_ones_win():
    pool = Pool(TEXT, np.concatenate([RELATED, UNRELATED, COPIES]))
    related, unrelated, copies = pool.scores(np.arange(12).reshape(3, 4))
    assert related > 100 * max(unrelated, copies)
    chosen, score = best_set(pool, 4)
    assert set(chosen) <= {0, 1, 2, 3, 8, 9, 10, 11}
    assert len(set(chosen) & {8, 9, 10, 11}) <= 1  # one of the copies is as good as a related one
    assert score >= related


vectors = st.integers(0, 2**31).map(lambda seed: np.random.default_rng(seed).normal(size=(6, 8)))


@given(vectors)
@settings(deadline=None)
def test_printed_scores_are_the_equations(rows):
    assert tpp(rows[0], rows[1:]) == pytest.approx(literal(rows[0], rows[1:], -1), rel=1e-9)


@given(vectors)
@settings(deadline=None)
def test_corrected_scores_are_the_equations_stretched_over_the_pool(rows):
    text, pool = rows[0], rows[1:]
    to_text, among = cosines(text, pool)
    sigma = (to_text + 1) / 2
    far = [1 - (among[i, j] + 1) / 2 for i, j in combinations(range(5), 2)]

    def stretch(low, high):
        return lambda x: min(1.0, max(EPS, (x - low) / (high - low)))

    alpha, beta = stretch(sigma.min(), sigma.max()), stretch(min(far), max(far))
    for some in combinations(range(5), 3):
        want = literal(text, pool[list(some)], +1, alpha, beta)
        assert Pool(text, pool).scores(np.array([some]))[0] == pytest.approx(want, rel=1e-6)


@given(vectors, st.sampled_from(["fixed", "paper"]))
@settings(deadline=None)
def test_the_best_set_is_the_best_of_all(rows, sign):
    pool = Pool(rows[0], rows[1:], sign)
    every = [list(some) for some in combinations(range(5), 3)]
    scores = [float(pool.scores(np.array([some]))[0]) for some in every]
    chosen, score = best_set(pool, 3)
    assert score == max(scores)
    assert chosen == every[scores.index(score)]


def test_a_large_pool_grows_its_set_greedily(monkeypatch):
    rows = np.random.default_rng(0).normal(size=(13, 8))
    pool = Pool(rows[0], rows[1:])
    exact, exact_score = best_set(pool, 4)
    monkeypatch.setattr(tpp_module, "EXACT_SETS", 10)
    chosen, score = best_set(pool, 4)
    grown = [int(np.argmax([pool.scores(np.array([[i]]))[0] for i in range(12)]))]
    while len(grown) < 4:
        rest = [i for i in range(12) if i not in grown]
        grown.append(max(rest, key=lambda i: pool.scores(np.array([sorted([*grown, i])]))[0]))
    assert chosen == sorted(grown)
    assert score <= exact_score
    assert len(exact) == 4


def test_edges_of_pools():
    alike = Pool(TEXT, np.repeat(RELATED[:1], 3, axis=0))
    assert best_set(alike, 2) == ([0, 1], 1.0)  # nothing tells them apart: the first ones
    assert best_set(Pool(TEXT, RELATED[:1]), 4) == ([0], 1.0)
    assert np.isfinite(Pool(TEXT, np.zeros((3, WIDTH))).scores(np.array([[0, 1]]))).all()
    with pytest.raises(ValueError, match="count must be >= 1 and the pool not empty, got 0 of 4"):
        best_set(Pool(TEXT, RELATED), 0)
    with pytest.raises(ValueError, match=r"text_D must have shape \(64,\) \(the D of pool_PD\), got \(3,\)"):
        cosines(np.zeros(3), RELATED)


STEPS = ["a ball is thrown", "A ball is thrown.", "", "the ball is caught", "a ball is thrown far", "a foot lifts"]


def test_without_a_score_the_first_candidates_are_taken():
    texts, score, left = choose("throw ball", STEPS, 2, embed=None, sign="fixed")
    assert (texts, score) == (["A ball is thrown.", "The ball is caught."], None)
    assert [(row.reason, row.detail) for row in left] == [
        ("duplicate", "A ball is thrown."),
        ("empty", ""),
        ("not_selected", "A ball is thrown far."),
        ("not_selected", "A foot lifts."),
    ]


def test_scored_candidates_keep_their_order_and_share_the_score():
    texts, score, left = choose("throw ball", STEPS, 3, embed=hashed_words, sign="fixed")
    order = ["A ball is thrown.", "The ball is caught.", "A ball is thrown far.", "A foot lifts."]
    assert texts == [text for text in order if text in texts]
    assert len(texts) == 3
    assert score is not None
    assert len([row for row in left if row.reason == "not_selected"]) == 1
    rows = subtext_rows(7, texts, score, Origin("f"))
    assert [row["n"] for row in rows] == [0, 1, 2]
    assert {row["tpp"] for row in rows} == {score}


def test_nothing_to_choose_from():
    assert choose("x", [], 4, embed=hashed_words, sign="fixed") == ([], None, [])


def test_hashed_words_are_pinned_and_see_only_words():
    one, same, other = hashed_words(["Throw the ball", "the BALL, throw!", "hurl a sphere"])
    assert (one == same).all()
    assert one.shape == (512,)
    assert abs(float(one @ other)) < 1
    assert np.flatnonzero(one).tolist() == [46, 196, 326]


def test_a_text_tower_without_its_weights_is_told(tmp_path):
    with pytest.raises(UsageError, match="text_model must be a model that open_clip knows, got 'ViT-Z'"):
        open_clip_texts("ViT-Z", tmp_path)
    with pytest.raises(UsageError, match="weights must be a file of ViT-B-16's weights, but there is none"):
        open_clip_texts("ViT-B-16", tmp_path / "none.pt")
    (tmp_path / "bad.pt").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="must be those of RN50"):
        open_clip_texts("RN50", tmp_path / "bad.pt")


def test_a_text_tower_compares_texts(tmp_path):
    import torch
    from reelmill.torchvision_ops import import_torchvision

    import_torchvision()
    import open_clip

    models = Path(reelmill.__file__).parent / "train" / "model" / "configs"
    open_clip.add_model_config(models)
    name = next(models.glob("*.json")).stem
    torch.manual_seed(0)
    tower = open_clip.create_model(name, pretrained=None).eval()
    torch.save(tower.state_dict(), tmp_path / "tower.pt")
    texts = [f"a ball number {n}" for n in range(70)]
    vectors = open_clip_texts(name, tmp_path / "tower.pt")(texts)
    with torch.no_grad():
        want = tower.encode_text(open_clip.get_tokenizer(name)(texts)).double().numpy()
    assert vectors.dtype == np.float64
    np.testing.assert_allclose(vectors, want, atol=1e-5)
