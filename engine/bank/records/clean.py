"""Texts as people and pages write them → plain text, and the reasons for which one is not kept.

Entities are resolved and tags removed (twice, as pages that quote pages need it), web addresses go, then control and
invisible characters, then Unicode is composed (NFC) and white space made single spaces. Cleaning a clean text changes
nothing, but for entities nested more than twice.
"""

import html
import importlib
import importlib.util
import re
import unicodedata
from collections import Counter
from collections.abc import Callable
from functools import cache

from ....shards.bank.files import Reason
from ....shards.errors import UsageError
from .config import CleanOptions

RAW_TIMES = 4
MARKUP_PASSES = 2
REPEATS_FROM_WORDS = 10
_PLAIN = re.compile(r"[ !-%'-;=?-~]*")  # ASCII without & < >
_TAG = re.compile(r"<!--[^<>]{0,4000}-->|</?[a-zA-Z][^<>]{0,4000}>")
_URL = re.compile(r"(?:https?://|www\.)[^\s<>]+", re.IGNORECASE)
# control characters but white space; soft hyphen, zero-width space, word joiner, byte order mark, marks of direction,
# halves of surrogates. The joiners U+200C and U+200D stay: letters and emoji are spelled with them.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u200b\u200e\u200f\u202a-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ud800-\udfff]"
)
_SENTENCE_END = re.compile(r"[.!?](?=\s|$)")

Rejection = tuple[Reason, str]


def clean_text(text: str, options: CleanOptions) -> str:
    """The text without what is not part of it; empty where nothing is left."""
    plain = _PLAIN.fullmatch(text) is not None
    if not plain and options.markup:
        for _ in range(MARKUP_PASSES):
            text = _TAG.sub(" ", html.unescape(text))
    if options.urls == "remove" and ("://" in text or "www." in text.lower()):
        text = _URL.sub(" ", text)
    if not plain:
        text = unicodedata.normalize("NFC", _INVISIBLE.sub("", text))
    return " ".join(text.split())


def check_text(raw: str, options: CleanOptions) -> tuple[str, Rejection | None]:
    """Clean a text and hold it to the filters.

    Returns:
        The clean text, and None or why it is not kept: a reason of the bank's ledger and a detail.
    """
    if len(raw) > RAW_TIMES * options.max_chars:
        return raw, ("long", f"{len(raw)} characters before cleaning, at most {RAW_TIMES} times {options.max_chars}")
    text = clean_text(raw, options)
    return text, _rejection(text, options)


def _rejection(text: str, options: CleanOptions) -> Rejection | None:
    if not text:
        return "empty", "nothing is left of the text"
    words = text.count(" ") + 1
    if words < options.min_words:
        return "short", f"{words} words, at least {options.min_words} are asked"
    if words > options.max_words:
        return "long", f"{words} words, at most {options.max_words} are asked"
    if len(text) > options.max_chars:
        return "long", f"{len(text)} characters, at most {options.max_chars} are asked"
    if options.urls == "filter" and (found := _URL.search(text)) is not None:
        return "url", f"holds {found[0][:80]}"
    if options.min_letters > 0:
        share = sum(map(str.isalpha, text)) / (len(text) - words + 1)
        if share < options.min_letters:
            return "letters", f"{share:.3f} of its characters are letters, at least {options.min_letters} are asked"
    if options.max_repeats < 1 and words >= REPEATS_FROM_WORDS:
        word, times = Counter(text.casefold().split()).most_common(1)[0]
        if times > options.max_repeats * words:
            return "repeats", f"{times} of {words} words are {word[:40]!r}, at most {options.max_repeats} are asked"
    if options.languages and (language := _classifier()(text)) not in options.languages:
        return "language", f"taken for {language}, asked are {', '.join(options.languages)}"
    return None


def check_languages(options: CleanOptions) -> None:
    """Find out before any work whether languages can be told.

    Raises:
        UsageError: py3langid is not installed.
    """
    if options.languages and importlib.util.find_spec("py3langid") is None:
        raise UsageError("languages must go with the package py3langid, which is not installed: install it with pip")


@cache
def _classifier() -> Callable[[str], str]:
    classify = importlib.import_module("py3langid").classify  # an optional extra
    return lambda text: str(classify(text)[0])


def count_sentences(text: str) -> int:
    """Runs of a non-empty text that end in a full stop, question or exclamation mark, or with the text."""
    return len(_SENTENCE_END.findall(text)) + (text[-1:] not in ".!?")
