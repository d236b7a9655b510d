"""Texts are cleaned to plain text, once and for all, and filtered for stated reasons."""

import importlib.util
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from reelmill.engine.bank.records.clean import check_languages, check_text, clean_text, count_sentences
from reelmill.engine.bank.records.config import CleanOptions
from reelmill.shards.errors import UsageError


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("  two\t words\n", "two words"),
        ("cafe\u0301", "caf\u00e9"),
        ("a\x00b\x1bc\x7fd", "abcd"),
        ("zero\u200bwidth \ufefftext\u00ad", "zerowidth text"),
        ("left \u202eright\u202c", "left right"),
        ("family \U0001f468\u200d\U0001f469\u200d\U0001f467", "family \U0001f468\u200d\U0001f469\u200d\U0001f467"),
        ("<p>A <b>bold</b>&nbsp;move<br/></p><!-- hidden -->", "A bold move"),
        ("&lt;b&gt;bold&lt;/b&gt; &amp;amp; bright", "bold & bright"),
        ("3 < 5 & 7 > 6", "3 < 5 & 7 > 6"),
        ("I <3 it", "I <3 it"),
        ("see https://example.org/a?b=c. or www.Example.org now", "see or now"),
        ("https://example.org/watch?v=41", ""),
        ("\u2003\u3000", ""),
    ],
)
def test_clean(raw, clean):
    assert clean_text(raw, CleanOptions()) == clean


def test_markup_and_addresses_can_stay():
    raw = "<b>see</b> &amp; https://example.org"
    assert clean_text(raw, CleanOptions(markup=False, urls="keep")) == raw


@given(st.text(max_size=80))
def test_what_is_clean_stays_as_it_is(raw):
    text = clean_text(raw.replace("&", "+"), CleanOptions())  # entities in entities are resolved twice, not for ever
    assert clean_text(text, CleanOptions()) == text
    assert unicodedata.is_normalized("NFC", text)
    assert "\n" not in text


@pytest.mark.parametrize("raw", ["<" * 31_000, "<a" * 15_000, "<!--" * 7_000, "&lt;" * 7_000, "www." * 7_000])
def test_hostile_markup_ends(raw):
    check_text(raw, CleanOptions())


@pytest.mark.parametrize(
    ("text", "options", "reason", "detail"),
    [
        ("fine words", {}, None, None),
        ("<p></p>", {}, "empty", "nothing is left of the text"),
        ("one two", {"min_words": 3}, "short", "2 words, at least 3 are asked"),
        ("one two", {"max_words": 1}, "long", "2 words, at most 1 are asked"),
        ("x" * 30, {"max_chars": 20}, "long", "30 characters, at most 20 are asked"),
        ("x" * 90, {"max_chars": 20}, "long", "90 characters before cleaning, at most 4 times 20"),
        ("at https://example.org now", {"urls": "filter"}, "url", "holds https://example.org"),
        ("4711 / 0815-X", {"min_letters": 0.5}, "letters", "0.091 of its characters are letters, at least 0.5"),
        ("跳 高", {"min_letters": 1.0}, None, None),
        ("go " * 8 + "a b", {"max_repeats": 0.5}, "repeats", "8 of 10 words are 'go', at most 0.5 are asked"),
        ("go " * 9, {"max_repeats": 0.5}, None, None),
    ],
)
def test_filters(text, options, reason, detail):
    found = check_text(text, CleanOptions(**options))[1]
    assert (found and found[0]) == reason
    if found is not None:
        assert found[1].startswith(detail)


def test_languages_need_their_package_and_tell_texts_apart():
    options = CleanOptions(languages=("en",))
    if importlib.util.find_spec("py3langid") is None:
        with pytest.raises(UsageError, match="languages must go with the package py3langid, which is not installed"):
            check_languages(options)
        return
    check_languages(options)
    english = "a young woman rides her bicycle along the river on a sunny day"
    assert check_text(english, options)[1] is None
    found = check_text("eine junge Frau fährt bei Sonnenschein mit dem Fahrrad am Fluss entlang", options)[1]
    assert found == ("language", "taken for de, asked are en")


@pytest.mark.parametrize(("text", "count"), [("One.", 1), ("One. Two", 2), ("v1.2 is out!", 1), ("none", 1)])
def test_sentences(text, count):
    assert count_sentences(text) == count
