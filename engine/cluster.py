"""The edge to Ray: a session for one job, and pure functions run as tasks with a bounded number in flight."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from ..shards.errors import ReelmillError, UsageError

START_TRIES = 3


@contextmanager
def ray_session(address: str | None, workers: int) -> Iterator[int]:
    """A Ray connection for the block; yields how many tasks run at a time.

    Args:
        address: an existing cluster, or None for a local Ray that ends with the block.
        workers: tasks at a time; 0 for one per CPU.

    Raises:
        UsageError: no cluster answers at `address`.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # Ray's token set-up asks the network
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a notice on every start
    import ray  # takes a second, and only jobs need it

    joined = ray.is_initialized()
    if not joined:
        _start(ray, address, workers)
    try:
        yield workers or max(1, int(ray.cluster_resources().get("CPU", 1)))  # type: ignore[no-untyped-call]
    finally:
        if not joined:
            ray.shutdown()


def _start(ray: Any, address: str | None, workers: int) -> None:
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is not None:
        try:
            ray.init(address=address, **options)
        except ConnectionError as error:
            raise UsageError(
                f"address must be a running Ray cluster, but {address!r} does not answer: {error}"
            ) from None
        return
    # "local" by name: without it Ray would join whatever RAY_ADDRESS points to
    options |= {"address": "local", "num_cpus": workers or None, "include_dashboard": False}
    for attempt in range(START_TRIES):
        try:
            ray.init(_node_ip_address="127.0.0.1", **options)
            return
        except Exception as error:  # Ray raises a bare Exception where its processes took over 30 s to come up
            ray.shutdown()
            if attempt == START_TRIES - 1:
                raise ReelmillError(
                    f"a local Ray must start within 30 s, but it did not in {START_TRIES} tries: {error}"
                ) from error


def run_tasks(
    task: Callable[..., Any], arguments: Sequence[tuple[Any, ...]], at_a_time: int, on_done: Callable[[Any], None]
) -> list[Any]:
    """Run `task(*arguments[i])` for every i on the cluster; returns the results in order of i.

    A task whose worker process dies is run again (three times at most); an error that the task raises ends the job.
    """
    import ray
    from ray.exceptions import RayTaskError

    remote = ray.remote(num_cpus=1, max_retries=3)(task)
    results: list[Any] = [None] * len(arguments)
    running: dict[Any, int] = {}
    waiting = iter(enumerate(arguments))
    while True:
        while len(running) < 2 * at_a_time and (item := next(waiting, None)) is not None:
            running[remote.remote(*item[1])] = item[0]
        if not running:
            return results
        done, _ = ray.wait(list(running), num_returns=1)
        index = running.pop(done[0])
        try:
            results[index] = ray.get(done[0])
        except RayTaskError as error:
            if isinstance(error.cause, ReelmillError):
                raise error.cause from None
            raise
        on_done(results[index])
