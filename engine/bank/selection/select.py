"""A bank → a bank of the descriptions that have most to do with their action (ActionHub's top-k).

Stages of tasks: every byte of the parts is checked; words are counted and their vectors looked up; texts are scored in
pieces; the best ones of each action are written. Memory is that of a row group and of one action's scores, however many
rows there are. Killed at any point, the job goes on from there when it is run again, and its bytes are the same.

The new bank has the same actions and tables, and `relevance` filled in. Its ledger is that of the old one: descriptions
that were not selected are counted in `bank.json` (options.select), and lie in the old bank still.
"""

import hashlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from .... import console
from ....shards.bank import read_actions
from ....shards.bank.files import (
    DESCRIPTIONS_FOLDER,
    NAME,
    BankRecord,
    check_files,
    versioned,
)
from ....shards.errors import UsageError
from ....shards.files import make_folder
from ...cluster import Task, ray_session
from ..records.committing import sweep
from ..records.gather import part_of
from ..records.stages import Runner
from ..rows import check_part, open_record
from ..scratch import Note, Scratch, check_out
from .config import SelectConfig
from .scoring import Piece, Tower, count_piece, embed_names, find_vectors, pieces_of, score_piece
from .selecting import commit_selected, is_written, kept_of, parts_kept, select_part

INLINE_ROWS = 100_000
INLINE_TOWER_ROWS = 2_000
"""Up to here starting Ray takes longer than the work."""
PIECE_ROWS = 1 << 18
TOWER_PIECE_ROWS = 1 << 12  # minutes of one core
CHECK_MEMORY_BYTES = 100_000_000
WORDS_MEMORY_BYTES = 600_000_000
TOWER_MEMORY_BYTES = 3_000_000_000
SELECT_MEMORY_BYTES = 600_000_000


@dataclass(frozen=True, slots=True)
class Selected:
    """What was selected, and how well it could be told."""

    actions: int
    descriptions: int
    of: int
    """Descriptions of the bank."""
    unscored: int
    """Descriptions of the bank without relevance."""
    nameless: list[str]
    """Actions with descriptions, but without relevance, as nothing is known of their names."""
    method: Note
    """What the vectors are of, and how many words they know."""
    cut: int
    """Texts that were longer than the text tower reads."""


@dataclass(frozen=True, slots=True)
class _Job:
    config: SelectConfig
    record: BankRecord
    actions: list[dict[str, Any]]
    work: Scratch
    run: Runner

    @property
    def tower(self) -> Tower | None:
        return _tower_of(self.config)


def select(config: SelectConfig) -> Selected:
    """Select the descriptions of every action that have most to do with it.

    Raises:
        UsageError: no bank, vectors or weights there, or they do not read; or `out` holds something.
        DamageError: a file of the bank is not what it was.
        StorageError: the disk refused.
    """
    record = open_record(config.bank)
    ours = {DESCRIPTIONS_FOLDER, *record.files, versioned("actions.parquet", record.generation)}
    check_out(config.out, NAME, ours)
    actions = read_actions(config.bank, record)
    check_files(config.bank, record, record.files, content=False)
    work = Scratch(config.out)
    with work.lock():
        check_out(config.out, NAME, ours)
        plan = _plan(config)
        if (config.out / NAME).is_file():  # killed after its last file
            if not work.holds(plan):
                raise UsageError(f"out must be a new or empty folder, but {config.out} holds a bank")
            return _finish(work, open_record(config.out))
        work.open(plan, resume=config.resume)
        make_folder(config.out / DESCRIPTIONS_FOLDER)
        with _runner(config, sum(part.rows for part in record.parts)) as run:
            job = _Job(config, record, actions, work, run)
            _check(job)
            pieces = _score(job)
            _choose(job, pieces)
        return _finish(work, commit_selected(job.work, config, record, actions, len(pieces)))


def _tower_of(config: SelectConfig) -> Tower | None:
    """The text tower that was asked for."""
    if config.model is None:
        return None
    weights = config.weights
    assert weights is not None, "the config has checked it"
    changed = weights.stat().st_mtime_ns if weights.is_file() else 0
    return Tower(config.model, str(weights.absolute()), changed)


def _plan(config: SelectConfig) -> dict[str, Any]:
    with (config.bank / NAME).open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    plan = {"bank": str(config.bank.absolute()), "bank_json": digest, "top_k": config.top_k}
    for name in ("vectors", "weights"):
        path = getattr(config, name)
        if path is not None and path.is_file():
            plan[name] = [str(path.absolute()), path.stat().st_size, path.stat().st_mtime_ns]
    return plan | {"model": config.model}


