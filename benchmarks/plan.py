"""What listing and planning of a large corpus take: seconds, and the most memory that the driver holds.

The manifest is written for the purpose and its videos do not exist: facts such as probing finds stand in for them, so
that millions of rows can be planned on one machine. One in a hundred repeats another.
"""

import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import console
from ..engine.config import IngestConfig
from ..engine.listing import list_inputs, source_of
from ..engine.planning import Planning
from ..engine.work import Work
from ..shards.errors import UsageError
from .environment import RESULTS, append, capture

FACTS: dict[str, Any] = {
    "container": "mov,mp4,m4a,3gp,3g2,mj2",
    "codec": "h264",
    "pix_fmt": "yuv420p",
    "width": 320,
    "height": 240,
    "pixel_aspect": 1.0,
    "color_matrix": "bt709",
    "color_range": "tv",
    "fps": 25.0,
    "time_base": "1/12800",
    "duration_seconds": 10.0,
    "rotation": 0,
    "frames": 250,
}


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchPlanConfig:
    """Time listing and planning of manifests of several lengths, each in a process of its own; memory is the point."""

    rows: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    """Lengths of the manifests, > 0."""
    results: Path = RESULTS / "plan.jsonl"
    """File to which one line per length is appended."""

    def __post_init__(self) -> None:
        if not self.rows or min(self.rows) <= 0:
            raise UsageError(f"rows must be lengths > 0, got {self.rows}")


def bench_plan(config: BenchPlanConfig) -> int:
    """`reelmill bench plan`."""
    lines = []
    for rows in config.rows:
        # a process never gives its peak back, so each length has its own
        command = [sys.executable, "-m", __name__, str(rows)]
        record = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        append(config.results, {"bench": "plan"} | record | capture())
        seconds = f"listed in {record['list_seconds']:.1f} s, planned in {record['plan_seconds']:.1f} s"
        lines.append((f"{rows} rows", f"{seconds}, at most {record['peak_rss_mb']} MB, {record['shards']} shards"))
    console.table("plan", [*lines, ("appended to", str(config.results))])
    return 0


def measure(rows: int) -> dict[str, Any]:
    """List and plan `rows` inputs in this process."""
    with tempfile.TemporaryDirectory(prefix="reelmill-bench-") as scratch:
        folder = Path(scratch)
        config = IngestConfig(input=_manifest(folder, rows), out=folder / "out", dedup="stream")
        work = Work(config.out)
        work.open()
        start = time.monotonic()
        listing = list_inputs(source_of(config), work, config, None)
        listed = time.monotonic()
        _pretend_probing(work, listing.batches, rows)
        probed = time.monotonic()
        planning = Planning(listing, work, config, None, None)
        totals = planning.totals()
        shards = sum(1 for _ in planning.shards())
        planned = time.monotonic()
    return {
        "rows": rows,
        "samples": totals.samples,
        "shards": shards,
        "list_seconds": round(listed - start, 2),
        "plan_seconds": round(planned - probed, 2),
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1000,
    }


def _manifest(folder: Path, rows: int) -> Path:
    path = folder / "videos.jsonl"
    with path.open("w") as file:
        for row in range(rows):
            record = {"path": f"/videos/{row % 500:03d}/{row:09d}.mp4", "label": f"class {row % 400}"}
            file.write(json.dumps(record | {"caption": f"a person does thing number {row}"}) + "\n")
    return path


def _pretend_probing(work: Work, batches: int, rows: int) -> None:
    number, different = 0, rows - rows // 100
    for batch in range(batches):
        facts = []
        for _ in work.rows(batch):
            digest = hashlib.sha256(str(number % different).encode()).hexdigest()
            own = {"bytes": 300_000 + number % 1000, "sha256": digest, "stream_hash": digest[:32]}
            facts.append(FACTS | own | {"version": f"{number}:1"})
            number += 1
        work.write_facts(batch, work.facts_digest(batch, {}), facts)


def main(arguments: Sequence[str]) -> None:
    """The child's side: measure one length and print it."""
    print(json.dumps(measure(int(arguments[0]))))


if __name__ == "__main__":
    main(sys.argv[1:])
