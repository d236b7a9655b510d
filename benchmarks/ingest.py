"""How fast raw videos become shards: the same rendered corpus through every preset, side by side."""

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from .. import console
from ..engine.cluster import ray_session
from ..engine.config import IngestConfig, Preset
from ..engine.ingest import ingest
from .environment import RESULTS, append, capture
from .toyverbs.corpus import write_corpus

PRESETS: tuple[Preset, ...] = ("archive", "train-cpu")


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchIngestConfig:
    """Time `ingest` (probe with full decoding, plan, write, commit) on a rendered corpus or on your own videos."""

    input: Path | None = None
    """A folder or manifest of videos; without it a corpus is rendered."""
    videos: int = 400
    """Videos to render, >= 8."""
    results: Path = RESULTS / "ingest.jsonl"
    """File to which one line per preset is appended."""


def bench_ingest(config: BenchIngestConfig) -> int:
    """`reelmill bench ingest`."""
    with tempfile.TemporaryDirectory(prefix="reelmill-bench-") as scratch, ray_session(None, 0) as session:
        workers = session.at_a_time()
        folder = Path(scratch)
        source = config.input or write_corpus(folder / "corpus", videos=config.videos).manifest
        rows = []
        warm_up = write_corpus(folder / "warm-up", videos=8).manifest  # Ray's workers take seconds to come up
        ingest(IngestConfig(input=warm_up, out=folder / "warm"))
        for preset in PRESETS:
            out = folder / preset
            start = time.monotonic()
            result = ingest(IngestConfig(input=source, out=out, preset=preset))
            seconds = time.monotonic() - start
            totals = result.manifest.totals
            record = {
                "bench": "ingest",
                "preset": preset,
                "workers": workers,
                "inputs": totals["inputs"],
                "samples": totals["samples"],
                "seconds": round(seconds, 3),
                "videos_per_second": round(totals["inputs"] / seconds, 2),
                "bytes_per_sample": totals["bytes"] // max(1, totals["samples"]),
                "rendered": config.input is None,
            }
            append(config.results, record | capture())
            size = console.human_bytes(totals["bytes"] / max(1, totals["samples"]))
            rows.append((preset, f"{record['videos_per_second']} videos/s, {size} per clip"))
    console.table(
        f"ingest of {totals['inputs']} videos, {workers} workers", [*rows, ("appended to", str(config.results))]
    )
    return 0
