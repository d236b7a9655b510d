"""More records into a bank: its texts stay, parts without new texts are not touched, and readers see it before or
after, never in between (`shards.bank_files` says how).
"""

from dataclasses import dataclass

from ....shards.bank.files import NAME, BankRecord, check_files, read_record
from ....shards.errors import DamageError, UsageError
from .build import BankTotals
from .catalogue import Catalogue
from .clean import check_languages
from .committing import commit, sweep
from .config import BankAddConfig
from .inputs import InputFile, list_files
from .stages import canonical_names, gather_all, merge_all, runner
from .work import MB, BankWork, Plan

GROWTH = 2


@dataclass(frozen=True, slots=True)
class Added:
    """What was added, and what there is now."""

    records: int
    descriptions: int
    actions: int
    parts: int
    """Parts that were written anew."""
    totals: BankTotals


def add_to_bank(config: BankAddConfig) -> Added:
    """Add records to a bank; records that are the last ones added, to the letter, are not added twice.

    Raises:
        UsageError: no bank, or records that do not read; nothing was done.
        DamageError: a file of the bank is not what it was.
        StorageError: the disk refused, or a file of the records changed meanwhile.
    """
    if not (config.bank / NAME).is_file():
        raise UsageError(f"{config.bank} must be a bank (a folder with {NAME})")
    before = read_record(config.bank)
    files = list_files(config.records, config.columns(), config.max_record_bytes)
    work = BankWork(config.bank)
    with work.lock():
        record = read_record(config.bank)
        check_files(config.bank, record, record.files, content=False)
        catalogue = Catalogue.of_bank(config.bank, record)
        plan = _plan(config, files, record, catalogue)
        if (left := work.found()) is not None and left["generation"] == record.generation:
            if left["files"] == plan.content()["files"]:  # killed after its last file
                return _done(work, record, record)
            work.clear()
        check_languages(plan.clean)
        work.open(plan, resume=config.resume)
        after = _add(config, work, plan, record, catalogue)
        return _done(work, before, after)


def _plan(config: BankAddConfig, files: list[InputFile], record: BankRecord, catalogue: Catalogue) -> Plan:
    try:
        plan = _planned(config, files, record, catalogue)
        for option in ("clean", "dedup", "names"):
            getattr(plan, option)  # refuses what it cannot be
    except UsageError:
        raise
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise DamageError(f"bank {config.bank}: options in {NAME} do not read: {error!r}") from error
    return plan


def _planned(config: BankAddConfig, files: list[InputFile], record: BankRecord, catalogue: Catalogue) -> Plan:
    return Plan(
        records=str(config.records.absolute()),
        files=files,
        columns=config.columns(),
        max_record_bytes=config.max_record_bytes,
        max_names=config.max_names,
        options=record.options,
        known=catalogue.canonicals if record.options["labels"] else None,
        parts=_parts(record, files),
        generation=record.generation + 1,
    )


def _parts(record: BankRecord, files: list[InputFile]) -> int:
    """As many parts as the bank has; where they would grow to over twice their size, each is cut into 2, 4, …"""
    parts, most = len(record.parts), max(1, int(record.options["part_mb"])) * MB
    size = sum(record.files[part.texts].bytes for part in record.parts) + sum(file.bytes for file in files)
    while parts and size > GROWTH * parts * most:
        parts *= 2
    return parts


def _add(config: BankAddConfig, work: BankWork, plan: Plan, base: BankRecord, catalogue: Catalogue) -> BankRecord:
    with runner(config, plan.files) as run:
        found = gather_all(work, plan, run)
        if not found.records:
            work.clear()
            raise UsageError(f"records {config.records} must hold at least one record, got none")
        if base.inputs[-1:] == [found.said]:
            return base
        catalogue.add_seen(found.seen)
        canonical = canonical_names(catalogue.canonicals)
        merged = merge_all(work, plan, found, run, base.parts, canonical)
        for note in merged.values():
            for number, count in note["actions"]:
                catalogue.count(canonical[number], count)
        return commit(work, plan, run, found, merged, catalogue, base)


def _done(work: BankWork, before: BankRecord, after: BankRecord) -> Added:
    sweep(work.out, after)
    work.clear()
    kept = {part.table for part in before.parts}
    return Added(
        after.totals["records"] - before.totals["records"],
        after.totals["descriptions"] - before.totals["descriptions"],
        after.totals["actions"] - before.totals["actions"],
        sum(part.table not in kept for part in after.parts),
        BankTotals.of(after),
    )
