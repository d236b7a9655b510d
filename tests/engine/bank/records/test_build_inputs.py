"""Every form of records is read the same; what is broken in one costs itself and is told."""

import io
import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reelmill.engine.bank.records import inputs
from reelmill.engine.bank.records.build import build_bank
from reelmill.engine.bank.records.config import BankBuildConfig
from reelmill.shards.bank import Bank
from reelmill.shards.bank.files import read_record
from reelmill.shards.errors import UsageError

ROWS = [("jump", "up and, down", "a"), ("fly", 'say "off"\nand go', "b"), ("jump", "Straße 跳 naïve", "")]


def texts_of(folder: Path) -> dict[str, list[str]]:
    bank = Bank.open(folder)
    return {action.canonical: bank.descriptions(action.action_id) for action in bank.actions}


def build(records: Path, out: Path, **options) -> dict[str, list[str]]:
    build_bank(BankBuildConfig(records=records, out=out, **options))
    return texts_of(out)


def ledger(bank: Path) -> list[tuple]:
    rows = pq.read_table(bank / "ledger.parquet").to_pylist()
    record = read_record(bank)
    assert record.totals["records"] == record.totals["descriptions"] + len(rows)
    return [(row["file"], row["row"], row["offset"], row["reason"]) for row in rows]


def tar_of(path: Path, members: list[tuple[str, bytes]]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write(folder: Path, kind: str) -> Path:
    path = folder / f"records.{kind}"
    names = ("action", "text", "source")
    match kind:
        case "jsonl":
            path.write_text("".join(json.dumps(dict(zip(names, row, strict=True))) + "\n" for row in ROWS))
        case "csv" | "tsv":
            mark = "," if kind == "csv" else "\t"
            quoted = [[field.replace('"', '""') for field in row] for row in (names, *ROWS)]
            lines = [mark.join(f'"{field}"' for field in row) for row in quoted]
            path.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(lines).encode())
        case "parquet":
            columns = dict(zip(names, zip(*ROWS, strict=True), strict=True))
            table = pa.table({name: pa.array(values) for name, values in columns.items()})
            table = table.set_column(0, "action", table["action"].dictionary_encode())
            pq.write_table(table, path, row_group_size=1)
        case "tar":
            records = [dict(zip(names, row, strict=True)) for row in ROWS]
            tar_of(
                path,
                [
                    ("a.json", json.dumps(records[0]).encode()),
                    ("b.mp4", b"no text"),
                    ("b.txt", records[1]["text"].encode()),
                    ("b.json", b'{"source": "b", "text": "not this"}'),
                    ("b.cls", b"fly"),
                    ("c.json", json.dumps(records[2]).encode()),
                ],
            )
    return path


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet", "tar"])
@pytest.mark.parametrize("chunk_bytes", [16, 16_000_000])
def test_every_form_says_the_same(tmp_path, monkeypatch, kind, chunk_bytes):
    monkeypatch.setattr(inputs, "CHUNK_BYTES", chunk_bytes)
    texts = build(write(tmp_path, kind), tmp_path / "bank")
    assert texts == {"fly": ['say "off" and go'], "jump": ["Straße 跳 naïve", "up and, down"]}
    origins = {action.canonical: action.origins for action in Bank.open(tmp_path / "bank").actions}
    assert origins == {"fly": ("b",), "jump": ("a", f"records.{kind}")}


def test_a_folder_and_a_pattern_take_every_file_once_in_order(tmp_path):
    (tmp_path / "in/deep").mkdir(parents=True)
    for name, text in (("b.jsonl", "one"), ("deep/a.csv", "two"), ("c.jsonl", "ONE!")):
        line = f"action,text\njump,{text}\n" if name.endswith("csv") else json.dumps({"action": "jump", "text": text})
        (tmp_path / "in" / name).write_text(line)
    (tmp_path / "in/notes.md").write_text("not a record")
    assert build(tmp_path / "in", tmp_path / "bank") == {"jump": ["one", "two"]}
    assert ledger(tmp_path / "bank") == [("c.jsonl", 1, 0, "near")]
    assert build(tmp_path / "in/*.jsonl", tmp_path / "some") == {"jump": ["one"]}


