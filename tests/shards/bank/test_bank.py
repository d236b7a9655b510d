"""A bank reads the same from Parquet and from a dataset's tars; damage and wrong names are told."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reelmill.engine.bank.records.build import build_bank
from reelmill.engine.bank.records.config import BankBuildConfig
from reelmill.engine.bank.shard import write_bank_tars
from reelmill.shards.bank import Bank, verify_bank
from reelmill.shards.bank.files import TEXTS, FileEntry, check_files, file_entry, read_record, versioned, write_record
from reelmill.shards.errors import DamageError, UsageError
from reelmill.shards.manifest import Manifest, write_manifest


def build(folder: Path, count: int, **options) -> Path:
    rows = [
        {"action": action, "text": f"{action} number {n}", "source": "t"}
        for action in ("Jump", "run")
        for n in range(count)
    ]
    records = folder / "records.jsonl"
    records.write_text("".join(json.dumps(row) + "\n" for row in rows))
    build_bank(BankBuildConfig(records=records, out=folder / "bank", dedup="exact", **options))
    return folder / "bank"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return build(tmp_path, 9)


def test_a_draw_is_seeded_without_repeats_and_depends_on_the_action(folder):
    bank = Bank.open(folder)
    jump, run = bank.find("jump"), bank.find("run")
    drawn = bank.draw(jump.action_id, 4, seed=1)
    assert drawn == Bank.open(folder).draw(jump.action_id, 4, seed=1)
    assert len(set(drawn)) == 4
    assert set(drawn) <= set(bank.descriptions(jump.action_id))
    assert drawn != bank.draw(jump.action_id, 4, seed=2)
    assert [text[-1] for text in drawn] != [text[-1] for text in bank.draw(run.action_id, 4, seed=1)]
    assert drawn[:2] == bank.draw(jump.action_id, 2, seed=1)


def test_a_short_action_gives_all_it_has(folder):
    bank = Bank.open(folder)
    assert len(bank.draw(bank.find("run").action_id, 50, seed=0)) == 9


def test_an_unknown_name_is_told_with_the_nearest(folder):
    with pytest.raises(UsageError, match=r"label 'jumb' must be an action of the bank .*; the nearest is '[jJ]ump'"):
        Bank.open(folder).find("jumb")


def test_the_same_bank_comes_out_of_tars(folder, tmp_path):
    dataset = tmp_path / "dataset"
    shards = write_bank_tars(folder, dataset, spellings={})
    write_manifest(dataset, Manifest([], [], "", {}, bank=shards))
    tars, parquet = Bank.open(dataset), Bank.open(folder)
    assert tars.actions == parquet.actions
    for action in parquet.actions:
        assert tars.draw(action.action_id, 5, seed=3) == parquet.draw(action.action_id, 5, seed=3)


def test_several_parts_and_batches_read_as_one(tmp_path):
    folder = build(tmp_path, 17_000, part_mb=1)
    record, bank = read_record(folder), Bank.open(folder)
    assert len(record.parts) == 3
    with pa.memory_map(str(folder / max(record.parts, key=lambda part: part.rows).texts)) as file:
        assert pa.ipc.open_file(file).num_record_batches >= 2
    for name in ("Jump", "run"):
        action = bank.find(name)
        want = sorted(f"{name} number {n}" for n in range(17_000))
        assert bank.descriptions(action.action_id) == want
        texts = bank._texts[action.action_id]
        assert (texts[-1], texts[16_384], texts[5:8]) == (want[-1], want[16_384], want[5:8])
        with pytest.raises(IndexError, match="text must be one of 17000, got 17000"):
            texts[17_000]
    dataset = tmp_path / "dataset"
    write_manifest(dataset, Manifest([], [], "", {}, bank=write_bank_tars(folder, dataset, spellings={})))
    assert Bank.open(dataset).actions == bank.actions


def test_a_dataset_without_a_bank_says_so(tmp_path):
    write_manifest(tmp_path, Manifest([], [], "", {}))
    with pytest.raises(UsageError, match="must carry a bank"):
        Bank.open(tmp_path)


def test_a_folder_that_is_neither(tmp_path):
    with pytest.raises(UsageError, match=r"must be a bank .* or a dataset that carries one"):
        Bank.open(tmp_path)


def test_a_bank_of_version_1_is_to_be_built_again(folder):
    record = json.loads((folder / "bank.json").read_text())
    (folder / "bank.json").write_text(json.dumps(record | {"version": 1}))
    with pytest.raises(UsageError, match="must be of bank version 2, got 1: build the bank again from its records"):
        Bank.open(folder)


@pytest.mark.parametrize("name", ["actions.parquet", "descriptions/000000.arrow", "merges.csv"])
def test_a_file_of_another_size_or_none_is_told(folder, name):
    size = (folder / name).stat().st_size
    (folder / name).write_bytes(b"{}")
    with pytest.raises(DamageError, match=rf"{name} must have {size} bytes, but it has 2"):
        Bank.open(folder)
    (folder / name).unlink()
    with pytest.raises(DamageError, match=rf"{name} must have {size} bytes, but there is none"):
        Bank.open(folder)


@pytest.mark.parametrize("name", ["actions.parquet", "descriptions/000000.arrow", "descriptions/000000.parquet"])
def test_a_changed_byte_is_found(folder, name):
    data = bytearray((folder / name).read_bytes())
    data[len(data) // 2] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(DamageError, match=rf"{name} is not what bank.json says: its sha256 differs"):
        verify_bank(folder)
    if name == "actions.parquet":
        with pytest.raises(DamageError, match="its sha256 differs"):
            Bank.open(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"files": {}}, "must list 'actions.parquet' among its files"),
        (
            {"parts": [{"rows": -1, "table": "actions.parquet", "texts": "actions.parquet"}]},
            "rows of a part must be >=",
        ),
        ({"parts": 3}, "does not read: bank.json"),
        ({"surprise": 1}, "does not read: bank.json"),
        ({"files": {"../x": {"bytes": 1, "sha256": ""}}}, "must list"),
    ],
)
def test_a_record_that_makes_no_sense_is_told(folder, change, message):
    record = json.loads((folder / "bank.json").read_text())
    (folder / "bank.json").write_text(json.dumps(record | change))
    with pytest.raises(DamageError, match=message):
        Bank.open(folder)


def test_a_record_cannot_lead_out_of_the_bank(folder):
    record = json.loads((folder / "bank.json").read_text())
    record["files"]["../records.jsonl"] = {"bytes": 1, "sha256": ""}
    (folder / "bank.json").write_text(json.dumps(record))
    with pytest.raises(DamageError, match="must be relative and stay inside it"):
        Bank.open(folder)


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b"[" * 100_000])
def test_no_record_at_all_is_told(folder, data):
    (folder / "bank.json").write_bytes(data)
    with pytest.raises(DamageError, match="does not read"):
        Bank.open(folder)


def forge(folder: Path, name: str, data: bytes) -> None:
    """Change a file of a bank, and what `bank.json` says of it."""
    (folder / name).write_bytes(data)
    record = read_record(folder)
    record.files[name] = file_entry(folder / name)
    write_record(folder, record)


def arrow_bytes(array: pa.Array, schema: pa.Schema = TEXTS) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch([array], schema=schema))
    data: bytes = sink.getvalue().to_pybytes()
    return data


def test_forged_offsets_reach_no_byte_outside(folder):
    offsets = pa.array([0, 5, 2**31 - 1, 1, *range(11, 26)], pa.int32()).buffers()[1]
    texts = pa.StringArray.from_buffers(18, offsets, pa.py_buffer(b"x" * 24 + b"\xff"))
    forge(folder, "descriptions/000000.arrow", arrow_bytes(texts))
    bank = Bank.open(folder)
    for action in bank.actions:
        with pytest.raises(DamageError, match=r"must lie in 25 bytes, got|is not UTF-8"):
            bank.descriptions(action.action_id)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"not arrow at all", r"000000\.arrow.* does not read|does not read: descriptions/000000\.arrow"),
        (arrow_bytes(pa.array(["a"])), "must have 18 rows, got 1"),
        (arrow_bytes(pa.array([1] * 18), pa.schema([("text", pa.int64())])), r"000000\.arrow must hold"),
    ],
)
def test_forged_texts_are_told(folder, data, message):
    forge(folder, "descriptions/000000.arrow", data)
    with pytest.raises(DamageError, match=message):
        Bank.open(folder)


@pytest.mark.parametrize("column", ["first_row", "descriptions"])
def test_forged_rows_of_actions_are_told(folder, column):
    table = pq.read_table(folder / "actions.parquet").to_pylist()
    table[1][column] += 1
    pq.write_table(pa.Table.from_pylist(table), folder / "actions.parquet")
    forge(folder, "actions.parquet", (folder / "actions.parquet").read_bytes())
    with pytest.raises(DamageError, match=r"must begin at row 9|actions\.parquet covers 19 descriptions, the parts"):
        Bank.open(folder)


def test_a_reader_that_meets_an_addition_sees_the_new_bank(folder, monkeypatch):
    """The files of the old one are taken away between its reading `bank.json` and opening them."""
    from reelmill.shards.bank import bank as bank_module

    record = read_record(folder)
    new = versioned(record.actions, 1)

    def moved(*arguments, **options):
        monkeypatch.undo()
        (folder / record.actions).rename(folder / new)
        files: dict[str, FileEntry] = {name: entry for name, entry in record.files.items() if name != record.actions}
        files[new] = record.files[record.actions]
        changed = {name: getattr(record, name) for name in record.__slots__} | {"actions": new, "files": files}
        write_record(folder, type(record)(**changed | {"generation": 1}))
        check_files(*arguments, **options)

    monkeypatch.setattr(bank_module, "check_files", moved)
    assert len(Bank.open(folder).actions) == 2


def test_a_bank_tar_with_something_else_in_it_is_refused(folder, tmp_path):
    dataset = tmp_path / "dataset"
    shards = write_bank_tars(folder, dataset, spellings={})
    write_manifest(dataset, Manifest([], [], "", {}, bank=shards))
    (dataset / shards[0].uri).write_bytes(b"not a tar" * 100)
    with pytest.raises(DamageError, match="is not a bank tar"):
        Bank.open(dataset)


@pytest.mark.parametrize(("name", "generation", "want"), [("a.b", 0, "a.b"), ("x/000001.arrow", 2, "x/000001.2.arrow")])
def test_names_of_later_generations(name, generation, want):
    assert versioned(name, generation) == want
