"""The probe stage: every batch of inputs is looked at once, by whichever worker is free."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import console
from ..shards.files import sha256_of
from .cluster import Session, Task, run_tasks
from .config import IngestConfig
from .earlier import Earlier
from .errors import MediaError
from .fetch import local_copy, version_of
from .listing import NOT_KNOWN, Listing
from .sandbox import Sandbox
from .sources import InputRow
from .work import Facts, Work

TASK_MEMORY_BYTES = 600_000_000  # a worker, its sandbox and the frames of an ordinary video

_sandboxes: dict[tuple[int, int], Sandbox] = {}  # of this worker process, kept over tasks


def probe_all(
    listing: Listing,
    work: Work,
    config: IngestConfig,
    session: Session,
    earlier: Earlier | None,
    again: frozenset[str],
) -> int:
    """Probe every batch that an earlier run of this job has not probed yet; returns how many videos were read.

    Args:
        listing: of the inputs.
        work: where facts are kept.
        config: the job's options.
        session: the connection to Ray.
        earlier: earlier generations; what they hold unchanged is not read again.
        again: statuses of earlier inputs that are read again all the same.
    """
    read = 0
    kept = np.ones(0 if earlier is None else len(earlier), dtype=np.bool_)
    if earlier is not None and not config.append:
        kept[:] = False
        kept[listing.earlier[listing.same]] = True

    def tasks() -> Iterator[Task]:
        first = 0
        for number in range(listing.batches):
            rows = work.rows(number)
            span = slice(first, first + len(rows))
            first += len(rows)
            known = None
            if earlier is not None:
                places = np.where(listing.same[span], listing.earlier[span], NOT_KNOWN)
                known = [_known(int(place), earlier, kept, again) for place in places]
            asked = {"options": config.probed(), "known": known}
            digest = work.facts_digest(number, asked)
            if work.has_facts(number, digest):
                shown.update(len(rows))
            else:
                arguments = (work.folder.parent, number, digest, asked, config)
                yield Task(f"probing {rows[0].uri} and the {len(rows) - 1} after it", arguments, TASK_MEMORY_BYTES)

    def on_done(done: tuple[int, int]) -> None:
        nonlocal read
        read += done[1]
        shown.update(done[0])

    with console.progress(listing.rows, "probe", "videos") as shown:
        run_tasks(_probe_task, tasks(), session, on_done, deadline_seconds=config.task_seconds)
    return read


def _known(place: int, earlier: Earlier, kept: NDArray[np.bool_], again: frozenset[str]) -> dict[str, Any] | None:
    """What makes an input count as unchanged: its file, and for a duplicate also the file that it repeats."""
    if place == NOT_KNOWN or earlier.status[place] in again or earlier.version(place) is None:
        return None
    row = earlier.row(place)
    known = {"version": earlier.version(place), "sha256": row.sha256}
    if row.status != "duplicate" or row.duplicate_of is None:
        return known
    (twin,) = earlier.find([row.duplicate_of])
    if twin is None or not kept[twin] or earlier.version(twin) is None:
        return None
    return known | {"twin": [earlier.path(twin), earlier.version(twin)]}


def _probe_task(out: Path, number: int, digest: str, asked: dict[str, Any], config: IngestConfig) -> tuple[int, int]:
    work = Work(out)
    rows = work.rows(number)
    known = asked["known"] or [None] * len(rows)
    facts: list[Facts] = []
    place = None
    for row, its in zip(rows, known, strict=True):
        if (row.path, row.byte_range, row.fault) == place and its is None and "unchanged" not in facts[-1]:
            facts.append(facts[-1])  # further spans of one video
        else:
            facts.append(_probe(row, its, config, work.scratch))
        place = (row.path, row.byte_range, row.fault)
    work.write_facts(number, digest, facts)
    return len(rows), sum("bytes" in record for record in facts)


def _probe(row: InputRow, known: dict[str, Any] | None, config: IngestConfig, scratch: Path) -> Facts:
    version = None
    try:
        version = version_of(row.path)
        if known is not None and _unchanged(row, version, known, config, scratch):
            return {"unchanged": True, "version": version}
        with local_copy(row, scratch, max_bytes=config.max_video_mb * 1_000_000, version=version) as path:
            sandbox = sandbox_of(config.video_cpu_seconds, config.video_memory_mb)
            look = "probe_with_fingerprint" if config.dedup == "perceptual" else "probe"
            facts: Facts = sandbox.call(look, path=str(path), validate=config.validate)
        if version_of(row.path) != version:
            raise MediaError("changed", "the file changed while it was being read")
    except MediaError as error:
        return {"reason": error.reason, "detail": error.detail, "version": version}
    return facts | {"version": version}


def _unchanged(row: InputRow, version: str, known: dict[str, Any], config: IngestConfig, scratch: Path) -> bool:
    if not config.checksum:
        twin = known.get("twin")
        return bool(version == known["version"] and (twin is None or _version_or_none(twin[0]) == twin[1]))
    if known["sha256"] is None or "twin" in known:  # cheaper to probe again than to fetch two files
        return False
    with local_copy(row, scratch, max_bytes=config.max_video_mb * 1_000_000) as path:
        return bool(sha256_of(path) == known["sha256"])


def _version_or_none(path: str) -> str | None:
    try:
        return version_of(path)
    except MediaError:
        return None


def sandbox_of(cpu_seconds: int, memory_mb: int) -> Sandbox:
    """The sandbox of this process with a job's limits."""
    return _sandboxes.setdefault((cpu_seconds, memory_mb), Sandbox(cpu_seconds, memory_mb))
