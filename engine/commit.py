"""The end of a job: the ledger, the manifest, and nothing beside them. After a kill at any point the next job mends it.

`dataset.json` is what counts; the ledger and `inputs.parquet` wait in `.work/commit/` until it is there, and are moved
beside it then. A job that finds them still waiting moves them first.
"""

import os
import re
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..shards import ledger
from ..shards.files import make_folder, sha256_of, sync_folder
from ..shards.ledger import Clip, LedgerRow, Reason, ledger_writer
from ..shards.manifest import NAME as MANIFEST_NAME
from ..shards.manifest import BankShard, Generation, Manifest, ShardEntry, hash_json, read_manifest, write_manifest
from .earlier import INPUTS_NAME, Earlier, inputs_writer
from .plan import Decision, ledger_row, status_of
from .planning import Placed
from .sources import InputRow
from .work import NAME as WORK_NAME
from .work import Work

ROWS_AT_A_TIME = 4096
_OURS = re.compile(r"\d{6,}\.(tar|idx|parquet)|\..*\.part")

Line = tuple[LedgerRow, InputRow, str | None]
"""What becomes of an input, the input, and the version of its file."""


@dataclass(slots=True)
class Outcome:
    """What is counted while the ledger is written."""

    counts: Counter[str] = field(default_factory=Counter)
    classes: set[str] = field(default_factory=set)


def commit(
    work: Work,
    placed: Iterable[Placed],
    earlier: Earlier | None,
    live: NDArray[np.bool_],
    bank: list[BankShard],
    config_record: dict[str, Any],
) -> Manifest:
    """Write ledger and manifest of the dataset with its new generation; the last step of a job.

    Args:
        work: the job's scratch folder, with a note on every shard.
        placed: every input of this job.
        earlier: earlier generations.
        live: which of their ledger rows still hold.
        bank: the dataset's bank.
        config_record: the job's hashed options.

    Raises:
        StorageError: the disk refused.
    """
    out, folder = work.folder.parent, work.folder / "commit"
    make_folder(folder)
    generations = [] if earlier is None else list(earlier.manifest.generations)
    shards, outcome = dict[int, ShardEntry | None](), Outcome()
    carried = np.zeros_like(live)
    lines = _lines(work, placed, earlier, len(generations), shards, carried)
    with ledger_writer(folder / ledger.NAME) as write_rows, inputs_writer(folder / INPUTS_NAME) as write_inputs:
        while piece := list(islice(lines, ROWS_AT_A_TIME)):
            _count(piece, outcome, write_rows, write_inputs)
        # inputs that were not named this time and stay (`append`) keep their place behind those that were
        if earlier is not None:
            others = iter(np.flatnonzero(live & ~carried).tolist())
            while numbers := list(islice(others, ROWS_AT_A_TIME)):
                kept = [(earlier.row(n), earlier.input(n), earlier.version(n)) for n in numbers]
                _count(kept, outcome, write_rows, write_inputs)
    tombstones = [] if earlier is None else _tombstones(earlier, live)
    written = [entry for _, entry in sorted(shards.items()) if entry is not None]
    generations.append(Generation(config_record, hash_json(config_record), written, tombstones))
    every = [entry for generation in generations for entry in generation.shards]
    gone = sum(len(generation.tombstones) for generation in generations)
    totals = ledger.count([]) | dict(outcome.counts) | {"inputs": outcome.counts.total()} | written_totals(every, gone)
    manifest = Manifest(sorted(outcome.classes), generations, sha256_of(folder / ledger.NAME), totals, bank)
    write_manifest(out, manifest)
    finish(out)
    return manifest


def written_totals(shards: Iterable[ShardEntry], gone: int = 0) -> dict[str, int]:
    """Live samples and bytes on disk; `gone` samples have a tombstone."""
    counted = list(shards)
    return {"samples": sum(s.samples for s in counted) - gone, "bytes": sum(s.bytes for s in counted)}


