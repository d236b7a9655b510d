"""The probe stage: every batch of inputs is looked at once, by whichever worker is free."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import console
from ..shards.files import sha256_of
from .cluster import Effort, Session, Task, run_tasks
from .config import IngestConfig
from .earlier import Earlier
from .errors import MediaError
from .fetch import local_copy, version_of
from .listing import NOT_KNOWN, Listing
from .media.fingerprint import VERSION
from .media.limits import COMMON_PIXELS, task_memory_bytes
from .media.sandbox import Sandbox
from .sources import InputRow
from .work import PASSING, Facts, Work

NOT_YET: Facts = {"pixels": 0}  # so far it is not even known how large the pictures are

_sandboxes: dict[tuple[int, int], Sandbox] = {}  # of this worker process, kept over tasks


def probe_all(
    listing: Listing,
    work: Work,
    config: IngestConfig,
    session: Session,
    earlier: Earlier | None,
    again: frozenset[str],
) -> Effort:
    """Probe every batch that an earlier run of this job has not probed yet; returns how much was read.

    Args:
        listing: of the inputs.
        work: where facts are kept.
        config: the job's options.
        session: the connection to Ray.
        earlier: earlier generations; what they hold unchanged is not read again.
        again: statuses of earlier inputs that are read again all the same.
    """
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
            asked = {"options": config.probed(), "known": known, "fingerprints": VERSION} | _asked(config)
            digest = work.facts_digest(number, asked)
            if work.has_facts(number, digest) and all(f.get("reason") not in PASSING for f in work.facts(number)):
                shown.update(len(rows))
            else:
                arguments = (work.folder.parent, number, digest, asked, config, COMMON_PIXELS, Effort())
                name = f"probing {rows[0].uri} and the {len(rows) - 1} after it"
                yield Task(name, arguments, task_memory_bytes())

    with console.progress(listing.rows, "probe", "videos") as shown:
        return run_tasks(_probe_task, tasks(), session, shown, deadline_seconds=config.task_seconds)


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
    return known | {"twin": [earlier.path(twin), earlier.input(twin).frames_fps is not None, earlier.version(twin)]}


def _probe_task(
    out: Path,
    number: int,
    digest: str,
    asked: dict[str, Any],
    config: IngestConfig,
    max_pixels: int,
    so_far: Effort,
) -> Effort | Task:
    work = Work(out)
    rows = work.rows(number)
    known = asked["known"] or [None] * len(rows)
    half_done = f"{digest} but for large pictures"
    has = work.has_facts(number, digest) or work.has_facts(number, half_done)
    before = work.whole_facts(number) if has else [NOT_YET] * len(rows)
    facts: list[Facts] = []
    place = None
    for row, its, fact in zip(rows, known, before, strict=True):
        if "pixels" not in fact and fact.get("reason") not in PASSING:
            facts.append(fact)
        elif (row.path, row.byte_range, row.fault) == place and its is None and "unchanged" not in facts[-1]:
            facts.append(facts[-1])  # further spans of one video
        else:
            facts.append(_probe(row, its, config, work.scratch, max_pixels))
            so_far += Effort(worked="bytes" in facts[-1], bytes=facts[-1].get("bytes", 0))
        place = (row.path, row.byte_range, row.fault)
    large = max((record.get("pixels", 0) for record in facts), default=0)
    if large:
        work.write_facts(number, half_done, facts)
        arguments = (out, number, digest, asked, config, large, so_far)
        return Task(f"probing the large videos of batch {number}", arguments, task_memory_bytes(large))
    work.write_facts(number, digest, facts)
    return so_far + Effort(items=len(rows))


def _probe(row: InputRow, known: dict[str, Any] | None, config: IngestConfig, scratch: Path, max_pixels: int) -> Facts:
    version = None
    try:
        version = version_of(row.path, frames=row.frames_fps is not None)
        if known is not None and _unchanged(row, version, known, config, scratch):
            return {"unchanged": True, "version": version}
        with local_copy(row, scratch, max_bytes=config.max_video_mb * 1_000_000, version=version) as path:
            sandbox = sandbox_of(config.video_cpu_seconds, config.video_memory_mb)
            options = {"validate": config.validate, "max_pixels": max_pixels} | _asked(config)
            if row.frames_fps is not None:  # their bytes stay as they are in train-cpu too
                options["table"] = True
            facts: Facts = sandbox.call("look", path=str(path), **options)
        if row.frames_fps is not None and "pixels" not in facts:
            facts["fps"] = row.frames_fps  # of a few frames FFmpeg guesses wrong
        if version_of(row.path, frames=row.frames_fps is not None) != version:
            raise MediaError("changed", "the file changed while it was being read")
    except MediaError as error:
        return {"reason": error.reason, "detail": error.detail, "version": version}
    return facts | {"version": version}


def _asked(config: IngestConfig) -> dict[str, Any]:
    return {
        "table": config.preset == "archive",  # where the bytes stay as they are: another form has one of its own
        "fingerprint": config.dedup == "perceptual",
        "scene_threshold": config.scene_threshold if config.scenes else None,
    }


def _unchanged(row: InputRow, version: str, known: dict[str, Any], config: IngestConfig, scratch: Path) -> bool:
    if not config.checksum:
        twin = known.get("twin")
        return bool(version == known["version"] and (twin is None or _version_or_none(twin[0], twin[1]) == twin[2]))
    if known["sha256"] is None or "twin" in known:  # cheaper to probe again than to fetch two files
        return False
    with local_copy(row, scratch, max_bytes=config.max_video_mb * 1_000_000) as path:
        return bool(sha256_of(path) == known["sha256"])


def _version_or_none(path: str, frames: bool) -> str | None:
    try:
        return version_of(path, frames=frames)
    except MediaError:
        return None


def sandbox_of(cpu_seconds: int, memory_mb: int) -> Sandbox:
    """The sandbox of this process with a job's limits."""
    return _sandboxes.setdefault((cpu_seconds, memory_mb), Sandbox(cpu_seconds, memory_mb))
