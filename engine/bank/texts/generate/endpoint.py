"""One HTTP exchange with an endpoint that speaks OpenAI's chat completions, bounded in bytes and time.

The answer's structure is asked for by `response_format`: first as a JSON schema, then, where the endpoint refuses
that, as a JSON object, then not at all; the question itself always states the schema.
"""

import json
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from .....shards.errors import UsageError
from ..config import GenerateConfig
from ..origin import Reason
from .request import Request

MAX_ANSWER_BYTES = 4 << 20
FORMS = ("json_schema", "json_object", "text")
_RETRIED = {408: "timeout", 409: "rate_limit", 425: "rate_limit", 429: "rate_limit"}


class Trouble(Exception):
    """An exchange without an answer."""

    def __init__(
        self, reason: Reason, detail: str, *, again: bool, wait_seconds: float = 0.0, wrong_request: bool = False
    ) -> None:
        super().__init__(detail)
        self.reason: Reason = reason
        self.again = again
        """Whether another try may end better."""
        self.wait_seconds = wait_seconds
        """What the endpoint asked to wait."""
        self.wrong_request = wrong_request
        """The endpoint did not understand it, perhaps for the form of the answer that it asks for."""


class Hopeless(Exception):
    """Every request will fail the same way: wrong key, wrong URL, unknown model, no credit."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a model said."""

    text: str
    finish: str
    """Why it ended: stop, length, content_filter …"""
    tokens: int
    """Question and answer; estimated from the characters where the endpoint does not say."""


