"""Records become a sorted bank; what is not kept stands in the ledger with its reason, and nothing is lost."""

import json
import re
from itertools import pairwise
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from reelmill.engine.bank.records.build import BankTotals, build_bank
from reelmill.engine.bank.records.commands import bank_build
from reelmill.engine.bank.records.config import BankBuildConfig
from reelmill.shards.bank import Bank, verify_bank
from reelmill.shards.errors import UsageError
from reelmill.shards.schema import action_id

RECORDS = [
    {"action": "Jumping", "text": "They  jump\nup. Then down!", "source": "llm"},
    {"action": "jump", "text": "A leap", "source": "web"},
    {"action": "jump", "text": "A leap", "source": "again"},
    {"action": "fly", "text": "Off they go", "source": "web"},
    {"action": "run", "text": "   ", "source": "web"},
    {"action": "jump", "text": "LEAP, a!", "source": "loud"},
]


def build(folder: Path, records=RECORDS, labels: str | None = None, **options) -> BankTotals:
    path = folder / "records.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    if "labels_of" in options:
        options["labels"] = tuple(folder / name / "labels.txt" for name in options.pop("labels_of"))
    if labels is not None:
        (folder / "labels.txt").write_text(labels)
        options["labels"] = (folder / "labels.txt",)
    return build_bank(BankBuildConfig(records=path, out=folder / "bank", **options))


def ledger(bank: Path) -> list[dict]:
    rows: list[dict] = pq.read_table(bank / "ledger.parquet").to_pylist()
    return rows


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_labels_name_the_actions_and_what_is_not_kept_stands_in_the_ledger(tmp_path):
    totals = build(tmp_path, labels="jump\nrun\n\n")
    assert totals == BankTotals(records=6, actions=2, descriptions=2, duplicate=2, filtered=1, failed=1)
    bank = Bank.open(tmp_path / "bank")
    jump = bank.find("jump")
    assert jump.action_id == action_id("jump")
    assert jump.aliases == ("Jumping", "jump")
    assert jump.origins == ("again", "labels.txt", "llm", "loud", "web")
    assert bank.descriptions(jump.action_id) == ["A leap", "They jump up. Then down!"]
    assert bank.find("run").descriptions == 0
    assert [(row["row"], row["action"], row["status"], row["reason"]) for row in ledger(tmp_path / "bank")] == [
        (4, "fly", "failed", "unknown_action"),
        (5, "run", "filtered", "empty"),
        (3, "jump", "duplicate", "exact"),
        (6, "jump", "duplicate", "near"),
    ]
    exact = ledger(tmp_path / "bank")[2]
    assert (exact["file"], exact["detail"], exact["excerpt"]) == (
        "records.jsonl",
        "of row 2 of records.jsonl",
        "A leap",
    )
    line = (tmp_path / "records.jsonl").read_bytes()[exact["offset"] :].splitlines()[0]
    assert json.loads(line) == RECORDS[2]


