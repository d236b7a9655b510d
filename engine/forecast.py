"""A dry run: what an ingest would write, found by probing the inputs and planning, without writing a shard."""

import tempfile
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

from ..shards import ledger
from .cluster import ray_session
from .config import PlanConfig
from .listing import known_actions, list_inputs, source_of
from .media.encoders import check_encoder
from .planning import Planning, Totals
from .probing import probe_all
from .work import Work


@dataclass(frozen=True, slots=True)
class Forecast:
    """What an ingest would do."""

    counts: dict[str, int]
    """Inputs by status."""
    totals: Totals
    source_bytes: int
    source_seconds: float
    """Length of all videos that would be written from."""
    probe_seconds: float


def forecast(config: PlanConfig) -> Forecast:
    """Plan an ingest.

    Raises:
        UsageError: a wrong input, manifest or bank.
    """
    check_encoder(config)
    with tempfile.TemporaryDirectory(prefix="reelmill-plan-") as scratch:
        work = Work(Path(scratch))
        work.open()
        listing = list_inputs(source_of(config), work, config, None)
        actions = known_actions(listing.labels, config.bank)
        with ray_session(config.address, config.workers, config.memory_mb) as session:
            start = time.monotonic()
            probe_all(listing, work, replace(config, out=Path(scratch)), session, None, frozenset())
            seconds = time.monotonic() - start
        planning = Planning(listing, work, config, None, actions)
        counts, source_bytes, source_seconds = Counter[str](), 0, 0.0
        for decision, _ in planning.placed():
            counts["ok" if decision.rejected is None else decision.rejected.status] += 1
            if decision.samples:
                source_bytes += decision.facts["bytes"]
                source_seconds += decision.facts["duration_seconds"]
        return Forecast(ledger.count([]) | dict(counts), planning.totals(), source_bytes, source_seconds, seconds)