def test_columns_can_have_other_names(tmp_path):
    (tmp_path / "in.csv").write_text("label,caption,url\njump,hop,u\n")
    options = {"action_column": "label", "text_column": "caption", "source_column": "url"}
    assert build(tmp_path / "in.csv", tmp_path / "bank", **options) == {"jump": ["hop"]}


BROKEN_LINES = [
    (b'{"action": "jump", "text": "fine"}', None),
    (b'{"action": "jump", "text": "\xff"}', "encoding"),
    (b"", None),
    (b'{"action": "jump", "text": "a\\u0000b"}', "nul"),
    (b'{"action": "jump", "text": "a\0b"}', "nul"),
    (b'{"action": "jump", "text": "\\ud800"}', "encoding"),
    (b'{"action": "jump", "text": "' + b"x" * 200_000 + b'"}', "long_record"),
    (b'{"action": "jump"', "not_json"),
    (b"[" * 90_000, "not_json"),
    (b'["jump", "text"]', "not_json"),
    (b'{"text": "who?"}', "missing_action"),
    (b'{"action": "' + b"a" * 2000 + b'", "text": "x"}', "missing_action"),
    (b'{"action": 5, "text": "x"}', "missing_action"),
    (b'{"action": "jump", "text": null}', "missing_text"),
    (b'{"action": "jump", "text": "x", "source": "' + b"s" * 5000 + b'"}', "long_record"),
    (b'{"action": "swim", "text": "x"}', "unknown_action"),
    (b'{"action": "jump", "text": "<p>\xe2\x80\x8b</p>"}', "empty"),
    (b'{"action": "jump", "text": "last"}', None),
]


@pytest.mark.parametrize("chunk_bytes", [20_000, 16_000_000])
def test_broken_lines_end_in_the_ledger_with_row_and_offset(tmp_path, monkeypatch, chunk_bytes):
    monkeypatch.setattr(inputs, "CHUNK_BYTES", chunk_bytes)
    (tmp_path / "in.jsonl").write_bytes(b"\n".join(line for line, _ in BROKEN_LINES))
    (tmp_path / "labels.txt").write_text("jump\n")
    options = {"labels": (tmp_path / "labels.txt",), "max_record_bytes": 100_000}
    assert build(tmp_path / "in.jsonl", tmp_path / "bank", **options) == {"jump": ["fine", "last"]}
    want, row, offset = [], 0, 0
    for line, reason in BROKEN_LINES:
        row += bool(line)
        if reason:
            want.append(("in.jsonl", row, offset, reason))
        offset += len(line) + 1
    assert ledger(tmp_path / "bank") == want


def test_a_broken_row_of_csv_costs_itself(tmp_path):
    lines = [
        (b'action,text,source', None),
        (b'jump,fine,a', None),
        (b'jump,too,many,fields', "columns"),
        (b'jump', "columns"),
        (b'jump,"never closed,a', "columns"),
        (b'jump,"two\nlines",a', None),
        (b'jump,say "quoted" inside,a', None),
        (b'jump,\xff,a', "encoding"),
        (b'jump,a\0b,a', "nul"),
        (b'jump,"closed" badly,a', "columns"),
        (b',no action,a', "missing_action"),
        (b'jump,last,a', None),
    ]  # fmt: skip
    (tmp_path / "in.csv").write_bytes(b"\n".join(line for line, _ in lines))
    texts = build(tmp_path / "in.csv", tmp_path / "bank")
    assert texts == {"jump": ["fine", "last", 'say "quoted" inside', "two lines"]}
    want, offset = [], 0
    for row, (line, reason) in enumerate(lines):
        if reason:
            want.append(("in.csv", row, offset, reason))
        offset += len(line) + 1
    assert ledger(tmp_path / "bank") == want


