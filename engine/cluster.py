"""The edge to Ray: a session for one job, and pure functions run as tasks with a bounded number in flight."""

import math
import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ..console import Progress
from ..shards.errors import ReelmillError, UsageError

START_TRIES = 3
KNOCK_SECONDS = 10.0
NODES_HOLD_SECONDS = 1.0
TRIES = 8


@dataclass(slots=True)
class Session:
    """A connection to Ray."""

    workers: int
    """Tasks at a time; 0 for one per CPU of the cluster, as it grows and shrinks."""
    _nodes: list[dict[str, float]] = field(default_factory=list)
    _asked: float = -math.inf

    def at_a_time(self) -> int:
        """How many tasks run at a time now."""
        return self.workers or max(1, int(sum(node.get("CPU", 0) for node in self._resources())))

    def node_memory_bytes(self) -> int:
        """What the largest node gives to tasks."""
        return int(max((node.get("memory", 0) for node in self._resources()), default=0))

    def _resources(self) -> list[dict[str, float]]:
        """Of every node that is alive; asked for now and then, as it costs more than sending a task."""
        import ray

        if time.monotonic() > self._asked + NODES_HOLD_SECONDS:
            self._nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
            self._asked = time.monotonic()
        return self._nodes


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
class Effort:
    """What a task did, or all tasks of a stage."""

    items: int = 0
    """Things that are done with."""
    worked: int = 0
    """Of these, those that took work: the others were known."""
    bytes: int = 0
    """Read of the inputs, or written."""
    core_seconds: float = 0.0
    """Time in tasks, each on its core."""

    def __add__(self, other: "Effort") -> "Effort":
        return Effort(
            self.items + other.items,
            self.worked + other.worked,
            self.bytes + other.bytes,
            self.core_seconds + other.core_seconds,
        )


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


def _timed(function: Callable[..., Effort | Task], *arguments: Any) -> tuple[Effort | Task, float]:
    start = time.monotonic()
    return function(*arguments), time.monotonic() - start


def run_tasks(
    function: Callable[..., Effort | Task],
    tasks: Iterable[Task],
    session: Session,
    shown: Progress,
    *,
    deadline_seconds: float,
) -> Effort:
    """Run `function(*task.arguments)` for every task on the cluster.

    The function's effect must be the same when it runs twice: a task whose process or node dies is sent again, and so
    is one that has said nothing by its deadline (its node's link may be cut: Ray would wait for ever).

    Args:
        function: a module's function; returns what it did, or a task that goes on from there with more memory.
        tasks: made as they are needed; only a few wait on the cluster at a time.
        session: the connection.
        shown: counts what is done.
        deadline_seconds: after this long a task is sent again, with twice the time.

    Returns:
        What all tasks did together.

    Raises:
        ReelmillError: what the function raised, or a task that failed `TRIES` times.
    """
    import ray

    remote = ray.remote(num_cpus=1, max_retries=0)(_timed)
    running: dict[Any, _Running] = {}
    total = Effort()
    waiting = iter(tasks)

    def send(task: Task, tries: int, seconds: float) -> None:
        memory = min(task.memory_bytes, session.node_memory_bytes())  # more than any node has would wait for ever
        reference = remote.options(memory=memory, name=function.__name__).remote(function, *task.arguments)
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
            return total
        for reference in ray.wait(list(running), num_returns=1, timeout=1.0)[0]:
            job = running.pop(reference)
            try:
                done, seconds = ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                if isinstance(error.cause, ReelmillError):
                    raise error.cause from None
                raise
            except ray.exceptions.RayError as error:
                send_again(job, job.seconds, f"its worker died ({type(error).__name__})")
            else:
                total += Effort(core_seconds=seconds)
                if isinstance(done, Task):
                    send(done, 1, job.seconds)
                else:
                    total += done
                    shown.add_bytes(done.bytes)
                    shown.update(done.items, tasks=len(running))
        for reference in [reference for reference, job in running.items() if time.monotonic() > job.deadline]:
            job = running.pop(reference)
            ray.cancel(reference, force=True)
            send_again(job, 2 * job.seconds, f"it missed its deadline ({job.seconds:.0f} s)")
