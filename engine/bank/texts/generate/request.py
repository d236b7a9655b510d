"""One question to a language model, and what its answer must be."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jsonschema

from .....shards.errors import ReelmillError

HASH_VERSION = 1
_FENCE = re.compile(r"^```[a-zA-Z]*\s*\n(.*?)\n?```\s*$", re.DOTALL)
_THOUGHT = re.compile(r"^\s*<think>.*?</think>", re.DOTALL)
Schema = Mapping[str, Any]


class WrongAnswer(ReelmillError):
    """An answer that is no JSON, or JSON of another form; the message is shown to the model once."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason
        """`malformed` or `schema`."""


@dataclass(frozen=True)
class Request:
    """A question."""

    about: str
    """The action, verb or entity, for people; no part of the hash."""
    model: str
    messages: Sequence[Mapping[str, str]]
    """Role and content of each."""
    schema: Schema
    """JSON schema of the answer."""
    parameters: Mapping[str, Any]
    """Of sampling, as they are sent."""

    @cached_property
    def hash(self) -> str:
        """32 hex digits over all that decides the answer, and nothing of the endpoint."""
        record = {
            "version": HASH_VERSION,
            "model": self.model,
            "messages": [dict(message) for message in self.messages],
            "schema": self.schema,
            "parameters": dict(self.parameters),
        }
        text = json.dumps(record, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]

    def parse(self, text: str) -> Any:
        """The JSON of an answer, out of a code fence or after a thought where there is one, held to the schema.

        Raises:
            WrongAnswer: it is no JSON, or of another form.
        """
        body = _THOUGHT.sub("", text).strip()
        fenced = _FENCE.match(body)
        try:
            value = json.loads(fenced[1] if fenced else body, parse_constant=_no_constant)
            json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
        except (ValueError, RecursionError) as error:
            raise WrongAnswer("malformed", f"the answer must be JSON alone: {str(error)[:200]}") from None
        self.check(value)
        return value

    def check(self, value: Any) -> None:
        """Hold a value to the schema.

        Raises:
            WrongAnswer: it does not fit; says where.
        """
        try:
            fault = jsonschema.exceptions.best_match(jsonschema.Draft202012Validator(self.schema).iter_errors(value))
        except RecursionError:
            raise WrongAnswer("schema", "the answer must not be nested so deeply") from None
        if fault is not None:
            raise WrongAnswer("schema", f"{fault.json_path}: {fault.message[:300]}")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