def test_broken_values_of_parquet_cost_themselves(tmp_path):
    text = pa.array([b"fine", b"\xff", None, b"a\0b", b"x" * 5000], pa.binary()).cast(pa.string(), safe=False)
    table = pa.table({"action": ["jump"] * 5, "text": text, "source": [1, 2, 3, 4, 5]})
    pq.write_table(table, tmp_path / "in.parquet")
    assert build(tmp_path / "in.parquet", tmp_path / "bank", max_record_bytes=4000) == {"jump": ["fine"]}
    reasons = [(2, "encoding"), (3, "missing_text"), (4, "nul"), (5, "long_record")]
    assert ledger(tmp_path / "bank") == [("in.parquet", row, None, reason) for row, reason in reasons]


def test_a_parquet_file_that_breaks_off_gives_what_came_before(tmp_path):
    table = pa.table({"action": ["jump"] * 4, "text": ["one" * 500, "two" * 500, "three" * 500, "four" * 500]})
    pq.write_table(table, tmp_path / "in.parquet", row_group_size=2, compression="none", use_dictionary=False)
    data = bytearray((tmp_path / "in.parquet").read_bytes())
    place = pq.read_metadata(tmp_path / "in.parquet").row_group(1).column(1).data_page_offset
    data[place : place + 40] = b"\xff" * 40
    (tmp_path / "in.parquet").write_bytes(data)
    assert build(tmp_path / "in.parquet", tmp_path / "bank") == {"jump": ["one" * 500, "two" * 500]}
    assert ledger(tmp_path / "bank") == [("in.parquet", 3, None, "damaged")]


def test_a_tar_that_is_cut_gives_what_came_before(tmp_path):
    samples = [(f"{i}.json", json.dumps({"action": "jump", "text": f"hop {i}"}).encode()) for i in range(4)]
    path = tar_of(tmp_path / "in.tar", [*samples[:3], ("x.json", b"[1]"), ("y.txt", b"\xff"), samples[3]])
    path.write_bytes(path.read_bytes()[: 512 * 12])
    assert build(path, tmp_path / "bank") == {"jump": ["hop 0", "hop 1", "hop 2"]}
    assert [(row, reason) for _, row, _, reason in ledger(tmp_path / "bank")] == [
        (4, "not_json"),
        (5, "encoding"),
        (6, "damaged"),
        (7, "damaged"),
    ]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("in.csv", b"name,text\njump,x\n", "in.csv must have one column `action`, got 'name', 'text'"),
        ("in.csv", b"action,text,text\njump,x,y\n", "must have one column `text`"),
        ("in.csv", b"\xff\xfea\0", "must begin with the names of its columns"),
        ("in.parquet", b"not parquet", "in.parquet must be readable"),
        ("in.tar", b"not a tar" * 100, "none of the first 1 has: the rest of the tar: not a tar"),
        ("in.tar", b"\x1f\x8b" + bytes(600), "must be a plain tar, got a compressed one"),
        ("in.jsonl", b"\x89PNG\r\n\x1a\n" * 9, "none of the first 18 has: not UTF-8"),
        ("in.txt", b"jump", "in.txt must be a csv, tsv, jsonl, parquet or tar file"),
    ],
)
def test_a_wholly_wrong_file_is_one_error_before_any_work(tmp_path, name, data, message):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / name).write_bytes(data)
    with pytest.raises(UsageError, match=message):
        build(tmp_path / "in" / name, tmp_path / "bank")
    assert not (tmp_path / "bank").exists()


def test_a_column_of_numbers_is_told(tmp_path):
    pq.write_table(pa.table({"action": [1], "text": ["x"]}), tmp_path / "in.parquet")
    with pytest.raises(UsageError, match="must have text columns `action` and `text`, got action int64, text string"):
        build(tmp_path / "in.parquet", tmp_path / "bank")


def test_an_empty_folder_is_told(tmp_path):
    with pytest.raises(UsageError, match="must be a folder with csv, tsv, jsonl, parquet, tar files, but"):
        build(tmp_path, tmp_path / "bank")