def finish(out: Path) -> None:
    """Move what waits for a committed manifest into place, and remove files that no manifest lists any more."""
    waiting = out / WORK_NAME / "commit"
    if not (out / MANIFEST_NAME).is_file() or not (waiting / ledger.NAME).is_file():
        return
    manifest = read_manifest(out)
    if sha256_of(waiting / ledger.NAME) == manifest.ledger_sha256:
        sweep(out, manifest)
        if (waiting / INPUTS_NAME).is_file():
            os.replace(waiting / INPUTS_NAME, out / INPUTS_NAME)
        os.replace(waiting / ledger.NAME, out / ledger.NAME)  # last: as long as it waits, a next job comes here again
        sync_folder(out)
        shutil.rmtree(out / WORK_NAME)


def sweep(out: Path, manifest: Manifest | None) -> None:
    """Remove shard files under our names that the manifest does not list, and what a kill left half written."""
    tars = [] if manifest is None else [s.uri for s in manifest.shards] + [s.uri for s in manifest.bank]
    listed = {Path(tar).with_suffix(suffix) for tar in tars for suffix in (".tar", ".idx", ".parquet")}
    for name in ("shards", "bank"):
        for path in (out / name).glob("*"):
            if _OURS.fullmatch(path.name) and path.relative_to(out) not in listed:
                path.unlink()
    for path in out.glob(".*.part"):
        path.unlink()


def _lines(
    work: Work,
    placed: Iterable[Placed],
    earlier: Earlier | None,
    generation: int,
    shards: dict[int, ShardEntry | None],
    carried: NDArray[np.bool_],
) -> Iterator[Line]:
    """The ledger in input order; notes are read as their shards come by."""
    notes: dict[int, dict[str, tuple[Reason, str]]] = {}
    for decision, numbers in placed:
        version = decision.facts.get("version")
        if decision.carried is not None:
            assert earlier is not None
            carried[decision.carried] = True
            yield earlier.row(decision.carried), decision.row, version
            continue
        for number in numbers:
            if number not in notes:
                note = work.note(number)
                assert note is not None, f"shard {number} has no note"
                notes = {kept: notes[kept] for kept in notes if kept in numbers} | {number: note["failures"]}
                shards[number] = None if note["entry"] is None else ShardEntry(**note["entry"])
        row = decision.rejected or _outcome_of(decision, [notes[number] for number in numbers])
        yield replace(row, generation=generation), decision.row, version


def _outcome_of(decision: Decision, failures: list[dict[str, tuple[Reason, str]]]) -> LedgerRow:
    """An input with at least one written clip is ok; what became of the others stands beside their keys."""
    clips, first = [], ("", "")
    for sample, failed in zip(decision.samples, failures, strict=True):
        reason, detail = failed.get(sample.key, ("", ""))
        first = first if first[0] else (reason, detail)
        clips.append(Clip(sample.key, status_of(reason), reason))
    if any(clip.status == "ok" for clip in clips):
        missing = sum(clip.status != "ok" for clip in clips)
        detail = f"{missing} of {len(clips)} clips are missing: {first[0]}: {first[1]}" if missing else ""
        return ledger_row(decision.row, decision.facts, "ok", "", detail, clips)
    return ledger_row(decision.row, decision.facts, clips[0].status, clips[0].reason, first[1], clips)


def _count(lines: list[Line], outcome: Outcome, write_rows: Any, write_inputs: Any) -> None:
    write_rows([row for row, _, _ in lines])
    write_inputs([(given, version) for _, given, version in lines])
    outcome.counts.update(row.status for row, _, _ in lines)
    outcome.classes.update(label for row, given, _ in lines if row.status == "ok" for label in given.labels)


def _tombstones(earlier: Earlier, live: NDArray[np.bool_]) -> list[str]:
    """Keys of earlier samples whose input changed or went away."""
    gone = np.flatnonzero(~live & (earlier.status == "ok"))
    return [clip["key"] for row in earlier.rows(gone, ["clips"]) for clip in row["clips"] if clip["status"] == "ok"]
