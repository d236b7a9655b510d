"""Texts that a person wrote, as TOML or JSON: trees of verbs, texts of actions, entities. Bounded and checked."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ....shards.bank.texts import MAX_CHARS
from ....shards.errors import UsageError
from ..names.text_file import read_json, read_text
from .prompts import ATTRIBUTES

SUBTEXTS = "subtexts"


@dataclass(frozen=True, slots=True)
class ActionTexts:
    """What a file says of one action."""

    prompts: Mapping[str, tuple[str, ...]]
    """Attribute → its texts, one per LLM-prompt."""
    subtexts: tuple[str, ...]
    """Candidates, in the order in which they happen."""


def read_action_texts(path: Path) -> dict[str, ActionTexts]:
    """{action: {attribute: text or [text, …], subtexts: [text, …]}}; every attribute and the sub-texts may be missing.

    Raises:
        UsageError: the file does not read, or something in it is of another form; says where. (All readers here do.)
    """
    found = {}
    for action, fields in _tables(path, "texts of actions").items():
        strange = sorted(set(fields) - {*ATTRIBUTES, SUBTEXTS})
        if strange:
            allowed = ", ".join([*ATTRIBUTES, SUBTEXTS])
            raise UsageError(f"{path}: {action!r} must have fields out of {allowed}; got {strange[0]!r}")
        texts = {name: _texts(path, f"{action}.{name}", value) for name, value in fields.items()}
        subtexts = texts.pop(SUBTEXTS, ())
        found[action] = ActionTexts(texts, subtexts)
    return found


def read_trees(path: Path) -> dict[str, dict[str, tuple[str, ...]]]:
    """{verb: {synonym: [its synonyms]}}, in the file's order."""
    return {
        verb: {word: _texts(path, f"{verb}.{word}", value, empty=True) for word, value in children.items()}
        for verb, children in _tables(path, "trees").items()
    }


def read_entity_texts(path: Path) -> dict[str, tuple[str, tuple[str, ...]]]:
    """{kind: {name: description or [description per sense]}} → name → its kind and descriptions."""
    found: dict[str, tuple[str, tuple[str, ...]]] = {}
    for kind, names in _tables(path, "entities").items():
        for name, value in names.items():
            key = " ".join(name.lower().split())
            if key in found:
                raise UsageError(f"{path}: an entity must stand once, got {name!r} twice")
            found[key] = (kind, _texts(path, f"{kind}.{name}", value))
    return found


def _tables(path: Path, what: str) -> dict[str, dict[str, Any]]:
    if path.suffix.lower() == ".json":
        content = read_json(path, what)
    elif path.suffix.lower() == ".toml":
        try:
            content = tomllib.loads(read_text(path, what).replace("\r\n", "\n"))
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise UsageError(f"{what} {path} does not read as TOML: {error}") from error
    else:
        raise UsageError(f"{what} must be a .toml or .json file, got {path}")
    try:
        json.dumps(content, ensure_ascii=False, default=str).encode()
    except (UnicodeEncodeError, RecursionError) as error:
        raise UsageError(f"{what} {path} must hold plain text: {error}") from error
    if not isinstance(content, dict) or not content:
        raise UsageError(f"{what} {path} must be an object with at least one entry, got {_short(content)}")
    for name, value in content.items():
        if not name.strip() or not isinstance(value, dict):
            raise UsageError(f"{path}: {name!r} must be a name with an object, got {_short(value)}")
    return content


def _texts(path: Path, where: str, value: object, *, empty: bool = False) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or (not texts and not empty):
        raise UsageError(f"{path}: {where} must be a text or a list of texts, got {_short(value)}")
    for text in texts:
        if not isinstance(text, str) or not text.strip() or len(text) > MAX_CHARS:
            raise UsageError(f"{path}: {where} must hold texts of 1 to {MAX_CHARS} characters, got {_short(text)}")
    return tuple(texts)


def _short(value: object) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)[:100]