def test_label_lists_of_one_name_are_told_apart(tmp_path):
    for name, labels in (("one", "jump\n"), ("two", "Jumping\nfly\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "labels.txt").write_text(labels)
    build(tmp_path, labels_of=("one", "two"))
    jump = Bank.open(tmp_path / "bank").find("jump")
    assert {"one/labels.txt", "two/labels.txt"} <= set(jump.origins)
    assert "jump,Jumping,two/labels.txt,lower_case lemma" in (tmp_path / "bank/merges.csv").read_text()


def test_without_labels_the_records_define_the_actions(tmp_path):
    build(tmp_path)
    actions = Bank.open(tmp_path / "bank").actions
    assert sorted(action.canonical for action in actions) == ["fly", "jump"]
    assert [action.action_id for action in actions] == sorted(action.action_id for action in actions)
    assert Bank.open(tmp_path / "bank").find("jump").name == "Jumping"  # as it was spelled first


def test_rows_are_sorted_with_provenance(tmp_path):
    build(tmp_path)
    rows = pq.read_table(tmp_path / "bank/descriptions/000000.parquet").to_pylist()
    actions = pq.read_table(tmp_path / "bank/actions.parquet").to_pylist()
    for action in actions:
        mine = rows[action["first_row"] : action["first_row"] + action["descriptions"]]
        assert {row["action_id"] for row in mine} == {action["action_id"]}
        assert [row["text"] for row in mine] == sorted(row["text"] for row in mine)
    assert {row["text"]: (row["source"], row["sentences"]) for row in rows}["They jump up. Then down!"] == ("llm", 2)


def test_merged_names_are_listed_and_an_edited_table_is_obeyed(tmp_path):
    (tmp_path / "first").mkdir()
    names = {"Push_Up": "one", "push up": "two", "pushing": "three", "wave": "four"}
    records = [{"action": name, "text": text} for name, text in names.items()]
    build(tmp_path / "first", records)
    table = (tmp_path / "first/bank/merges.csv").read_text()
    assert table.splitlines()[1:] == [
        "push,pushing,records.jsonl,lemma",
        "push up,Push_Up,records.jsonl,punctuation lower_case",
        "push up,push up,records.jsonl,",
    ]
    (tmp_path / "mine.csv").write_text(table.replace("push,pushing", "push up,pushing"))
    build(tmp_path, records, overrides=tmp_path / "mine.csv")
    found = Bank.open(tmp_path / "bank").find("pushing")
    assert (found.canonical, found.aliases, found.descriptions) == ("push up", ("Push_Up", "push up", "pushing"), 3)


def test_rules_decide_what_is_one_action(tmp_path):
    records = [{"action": name, "text": f"say {name}"} for name in ("push up", "push")]
    assert build(tmp_path, records, rules="paper").actions == 1
    (tmp_path / "safe").mkdir()
    assert build(tmp_path / "safe", records).actions == 2


def test_duplicates_as_asked(tmp_path):
    for dedup, kept in (("none", 4), ("exact", 3), ("near", 2)):
        (tmp_path / dedup).mkdir()
        build(tmp_path / dedup, labels="jump", dedup=dedup)
        assert Bank.open(tmp_path / dedup / "bank").find("jump").descriptions == kept


def test_a_text_may_be_said_of_two_actions(tmp_path):
    assert build(tmp_path, [{"action": a, "text": "up it goes"} for a in ("lift", "raise")]).descriptions == 2


def test_parts_are_ranges_of_actions(tmp_path):
    text = "x" * 900
    records = [{"action": f"do {i % 50}", "text": f"{i} {text}"} for i in range(4000)]
    totals = build(tmp_path, records, part_mb=1)
    record = verify_bank(tmp_path / "bank")
    assert len(record.parts) == 4  # of 3.7 MB
    assert sum(part.rows for part in record.parts) == totals.descriptions
    ranges = [pq.read_table(tmp_path / "bank" / part.table)["action_id"].to_pylist() for part in record.parts]
    assert [id for ids in ranges for id in ids] == sorted(id for ids in ranges for id in ids)
    assert all(set(a).isdisjoint(b) for a, b in pairwise(ranges))
    bank = Bank.open(tmp_path / "bank")
    for action in bank.actions:
        assert all(
            text.split()[0] in {str(i) for i in range(int(action.name.split()[1]), 4000, 50)}
            for text in bank.descriptions(action.action_id)
        )


def test_the_command_says_what_was_made(tmp_path, capsys):
    (tmp_path / "records.jsonl").write_text("".join(json.dumps(record) + "\n" for record in RECORDS))
    assert bank_build(BankBuildConfig(records=tmp_path / "records.jsonl", out=tmp_path / "bank")) == 0
    said = capsys.readouterr().out
    assert re.search(r"bank built of 6 records in [\d.]+ s", said)
    assert "1 empty, 1 exact, 1 near" in said
    assert str(tmp_path / "bank/ledger.parquet") in said


@pytest.mark.parametrize(
    ("records", "options", "message"),
    [
        ([{"action": "jump"}], {}, "none of the first 1 has: `text` must be text"),
        (
            [{"action": " ", "text": "x"}],
            {},
            "none of the first 1 has: `action` must be the name of an action, got ' '",
        ),
        ([{"action": "jump", "text": 3}], {}, "`text` must be text, got 3"),
        ([], {}, "must hold at least one row with an action and a text that is kept, got none of 0"),
        ([{"action": "a", "text": "<b>"}] * 2, {}, r"got none of 2 \(2 empty\)"),
        (RECORDS, {"labels": "\n"}, "must name at least one action, got none"),
        (RECORDS, {"max_names": 2}, "must name at most 2 different actions"),
        (RECORDS, {"near_threshold": 0.2}, r"near_threshold must be in \[0.5, 1\], got 0.2"),
        (RECORDS, {"min_words": 0}, "min_words must be >= 1, got 0"),
        (RECORDS, {"max_words": 2, "min_words": 3}, r"max_words must be >= min_words \(3\), got 2"),
        (RECORDS, {"text_column": "action"}, "must be different, got"),
        (RECORDS, {"languages": ("english",)}, "languages must be codes like en, got 'english'"),
        (RECORDS, {"part_mb": 0}, "part_mb must be > 0, got 0"),
    ],
)
def test_mistakes_are_told_before_a_bank_is_there(tmp_path, records, options, message):
    with pytest.raises(UsageError, match=message):
        build(tmp_path, records, **options)
    assert not (tmp_path / "bank/bank.json").exists()


def test_missing_files_and_a_full_folder_are_told(tmp_path):
    with pytest.raises(UsageError, match=r"none\.jsonl must be a csv, tsv, jsonl, parquet or tar file, a folder"):
        build_bank(BankBuildConfig(records=tmp_path / "none.jsonl", out=tmp_path / "bank"))
    (tmp_path / "bank").mkdir()
    (tmp_path / "bank/thesis.txt").touch()
    with pytest.raises(UsageError, match=r"out must be a new or empty folder, but .* holds \['thesis.txt'\]"):
        build(tmp_path)
    (tmp_path / "bank/thesis.txt").unlink()
    build(tmp_path)
    with pytest.raises(UsageError, match="holds a bank; `bank add` adds to one"):
        build(tmp_path)
