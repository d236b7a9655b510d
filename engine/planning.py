"""The plan stage: facts of every input, streamed in input order, become decisions; nothing is held but fingerprints."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..shards.ledger import Reason
from .config import IngestConfig
from .dedup.twins import Twins
from .earlier import Earlier
from .listing import NOT_KNOWN, Listing
from .plan import Decision, SamplePlan, decide, place, shards_of, unknown_label
from .sources import InputRow
from .work import Facts, Work

Placed = tuple[Decision, list[int]]


@dataclass(slots=True)
class Totals:
    """What a plan comes to."""

    inputs: int = 0
    unchanged: int = 0
    samples: int = 0
    estimated_bytes: int = 0
    shards: set[int] = field(default_factory=set)


class Planning:
    """Decisions over a probed listing; every pass yields the same ones."""

    def __init__(
        self,
        listing: Listing,
        work: Work,
        config: IngestConfig,
        earlier: Earlier | None,
        actions: dict[str, int] | None,
    ) -> None:
        self._listing, self._work, self._config = listing, work, config
        self._earlier, self._actions = earlier, actions
        self._first_shard = 0 if earlier is None else earlier.manifest.next_shard

    @cached_property
    def live(self) -> NDArray[np.bool_]:
        """For each ledger row of earlier generations whether it still holds."""
        live = np.zeros(0 if self._earlier is None else len(self._earlier), dtype=np.bool_)
        if self._earlier is not None:
            if self._config.append:
                live[:] = True
                live[self._listing.earlier[self._listing.earlier != NOT_KNOWN]] = False
            for number, (_, facts) in enumerate(self._facts()):
                if "unchanged" in facts:
                    live[self._listing.earlier[number]] = True
        return live

    @property
    def aside(self) -> int:
        """Earlier inputs that this job does not name and keeps."""
        named = self._listing.earlier[self._listing.earlier != NOT_KNOWN]
        return len(self.live) - len(named) if self._config.append else 0

    @cached_property
    def twins(self) -> dict[int, tuple[str, Reason]]:
        """For each listed input that repeats another one: that one's id, and how it was told."""
        offset = len(self.live)
        twins = Twins(self._config.dedup, self._config.near)
        kept = self._kept_earlier()
        for number, record in kept:
            twins.add(number, record["sha256"], record["stream_hash"], record["fingerprint"])
        for number, (row, facts) in enumerate(self._facts()):
            if not ("reason" in facts or "unchanged" in facts or unknown_label(row, self._actions)):
                span = None if row.start_seconds is row.end_seconds is None else (row.start_seconds, row.end_seconds)
                fingerprint = bytes.fromhex(facts.get("fingerprint") or "")
                twins.add(offset + number, facts["sha256"], facts["stream_hash"], fingerprint, span)
        found = twins.solve(len(kept))
        names = self._names({row for row, _ in found.values()}, offset)
        return {number - offset: (names[row], reason) for number, (row, reason) in found.items()}

    def _kept_earlier(self) -> list[tuple[int, dict[str, Any]]]:
        if self._earlier is None or self._config.dedup == "none":
            return []
        numbers = np.flatnonzero(self.live & (self._earlier.status == "ok"))
        columns = ["sha256", "stream_hash", "fingerprint"]
        return list(zip(numbers.tolist(), self._earlier.rows(numbers, columns), strict=True))

    def _names(self, wanted: set[int], offset: int) -> dict[int, str]:
        names = {}
        if self._earlier is not None:
            names = {number: self._earlier.row(number).input_id for number in wanted if number < offset}
        for number, row in enumerate(row for batch in range(self._listing.batches) for row in self._work.rows(batch)):
            if offset + number in wanted:
                names[offset + number] = row.input_id
        return names

    def placed(self) -> Iterator[Placed]:
        """Every listed input in order: what becomes of it, and the shards of its samples."""
        return place(self._decisions(), self._config.shard_mb * 1_000_000, self._first_shard)

    def shards(self) -> Iterator[tuple[int, list[SamplePlan]]]:
        """The samples of each shard."""
        return shards_of(self.placed())

    def totals(self) -> Totals:
        """One pass that counts."""
        totals = Totals()
        for decision, shards in self.placed():
            totals.inputs += 1
            totals.unchanged += decision.carried is not None
            totals.samples += len(shards)
            totals.estimated_bytes += sum(sample.estimated_bytes for sample in decision.samples)
            totals.shards.update(shards)
        return totals

    def _facts(self) -> Iterator[tuple[InputRow, Facts]]:
        for number in range(self._listing.batches):
            yield from zip(self._work.rows(number), self._work.facts(number), strict=True)

    def _decisions(self) -> Iterator[Decision]:
        for number, (row, facts) in enumerate(self._facts()):
            before = int(self._listing.earlier[number])
            if "unchanged" in facts:
                yield Decision(row, facts, carried=before)
                continue
            decision = decide(row, facts, self._config, self.twins.get(number), self._actions)
            if self._earlier is not None and before != NOT_KNOWN and self._listing.same[number]:
                decision = self._carry(decision, before)
            yield decision

    def _carry(self, decision: Decision, before: int) -> Decision:
        """An input that fails again as it did is nothing new."""
        assert self._earlier is not None
        old, new = self._earlier.row(before), decision.rejected
        if new is None or (old.status, old.reason, old.detail) != (new.status, new.reason, new.detail):
            return decision
        return Decision(decision.row, decision.facts, carried=before)
