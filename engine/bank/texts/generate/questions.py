"""Instructions, filled in: what a language model is asked for each table, and the schema of its answer.

The wordings are data files of this package. A change of one changes the hashes of its questions, so that they are
asked anew.
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ..prompts import ATTRIBUTES
from .request import Request, Schema

MAX_WORD_CHARS = 60
MAX_TEXT_CHARS = 400
SHOWN_ACTIONS = 8
_FOLDER = Path(__file__).with_name("instructions")


@dataclass(frozen=True, slots=True)
class Asking:
    """What all questions of a run share."""

    model: str
    parameters: Mapping[str, Any]

    def synonyms(self, verb: str, count: int, root: str | None = None) -> Request:
        """Synonyms of a verb; with a root, of one of its children. Answer: {"synonyms": [verb, …]}."""
        texts = _instructions("synonyms")
        user = _fill(texts["root" if root is None else "child"], verb=verb, root=root or verb, count=str(count))
        about = verb if root is None else f"{root} > {verb}"
        return self._request(about, texts["system"], user, _object({"synonyms": _list(count, MAX_WORD_CHARS)}))

    def prompts(self, action: str, which: int) -> Request:
        """The twelve prompts of an action by wording `which`. Answer: {attribute: text}."""
        texts = _instructions("prompts")
        wanted = "\n".join(f'- "{name}": {texts["attributes"][name]}' for name in ATTRIBUTES)
        user = f"{_fill(texts['users'][which], action=action).strip()}\n{wanted}\n{texts['rules']}"
        return self._request(action, texts["system"], user, _object({name: _text() for name in ATTRIBUTES}))

    def subtexts(self, action: str, count: int) -> Request:
        """Steps of an action. Answer: {"subtexts": [text, …]}."""
        texts = _instructions("subtexts")
        user = _fill(texts["user"], action=action, count=str(count))
        return self._request(action, texts["system"], user, _object({"subtexts": _list(count, MAX_TEXT_CHARS)}))

    def entity(self, name: str, actions: Sequence[str]) -> Request:
        """What a thing is in some actions. Answer: {"description": text}."""
        texts = _instructions("entities")
        user = _fill(texts["user"], name=name, actions=", ".join(actions[:SHOWN_ACTIONS]))
        return self._request(name, texts["system"], user, _object({"description": _text()}))

    def _request(self, about: str, system: str, user: str, schema: Schema) -> Request:
        form = f"Answer with JSON of this schema, and nothing else:\n{json.dumps(schema)}"
        messages = [
            {"role": "system", "content": system.strip()},
            {"role": "user", "content": f"{user.strip()}\n\n{form}"},
        ]
        return Request(about, self.model, messages, schema, self.parameters)


@cache
def _instructions(name: str) -> dict[str, Any]:
    return tomllib.loads((_FOLDER / f"{name}.toml").read_text("utf-8"))


def _fill(text: str, **values: str) -> str:
    """In one pass: what is filled in may hold braces itself."""
    parts = text.split("{")
    filled = [parts[0]]
    for part in parts[1:]:
        name, brace, rest = part.partition("}")
        filled.append(values[name] + rest if brace and name in values else "{" + part)
    return "".join(filled)


def _object(properties: Mapping[str, Schema]) -> Schema:
    names = list(properties)
    return {"type": "object", "properties": dict(properties), "required": names, "additionalProperties": False}


def _text() -> Schema:
    return {"type": "string", "minLength": 1, "maxLength": MAX_TEXT_CHARS}


def _list(count: int, chars: int) -> Schema:
    """Of more than are wanted, too: some models are generous, and the rest is cut."""
    item = {"type": "string", "minLength": 1, "maxLength": chars}
    return {"type": "array", "items": item, "minItems": 1, "maxItems": 2 * count + 8}
