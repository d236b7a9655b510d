"""The bank's benchmark: its records hold what they say, and a small run leaves a record with every figure."""

import json
from collections import Counter

import numpy as np
import pytest
from reelmill.benchmarks.bank import BenchBankConfig, bench_bank
from reelmill.benchmarks.bank_records import ACTIONS, DUPLICATES, KINDS, SHARES, write_records
from reelmill.benchmarks.bank_tars import tar_bytes
from reelmill.engine.bank.records.build import build_bank
from reelmill.engine.bank.records.config import BankBuildConfig
from reelmill.shards.bank.files import read_record
from reelmill.shards.errors import UsageError


def test_records_are_what_they_are_said_to_be(tmp_path):
    written = write_records(tmp_path, 5000)
    lines = written.records.read_bytes().splitlines()
    assert len(lines) == len(written.kinds) == 5000
    assert len(written.labels.read_text().splitlines()) == ACTIONS
    assert sum(SHARES) == pytest.approx(1)
    rows = [json.loads(line) for line, kind in zip(lines, written.kinds, strict=True) if KINDS[kind] == "new"]
    assert all(10 <= len(row["text"].split()) <= 30 for row in rows)
    counts = Counter(row["action"] for row in rows).most_common()
    assert 0.1 < counts[0][1] / len(rows) < 0.16  # Zipf's law: 1 / H(1211)
    again = write_records(tmp_path / "again", 5000)
    assert again.records.read_bytes() == written.records.read_bytes()
    assert (again.kinds == written.kinds).all()
    assert 0.15 < np.isin(written.kinds, [KINDS.index(kind) for kind in DUPLICATES]).mean() < 0.21


def test_tars_are_measured_by_what_webdataset_writes(tmp_path):
    rows = [{"action": "jump", "text": text, "source": "s"} for text in ("a", "b" * 600, "c")]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build_bank(BankBuildConfig(records=tmp_path / "in.jsonl", out=tmp_path / "bank"))
    sizes = tar_bytes(tmp_path / "bank", read_record(tmp_path / "bank"))
    headers = 3 * 512  # of a member: an extended header with the time, and the member's own
    assert sizes["text"] == 3 * headers + 512 * (1 + 2 + 1)
    assert sizes["plain"] == 3 * 512 + 512 * (1 + 2 + 1)
    assert sizes["record"] == sizes["text"] + 3 * (headers + 512)


def test_a_small_run_leaves_a_record(tmp_path, capsys):
    assert bench_bank(BenchBankConfig(records=(1000, 2000), kills=1, results=tmp_path / "bank.jsonl")) == 0
    first, second, kills = map(json.loads, (tmp_path / "bank.jsonl").read_text().splitlines())
    for record, rows in ((first, 1000), (second, 2000)):
        assert (record["bench"], record["part"], record["records"]) == ("bank", "build", rows)
        assert record["totals"]["records"] == rows
        assert 0 < record["selected"] <= record["totals"]["descriptions"]
        assert record["seconds"] > record["select_seconds"] > 0
        assert record["recall"] >= 0.95
        assert record["precision"] >= 0.99
        assert (record["noise_missed"], record["kept_for_noise"]) == (0, 0)
        assert record["peak_bytes"] >= record["peak_process_bytes"] > 50_000_000
        assert 0 < record["of_tars_record"] < record["of_tars_text"] < record["of_tars_plain"]
    assert (kills["part"], kills["different"]) == ("kills", 0)
    said = capsys.readouterr().out
    assert "cost grows as" in said
    assert "planted duplicates" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"records": ()}, "records must be ascending numbers >= 1000"),
        ({"records": (2000, 1000)}, "records must be ascending"),
        ({"records": (10,)}, "records must be ascending numbers >= 1000, got"),
        ({"kills": -1}, "kills must be >= 0, got -1"),
    ],
)
def test_mistakes_are_told(options, message):
    with pytest.raises(UsageError, match=message):
        BenchBankConfig(**options)
