"""The edge to Ray: a session for one job, and pure functions run as tasks with a bounded number in flight."""

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ..shards.errors import ReelmillError, UsageError

START_TRIES = 3
KNOCK_SECONDS = 10.0
TRIES = 8


@dataclass(frozen=True, slots=True)
class Session:
    """A connection to Ray."""

    workers: int
    """Tasks at a time; 0 for one per CPU of the cluster, as it grows and shrinks."""

    def at_a_time(self) -> int:
        """How many tasks run at a time now."""
        import ray

        return self.workers or max(1, int(ray.cluster_resources().get("CPU", 1)))  # type: ignore[no-untyped-call]

    def node_memory_bytes(self) -> int:
        """What the largest node gives to tasks."""
        import ray

        nodes = [node["Resources"].get("memory", 0) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        return int(max(nodes, default=0))


@contextmanager
def ray_session(address: str | None, workers: int, memory_mb: int = 0) -> Iterator[Session]:
    """A Ray connection for the block.

    Args:
        address: an existing cluster, or None for a local Ray that ends with the block.
        workers: tasks at a time; 0 for one per CPU.
        memory_mb: what the tasks of a local Ray may take together, MB; 0 leaves it to Ray (most of the machine).

    Raises:
        UsageError: no cluster answers at `address`.
    """
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # Ray's token set-up asks the network
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a notice on every start
    import ray  # takes a second, and only jobs need it

    joined = ray.is_initialized()
    if not joined:
        _start(ray, address, workers, memory_mb)
    try:
        yield Session(workers)
    finally:
        if not joined:
            ray.shutdown()


def _knock(address: str) -> None:
    """Ray tries for minutes where nobody listens; a plain connection tells at once."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "://" not in address:
        socket.create_connection((host, int(port)), timeout=KNOCK_SECONDS).close()


def _start(ray: Any, address: str | None, workers: int, memory_mb: int) -> None:
    options: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False}
    if address is not None:
        try:
            _knock(address)
            ray.init(address=address, **options)
        except OSError as error:  # ConnectionError among them
            raise UsageError(
                f"address must be a running Ray cluster, but {address!r} does not answer: {error}"
            ) from None
        return
    # "local" by name: without it Ray would join whatever RAY_ADDRESS points to
    options |= {"address": "local", "num_cpus": workers or None, "include_dashboard": False}
    options |= {"_memory": memory_mb * 1_000_000} if memory_mb else {}
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


@dataclass(frozen=True, slots=True)
class Task:
    """One call that is to be made on the cluster."""

    name: str
    """What it works on, for the person who reads that it failed."""
    arguments: tuple[Any, ...]
    memory_bytes: int
    """What it takes at most; Ray starts as many on a node as fit."""


@dataclass(slots=True)
class _Running:
    task: Task
    tries: int
    deadline: float
    seconds: float


def run_tasks(
    function: Callable[..., Any],
    tasks: Iterable[Task],
    session: Session,
    on_done: Callable[[Any], None],
    *,
    deadline_seconds: float,
) -> None:
    """Run `function(*task.arguments)` for every task on the cluster.

    The function's effect must be the same when it runs twice: a task whose process or node dies is sent again, and so
    is one that has said nothing by its deadline (its node's link may be cut: Ray would wait for ever).

    Args:
        function: a module's function.
        tasks: made as they are needed; only a few wait on the cluster at a time.
        session: the connection.
        on_done: called with the result of each task, in the order in which they end.
        deadline_seconds: after this long a task is sent again, with twice the time.

    Raises:
        ReelmillError: what the function raised, or a task that failed `TRIES` times.
    """
    import ray

    remote = ray.remote(num_cpus=1, max_retries=0)(function)
    running: dict[Any, _Running] = {}
    waiting = iter(tasks)

    def send(task: Task, tries: int, seconds: float) -> None:
        memory = min(task.memory_bytes, session.node_memory_bytes())  # more than any node has would wait for ever
        reference = remote.options(memory=memory).remote(*task.arguments)
        running[reference] = _Running(task, tries, time.monotonic() + seconds, seconds)

    def send_again(job: _Running, seconds: float, why: str) -> None:
        if job.tries == TRIES:
            raise ReelmillError(f"{job.task.name} must end, but {why} {TRIES} times")
        send(job.task, job.tries + 1, seconds)

    while True:
        # as many again wait on the cluster: no worker waits for the driver, and a cluster that can grow has reason to
        while len(running) < 2 * session.at_a_time() and (task := next(waiting, None)) is not None:
            send(task, 1, deadline_seconds)
        if not running:
            return
        for reference in ray.wait(list(running), num_returns=1, timeout=1.0)[0]:
            job = running.pop(reference)
            try:
                on_done(ray.get(reference))
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, ReelmillError):
                    raise error.cause from None
                raise
            except ray.exceptions.RayError as error:
                send_again(job, job.seconds, f"its worker died ({type(error).__name__})")
        for reference in [reference for reference, job in running.items() if time.monotonic() > job.deadline]:
            job = running.pop(reference)
            ray.cancel(reference, force=True)
            send_again(job, 2 * job.seconds, f"it missed its deadline ({job.seconds:.0f} s)")
