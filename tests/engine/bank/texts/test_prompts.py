"""Prompts are cut, evened out and sifted as stated; what goes is told."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reelmill.engine.bank.texts.clip_text import count_tokens
from reelmill.engine.bank.texts.origin import Left, Origin
from reelmill.engine.bank.texts.prompts import (
    ATTRIBUTES,
    GROUPS,
    clean_prompts,
    cut_at_sentence,
    normalise,
    prompt_rows,
    read_rejects,
    with_prefix,
)
from reelmill.shards.errors import UsageError


def words(text):
    return len(text.split())


def test_three_groups_of_four():
    assert {group: len(names) for group, names in GROUPS.items()} == {"scene": 4, "actor": 4, "body": 4}
    assert len(set(ATTRIBUTES)) == 12


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("  a man ,  who runs ", "A man, who runs."),
        ("“A jump” — high!!", '"A jump" - high!'),
        ("1. First thing", "First thing."),
        ("- a bullet\nover two lines", "A bullet over two lines."),
        ("'quoted'", "Quoted."),
        ("He’s here...", "He's here."),
        ("zero\u200bwidth\u0000", "Zero width."),
        ("e\u0301lan", "Élan."),
        ("trailing comma,", "Trailing comma."),
        ("v1.2 is out?", "V1.2 is out?"),
        ("...", ""),
        ("", ""),
    ],
)
def test_texts_are_evened_out(text, clean):
    assert normalise(text) == clean


@given(st.text(max_size=80))
def test_evening_out_is_done_once(text):
    clean = normalise(text)
    assert normalise(clean) == clean
    assert clean == "" or (clean[-1] in ".!?" and "  " not in clean and "\n" not in clean)


@pytest.mark.parametrize(
    ("text", "limit", "cut"),
    [
        ("One two. Three four. Five.", 4, "One two. Three four."),
        ("One two. Three four. Five.", 5, "One two. Three four. Five."),
        ("One two. Three four. Five.", 3, "One two."),
        ("One two three.", 2, ""),
        ("It is v1.2 now. Yes!", 4, "It is v1.2 now."),
        ("No end", 5, "No end"),
    ],
)
def test_a_text_is_cut_at_the_end_of_a_sentence(text, limit, cut):
    assert cut_at_sentence(text, limit, words) == cut


@given(st.lists(st.text("ab .!?", min_size=1, max_size=12), max_size=6).map(" ".join), st.integers(1, 8))
def test_a_cut_is_a_prefix_within_the_limit(text, limit):
    clean = normalise(text)
    cut = cut_at_sentence(clean, limit, words)
    assert clean.startswith(cut)
    assert words(cut) <= limit
    assert cut == "" or cut[-1] in ".!?"


def test_tokens_are_those_of_open_clip():
    from reelmill.torchvision_ops import import_torchvision

    import_torchvision()
    from open_clip.tokenizer import SimpleTokenizer

    theirs = SimpleTokenizer()
    for text in ("A person brushes their teeth.", "Éclairs & crème brûlée!", "antidisestablishmentarianism v1.2", "跳"):
        tokens = theirs(text)[0]
        assert count_tokens(text) == int((tokens != 0).sum()) - 2  # start and end


def test_what_goes_is_told_with_its_reason():
    texts = [
        ("environment", 0, "a hall. With a bar"),
        ("lighting", 0, "A hall. With a bar."),
        ("props", 0, "..."),
        ("people", 0, "one two three four five six seven"),
        ("role", 1, "A fighter , a boxer"),
        ("speed", 0, "x" * 3000),
    ]
    kept, left = clean_prompts("box", texts, rejected={"A fighter, a boxer."}, limit=6, count=words)
    assert kept == [("environment", 0, "A hall. With a bar.")]
    assert [(row.about, row.reason, row.detail[:20]) for row in left] == [
        ("box", "duplicate", "lighting: A hall. Wi"),
        ("box", "empty", "props: ..."),
        ("box", "too_long", "people: One two thre"),
        ("box", "manual", "role: A fighter, a b"),
        ("box", "too_long", "speed: X" + "x" * 12),
    ]


def test_a_reject_matches_before_and_after_the_cut():
    texts = [("role", 0, "One two. Three four five.")]
    for rejected in ("One two.", "One two. Three four five."):
        kept, left = clean_prompts("a", texts, rejected={rejected}, limit=3, count=words)
        assert (kept, [row.reason for row in left]) == ([], ["manual"])
    assert left == [Left("a", "manual", "role: One two. Three four five.")]


def test_rejects_are_one_per_line(tmp_path):
    path = tmp_path / "reject.txt"
    path.write_text("a fighter ,a boxer\n\n  One two.  \n")
    assert read_rejects(path) == {"A fighter,a boxer.", "One two."}
    path.write_text("good\n...\n")
    with pytest.raises(UsageError, match=r"reject.txt:2: must be the text of a prompt, got '\.\.\.'"):
        read_rejects(path)


def test_rows_and_the_phrase_before_them():
    assert prompt_rows(5, [("speed", 2, "Fast.")], Origin("llm", "h")) == [
        {
            "action_id": 5,
            "group": "body",
            "attribute": "speed",
            "llm_prompt": 2,
            "text": "Fast.",
            "source": "llm",
            "prompt_hash": "h",
        }
    ]
    assert with_prefix("Fast.", "push up") == "a video of push up. Fast."