class Endpoint:
    """A connection for many threads.

    Raises:
        UsageError: `openai` is not installed, or the variable of the key is not set.
    """

    def __init__(self, config: GenerateConfig) -> None:
        try:
            import httpx2
            import openai  # takes a second, and only generation needs it
        except ImportError:
            raise UsageError("--generate needs the package openai: pip install 'reelmill[generate]'") from None
        self._openai, self._stream_type = openai, httpx2.SyncByteStream
        self._key = _key(config.key_env)
        self._where = str(config.endpoint)
        self._timeout_seconds = config.timeout_seconds
        self._form = 0
        self._lock = threading.Lock()
        http = openai.DefaultHttpxClient(event_hooks={"response": [self._bound]})
        self._client = openai.OpenAI(
            api_key=self._key or "none",  # the client wants one; local servers take any
            base_url=self._where,
            timeout=config.timeout_seconds,
            max_retries=0,
            http_client=http,
            default_headers={"Accept-Encoding": "identity"},
        )

    def close(self) -> None:
        """Give the connections back."""
        self._client.close()

    def ask(self, request: Request, messages: Sequence[Mapping[str, str]], spend: Callable[[], None]) -> Reply:
        """One exchange, or up to three until a form of answer is found that the endpoint knows.

        Args:
            request: model, schema and parameters.
            messages: those of the request, or longer ones that ask for a repair.
            spend: called before each HTTP request; stops it by an error of its own.

        Raises:
            Trouble: no answer this time.
            Hopeless: no answer ever.
        """
        form = self._form
        while True:
            spend()
            try:
                reply = self._exchange(request, messages, FORMS[form])
            except Trouble as trouble:
                if not trouble.wrong_request or form + 1 == len(FORMS):
                    raise
                form += 1
                continue
            with self._lock:
                self._form = max(self._form, form)
            return reply

    def _exchange(self, request: Request, messages: Sequence[Mapping[str, str]], form: str) -> Reply:
        openai: Any = self._openai
        extra: dict[str, Any] = {"messages": list(messages), **request.parameters}
        if form == "json_schema":
            schema = {"name": "answer", "schema": request.schema, "strict": True}
            extra["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif form == "json_object":
            extra["response_format"] = {"type": "json_object"}
        try:
            raw = self._client.chat.completions.with_raw_response.create(model=request.model, **extra)
            body = raw.content
        except openai.APIConnectionError as error:
            raise self._broken(error) from None
        except openai.APIStatusError as error:
            raise self._status(error) from None
        except openai.OpenAIError as error:
            raise Trouble("server", self._plain(error), again=True) from None
        return self._reply(body, messages)

    def _broken(self, error: Any) -> Trouble:
        cause = error.__cause__ or error.__context__
        if isinstance(error, self._openai.APITimeoutError):
            return self._late()
        return Trouble("connection", self._plain(cause or error), again=True)

    def _late(self) -> Trouble:
        return Trouble("timeout", f"no whole answer in {self._timeout_seconds:g} s", again=True)

    def _status(self, error: Any) -> Trouble:
        status, detail = error.status_code, self._plain(error)
        if status in (401, 403):
            what = "key" if self._key else "request, which has no key (see --key-env)"
            raise Hopeless(f"{self._where} refuses the {what}: {detail}")
        if status == 404:
            raise Hopeless(f"{self._where} has no such model or address: {detail}")
        if error.code == "insufficient_quota":
            raise Hopeless(f"{self._where} has no credit left: {detail}")
        wait = retry_after(error.response.headers, time.time())
        if status in _RETRIED:
            return Trouble("timeout" if status == 408 else "rate_limit", detail, again=True, wait_seconds=wait)
        if status >= 500:
            return Trouble("server", detail, again=True, wait_seconds=wait)
        return Trouble("refused", detail, again=False, wrong_request=status in (400, 422))

    def _reply(self, body: bytes, messages: Sequence[Mapping[str, str]]) -> Reply:
        try:
            record = json.loads(body)
            choice = record["choices"][0]
            message, finish = choice["message"], str(choice.get("finish_reason"))
            text = message.get("content")
        except (ValueError, RecursionError, KeyError, IndexError, TypeError, AttributeError) as error:
            raise Trouble(
                "server", f"no chat completion: {type(error).__name__} in {body[:100]!r}", again=True
            ) from None
        if finish == "content_filter" or not isinstance(text, str):
            said = message.get("refusal") if isinstance(message, dict) else None
            detail = f"the model would not answer ({finish}): {said}"
            raise Trouble("refused", self._plain(detail), again=False)
        return Reply(text, finish, _tokens(record.get("usage"), text, messages))

    def _plain(self, error: object) -> str:
        """One short line for people, without the key, whatever the endpoint says."""
        text = " ".join((str(error) or type(error).__name__).split())
        if self._key:
            text = text.replace(self._key, "[key]")
        return text[:300]

    def _bound(self, response: Any) -> None:
        """Put a limit of bytes and time on the body of a response, before any of it is read."""
        packed = response.headers.get("content-encoding", "identity")
        if packed != "identity":
            raise Trouble("too_large", f"the answer is packed ({packed[:20]}), which was not asked for", again=False)
        end = time.monotonic() + self._timeout_seconds
        source, late = response.stream, self._late

        class Bounded(self._stream_type):  # type: ignore[misc, name-defined]
            def __iter__(self) -> Iterator[bytes]:
                size = 0
                for piece in source:
                    size += len(piece)
                    if size > MAX_ANSWER_BYTES:
                        raise Trouble(
                            "too_large", f"the answer is larger than {MAX_ANSWER_BYTES >> 20} MiB", again=False
                        )
                    if time.monotonic() > end:
                        raise late()
                    yield piece

            def close(self) -> None:
                source.close()

        response.stream = Bounded()


def retry_after(headers: Mapping[str, str], now: float) -> float:
    """What an endpoint asks to wait, seconds: of `retry-after-ms` or `Retry-After` (seconds or a date); else 0."""
    for name, scale in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        text = headers.get(name, "")
        try:
            seconds = float(text) * scale
        except ValueError:
            try:
                seconds = parsedate_to_datetime(text).timestamp() - now
            except (TypeError, ValueError, OverflowError):
                continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    return 0.0


def _key(name: str | None) -> str | None:
    if name is None:
        return None
    key = os.environ.get(name, "").strip()
    if not key:
        raise UsageError(f"key_env must name an environment variable with the key in it, but {name} is not set")
    return key


def _tokens(usage: object, text: str, messages: Sequence[Mapping[str, str]]) -> int:
    total = usage.get("total_tokens") if isinstance(usage, dict) else None
    if isinstance(total, int) and 0 <= total < 1 << 31:
        return total
    return (len(text) + sum(len(message["content"]) for message in messages)) // 4
