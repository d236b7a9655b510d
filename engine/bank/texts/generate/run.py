"""A run of questions: many at a time, every answer kept as it comes."""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from ..... import console
from .....shards.errors import ReelmillError
from ....work import Work
from ..config import GenerateConfig
from ..origin import Left
from .ask import Asker, Failure, Tally
from .cache import Cache
from .endpoint import Endpoint, Hopeless
from .request import Request

CACHE = ".answers"


class Generator:
    """Asks one endpoint; made by `generator`."""

    def __init__(self, config: GenerateConfig, asker: Asker) -> None:
        self.config = config
        self.left: list[Left] = []
        """Every question without an answer."""
        self._asker = asker

    @property
    def tally(self) -> Tally:
        """What was done and used until now."""
        return self._asker.tally

    @property
    def parameters(self) -> dict[str, Any]:
        """What decides an answer beside the question."""
        limit: dict[str, Any] = {self.config.token_parameter: self.config.answer_tokens}
        heat = self.config.temperature
        return limit if heat is None else limit | {"temperature": heat}

    def answers(self, requests: Sequence[Request], what: str) -> dict[str, Any]:
        """Request hash → answer, of those that were answered; the others go to `left`. The same question is asked once.

        Args:
            requests: in any order.
            what: they are about, for the progress bar.

        Raises:
            ReelmillError: the endpoint will answer no request at all.
            StorageError: an answer could not be kept.
        """
        asked = {request.hash: request for request in requests}
        found: dict[str, Any] = {}
        tasks: SimpleQueue[Request | None] = SimpleQueue()
        results: SimpleQueue[tuple[Request, Any]] = SimpleQueue()
        threads = [
            threading.Thread(target=_work, args=(self._asker, tasks, results), daemon=True)
            for _ in range(min(self.config.concurrency, len(asked)))
        ]
        for task in (*asked.values(), *(None for _ in threads)):
            tasks.put(task)
        try:
            with console.progress(len(asked), what, "answers") as shown:
                for thread in threads:
                    thread.start()
                for _ in asked:
                    self._take(*results.get(), found)
                    shown.update(tokens=self.tally.tokens, failed=sum(self.tally.failures.values()))
        except BaseException:
            self._asker.stop()  # the threads are not waited for: one may sit in a request for as long as it may take
            raise
        for thread in threads:
            thread.join()
        return found

    def _take(self, request: Request, answer: Any, found: dict[str, Any]) -> None:
        if isinstance(answer, Hopeless):
            raise ReelmillError(f"generation stopped: {answer}; answers until then are kept")
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, Failure):
            self.left.append(Left(request.about, answer.reason, answer.detail))
        else:
            found[request.hash] = answer

    def summary(self) -> list[tuple[str, str]]:
        """Rows for the table at the end."""
        tally = self.tally
        asked = f"{tally.answered} ({tally.repaired} after a repair), {tally.cached} from earlier runs"
        rows = [
            ("answers", asked),
            ("requests", f"{tally.requests}, {tally.retried} of them again after a failure"),
            ("tokens", str(tally.tokens)),
        ]
        if tally.failures:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(tally.failures.items()))
            rows.append(("failed", f"{sum(tally.failures.values())}: {reasons}"))
        return rows


def _work(asker: Asker, tasks: SimpleQueue[Request | None], results: SimpleQueue[tuple[Request, Any]]) -> None:
    while (request := tasks.get()) is not None and not asker.stopped:
        try:
            results.put((request, asker.ask(request)))
        except BaseException as error:  # told by the thread that waits
            results.put((request, error))


@contextmanager
def generator(config: GenerateConfig, bank: Path) -> Iterator[Generator]:
    """A generator for the block, alone at its folder of answers.

    Raises:
        UsageError: the key is not set, or another job uses the folder of answers.
    """
    endpoint = Endpoint(config)
    folder = config.cache or bank / CACHE
    try:
        with Work(folder).lock():
            cache = Cache(folder)
            cache.open()
            yield Generator(config, Asker(endpoint, cache, config))
    finally:
        endpoint.close()
