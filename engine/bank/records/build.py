"""Records of (action, text, source) and label lists → a description bank.

Two stages of tasks: reading cleans the texts of a stretch of the records and writes them down by part (a range of
action ids); merging takes the rows of one part, drops duplicates and writes them sorted. Killed at any point, the job
goes on from there when it is run again. Which bytes come out depends on records and options alone.
"""

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ....shards.bank.files import DESCRIPTIONS_FOLDER, NAME, BankRecord, read_record
from ....shards.errors import UsageError
from ...sources.folder import printable
from ...work import NAME as WORK_NAME
from ..names.labels import read_labels
from ..names.merges import Names, read_overrides
from .catalogue import Catalogue
from .clean import check_languages
from .committing import commit, sweep
from .config import BankBuildConfig, clean_options, dedup_options
from .inputs import InputFile, list_files
from .stages import Gathered, canonical_names, gather_all, merge_all, runner
from .work import MB, BankWork, Plan

Labels = Sequence[tuple[str, str]]
"""(name, file) of every label."""


@dataclass(frozen=True, slots=True)
class BankTotals:
    """What a job read, and what the bank holds after it."""

    records: int
    actions: int
    descriptions: int
    duplicate: int
    filtered: int
    failed: int

    @classmethod
    def of(cls, record: BankRecord) -> "BankTotals":
        """As `bank.json` has them."""
        return cls(**record.totals)


def build_bank(config: BankBuildConfig) -> BankTotals:
    """Build a bank.

    Raises:
        UsageError: the records, labels or overrides do not read, or `out` holds something; nothing was done.
        StorageError: the disk refused, or a file of the records changed meanwhile.
    """
    _check_out(config.out)
    check_languages(config)
    labels = _labels(config.labels)
    files = list_files(config.records, config.columns(), config.max_record_bytes)
    plan = _plan(config, labels, files)
    work = BankWork(config.out)
    with work.lock():
        _check_out(config.out)
        if (config.out / NAME).is_file():
            record = _finished(work, plan)
        else:
            if not work.open(plan, resume=config.resume):
                sweep(config.out, None)
            with runner(config, files) as run:
                found = gather_all(work, plan, run)
                catalogue = _catalogue(plan, labels, found)
                _check_found(work, config.records, found, catalogue)
                canonical = canonical_names(catalogue.canonicals)
                merged = merge_all(work, plan, found, run, [], canonical)
                for note in merged.values():
                    for number, count in note["actions"]:
                        catalogue.count(canonical[number], count)
                record = commit(work, plan, run, found, merged, catalogue, None)
        work.clear()
    return BankTotals.of(record)


def _check_out(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"out must be a folder, but {out} is a file")
    unfinished = not BankWork(out).cleared
    held = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if not unfinished:
        held.discard(WORK_NAME)
    if NAME in held and not unfinished:
        raise UsageError(f"out must be a new or empty folder, but {out} holds a bank; `bank add` adds to one")
    ours = {WORK_NAME, NAME, DESCRIPTIONS_FOLDER, "actions.parquet", "merges.csv", "ledger.parquet"}
    strangers = sorted(name for name in held - ours if not name.endswith(".part"))
    if strangers or (held and not unfinished):
        raise UsageError(f"out must be a new or empty folder, but {out} holds {strangers or 'something'}")


def _labels(paths: Sequence[Path]) -> Labels:
    """The names of all lists; a list is called by its path from the folder that all have in common."""
    if not paths:
        return []
    root = Path(os.path.commonpath([path.absolute().parent for path in paths]))
    origins = [(path, path.absolute().relative_to(root).as_posix()) for path in paths]
    return [(name, printable(origin)) for path, origin in origins for name in read_labels(path)]


def _plan(config: BankBuildConfig, labels: Labels, files: list[InputFile]) -> Plan:
    rules = config.name_rules()
    names = Names(rules, read_overrides(config.overrides) if config.overrides is not None else {})
    known = sorted({names(label) for label, _ in labels}) if labels else None
    if known is not None:
        names.check_known(known)
    options: dict[str, Any] = {"rules": config.rules, "names": asdict(rules), "overrides": names.overrides}
    options |= {"labels": bool(labels), "clean": clean_options(config), "dedup": dedup_options(config)}
    options |= {"part_mb": config.part_mb}
    return Plan(
        records=str(config.records.absolute()),
        files=files,
        columns=config.columns(),
        max_record_bytes=config.max_record_bytes,
        max_names=config.max_names,
        options=options,
        known=known,
        parts=max(1, -(-sum(file.bytes for file in files) // (config.part_mb * MB))),
        generation=0,
    )


def _catalogue(plan: Plan, labels: Labels, found: Gathered) -> Catalogue:
    catalogue, names = Catalogue(), plan.names
    for label, origin in labels:
        catalogue.add(label, names(label), origin)
    catalogue.add_seen(found.seen)
    return catalogue


def _check_found(work: BankWork, records: Path, found: Gathered, catalogue: Catalogue) -> None:
    if not catalogue.canonicals:
        work.clear()
        reasons = ", ".join(f"{count} {reason}" for reason, count in found.reasons.most_common())
        raise UsageError(
            f"records {records} must hold at least one row with an action and a text that is kept, got none of "
            f"{found.records}{f' ({reasons})' if reasons else ''}"
        )


def _finished(work: BankWork, plan: Plan) -> BankRecord:
    """The bank of a job that was killed after its last file: only its scratch folder is left to remove."""
    if work.found() != plan.content():
        raise UsageError(f"out must be a new or empty folder, but {work.out} holds a bank; `bank add` adds to one")
    record = read_record(work.out)
    sweep(work.out, record)
    return record
