"""Records added to a bank: its texts stay, parts without new ones too, and a reader sees one bank or the other."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from reelmill.engine.bank.records import add as add_module
from reelmill.engine.bank.records import committing, gather, merging, stages
from reelmill.engine.bank.records.add import Added, add_to_bank
from reelmill.engine.bank.records.build import build_bank
from reelmill.engine.bank.records.commands import bank_add
from reelmill.engine.bank.records.config import BankAddConfig, BankBuildConfig
from reelmill.shards.bank import Bank, verify_bank
from reelmill.shards.bank.files import read_record
from reelmill.shards.errors import DamageError, StorageError, UsageError


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.write_text("".join(json.dumps({"action": action, "text": text}) + "\n" for action, text in rows))
    return path


def texts_of(folder: Path) -> dict[str, list[str]]:
    bank = Bank.open(folder)
    return {action.canonical: bank.descriptions(action.action_id) for action in bank.actions}


def add(bank: Path, rows: list[tuple[str, str]], name: str = "more.jsonl") -> Added:
    return add_to_bank(BankAddConfig(bank=bank, records=write(bank.parent / name, rows)))


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


FIRST = [("jump", "up they go over it"), ("fly", "off into the blue"), ("Jumping", "a leap")]
MORE = [("jump", "A LEAP!"), ("jumped", "hop"), ("swim", "through water"), ("fly", "off into the blue"), ("", "x")]


@pytest.fixture
def bank(tmp_path: Path) -> Path:
    build_bank(BankBuildConfig(records=write(tmp_path / "first.jsonl", FIRST), out=tmp_path / "bank"))
    return tmp_path / "bank"


def test_new_texts_come_to_those_that_there_are(bank):
    before = {action.canonical: action for action in Bank.open(bank).actions}
    added = add(bank, MORE)
    assert (added.records, added.descriptions, added.actions, added.parts) == (5, 2, 1, 1)
    assert texts_of(bank) == {
        "jump": ["a leap", "hop", "up they go over it"],
        "fly": ["off into the blue"],
        "swim": ["through water"],
    }
    after = {action.canonical: action for action in Bank.open(bank).actions}
    assert after["jump"].name == before["jump"].name == "jump"
    assert after["jump"].aliases == ("Jumping", "jump", "jumped")
    assert after["jump"].origins == ("first.jsonl", "more.jsonl")
    assert after["jump"].action_id == before["jump"].action_id


def test_the_books_balance_over_all_generations(bank):
    add(bank, MORE)
    add(bank, [("swim", "Through water."), ("dig", "a hole")], "third.jsonl")
    record = verify_bank(bank)
    rows = [row for name in record.ledgers for row in pq.read_table(bank / name).to_pylist()]
    assert record.generation == 2
    assert record.totals == {
        "records": 10,
        "actions": 4,
        "descriptions": 6,
        "duplicate": 3,
        "filtered": 0,
        "failed": 1,
    }
    told = [(row["file"], row["row"], row["reason"], row["detail"]) for row in rows]
    assert told[0] == ("more.jsonl", 5, "missing_action", "`action` must be the name of an action, got ''")
    assert sorted(told[1:]) == [
        ("more.jsonl", 1, "near", "of a text that the bank has"),
        ("more.jsonl", 4, "exact", "of a text that the bank has"),
        ("third.jsonl", 1, "near", "of a text that the bank has"),
    ]


def test_the_table_of_merges_keeps_its_origins(bank):
    add(bank, MORE)
    lines = (bank / read_record(bank).merges).read_text().splitlines()
    assert lines == [
        "canonical,spelling,origin,rules",
        "jump,Jumping,first.jsonl,lower_case lemma",
        "jump,jump,first.jsonl,",
        "jump,jumped,more.jsonl,lemma",
    ]


def test_added_in_two_goes_or_one_the_texts_are_the_same(bank, tmp_path):
    add(bank, MORE[:2])
    add(bank, MORE[2:], "third.jsonl")
    build_bank(BankBuildConfig(records=write(tmp_path / "all.jsonl", FIRST + MORE), out=tmp_path / "whole"))
    assert texts_of(bank) == texts_of(tmp_path / "whole")
    assert [p.name for p in bank.rglob("*.parquet")].count("000000.parquet") == 0  # the old files are gone
    assert not (bank / ".work").exists()


def test_nothing_new_leaves_the_texts_alone(bank):
    before = files_of(bank)
    added = add(bank, [("jump", "A leap."), ("fly", "Off into the blue")])
    assert (added.descriptions, added.parts) == (0, 0)
    after = files_of(bank)
    assert {name for name in before if name.startswith("desc")} == {name for name in after if name.startswith("desc")}
    assert read_record(bank).totals["duplicate"] == 2


def test_the_same_records_again_change_no_byte(bank):
    add(bank, MORE)
    before = files_of(bank)
    added = add(bank, MORE)
    assert (added.records, added.descriptions) == (0, 0)
    assert files_of(bank) == before


def big_rows(actions: range, count: int, word: str) -> list[tuple[str, str]]:
    return [(f"do {n}", f"{word} {n} {i} " + f"{word}{n}x{i} " * 90) for n in actions for i in range(count)]


def test_only_parts_with_new_texts_are_written(tmp_path):
    records = write(tmp_path / "first.jsonl", big_rows(range(40), 90, "old"))
    build_bank(BankBuildConfig(records=records, out=tmp_path / "bank", part_mb=1, dedup="exact"))
    before = read_record(tmp_path / "bank")
    assert len(before.parts) == 3
    added = add(tmp_path / "bank", big_rows(range(3, 4), 2, "new"))
    after = verify_bank(tmp_path / "bank")
    assert (added.parts, sum(a == b for a, b in zip(before.parts, after.parts, strict=True))) == (1, 2)
    assert len(texts_of(tmp_path / "bank")["do 3"]) == 92
    assert set(files_of(tmp_path / "bank")) == {"bank.json", *after.files}


def test_parts_are_cut_where_they_would_grow_too_large(tmp_path):
    """A small bank takes in many times its size: memory follows from a part, so the parts become more."""
    rows = big_rows(range(40), 60, "old")
    build_bank(BankBuildConfig(records=write(tmp_path / "first.jsonl", rows[::60]), out=tmp_path / "bank", part_mb=1))
    assert len(read_record(tmp_path / "bank").parts) == 1
    added = add(tmp_path / "bank", rows + big_rows(range(39, 41), 60, "new"))
    after = verify_bank(tmp_path / "bank")
    assert (added.parts, len(after.parts)) == (2, 2)
    assert set(files_of(tmp_path / "bank")) == {"bank.json", *after.files}
    build_bank(BankBuildConfig(records=tmp_path / "more.jsonl", out=tmp_path / "whole", part_mb=1))
    assert texts_of(tmp_path / "bank") == texts_of(tmp_path / "whole")
    ids = [pq.read_table(tmp_path / "bank" / part.table)["action_id"].to_pylist() for part in after.parts]
    assert max(ids[0]) < 1 << 62 <= min(ids[1])


def test_a_bank_of_labels_takes_no_other_action(tmp_path):
    (tmp_path / "labels.txt").write_text("jump\nrun\n")
    config = {"records": write(tmp_path / "first.jsonl", FIRST[:1]), "out": tmp_path / "bank"}
    build_bank(BankBuildConfig(**config, labels=(tmp_path / "labels.txt",), min_words=3))
    added = add(tmp_path / "bank", [("running", "fast and far away"), ("swim", "in the water"), ("run", "so")])
    assert (added.descriptions, added.actions) == (1, 0)
    assert dict(read_record(tmp_path / "bank").reasons) == {"unknown_action": 1, "short": 1}


STEPS = [
    (gather, "sha256_of"),
    (merging, "file_entry"),
    (committing, "write_ledger"),
    (committing, "write_record"),
    (committing, "sweep"),  # from here on the new bank is there
    (add_module, "sweep"),
]


@pytest.mark.parametrize(("module", "name"), STEPS)
def test_a_kill_leaves_the_old_bank_or_the_new_one(bank, tmp_path, monkeypatch, module, name):
    class Killed(BaseException):
        pass

    def killed(*arguments):
        raise Killed

    old = texts_of(bank)
    with monkeypatch.context() as patched:
        patched.setattr(module, name, killed)
        with pytest.raises(Killed):
            add(bank, MORE)
    there = texts_of(bank)
    verify_bank(bank)
    assert (there == old) is (name not in ("sweep",))
    added = add(bank, MORE)
    assert added.totals.records == 8
    (tmp_path / "twin").mkdir()
    build_bank(BankBuildConfig(records=tmp_path / "first.jsonl", out=tmp_path / "twin/bank"))
    add(tmp_path / "twin/bank", MORE)
    assert files_of(bank) == files_of(tmp_path / "twin/bank")


def test_other_records_after_a_kill_at_the_end_are_added(bank, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(add_module, "_done", None)
        with pytest.raises(TypeError):
            add(bank, MORE)
    assert (bank / ".work").is_dir()
    assert add(bank, [("run", "fast")]).descriptions == 1
    assert sorted(texts_of(bank)) == ["fly", "jump", "run", "swim"]


@pytest.mark.usefixtures("local_ray")
def test_workers_change_no_byte(bank, tmp_path, monkeypatch):
    add(bank, MORE)
    (tmp_path / "twin").mkdir()
    build_bank(BankBuildConfig(records=tmp_path / "first.jsonl", out=tmp_path / "twin/bank"))
    monkeypatch.setattr(stages, "INLINE_BYTES", 0)
    add(tmp_path / "twin/bank", MORE)
    assert files_of(bank) == files_of(tmp_path / "twin/bank")


def test_a_reader_that_opened_before_reads_on(bank):
    opened = Bank.open(bank)
    add(bank, MORE)
    assert opened.descriptions(opened.find("jump").action_id) == ["a leap", "up they go over it"]


def test_mistakes_are_told_and_the_bank_stays(bank, tmp_path):
    before = files_of(bank)
    with pytest.raises(UsageError, match="must hold at least one record, got none"):
        add(bank, [])
    with pytest.raises(UsageError, match="none of the first 2 has"):
        add(bank, [("", "x"), ("", "y")])
    with pytest.raises(UsageError, match=r"must be a bank \(a folder with bank\.json\)"):
        add_to_bank(BankAddConfig(bank=tmp_path, records=tmp_path / "first.jsonl"))
    assert files_of(bank) == before


def test_another_jobs_scratch_is_told_and_can_be_given_up(bank, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(stages, "merge_part", lambda *_: (_ for _ in ()).throw(StorageError("full")))
        with pytest.raises(StorageError, match="full"):
            add(bank, MORE)
    with pytest.raises(UsageError, match=r"holds an unfinished job on .*more\.jsonl; run that again"):
        add(bank, [("run", "fast")], "other.jsonl")
    config = BankAddConfig(bank=bank, records=bank.parent / "other.jsonl", resume=False)
    assert add_to_bank(config).descriptions == 1
    assert sorted(texts_of(bank)) == ["fly", "jump", "run"]


def test_a_damaged_part_is_not_built_upon(bank):
    part = bank / read_record(bank).parts[0].table
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    with pytest.raises(DamageError, match=r"descriptions/000000\.parquet is not what bank\.json says: its sha256"):
        add(bank, MORE)


@pytest.mark.parametrize(("name", "value"), [("clean", {"x": 1}), ("dedup", 3), ("names", None), ("part_mb", "many")])
def test_forged_options_are_told(bank, name, value):
    record = json.loads((bank / "bank.json").read_text())
    record["options"][name] = value
    (bank / "bank.json").write_text(json.dumps(record))
    with pytest.raises(DamageError, match=r"options in bank\.json do not read"):
        add(bank, MORE)


def test_the_command_says_what_was_added(bank, capsys):
    config = BankAddConfig(bank=bank, records=write(bank.parent / "more.jsonl", MORE))
    assert bank_add(config) == 0
    said = capsys.readouterr().out
    assert "5 records added in" in said
    assert "new descriptions  2" in said
    assert "parts rewritten   1 of 1" in said
    assert bank_add(config) == 0
    assert "nothing added: the bank has these records already" in capsys.readouterr().out
