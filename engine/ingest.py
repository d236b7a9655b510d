"""The ingest job: probe tasks, plan, write tasks, commit."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import av
import pyarrow as pa

from .. import console
from ..shards import ledger
from ..shards.bank import Bank
from ..shards.errors import UsageError
from ..shards.files import make_folder, sha256_of, write_atomic
from ..shards.ledger import Clip, LedgerRow
from ..shards.manifest import NAME as MANIFEST_NAME
from ..shards.manifest import BankShard, Generation, Manifest, ShardEntry, hash_json, write_manifest
from .bank.actions import canonical_name
from .bank.shard import write_bank_tars
from .cluster import ray_session, run_tasks
from .config import IngestConfig, Validate
from .errors import MediaError
from .plan import Plan, SamplePlan, make_plan
from .sandbox import Sandbox
from .sources import InputRow, Inputs, read_inputs
from .write import WrittenShard, write_shard

WORK = ".work"
PROBE_BATCH = 8

_sandboxes: dict[tuple[int, int], Sandbox] = {}  # of this worker process, kept over tasks


@dataclass(frozen=True, slots=True)
class IngestResult:
    """What an ingest made."""

    manifest: Manifest
    counts: dict[str, int]
    """Inputs by status."""
    ignored: int
    """Files of the input folder that are not videos."""
    rows: list[LedgerRow]


def ingest(config: IngestConfig) -> IngestResult:
    """Make a dataset of raw videos.

    Raises:
        UsageError: a wrong input, manifest, bank or output folder; nothing was done.
        StorageError: the disk refused; the job goes on where it stood when it is run again.
    """
    _check_out(config)
    inputs = read_inputs(config.input)
    spans = next((row for row in inputs.rows if row.start_seconds is not None or row.end_seconds is not None), None)
    if spans is not None and config.preset == "archive":
        raise UsageError(f"preset must be train-cpu to cut spans, got archive (input {spans.input_id!r} has a span)")
    actions = _known_actions(inputs.rows, Bank.open(config.bank)) if config.bank is not None else None
    with ray_session(config.address, config.workers) as at_a_time:
        facts = _probe_all(inputs.rows, config, at_a_time)
        plan = make_plan(inputs.rows, facts, config, actions)
        written = _write_all(plan, config, actions, at_a_time)
    bank_shards = [] if config.bank is None else write_bank_tars(config.bank, config.out, spellings=actions or {})
    return _commit(inputs, plan, written, bank_shards, config)


def _check_out(config: IngestConfig) -> None:
    out = config.out
    if (out / MANIFEST_NAME).exists():
        raise UsageError(f"out must be a new or empty folder, but {out} already holds a dataset")
    if out.is_dir():
        strangers = sorted(p.name for p in out.iterdir() if p.name not in (WORK, "shards", "bank", ledger.NAME))
        if strangers or (any(out.iterdir()) and not (out / WORK).is_dir()):
            raise UsageError(f"out must be a new or empty folder, but {out} holds {strangers or ['shards']}")
    elif out.exists():
        raise UsageError(f"out must be a folder, but {out} is a file")


def _known_actions(rows: Sequence[InputRow], bank: Bank) -> dict[str, int]:
    """Every label of the input that the bank knows, as it is spelled or by its canonical name → its action id."""
    names = {label: (label, canonical_name(label)) for row in rows for label in row.labels}
    return {
        label: bank.find(known).action_id
        for label, spellings in names.items()
        if (known := next((name for name in spellings if name in bank), None)) is not None
    }


def _probe_all(rows: Sequence[InputRow], config: IngestConfig, at_a_time: int) -> list[dict[str, Any]]:
    batches = [[row.path for row in rows[i : i + PROBE_BATCH]] for i in range(0, len(rows), PROBE_BATCH)]
    limits = (config.video_cpu_seconds, config.video_memory_mb)
    with console.progress(len(rows), "probe", "videos") as shown:
        results = run_tasks(
            _probe_task,
            [(batch, config.validate, limits) for batch in batches],
            at_a_time,
            lambda found: shown.update(len(found)),
        )
    return [facts for result in results for facts in result]


def _probe_task(paths: list[str], validate: Validate, limits: tuple[int, int]) -> list[dict[str, Any]]:
    found = []
    for path in paths:
        try:
            found.append(_sandbox(limits).call("probe", path=path, validate=validate))
        except MediaError as error:
            found.append({"reason": error.reason, "detail": error.detail})
    return found


def _sandbox(limits: tuple[int, int]) -> Sandbox:
    return _sandboxes.setdefault(limits, Sandbox(*limits))


def _write_all(plan: Plan, config: IngestConfig, actions: dict[str, int] | None, at_a_time: int) -> list[WrittenShard]:
    """Write every shard that an earlier run of the same plan has not committed yet."""
    done_folder = _open_work(plan, config, actions)
    done = {number: _recall(done_folder, number) for number in range(len(plan.shards))}
    todo = [number for number, shard in done.items() if shard is None]
    with console.progress(plan.samples, "write", "samples") as shown:
        shown.update(sum(len(plan.shards[number]) for number, shard in done.items() if shard is not None))
        arguments = []
        for number in todo:
            labels = {label for sample in plan.shards[number] for label in sample.row.labels}
            ids = None if actions is None else {label: actions[label] for label in labels}
            arguments.append((plan.shards[number], number, config, ids, done_folder))
        results = run_tasks(_write_task, arguments, at_a_time, lambda shard: shown.update(len(shard.ledger)))
    done |= dict(zip(todo, results, strict=True))
    return [shard for shard in done.values() if shard is not None]


def _open_work(plan: Plan, config: IngestConfig, actions: dict[str, int] | None) -> Path:
    """The folder of notes on committed shards; emptied when they belong to another plan."""
    work = config.out / WORK
    plan_hash = hash_json([_config_record(config), actions, [[asdict(s) for s in shard] for shard in plan.shards]])
    note = work / "plan.json"
    if note.is_file() and (not config.resume or json.loads(note.read_bytes()) != plan_hash):
        for folder in (work, config.out / "shards", config.out / "bank"):
            shutil.rmtree(folder, ignore_errors=True)
    make_folder(work / "done")
    write_atomic(note, json.dumps(plan_hash).encode())
    return work / "done"


def _write_task(
    samples: list[SamplePlan], number: int, config: IngestConfig, action_ids: dict[str, int] | None, done_folder: Path
) -> WrittenShard:
    sandbox = _sandbox((config.video_cpu_seconds, config.video_memory_mb))
    shard = write_shard(samples, number, config.out.absolute(), config, action_ids, sandbox)
    write_atomic(done_folder.absolute() / f"{number:06d}.json", json.dumps(asdict(shard)).encode())
    return shard


def _recall(done_folder: Path, number: int) -> WrittenShard | None:
    path = done_folder / f"{number:06d}.json"
    if not path.is_file():
        return None
    record = json.loads(path.read_bytes())
    rows = [LedgerRow(**(row | {"clips": [Clip(**clip) for clip in row["clips"]]})) for row in record["ledger"]]
    return WrittenShard(ShardEntry(**record["entry"]) if record["entry"] else None, rows)


def _commit(
    inputs: Inputs, plan: Plan, written: list[WrittenShard], bank: list[BankShard], config: IngestConfig
) -> IngestResult:
    by_id = {row.input_id: row for row in plan.rejected}
    by_id |= {row.input_id: row for shard in written for row in shard.ledger}
    rows = [by_id[row.input_id] for row in inputs.rows]
    entries = [shard.entry for shard in written if shard.entry is not None]
    counts = ledger.count(rows)
    totals = counts | {
        "inputs": len(rows),
        "samples": sum(entry.samples for entry in entries),
        "bytes": sum(entry.bytes for entry in entries),
    }
    ledger.write_ledger(config.out, rows)
    record = _config_record(config)
    manifest = Manifest(
        classes=sorted({label for row in inputs.rows for label in row.labels}),
        generations=[Generation(record, hash_json(record), entries)],
        ledger_sha256=sha256_of(config.out / ledger.NAME),
        totals=totals,
        bank=bank,
    )
    write_manifest(config.out, manifest)
    shutil.rmtree(config.out / WORK)
    return IngestResult(manifest, counts, inputs.ignored, rows)


def _config_record(config: IngestConfig) -> dict[str, Any]:
    """The hashed options, with the versions of the libraries whose output lands in the files."""
    codec = ".".join(map(str, av.library_versions["libavcodec"]))
    return config.hashed() | {"libavcodec": codec, "pyarrow": pa.__version__}
