"""Action-conditioned prompts (AP-CLIP): three groups of four attributes, sentences of at most thirty tokens.

The paper names the groups and a few attributes; the other names are ours. A prompt is stored without the phrase that
names the action: training puts `a video of {action}. ` before it.
"""

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from ....shards.errors import UsageError
from ...sources.records import read_lines
from .clip_text import count_tokens
from .origin import Left, Origin

GROUPS: Mapping[str, tuple[str, ...]] = {
    "scene": ("environment", "lighting", "props", "background"),
    "actor": ("people", "clothing", "role", "expression"),
    "body": ("posture", "movement", "speed", "interaction"),
}
GROUP_OF: Mapping[str, str] = {attribute: group for group, names in GROUPS.items() for attribute in names}
ATTRIBUTES = tuple(GROUP_OF)
MAX_TOKENS = 30
PREFIX = "a video of {action}. "
MAX_CHARS = 2000
"""Of one text before it is cut; what is longer is no prompt, and would take long to count."""

_QUOTES = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "...", "\u00a0": " "})
_BULLET = re.compile(r"^\s*(?:[-*•]\s+|\(?\d{1,3}[.)]\s+)+")
_BEFORE = re.compile(r"\s+([,.;:!?)\]])")
_REPEATED = re.compile(r"([,.;:!?])(?:\s*\1)+")
_SENTENCE = re.compile(r"[^.!?]+(?:[.!?](?!\s|$)[^.!?]*)*[.!?]*")


def plain(text: str) -> str:
    """Unicode NFC with straight quotes, in one line: control and invisible characters become spaces."""
    text = unicodedata.normalize("NFC", text).translate(_QUOTES)
    return "".join(" " if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp") else c for c in text)


def normalise(text: str) -> str:
    """One line of plain text: unicode NFC, straight quotes, single spaces, none before punctuation, nothing repeated.

    A leading bullet or number and quotes around the whole go; the first letter is a capital, and the text ends with a
    full stop, question or exclamation mark. "" where no letter or digit is left.
    """
    text = " ".join(_BULLET.sub("", plain(text)).split())
    if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`":
        text = text[1:-1].strip()
    text = _REPEATED.sub(r"\1", _BEFORE.sub(r"\1", text)).lstrip(",.;:!?) ").rstrip(",;:-( ")
    if not any(c.isalnum() for c in text):
        return ""
    text = text if text[-1] in ".!?" else text + "."
    return text[0].upper() + text[1:]


def cut_at_sentence(text: str, limit: int, count: Callable[[str], int]) -> str:
    """The longest run of whole sentences from the start with at most `limit` tokens; "" where the first has more."""
    kept = ""
    for sentence in _SENTENCE.findall(text):
        longer = f"{kept} {sentence.strip()}".strip()
        if count(longer) > limit:
            break
        kept = longer
    return kept


def with_prefix(text: str, action: str, prefix: str = PREFIX) -> str:
    """The prompt as the text encoder reads it: `a video of {action}. ` and the text."""
    return prefix.replace("{action}", action) + text


def read_rejects(path: Path) -> frozenset[str]:
    """Texts that a person rejected, one per line, in any spacing and punctuation that `normalise` evens out.

    Raises:
        UsageError: it is not UTF-8 text, or a line holds no word.
    """
    found = set()
    for number, line in read_lines(path):
        text = normalise(line)
        if not text:
            raise UsageError(f"{path}:{number}: must be the text of a prompt, got {line!r:.100}")
        found.add(text)
    return frozenset(found)


def clean_prompts(
    action: str,
    texts: Sequence[tuple[str, int, str]],
    *,
    rejected: Set[str] = frozenset(),
    limit: int = MAX_TOKENS,
    count: Callable[[str], int] = count_tokens,
) -> tuple[list[tuple[str, int, str]], list[Left]]:
    """The prompts of one action: normalised, cut, each text once, without those that a person rejected.

    Args:
        action: its name.
        texts: (attribute, which LLM-prompt, text); attributes out of `ATTRIBUTES`.
        rejected: normalised texts; a text is compared before and after it is cut.
        limit: tokens of a prompt, the prefix not counted.
        count: tokens of a text.

    Returns:
        What stays, and what does not with its reason.
    """
    kept: list[tuple[str, int, str]] = []
    left: list[Left] = []
    seen: set[str] = set()
    for attribute, llm_prompt, text in texts:
        whole = normalise(text[:MAX_CHARS])
        short = cut_at_sentence(whole, limit, count)
        if not whole:
            left.append(Left(action, "empty", f"{attribute}: {text}"))
        elif {whole, short} & rejected:
            left.append(Left(action, "manual", f"{attribute}: {whole}"))
        elif not short or len(text) > MAX_CHARS:
            left.append(Left(action, "too_long", f"{attribute}: {whole}"))
        elif short in seen:
            left.append(Left(action, "duplicate", f"{attribute}: {whole}"))
        else:
            seen.add(short)
            kept.append((attribute, llm_prompt, short))
    return kept, left


def prompt_rows(action_id: int, texts: Sequence[tuple[str, int, str]], origin: Origin) -> list[dict[str, Any]]:
    """Prompts as rows of prompts.parquet."""
    return [
        {"action_id": action_id, "group": GROUP_OF[name], "attribute": name, "llm_prompt": which, "text": text}
        | origin.columns()
        for name, which, text in texts
    ]
