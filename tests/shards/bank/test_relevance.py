"""Relevance comes back beside the texts that it is of, from Parquet and from tars."""

import json
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reelmill.engine.bank.records.build import build_bank
from reelmill.engine.bank.records.config import BankBuildConfig
from reelmill.engine.bank.shard import write_bank_tars
from reelmill.shards.bank import Bank, relevance
from reelmill.shards.bank.files import file_entry, read_record, write_record
from reelmill.shards.bank.relevance import read_relevance
from reelmill.shards.errors import DamageError
from reelmill.shards.manifest import Manifest, write_manifest


def score_of(text: str) -> float | None:
    """Any number that follows from the text; none for every fourth or so."""
    word = zlib.crc32(text.encode())
    return None if word % 4 == 0 else float(np.float32(word / 2**32))


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    """A bank of actions with 9, 1 and 0 descriptions, with relevance written into it."""
    counts = {"jump": 9, "run": 1}
    rows = [
        {"action": name, "text": f"{name} number {n}", "source": "t"} for name in counts for n in range(counts[name])
    ]
    records, labels = tmp_path / "records.jsonl", tmp_path / "labels.txt"
    records.write_text("".join(json.dumps(row) + "\n" for row in rows))
    labels.write_text("jump\nrun\nwave\n")
    folder = tmp_path / "bank"
    build_bank(BankBuildConfig(records=records, out=folder, labels=(labels,), dedup="exact"))
    record = read_record(folder)
    for part in record.parts:
        table = pq.read_table(folder / part.table)
        scores = pa.array([score_of(text) for text in table.column("text").to_pylist()], pa.float32())
        pq.write_table(
            table.set_column(table.schema.get_field_index("relevance"), "relevance", scores), folder / part.table
        )
        record = replace(record, files=record.files | {part.table: file_entry(folder / part.table)})
    write_record(folder, record)
    return folder


def check(where: Path) -> None:
    opened, found = Bank.open(where), read_relevance(where)
    assert found.keys() == {action.action_id for action in opened.actions if action.descriptions}
    for action_id, scores in found.items():
        wanted = [score_of(text) for text in opened.descriptions(action_id)]
        assert scores.dtype == np.float32
        np.testing.assert_array_equal(scores, [np.nan if score is None else score for score in wanted])
    assert np.isnan(found[opened.find("jump").action_id]).any()


@pytest.mark.parametrize("rows", [1, 4, 1000])
def test_it_comes_beside_its_texts_from_either_form(bank, tmp_path, monkeypatch, rows):
    monkeypatch.setattr(relevance, "BATCH_ROWS", rows)
    check(bank)
    shards = write_bank_tars(bank, tmp_path / "dataset", spellings={})
    write_manifest(tmp_path / "dataset", Manifest([], [], "", {}, bank=shards))
    check(tmp_path / "dataset")


def test_a_damaged_part_is_named(bank):
    part = bank / read_record(bank).parts[0].table
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(DamageError, match=rf"{part.name} does not read: "):
        read_relevance(bank)
