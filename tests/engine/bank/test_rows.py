"""Rows are read by number through parts, batches and row groups; forged files are told before anything reads them."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reelmill.engine.bank.records import merging
from reelmill.engine.bank.records.build import build_bank
from reelmill.engine.bank.records.config import BankBuildConfig
from reelmill.engine.bank.rows import DescriptionRows, check_part, open_record, text_batches
from reelmill.shards.bank.files import TEXTS, Part
from reelmill.shards.errors import DamageError, UsageError


@pytest.fixture
def bank(tmp_path, monkeypatch) -> Path:
    """300 texts in three parts, row groups of 40 and batches of 16."""
    monkeypatch.setattr(merging, "GROUP_ROWS", 40)
    monkeypatch.setattr(merging, "BATCH_ROWS", 16)
    lines = [json.dumps({"action": f"do {n % 20}", "text": f"{n} {'x' * 7900}"}) for n in range(300)]
    (tmp_path / "r.jsonl").write_text("\n".join(lines))
    out: Path = tmp_path / "bank"
    build_bank(BankBuildConfig(records=tmp_path / "r.jsonl", out=out, dedup="exact", part_mb=1))
    return out


def test_any_rows_are_read_in_order(bank):
    parts = open_record(bank).parts
    assert len(parts) == 3
    whole = pa.concat_tables(pq.read_table(bank / part.table, columns=["action_id", "text"]) for part in parts)
    rows = DescriptionRows(bank, parts, ["text", "action_id"])
    draw = np.random.default_rng(0)
    for size in (0, 1, 5, 150, 300):
        places = np.sort(draw.choice(300, size, replace=False))
        assert rows.take(places).equals(whole.take(places).select(["text", "action_id"]))
    texts = list[str]()
    for part in parts:
        for first in range(0, part.rows, 23):
            for batch in text_batches(bank / part.texts, first, min(23, part.rows - first)):
                texts += batch.to_pylist()
    assert texts == whole.column("text").to_pylist()


def test_files_that_are_not_what_they_should_be_are_told(bank, tmp_path):
    parts = open_record(bank).parts
    wrong = [Part(parts[0].rows + 1, parts[0].table, parts[0].texts)]
    with pytest.raises(DamageError, match=rf"000000\.parquet must have {parts[0].rows + 1} rows, got {parts[0].rows}"):
        DescriptionRows(bank, wrong, ["text"]).take(np.array([0]))
    with pytest.raises(DamageError, match=rf"000000\.arrow must have at least {parts[0].rows + 1} rows, got"):
        list(text_batches(bank / parts[0].texts, 0, parts[0].rows + 1))
    pq.write_table(pa.table({"text": ["a"], "x": [1]}), tmp_path / "x.parquet")
    with pytest.raises(DamageError, match=r"x\.parquet does not read"):
        DescriptionRows(tmp_path, [Part(1, "x.parquet", "")], ["text", "source"]).take(np.array([0]))
    (tmp_path / "x.parquet").write_bytes(b"no table")
    with pytest.raises(DamageError, match=r"x\.parquet does not read"):
        DescriptionRows(tmp_path, [Part(1, "x.parquet", "")], ["text"]).take(np.array([0]))
    data = bytearray((bank / parts[0].texts).read_bytes())
    data[2000] ^= 1
    (bank / parts[0].texts).write_bytes(data)
    with pytest.raises(DamageError, match=r"000000\.arrow is not what bank\.json says"):
        check_part(bank, 0)
    with pytest.raises(UsageError, match=r"bank must be a folder with bank\.json"):
        open_record(tmp_path)


@pytest.mark.parametrize(
    ("ends", "data"),
    [([0, 2**31 - 1, 10], b"xxxxxxxxxx"), ([0, 5, 3], b"xxxxxxxxxx"), ([0, 2, 4], b"ab\xff\xfe")],
)
def test_forged_texts_reach_no_computation(tmp_path, ends, data):
    places = pa.array(ends, pa.int32()).buffers()[1]
    texts = pa.StringArray.from_buffers(len(ends) - 1, places, pa.py_buffer(data))
    with pa.ipc.new_file(str(tmp_path / "x.arrow"), TEXTS) as writer:
        writer.write_batch(pa.record_batch([texts], schema=TEXTS))
    with pytest.raises(DamageError, match=r"x\.arrow does not read"):
        list(text_batches(tmp_path / "x.arrow", 0, 2))
    with pytest.raises(DamageError, match=r"none does not read"):
        list(text_batches(tmp_path / "none", 0, 2))
