"""The ingest job: list, probe, plan, write, commit. Killed at any point, it goes on from there when it is run again."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import av
import pyarrow as pa

from .. import console
from ..shards import ledger
from ..shards.errors import StorageError, UsageError
from ..shards.files import make_folder, write_atomic
from ..shards.ledger import LedgerRow
from ..shards.manifest import NAME as MANIFEST_NAME
from ..shards.manifest import BankShard, Manifest, read_manifest
from .bank.shard import write_bank_tars
from .cluster import Effort, Session, Task, ray_session, run_tasks
from .commit import commit, finish, sweep
from .config import IngestConfig, RetryConfig
from .earlier import INPUTS_NAME, Earlier
from .listing import known_actions, list_inputs, source_of
from .media.encoders import check_encoder
from .media.limits import task_memory_bytes
from .plan import SamplePlan, shard_digest
from .planning import Planning, Totals
from .probing import probe_all, sandbox_of
from .sources import InputRow
from .work import NAME as WORK_NAME
from .work import PASSING, Work
from .write import write_shard


@dataclass(frozen=True, slots=True)
class Done:
    """What an ingest did, and what there is now."""

    manifest: Manifest
    out: Path
    ignored: int
    """Files of the input folder that are not videos."""
    unchanged: int
    """Inputs that earlier generations hold as they are."""
    read: Effort
    """Videos that this run probed; the others were known."""
    written: Effort
    """Samples that this run wrote."""

    @property
    def counts(self) -> dict[str, int]:
        """Inputs by status."""
        return {status: self.manifest.totals[status] for status in ledger.count([])}

    def failed(self, at_most: int) -> list[LedgerRow]:
        """The first rows of the ledger that failed."""
        rows = ledger.read_ledger(self.out, where=("status", "==", "failed"))
        return [ledger.row_of(record) for record in rows.slice(0, at_most).to_pylist()]


@dataclass(slots=True)
class _Job:
    config: IngestConfig
    work: Work
    session: Session
    earlier: Earlier | None
    actions: dict[str, int] | None
    record: dict[str, Any]

    @property
    def generation(self) -> int:
        return 0 if self.earlier is None else len(self.earlier.manifest.generations)


def ingest(config: IngestConfig) -> Done:
    """Make a dataset of raw videos, or add a generation to one.

    Raises:
        UsageError: a wrong input, manifest, bank or output folder; nothing was done.
        StorageError: the disk refused; the job goes on where it stood when it is run again.
    """
    _check_out(config)
    check_encoder(config)
    source = source_of(config)
    return replace(_run(config, source, frozenset()), ignored=source.ignored)


def retry(config: RetryConfig) -> Done:
    """Try the failed inputs of a dataset again.

    Raises:
        UsageError: no dataset, or one that does not remember its inputs.
    """
    folder = config.dataset
    finish(folder)
    manifest = read_manifest(folder)
    if not (folder / INPUTS_NAME).is_file():
        raise UsageError(f"{folder} must hold {INPUTS_NAME} to know where its inputs lie, but there is none")
    earlier = Earlier(folder, manifest)
    rows = [earlier.input(number) for number in range(len(earlier)) if earlier.status[number] == "failed"]
    made_with = IngestConfig.from_record(manifest.generations[-1].config, input=folder, out=folder)
    job = replace(made_with, workers=config.workers, address=config.address, append=True)
    return _run(job, rows, frozenset({"failed"}))


def _run(config: IngestConfig, rows: Iterable[InputRow], again: frozenset[str]) -> Done:
    config = replace(config, out=config.out.absolute())  # a worker's working folder is another one
    work, input_folder = Work(config.out), _folder_itself(config.input)
    with work.lock():
        _open(config, work)
        earlier = Earlier(config.out, read_manifest(config.out)) if (config.out / MANIFEST_NAME).is_file() else None
        listing = list_inputs(rows, work, config, earlier)
        carried = config.out if earlier is not None and earlier.manifest.bank else None
        actions = known_actions(listing.labels, config.bank or carried)
        with ray_session(config.address, config.workers, config.memory_mb) as session:
            job = _Job(config, work, session, earlier, actions, _config_record(config))
            read = probe_all(listing, work, config, session, earlier, again)
            _check_input(config.input, input_folder)
            planning = Planning(listing, work, config, earlier, actions)
            totals = planning.totals()
            bank = _write_bank(job)
            same = totals.unchanged == totals.inputs and totals.unchanged + planning.aside == len(earlier or ())
            if earlier is not None and same and bank == earlier.manifest.bank:
                work.clear()
                return Done(earlier.manifest, config.out, 0, totals.unchanged, read, Effort())
            written = _write(job, planning, totals)
            _check_input(config.input, input_folder)
        manifest = commit(work, planning.placed(), earlier, planning.live, bank, job.record)
    return Done(manifest, config.out, 0, totals.unchanged, read, written)


def _check_out(config: IngestConfig) -> None:
    out = config.out
    if out.exists() and not out.is_dir():
        raise UsageError(f"out must be a folder, but {out} is a file")
    if (out / MANIFEST_NAME).is_file():
        generations = read_manifest(out).generations
        if not generations:
            raise UsageError(f"out must be a new or empty folder or a dataset of videos, but {out} holds a bank alone")
        made_with = generations[-1].config
        for name, value in config.form().items():
            if made_with.get(name) != value:
                was = made_with.get(name)
                raise UsageError(f"{name} must be {was!r} as in the dataset {out}, got {value!r}; or give a new folder")
    elif out.is_dir():
        strangers = sorted(p.name for p in out.iterdir() if p.name not in (WORK_NAME, "shards", "bank"))
        if strangers or (any(out.iterdir()) and not (out / WORK_NAME).is_dir()):
            raise UsageError(
                f"out must be a new or empty folder or a dataset, but {out} holds {strangers or ['shards']}"
            )


def _folder_itself(path: Path) -> tuple[int, int] | None:
    """What tells a folder from another one that is mounted or moved into its place; None where there is none."""
    try:
        status = path.stat()
    except OSError:
        return None
    return (status.st_dev, status.st_ino) if path.is_dir() else None


def _check_input(path: Path, before: tuple[int, int] | None) -> None:
    """Not every input is lost because a mount is."""
    if before is not None and _folder_itself(path) != before:
        raise StorageError(f"{path} went away while it was read; bring it back and run again")


def _open(config: IngestConfig, work: Work) -> None:
    """Make good what a killed job left, and go on with it or clear it away."""
    finish(config.out)
    note = work.folder / "job.json"
    asked = str(config.input.absolute())
    if note.is_file() and config.resume and (found := json.loads(note.read_bytes())) != asked:
        raise UsageError(
            f"{config.out} holds an unfinished ingest of {found}; run that again, or start over: --no-resume"
        )
    if not (note.is_file() and config.resume):
        manifest = read_manifest(config.out) if (config.out / MANIFEST_NAME).is_file() else None
        work.clear()
        sweep(config.out, manifest)
    work.open()
    write_atomic(note, json.dumps(asked).encode())


def _write(job: _Job, planning: Planning, totals: Totals) -> Effort:
    """Write every shard that an earlier run of this job has not written yet; returns how much."""
    with console.progress(totals.samples, "write", "samples") as shown:

        def tasks() -> Iterator[Task]:
            for number, samples in planning.shards():
                labels = {label for sample in samples for label in sample.row.labels}
                ids = None if job.actions is None else {label: job.actions[label] for label in labels}
                digest = shard_digest(samples, job.record, ids)
                if _is_written(job, number, digest):
                    shown.update(len(samples))
                else:
                    arguments = (samples, number, digest, job.config, job.generation, ids)
                    pixels = max(sample.facts["width"] * sample.facts["height"] for sample in samples)
                    yield Task(f"writing shard {number}", arguments, task_memory_bytes(pixels))

        return run_tasks(_write_task, tasks(), job.session, shown, deadline_seconds=job.config.task_seconds)


def _is_written(job: _Job, number: int, digest: str) -> bool:
    note = job.work.note(number)
    if note is None or note["digest"] != digest or any(reason in PASSING for reason, _ in note["failures"].values()):
        return False
    tar = job.config.out / "shards" / f"{number:06d}.tar"
    return note["entry"] is None or (tar.is_file() and tar.stat().st_size == note["entry"]["bytes"])


def _write_task(
    samples: list[SamplePlan],
    number: int,
    digest: str,
    config: IngestConfig,
    generation: int,
    action_ids: dict[str, int] | None,
) -> Effort:
    work = Work(config.out)
    make_folder(work.scratch)
    sandbox = sandbox_of(config.video_cpu_seconds, config.video_memory_mb)
    shard = write_shard(samples, number, work, config, generation, action_ids, sandbox)
    work.write_note(number, {"digest": digest, **asdict(shard)})
    return Effort(len(samples), len(samples), shard.entry.bytes if shard.entry else 0)


def _write_bank(job: _Job) -> list[BankShard]:
    earlier = [] if job.earlier is None else job.earlier.manifest.bank
    if job.config.bank is None:
        return earlier
    made = write_bank_tars(job.config.bank, job.config.out, spellings=job.actions or {}, first=len(earlier))
    if [shard.sha256 for shard in made] != [shard.sha256 for shard in earlier]:
        return made
    for shard in made:  # the same bank again
        for suffix in (".tar", ".idx"):
            (job.config.out / shard.uri).with_suffix(suffix).unlink()
    return earlier


def _config_record(config: IngestConfig) -> dict[str, Any]:
    """The hashed options, with the versions of the libraries whose output lands in the files."""
    codec = ".".join(map(str, av.library_versions["libavcodec"]))
    # libavcodec's version does not tell that of x264, which comes in PyAV's wheel
    return config.hashed() | {"libavcodec": codec, "av": av.__version__, "pyarrow": pa.__version__}
