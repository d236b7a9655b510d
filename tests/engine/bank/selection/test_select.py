"""A selected bank has the best descriptions of each action, the same bytes however it was made, and all the rest."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from reelmill.engine.bank.records.add import add_to_bank
from reelmill.engine.bank.records.build import build_bank
from reelmill.engine.bank.records.config import BankAddConfig, BankBuildConfig
from reelmill.engine.bank.scratch import Scratch
from reelmill.engine.bank.selection import scoring, select, selecting
from reelmill.engine.bank.selection.commands import bank_select
from reelmill.engine.bank.selection.config import SelectConfig
from reelmill.engine.bank.texts.commands import updated
from reelmill.shards.bank import Bank, verify_bank
from reelmill.shards.bank.files import read_record
from reelmill.shards.bank.texts import read_synonyms, write_rows
from reelmill.shards.errors import DamageError, StorageError, UsageError

WORDS = ("jump", "run", "dog", "ball", "grass", "red", "high", "water", "child", "rope", "quick", "slow", "fence")


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def write_vectors(path: Path) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(5)
    found = {word: draw.standard_normal(8).round(3) for word in WORDS}
    path.write_text("".join(f"{word} {' '.join(map(str, vector))}\n" for word, vector in found.items()))
    return found


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> Path:
    """bank/ with 12 actions in three parts, and vectors.txt."""
    folder: Path = tmp_path_factory.mktemp("world")
    draw = random.Random(3)
    actions = [f"{verb} {noun}" for verb in ("jump", "run", "fly") for noun in ("rope", "fence", "water")]
    actions += ["zzz", "jump", "no such"]
    with (folder / "records.jsonl").open("w") as file:
        for action in actions:
            for number in range(400 if action == "jump" else 60):
                text = " ".join(draw.choices([*WORDS, "unheard", "strange"], k=draw.randint(3, 12)))
                filler = f" {'x' * 900}{number}"  # parts are by bytes
                file.write(json.dumps({"action": action, "text": text + filler, "source": f"s{number % 3}"}) + "\n")
            file.write(json.dumps({"action": action, "text": "alpha beta", "source": "s"}) + "\n")
    (folder / "labels.txt").write_text("\n".join([*actions, "empty one"]))
    build_bank(
        BankBuildConfig(
            records=folder / "records.jsonl",
            out=folder / "bank",
            labels=(folder / "labels.txt",),
            dedup="exact",
            part_mb=1,
        )
    )
    write_vectors(folder / "vectors.txt")
    assert len(read_record(folder / "bank").parts) >= 2
    return folder


def config(world: Path, out: Path, **options: Any) -> SelectConfig:
    usual: dict[str, Any] = {"bank": world / "bank", "out": out, "vectors": world / "vectors.txt", "top_k": 7}
    return SelectConfig(**usual | options)


@pytest.fixture(scope="module")
def want(world, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed") / "bank"
    select.select(config(world, out))
    verify_bank(out)
    assert not (out / ".work").exists()
    return files_of(out)


def naive(world: Path, top_k: int) -> dict[str, list[tuple[str, float | None]]]:
    """What should be selected, one text at a time in fp64."""
    vectors = write_vectors(world / "vectors.txt")

    def mean(text: str) -> np.ndarray | None:
        known = [vectors[word] for word in text.split() if word in vectors]
        return np.sum(known, 0) if known else None

    found = {}
    bank = Bank.open(world / "bank")
    for action in bank.actions:
        name, rows = mean(action.canonical), []
        for text in bank.descriptions(action.action_id):
            vector = mean(text)
            score = None
            if vector is not None and name is not None:
                score = float(vector @ name / np.linalg.norm(vector) / np.linalg.norm(name))
            rows.append((text, score))
        rows.sort(key=lambda row: (row[1] is None, -(row[1] or 0), row[0]))
        found[action.canonical] = sorted(rows[:top_k])
    return found


def test_the_best_of_every_action_are_selected(world, tmp_path):
    done = select.select(config(world, tmp_path / "out"))
    expected = naive(world, 7)
    bank = Bank.open(tmp_path / "out")
    rows = [
        row
        for part in read_record(tmp_path / "out").parts
        for row in pq.read_table(tmp_path / "out" / part.table).to_pylist()
    ]
    for action in bank.actions:
        mine = [row for row in rows if row["action_id"] == action.action_id]
        assert [row["text"] for row in mine] == [text for text, _ in expected[action.canonical]]
        assert bank.descriptions(action.action_id) == [row["text"] for row in mine]
        assert action.descriptions == len(mine)
        for row, (_, score) in zip(mine, expected[action.canonical], strict=True):
            assert (row["relevance"] is None) == (score is None)
            assert score is None or row["relevance"] == pytest.approx(score, abs=1e-5)
    assert sorted(done.nameless) == ["no such", "zzz"]
    assert done.descriptions == sum(map(len, expected.values())) == 12 * 7
    assert done.of == 11 * 61 + 401
    whole = [score for rows in naive(world, 10**9).values() for _, score in rows]
    # the actions of which nothing is known, and of the others one text each and some by chance
    assert done.unscored == whole.count(None) >= 2 * 61 + 10
    assert done.method["met"] > done.method["met_known"] > 0


def test_nothing_else_is_lost(world, tmp_path):
    """Actions, aliases, ledger, merges and other tables come along; source, sentences and hash stay with their text."""
    out = tmp_path / "out"
    select.select(config(world, out, top_k=1_000_000))
    before, after = Bank.open(world / "bank"), Bank.open(out)
    assert before.actions == after.actions
    assert [before.descriptions(a.action_id) for a in before.actions] == [
        after.descriptions(a.action_id) for a in after.actions
    ]
    old, new = read_record(world / "bank"), read_record(out)
    for name in (old.merges, *old.ledgers):
        assert (world / "bank" / name).read_bytes() == (out / name).read_bytes()
    assert new.totals == old.totals
    assert len(new.parts) == len(old.parts)
    for one, other in zip(old.parts, new.parts, strict=True):
        tables = [pq.read_table(folder / part.table) for folder, part in ((world / "bank", one), (out, other))]
        assert tables[0].drop_columns(["relevance"]).equals(tables[1].drop_columns(["relevance"]))
        assert (world / "bank" / one.texts).read_bytes() == (out / other.texts).read_bytes()


def test_tables_are_carried_and_records_can_be_added(world, tmp_path):
    bank = tmp_path / "bank"
    build_bank(BankBuildConfig(records=world / "records.jsonl", out=bank, dedup="exact"))

    row = {
        "verb": "jump",
        "order": 1,
        "parent": "jump",
        "child": "jump",
        "position": 0,
        "source": "me",
        "prompt_hash": None,
    }
    with updated(bank, ["synonyms.parquet"]):
        write_rows(bank, "synonyms", [row])
    (tmp_path / "more.jsonl").write_text('{"action": "run rope", "text": "a dog jumps over the red rope"}\n')
    add_to_bank(BankAddConfig(bank=bank, records=tmp_path / "more.jsonl"))
    out = tmp_path / "out"
    select.select(SelectConfig(bank=bank, out=out, vectors=world / "vectors.txt", top_k=5))
    verify_bank(out)
    assert list(read_synonyms(out)) == ["jump"]
    record = read_record(out)
    assert (record.generation, len(record.ledgers)) == (1, 2)
    (tmp_path / "again.jsonl").write_text('{"action": "run rope", "text": "quite another text"}\n')
    added = add_to_bank(BankAddConfig(bank=out, records=tmp_path / "again.jsonl"))
    assert added.descriptions == 1
    verify_bank(out)
    assert Bank.open(out).find("run rope").descriptions == 6


@pytest.mark.parametrize("rows", [50, 97])
def test_pieces_change_no_byte(world, want, tmp_path, monkeypatch, rows):
    monkeypatch.setattr(select, "PIECE_ROWS", rows)
    select.select(config(world, tmp_path / "out"))
    assert files_of(tmp_path / "out") == want


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_number_of_workers_changes_no_byte(world, want, tmp_path, monkeypatch, workers):
    monkeypatch.setattr(select, "INLINE_ROWS", 0)
    monkeypatch.setattr(select, "PIECE_ROWS", 200)
    select.select(config(world, tmp_path / "out", workers=workers))
    assert files_of(tmp_path / "out") == want


STEPS = [
    (scoring, "count_words"),
    (scoring, "keep_vectors"),
    (scoring, "cosines"),
    (selecting, "file_entry"),
    (selecting, "write_actions"),
    (selecting, "_carry"),
    (selecting, "write_record"),
    (select, "sweep"),  # the bank is there
]


@pytest.mark.parametrize(("module", "name"), STEPS)
def test_what_a_kill_between_two_steps_leaves_is_taken_over(world, want, tmp_path, monkeypatch, module, name):
    class Killed(BaseException):
        pass

    real, calls = getattr(module, name), list[object]()

    def killed(*arguments, **options):
        calls.append(arguments)
        if len(calls) > 1 or name in ("keep_vectors", "write_actions", "write_record", "sweep"):
            raise Killed
        return real(*arguments, **options)

    monkeypatch.setattr(select, "PIECE_ROWS", 100)
    monkeypatch.setattr(module, name, killed)
    with pytest.raises(Killed):
        select.select(config(world, tmp_path / "out"))
    monkeypatch.setattr(module, name, real)
    select.select(config(world, tmp_path / "out"))
    assert files_of(tmp_path / "out") == want


def test_what_was_scored_is_not_scored_again(world, want, tmp_path, monkeypatch):
    monkeypatch.setattr(select, "select_part", lambda *_: (_ for _ in ()).throw(StorageError("full")))
    with pytest.raises(StorageError, match="full"):
        select.select(config(world, tmp_path / "out"))
    monkeypatch.undo()
    for name in ("count_piece", "find_vectors", "score_piece"):
        monkeypatch.setattr(select, name, None)  # would fail if called
    select.select(config(world, tmp_path / "out"))
    assert files_of(tmp_path / "out") == want


def test_other_options_start_over_and_another_bank_is_told(world, want, tmp_path, monkeypatch):
    out = tmp_path / "out"
    monkeypatch.setattr(selecting, "write_record", lambda *_: (_ for _ in ()).throw(StorageError("full")))
    with pytest.raises(StorageError):
        select.select(config(world, out, top_k=500))  # of which more parts are written
    monkeypatch.undo()
    build_bank(BankBuildConfig(records=world / "records.jsonl", out=tmp_path / "other", dedup="exact"))
    with pytest.raises(UsageError, match=r"holds an unfinished job on .*/bank; run that again, or start over: --no-re"):
        select.select(config(world, out, bank=tmp_path / "other"))
    select.select(config(world, out))
    assert files_of(out) == want


SCRIPT = """
from pathlib import Path
from reelmill.engine.bank.selection import select
from reelmill.engine.bank.selection.config import SelectConfig
import sys
select.PIECE_ROWS = 20
select.select(SelectConfig(bank=Path(sys.argv[1]), out=Path(sys.argv[2]), vectors=Path(sys.argv[3]), top_k=7))
"""


def test_a_job_that_is_killed_again_and_again_ends_with_the_same_bytes(world, want, tmp_path):
    out, draw, kills = tmp_path / "out", random.Random(1), 0
    command = [sys.executable, "-c", SCRIPT, str(world / "bank"), str(out), str(world / "vectors.txt")]
    while True:
        with (tmp_path / "log").open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            while process.poll() is None and not (out / ".work").exists():
                time.sleep(0.005)
            time.sleep(draw.uniform(0, 0.25))
            if kills < 4 and process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
        if process.returncode == 0 or ((out / "bank.json").exists() and not (out / ".work").exists()):
            break
        assert process.returncode == -signal.SIGKILL, (tmp_path / "log").read_text()
    assert kills
    assert files_of(out) == want


def test_damage_is_told(world, tmp_path):
    shutil.copytree(world / "bank", tmp_path / "bank")
    name = read_record(tmp_path / "bank").parts[1].texts
    data = bytearray((tmp_path / "bank" / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "bank" / name).write_bytes(data)
    with pytest.raises(DamageError, match=rf"{name} is not what bank.json says"):
        select.select(config(world, tmp_path / "out", bank=tmp_path / "bank"))
    (tmp_path / "bank" / name).unlink()
    with pytest.raises(DamageError, match=rf"{name} must have .* but there is none"):
        select.select(config(world, tmp_path / "out", bank=tmp_path / "bank"))


def test_wrong_usage_is_told(world, tmp_path, want):
    with pytest.raises(UsageError, match=r"bank must be a folder with bank.json, but .*/none has none"):
        select.select(config(world, tmp_path / "out", bank=tmp_path / "none"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").touch()
    with pytest.raises(UsageError, match=r"out must be a new or empty folder, but .*/full holds thesis.txt"):
        select.select(config(world, tmp_path / "full"))
    with pytest.raises(UsageError, match=r"out must be a folder, but .*thesis.txt is a file"):
        select.select(config(world, tmp_path / "full/thesis.txt"))
    select.select(config(world, tmp_path / "done"))
    with pytest.raises(UsageError, match=r"out must be a new or empty folder, but .*/done holds bank.json"):
        select.select(config(world, tmp_path / "done"))
    (tmp_path / "v").write_text("unknown 1 2\n")
    with pytest.raises(UsageError, match=r"vectors .*/v must have at least one word of the bank, got none in 1 words"):
        select.select(config(world, tmp_path / "out", vectors=tmp_path / "v"))
    with pytest.raises(UsageError, match="weights must be a file of ViT-B-32's weights, but there is none"):
        select.select(config(world, tmp_path / "out2", vectors=None, model="ViT-B-32", weights=tmp_path / "none.pt"))
    with Scratch(tmp_path / "held").lock(), pytest.raises(UsageError, match="another job is at work on"):
        select.select(config(world, tmp_path / "held"))


def test_the_command_says_what_it_did(world, tmp_path, capsys):
    assert bank_select(config(world, tmp_path / "out")) == 0
    said = capsys.readouterr().out
    assert "at most 7 selected per action" in said
    assert "84 of 1072" in said
    assert "13 words of 8 dimensions, GloVe text" in said
    assert re.search(r"without relevance +1\d\d descriptions", said)
    assert "2 actions have no relevance at all, and keep their first descriptions:" in said


def test_a_full_disk_is_one_error(world, small_disk):
    (small_disk / "ballast").write_bytes(bytes(1_300_000))
    with pytest.raises(StorageError, match=r"cannot write .*: No space left on device"):
        select.select(config(world, small_disk / "out", top_k=10_000))
    assert not (small_disk / "out/bank.json").exists()
