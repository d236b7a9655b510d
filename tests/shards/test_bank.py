"""A bank reads the same from Parquet and from a dataset's tars; damage and wrong names are told."""

import json
from pathlib import Path

import pytest
from reelmill.engine.bank.build import build_bank
from reelmill.engine.bank.shard import write_bank_tars
from reelmill.engine.config import BankBuildConfig
from reelmill.shards.bank import Bank
from reelmill.shards.errors import DamageError, UsageError
from reelmill.shards.manifest import Manifest, write_manifest


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [
        {"action": action, "text": f"{action} number {n}", "source": "t"}
        for action in ("Jump", "run")
        for n in range(9)
    ]
    records = tmp_path / "records.jsonl"
    records.write_text("".join(json.dumps(row) + "\n" for row in rows))
    build_bank(BankBuildConfig(records=records, out=tmp_path / "bank"))
    return tmp_path / "bank"


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


def test_a_dataset_without_a_bank_says_so(tmp_path):
    write_manifest(tmp_path, Manifest([], [], "", {}))
    with pytest.raises(UsageError, match="must carry a bank"):
        Bank.open(tmp_path)


def test_a_folder_that_is_neither(tmp_path):
    with pytest.raises(UsageError, match=r"must be a bank .* or a dataset that carries one"):
        Bank.open(tmp_path)


@pytest.mark.parametrize("name", ["bank.json", "actions.parquet", "descriptions/000000.arrow"])
def test_damage_is_told(folder, name):
    (folder / name).write_bytes(b"{}")
    with pytest.raises(DamageError, match="does not read"):
        Bank.open(folder)


def test_a_bank_tar_with_something_else_in_it_is_refused(folder, tmp_path):
    dataset = tmp_path / "dataset"
    shards = write_bank_tars(folder, dataset, spellings={})
    write_manifest(dataset, Manifest([], [], "", {}, bank=shards))
    (dataset / shards[0].uri).write_bytes(b"not a tar" * 100)
    with pytest.raises(DamageError, match="is not a bank tar"):
        Bank.open(dataset)
