"""One answer, whatever it takes: tries with waits between them, and one repair where the form is wrong."""

import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .....shards.order import uniforms
from ..config import GenerateConfig
from ..origin import Reason
from .cache import Cache
from .endpoint import Endpoint, Reply, Trouble
from .request import Request, WrongAnswer

FIRST_WAIT_SECONDS = 1.0
SHOWN_ANSWER_CHARS = 20_000
REPAIR = """\
That answer cannot be used. {error}
Answer once more, with JSON alone that fits the schema, without any other word."""


@dataclass(frozen=True, slots=True)
class Failure:
    """No answer, and why."""

    reason: Reason
    detail: str


class _Stop(Exception):
    """No further request may be sent; holds the failure of the one that wanted to be."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.detail)
        self.failure = failure


@dataclass(slots=True)
class Tally:
    """What a run did and used, over all threads."""

    cached: int = 0
    answered: int = 0
    repaired: int = 0
    requests: int = 0
    """HTTP requests, tries included."""
    retried: int = 0
    tokens: int = 0
    failures: Counter[str] = field(default_factory=Counter)


class Asker:
    """Shared by the threads of a run: the endpoint, the pace it asks for, the budget, the cache."""

    def __init__(self, endpoint: Endpoint, cache: Cache, config: GenerateConfig) -> None:
        self._endpoint, self._cache, self._config = endpoint, cache, config
        self.tally = Tally()
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._not_before = 0.0

    def stop(self) -> None:
        """End the run: nobody waits for another try any longer, and nothing more is sent."""
        self._stopped.set()

    @property
    def stopped(self) -> bool:
        """Whether the run has ended before all was asked."""
        return self._stopped.is_set()

    def ask(self, request: Request) -> Any | Failure:
        """The answer to a request, from the cache or the endpoint; or why there is none.

        Raises:
            Hopeless: no request will ever be answered.
        """
        known = self._cache.get(request)
        if known is not None:
            with self._lock:
                self.tally.cached += 1
            return known
        try:
            answer = self._answer(request)
        except _Stop as stop:
            answer = stop.failure
        with self._lock:
            if isinstance(answer, Failure):
                self.tally.failures[answer.reason] += 1
            else:
                self.tally.answered += 1
        return answer

    def _answer(self, request: Request) -> Any | Failure:
        messages = [dict(message) for message in request.messages]
        for repaired in (False, True):
            reply = self._reply(request, messages)
            if isinstance(reply, Failure):
                return reply
            try:
                answer = request.parse(reply.text)
            except WrongAnswer as wrong:
                if reply.finish == "length":
                    limit = self._config.answer_tokens
                    return Failure("length", f"the answer was cut off at {limit} tokens (see --answer-tokens)")
                failure = Failure("schema" if wrong.reason == "schema" else "malformed", str(wrong))
                messages.append({"role": "assistant", "content": reply.text[:SHOWN_ANSWER_CHARS]})
                messages.append({"role": "user", "content": REPAIR.replace("{error}", str(wrong))})
                continue
            self._cache.put(request, answer, repaired=repaired)
            with self._lock:
                self.tally.repaired += repaired
            return answer
        return failure

    def _reply(self, request: Request, messages: list[dict[str, str]]) -> Reply | Failure:
        for attempt in range(self._config.tries):
            self._wait()
            try:
                reply = self._endpoint.ask(request, messages, self._spend)
            except Trouble as trouble:
                failure = Failure(trouble.reason, str(trouble))
                if not trouble.again or attempt + 1 == self._config.tries:
                    return failure
                if trouble.wait_seconds > self._config.max_wait_seconds:
                    return Failure(trouble.reason, f"asked to wait {trouble.wait_seconds:.0f} s: {trouble}")
                self._back_off(request, attempt, trouble.wait_seconds)
                continue
            with self._lock:
                self.tally.tokens += reply.tokens
            return reply
        raise AssertionError("tries is > 0")

    def _spend(self) -> None:
        with self._lock:
            if self._stopped.is_set():
                raise _Stop(Failure("budget", "the run was stopped"))
            requests, tokens = self._config.max_requests, self._config.max_tokens
            if requests is not None and self.tally.requests >= requests:
                raise _Stop(Failure("budget", f"max_requests {requests} are used up"))
            if tokens is not None and self.tally.tokens >= tokens:
                raise _Stop(Failure("budget", f"max_tokens {tokens} are used up"))
            self.tally.requests += 1

    def _back_off(self, request: Request, attempt: int, asked_seconds: float) -> None:
        """Wait before the next try; when the endpoint asked for a pause, everybody keeps it."""
        seconds = wait_seconds(attempt, asked_seconds, self._config.max_wait_seconds, request.hash)
        with self._lock:
            self.tally.retried += 1
            if asked_seconds:
                self._not_before = max(self._not_before, time.monotonic() + asked_seconds)
        self._stopped.wait(seconds)

    def _wait(self) -> None:
        while (left := self._not_before - time.monotonic()) > 0 and not self._stopped.wait(left):
            pass


def wait_seconds(attempt: int, asked_seconds: float, longest_seconds: float, name: str) -> float:
    """How long to wait before the next try: the first wait doubled each time, of which a share in [1/2, 1) is drawn so
    that the threads do not come back together; never less than the endpoint asked for, nor more than the longest wait.

    Args:
        attempt: tries that failed before this one, from 0.
        asked_seconds: what the endpoint asked for; 0 for nothing.
        longest_seconds: upper limit, at least what was asked for.
        name: of the request: the share is drawn from it.
    """
    doubled = FIRST_WAIT_SECONDS * 2.0 ** min(attempt, 30)
    share = 0.5 + 0.5 * float(uniforms(1, "wait", name, attempt)[0])
    return min(longest_seconds, max(asked_seconds, doubled * share))