@contextmanager
def _runner(config: SelectConfig, rows: int) -> Iterator[Runner]:
    """What runs the tasks: Ray, or this process where there is little to do."""
    few = INLINE_ROWS if config.model is None else INLINE_TOWER_ROWS
    if config.address is None and rows <= few:
        yield Runner(None, config.task_seconds)
        return
    with ray_session(config.address, config.workers, config.memory_mb) as session:
        yield Runner(session, config.task_seconds)


def _check(job: _Job) -> None:
    with console.progress(sum(part.rows for part in job.record.parts), "check", "rows") as shown:
        bank, numbers = job.config.bank.absolute(), range(len(job.record.parts))
        job.run.run(check_part, (Task(f"checking part {n}", (bank, n), CHECK_MEMORY_BYTES) for n in numbers), shown)


def _score(job: _Job) -> list[Piece]:
    tower, work = job.tower, job.work
    pieces = pieces_of(job.config.bank, job.record, PIECE_ROWS if tower is None else TOWER_PIECE_ROWS)
    names = [row["canonical"] for row in job.actions]
    starts = [row["first_row"] for row in job.actions]
    rows = sum(piece.rows for piece in pieces)
    if tower is None:
        with console.progress(rows, "count words", "rows") as shown:
            waiting = _waiting(work, "words", pieces, shown)
            tasks = (Task(f"counting words of piece {p.number}", (work.out, p), WORDS_MEMORY_BYTES) for p in waiting)
            job.run.run(count_piece, tasks, shown)
    if work.note("vectors", 0) is None:
        with console.progress(None, "vectors", "files") as shown:
            if tower is None:
                assert job.config.vectors is not None, "the config has checked it"
                arguments = (work.out, job.config.vectors.absolute(), len(pieces), names, starts)
                job.run.run(find_vectors, [Task("reading the vectors", arguments, 4 * WORDS_MEMORY_BYTES)], shown)
            else:
                task = Task("embedding the names", (work.out, tower, names, starts), TOWER_MEMORY_BYTES)
                job.run.run(embed_names, [task], shown)
    memory = WORDS_MEMORY_BYTES if tower is None else TOWER_MEMORY_BYTES
    with console.progress(rows, "score", "rows") as shown:
        waiting = _waiting(work, "scores", pieces, shown)
        tasks = (Task(f"scoring piece {p.number}", (work.out, p, tower), memory) for p in waiting)
        job.run.run(score_piece, tasks, shown)
    return pieces


def _waiting(work: Scratch, stage: str, pieces: Iterable[Piece], shown: console.Progress) -> Iterator[Piece]:
    for piece in pieces:
        if work.note(stage, piece.number) is None:
            yield piece
        else:
            shown.update(piece.rows)


def _choose(job: _Job, pieces: list[Piece]) -> None:
    kept = kept_of(job.actions, job.config.top_k)
    parts = parts_kept(job.record, sum(kept))
    of_part: list[list[int]] = [[] for _ in range(parts)]
    for place, row in enumerate(job.actions):
        of_part[part_of(row["action_id"], parts)].append(place)
    with console.progress(sum(kept), "select", "rows") as shown:

        def tasks() -> Iterator[Task]:
            for number, places in enumerate(of_part):
                rows = [job.actions[place] for place in places]
                spans = [(row["action_id"], row["first_row"], row["descriptions"]) for row in rows]
                first = spans[0][1] if spans else 0
                end = spans[-1][1] + spans[-1][2] if spans else 0
                note = job.work.note("parts", number)
                if note is not None and is_written(job.work.out, note):
                    shown.update(note["rows"])
                    continue
                near = [piece for piece in pieces if piece.row < end and first < piece.row + piece.rows]
                where = job.work.out, job.config.bank.absolute()
                how = job.config.top_k, job.record.generation
                arguments = (*where, job.record.parts, number, spans, near, *how)
                yield Task(f"selecting part {number}", arguments, SELECT_MEMORY_BYTES + 16 * (end - first))

        job.run.run(select_part, tasks(), shown)


def _finish(work: Scratch, record: BankRecord) -> Selected:
    sweep(work.out, record)
    work.clear()
    how, totals = record.options["select"], record.totals
    return Selected(
        totals["actions"],
        totals["descriptions"],
        how["of"],
        how["unscored"],
        how["nameless"],
        how["method"],
        how["cut"],
    )
