"""Kill whatever can be killed while an ingest runs, again and again: nothing may be lost, doubled or different."""

import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .. import console
from ..engine.cluster import ray_session
from ..engine.config import IngestConfig
from ..engine.ingest import ingest
from ..shards.errors import ReelmillError, UsageError
from ..shards.files import sha256_of
from ..shards.verify import verify
from .environment import RESULTS, append, capture
from .processes import children, command_line
from .toyverbs.corpus import write_corpus

KILLED = ("worker", "worker", "driver", "node")  # drawn from: workers die most often
PAUSE_SECONDS = (0.2, 6.0)
RUN_SECONDS = 600.0
HEAD_ADDRESS, FIRST_NODE = "127.0.0.2", 3


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchChaosConfig:
    """SIGKILL workers, drivers and nodes of a Ray cluster while it ingests; compare every byte."""

    kills: int = 200
    """How many SIGKILLs, spread over as many runs as it takes, > 0."""
    videos: int = 300
    """Videos to render, >= 8."""
    nodes: int = 3
    """Of the cluster, each with one CPU and an address of its own, >= 1; the first is never killed."""
    seed: int = 0
    """Of the kills."""
    results: Path = RESULTS / "chaos.jsonl"
    """File to which one line is appended."""

    def __post_init__(self) -> None:
        for name, least in (("kills", 1), ("videos", 8), ("nodes", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"{name} must be >= {least}, got {getattr(self, name)}")


@dataclass(slots=True)
class _Found:
    kills: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    resumes: int = 0
    different: int = 0
    faults: int = 0


def bench_chaos(config: BenchChaosConfig) -> int:
    """`reelmill bench chaos`."""
    with tempfile.TemporaryDirectory(prefix="reelmill-chaos-") as scratch:
        folder = Path(scratch)
        source = write_corpus(folder / "corpus", videos=config.videos).manifest
        with ray_session(None, 2):
            ingest(IngestConfig(input=source, out=folder / "undisturbed", preset="train-cpu", shard_mb=1))
        want = hashes(folder / "undisturbed")
        found, draw = _Found(), random.Random(config.seed)
        with _Cluster(config.nodes) as cluster, console.progress(config.kills, "chaos", "kills") as shown:
            while found.kills.total() < config.kills:
                out = folder / f"run-{found.runs}"
                _run(source, out, cluster, draw, config.kills, found, shown)
                found.runs += 1
                found.different += hashes(out) != want
                found.faults += len(verify(out))
    rows = [("runs", f"{found.runs}, resumed {found.resumes} times")]
    rows += [(f"{what} killed", str(count)) for what, count in sorted(found.kills.items())]
    rows += [("datasets that differ", str(found.different)), ("faults", str(found.faults))]
    record = {
        "bench": "chaos",
        "videos": config.videos,
        "nodes": config.nodes,
        "kills": dict(found.kills),
        "runs": found.runs,
    }
    record |= {"resumes": found.resumes, "different": found.different, "faults": found.faults}
    append(config.results, record | capture())
    console.table("chaos", [*rows, ("appended to", str(config.results))])
    if found.different or found.faults:
        raise ReelmillError(f"every dataset must equal the undisturbed one, {found.different} do not")
    return 0


def hashes(folder: Path) -> dict[str, str]:
    """Sha256 of every file of a dataset but `inputs.parquet`, which is outside its digest."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "inputs.parquet")
    return {path.relative_to(folder).as_posix(): sha256_of(path) for path in files}


def _run(
    source: Path,
    out: Path,
    cluster: "_Cluster",
    draw: random.Random,
    kills: int,
    found: _Found,
    shown: console.Progress,
) -> None:
    """One ingest, driven by as many drivers as it takes."""
    command = [sys.executable, "-m", "reelmill", "ingest", str(source), str(out)]
    command += ["--preset", "train-cpu", "--shard-mb", "1", "--address", cluster.address]
    end = time.monotonic() + RUN_SECONDS
    while time.monotonic() < end:
        with open(out.with_suffix(".log"), "ab") as log:
            driver = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            while driver.poll() is None:
                try:
                    driver.wait(draw.uniform(*PAUSE_SECONDS))
                except subprocess.TimeoutExpired:
                    if found.kills.total() < kills and (what := cluster.kill(draw, driver)) is not None:
                        found.kills[what] += 1
                        shown.update()
        finally:
            driver.kill()
            driver.wait()
        if driver.returncode == 0:
            return
        found.resumes += 1
        if driver.returncode != -signal.SIGKILL and found.kills.total() == 0:
            raise ReelmillError(
                f"an ingest that nobody killed must end well: see {out.with_suffix('.log').read_text()}"
            )
    raise ReelmillError(f"an ingest must end within {RUN_SECONDS} s: {out.with_suffix('.log').read_text()[-2000:]}")


class _Cluster:
    """Several Ray nodes on this machine, each with an address of its own; the head drives and the others work."""

    def __init__(self, nodes: int) -> None:
        self._wanted, self._nodes = nodes, 0

    def __enter__(self) -> "_Cluster":
        os.environ |= {
            "RAY_AUTH_MODE": "disabled",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "1",
        }
        from ray.cluster_utils import Cluster

        head = {"num_cpus": 1, "node_ip_address": HEAD_ADDRESS, "include_dashboard": False}
        self._cluster = Cluster(initialize_head=True, connect=False, head_node_args=head)
        for _ in range(self._wanted - 1):
            self._add()
        self.address: str = self._cluster.address
        return self

    def __exit__(self, *exception: object) -> None:
        self._cluster.shutdown()  # type: ignore[no-untyped-call]

    def kill(self, draw: random.Random, driver: "subprocess.Popen[bytes]") -> str | None:
        """SIGKILL something; says what, None where there was nothing of that kind."""
        what = draw.choice(KILLED if self._wanted > 1 else KILLED[:-1])
        if what == "driver":
            driver.kill()
            return what
        if what == "node":
            node = draw.choice([node for node in self._alive() if not node.head])
            self._cluster.remove_node(node, allow_graceful=False)
            self._add()
            return what
        workers = [
            pid for raylet in self._raylets() for pid in children(raylet) if command_line(pid).startswith("ray::_")
        ]
        if not workers:
            return None
        os.kill(draw.choice(workers), signal.SIGKILL)
        return what

    def _add(self) -> None:
        self._nodes += 1
        address = f"127.0.0.{FIRST_NODE + (self._nodes - 1) % 200}"
        self._cluster.add_node(num_cpus=1, node_ip_address=address, include_dashboard=False)

    def _alive(self) -> list[Any]:
        return list(self._cluster.list_all_nodes())  # type: ignore[no-untyped-call]

    def _raylets(self) -> Iterator[int]:
        for node in self._alive():
            processes: dict[str, list[Any]] = node.all_processes
            yield from (info.process.pid for info in processes.get("raylet", []))
