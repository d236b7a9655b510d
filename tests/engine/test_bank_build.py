"""Records become a sorted bank; repeated, unknown and wrong records are counted, set aside or told."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from reelmill.engine.bank.actions import canonical_name
from reelmill.engine.bank.build import build_bank, count_sentences
from reelmill.engine.config import BankBuildConfig
from reelmill.shards.bank import Bank
from reelmill.shards.errors import UsageError
from reelmill.shards.schema import action_id

RECORDS = [
    {"action": "Jumping", "text": "They  jump\nup. Then down!", "source": "llm"},
    {"action": "jump", "text": "A leap", "source": "web"},
    {"action": "jump", "text": "A leap", "source": "again"},
    {"action": "fly", "text": "Off they go", "source": "web"},
    {"action": "run", "text": "   ", "source": "web"},
]


def build(folder: Path, records=RECORDS, labels: str | None = None):
    path = folder / "records.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    label_file = None
    if labels is not None:
        label_file = folder / "labels.txt"
        label_file.write_text(labels)
    return build_bank(BankBuildConfig(records=path, out=folder / "bank", labels=label_file))


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("ApplyEyeMakeup", "apply eye makeup"),
        ("applying_eye_makeup", "apply eye makeup"),
        ("push up", "push up"),  # a particle stays: push up is not push
        ("PushUps", "push up"),
        ("playing the guitar", "play guitar"),
        ("passing American football (in game)", "pass american football in game"),
        ("YoYo", "yo yo"),
        ("the", "the"),
        ("跳", "跳"),
    ],
)
def test_canonical_names(name, canonical):
    assert canonical_name(name) == canonical


def test_labels_name_the_actions_and_other_records_are_set_aside(tmp_path):
    totals = build(tmp_path, labels="jump\nrun\n\n")
    assert (totals.actions, totals.descriptions, totals.repeated, totals.rejected) == (2, 2, 1, 2)
    bank = Bank.open(tmp_path / "bank")
    jump = bank.find("jump")
    assert jump.action_id == action_id("jump")
    assert jump.aliases == ("Jumping", "jump")
    assert jump.origins == ("again", "labels.txt", "llm", "web")
    assert bank.descriptions(jump.action_id) == ["A leap", "They jump up. Then down!"]
    assert bank.find("run").descriptions == 0
    lines = [json.loads(line) for line in (tmp_path / "bank/rejected.jsonl").read_text().splitlines()]
    assert {(line["action"], line["reason"]) for line in lines} == {("fly", "unknown_label"), ("run", "empty")}


def test_without_labels_the_records_define_the_actions(tmp_path):
    build(tmp_path)
    assert [action.canonical for action in Bank.open(tmp_path / "bank").actions] == ["fly", "jump"]


def test_rows_are_sorted_with_offsets_and_provenance(tmp_path):
    build(tmp_path)
    rows = pq.read_table(tmp_path / "bank/descriptions/000000.parquet").to_pylist()
    actions = pq.read_table(tmp_path / "bank/actions.parquet").to_pylist()
    for action in actions:
        mine = rows[action["first_row"] : action["first_row"] + action["descriptions"]]
        assert {row["action_id"] for row in mine} == {action["action_id"]}
        assert [row["text"] for row in mine] == sorted(row["text"] for row in mine)
    assert {row["text"]: (row["source"], row["sentences"]) for row in rows}["They jump up. Then down!"] == ("llm", 2)


def test_two_builds_are_equal(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        build(tmp_path / name, labels="jump\nrun")
    first, second = (
        {p.name: p.read_bytes() for p in sorted((tmp_path / name / "bank").rglob("*")) if p.is_file()} for name in "ab"
    )
    assert first == second


@pytest.mark.parametrize(
    ("records", "labels", "message"),
    [
        ([{"action": "jump"}], None, "record 1 must have text columns `action` and `text`"),
        ([{"action": " ", "text": "x"}], None, "record 1 must have text columns"),
        ([{"action": "jump", "text": 3}], None, "record 1 must have text columns"),
        ([], None, "must hold at least one row with an action, got none"),
        (RECORDS, "\n", "must name at least one action, got an empty file"),
    ],
)
def test_wrong_records_are_told(tmp_path, records, labels, message):
    with pytest.raises(UsageError, match=message):
        build(tmp_path, records, labels)


def test_missing_files_and_a_full_folder_are_told(tmp_path):
    with pytest.raises(UsageError, match="but there is none"):
        build_bank(BankBuildConfig(records=tmp_path / "none.jsonl", out=tmp_path / "bank"))
    (tmp_path / "bank").mkdir()
    (tmp_path / "bank/thesis.txt").touch()
    with pytest.raises(UsageError, match="out must be a new or empty folder"):
        build(tmp_path)


@pytest.mark.parametrize(("text", "count"), [("One.", 1), ("One. Two", 2), ("v1.2 is out!", 1), ("none", 1)])
def test_sentences(text, count):
    assert count_sentences(text) == count
