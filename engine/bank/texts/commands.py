"""`reelmill bank synonyms|prompts|subtexts|entities BANK`: a table made, written beside the others, and recorded."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

from .... import console
from ....shards.bank import Bank
from ....shards.bank.files import file_entry, read_record, write_record
from ....shards.bank.texts import read_synonyms, read_verb_objects, write_rows
from ....shards.errors import ReelmillError
from ....shards.files import write_atomic
from ...work import Work
from ..names.labels import read_labels
from .config import EntitiesConfig, GenerateConfig, PromptsConfig, SubtextsConfig, SynonymsConfig
from .definitions import DEFINITIONS_NAME, write_definitions
from .generate.run import Generator, generator
from .make import (
    Made,
    make_entities,
    make_prompts,
    make_subtexts,
    make_synonyms,
    make_verb_objects,
    match_definitions,
)
from .origin import Left, write_left
from .sources import open_actions
from .synonyms import positives, srt_draws
from .verb_objects import split_label

SHOWN = 5


def bank_synonyms(config: SynonymsConfig) -> int:
    """`reelmill bank synonyms BANK`."""
    if config.srt is not None:
        return _srt(config)
    with _job(config.bank, config.llm) as asked:
        actions = open_actions(config.bank)
        labels = make_verb_objects(actions, config)
        made = make_synonyms([label.verb for label in labels.values()], config, asked)
        rows = [
            {"action_id": number, "verb": label.verb, "object": label.object, "template": label.template}
            for number, label in labels.items()
        ]
        _check_answers(asked)
        with updated(config.bank, ["verb_objects.parquet", "synonyms.parquet"]):
            write_rows(config.bank, "verb_objects", rows)
            _write(config.bank, "synonyms", made, asked)
    _report(config.bank, "synonyms", made, asked, config.starter)
    return 0


def bank_prompts(config: PromptsConfig) -> int:
    """`reelmill bank prompts BANK`."""
    with _job(config.bank, config.llm) as asked:
        made = make_prompts(open_actions(config.bank), config, asked)
        _check_answers(asked)
        with updated(config.bank, ["prompts.parquet"]):
            _write(config.bank, "prompts", made, asked)
    _report(config.bank, "prompts", made, asked, config.starter)
    return 0


def bank_subtexts(config: SubtextsConfig) -> int:
    """`reelmill bank subtexts BANK`."""
    with _job(config.bank, config.llm) as asked:
        made = make_subtexts(open_actions(config.bank), config, asked)
        _check_answers(asked)
        with updated(config.bank, ["subtexts.parquet"]):
            _write(config.bank, "subtexts", made, asked)
    _report(config.bank, "subtexts", made, asked, config.starter)
    if config.score == "none":
        print("  the first candidates were taken, unscored; --score compares them")
    elif config.score == "hashed-words":
        print("  scored by words alone, an offline stand-in; --score open-clip knows what they mean")
    return 0


def bank_entities(config: EntitiesConfig) -> int:
    """`reelmill bank entities BANK`."""
    with _job(config.bank, config.llm) as asked:
        actions = open_actions(config.bank)
        definitions, unknown = match_definitions(actions, config.definitions)
        made = make_entities(actions, config, asked)
        made.left += unknown
        names = ["entities.parquet"] + ([DEFINITIONS_NAME] if config.definitions else [])
        _check_answers(asked)
        with updated(config.bank, names):
            _write(config.bank, "entities", made, asked)
            if config.definitions:
                write_definitions(config.bank, definitions)
    _report(config.bank, "entities", made, asked, config.starter)
    if config.definitions:
        print(
            f"  {len(definitions)} definitions; {len(unknown)} in the file are of actions that the bank does not have"
        )
    return 0


def _check_answers(asked: Generator | None) -> None:
    """An endpoint that fails at everything must not replace a table by an emptier one."""
    failed = [left for left in asked.left if left.reason != "budget"] if asked is not None else []
    if asked is not None and failed and not asked.tally.answered + asked.tally.cached:
        raise ReelmillError(
            f"generation must give at least one answer, but all {len(failed)} requests failed, the first with "
            f"{failed[0].reason}: {failed[0].detail}; nothing was written"
        )


@contextmanager
def updated(bank: Path, names: Sequence[str]) -> Iterator[None]:
    """Replace files of a bank inside the block, so that `bank.json` is true at every moment.

    It names none of them while they change: a bank whose job was killed in between opens, and verifies, without them.

    Args:
        bank: the folder; the caller holds its lock.
        names: files that the block writes, each atomically.

    Raises:
        DamageError: `bank.json` does not read.
        StorageError: the disk refused.
    """
    record = read_record(bank)
    for name in names:  # a killed job's
        for part in bank.glob(f".{name}.*.part"):
            part.unlink(missing_ok=True)
    others = {name: entry for name, entry in record.files.items() if name not in names}
    if len(others) < len(record.files):
        write_record(bank, replace(record, files=others))
    yield
    files = others | {name: file_entry(bank / name) for name in names}
    write_record(bank, replace(record, files=files))


@contextmanager
def _job(bank: Path, config: GenerateConfig) -> Iterator[Generator | None]:
    """The bank, locked for the block; with a generator where one is asked for."""
    open_actions(bank)  # before the lock, which would make the folder
    with Work(bank).lock(), generator(config, bank) if config.generate else nullcontext() as asked:
        yield asked


def _write(bank: Path, table: str, made: Made, asked: Generator | None) -> None:
    if asked is not None:
        made.left += asked.left
    else:
        made.left += [Left(name, "no_source", f"no {table} in a file or the starter bank") for name in made.missing]
    write_rows(bank, table, made.rows)
    write_left(_left_path(bank, table), made.left)


def _left_path(bank: Path, table: str) -> Path:
    return bank / f"{table}.left.jsonl"


def _report(bank: Path, table: str, made: Made, asked: Generator | None, starter: bool) -> None:
    rows = [(made.unit, f"{made.entries} with {_what(table)}, {len(made.missing)} without")]
    rows += [(f"from {console.printable(source)}", str(count)) for source, count in sorted(made.sources.items())]
    rows += asked.summary() if asked is not None else []
    rows += [("rows", str(len(made.rows))), ("table", str(bank / f"{table}.parquet"))]
    if made.left:
        rows.append(("left out", f"{len(made.left)} in {_left_path(bank, table)} (each with its reason)"))
    console.table(f"bank {table}", rows)
    if made.missing:
        shown = ", ".join(made.missing[:SHOWN]) + (" …" if len(made.missing) > SHOWN else "")
        total = made.entries + len(made.missing)
        options = "--from FILE" + ("" if asked is not None else " or --generate --endpoint URL --model NAME")
        options += "" if starter else " or --starter"
        text = (
            f"  {len(made.missing)} of {total} {made.unit} have no {_what(table)} ({shown}); fill them with {options}"
        )
        print(console.printable(text))


def _what(table: str) -> str:
    return {"entities": "description", "subtexts": "sub-texts"}.get(table, table)


def _srt(config: SynonymsConfig) -> int:
    assert config.srt is not None
    assert config.classes is not None
    bank, trees = Bank.open(config.bank), read_synonyms(config.bank)
    labels = read_verb_objects(config.bank)

    def verb_of(name: str) -> str:
        label = labels.get(bank.find(name).action_id) if name in bank else None
        return (label or split_label(name)).verb

    classes = [(str(number), verb_of(name)) for number, name in enumerate(read_labels(config.classes))]
    seen_names = read_labels(config.seen_classes) if config.seen_classes is not None else []
    seen = {word for name in seen_names for word in positives(verb_of(name), trees)}
    draws = srt_draws(classes, trees, runs=config.runs, seed=config.seed, seen=seen)
    write_atomic(config.srt, (json.dumps(draws, ensure_ascii=False, indent=1) + "\n").encode())
    console.table("draws", [("runs", str(config.runs)), ("classes", str(len(classes))), ("file", str(config.srt))])
    return 0
