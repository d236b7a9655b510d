"""Whatever kills a build, and however many workers it has, the bytes are the same; a disk that refuses is told."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from reelmill.engine.bank.records import committing, gather, merging, stages
from reelmill.engine.bank.records.build import build_bank
from reelmill.engine.bank.records.config import BankBuildConfig
from reelmill.engine.bank.records.work import BankWork
from reelmill.shards.bank import verify_bank
from reelmill.shards.errors import StorageError, UsageError

WORDS = [
    "the",
    "a",
    "dog",
    "runs",
    "over",
    "grass",
    "with",
    "one",
    "red",
    "ball",
    "and",
    "then",
    "jumps",
    "high",
    "in",
    "sunny",
    "weather",
    "while",
    "people",
    "watch",
]


def write_records(folder: Path, files: int = 5, rows: int = 1500) -> Path:
    """Some MB in several files, with repeats and a broken line."""
    draw = random.Random(0)
    (folder / "in").mkdir(parents=True)
    for number in range(files):
        with (folder / f"in/{number}.jsonl").open("w") as file:
            for _ in range(rows):
                text = " ".join(draw.choices(WORDS, k=12)) + f" {draw.randrange(2000)}" * 30
                file.write(json.dumps({"action": f"do {draw.randrange(40)}", "text": text}) + "\n")
            file.write("{\n")
    return folder / "in"


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Path:
    return write_records(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="module")
def want(records, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed") / "bank"
    build_bank(BankBuildConfig(records=records, out=out, part_mb=1))
    assert len(verify_bank(out).parts) == 2
    return files_of(out)


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.usefixtures("local_ray")
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_number_of_workers_changes_no_byte(records, want, tmp_path, monkeypatch, workers):
    monkeypatch.setattr(stages, "INLINE_BYTES", 0)
    build_bank(BankBuildConfig(records=records, out=tmp_path / "bank", part_mb=1, workers=workers))
    assert files_of(tmp_path / "bank") == want


def test_a_build_that_is_killed_again_and_again_ends_with_the_same_bytes(records, want, tmp_path):
    out, draw, kills = tmp_path / "bank", random.Random(1), 0
    command = [sys.executable, "-m", "reelmill", "bank", "build", str(records), str(out), "--part-mb", "1"]
    while True:
        with (tmp_path / "log").open("ab") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
            began = _wait_for(out / ".work", process)
            time.sleep(draw.uniform(0, 0.5))
            if kills < 4 and began and process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
        if process.returncode == 0:
            break
        assert process.returncode == -signal.SIGKILL, (tmp_path / "log").read_text()
        if (out / "bank.json").exists() and not (out / ".work").exists():
            break
    assert kills
    assert files_of(out) == want


def _wait_for(path: Path, process: subprocess.Popen) -> bool:
    while process.poll() is None and not path.exists():
        time.sleep(0.01)
    return path.exists()


STEPS = [
    (gather, "sha256_of"),  # of a chunk whose rows are written
    (merging, "file_entry"),  # of a part whose files are written
    (committing, "write_ledger"),
    (committing, "write_record"),
    (committing, "sweep"),  # the bank is there
]


@pytest.mark.parametrize(("module", "name"), STEPS)
def test_what_a_kill_between_two_steps_leaves_is_taken_over(records, want, tmp_path, monkeypatch, module, name):
    class Killed(BaseException):
        pass

    def killed(*arguments):
        raise Killed

    config = BankBuildConfig(records=records, out=tmp_path / "bank", part_mb=1)
    monkeypatch.setattr(module, name, killed)
    with pytest.raises(Killed):
        build_bank(config)
    monkeypatch.undo()
    if name == "sweep":
        with pytest.raises(UsageError, match="holds a bank; `bank add` adds to one"):
            build_bank(BankBuildConfig(records=records, out=tmp_path / "bank", part_mb=1, min_words=2))
    build_bank(config)
    assert files_of(tmp_path / "bank") == want


@pytest.mark.parametrize("removed", [0, 1, 2])
def test_a_kill_while_the_scratch_folder_goes_loses_nothing(records, want, tmp_path, monkeypatch, removed):
    class Killed(BaseException):
        pass

    config, calls, remove = BankBuildConfig(records=records, out=tmp_path / "bank", part_mb=1), [], shutil.rmtree

    def killed(path, **options):
        if (tmp_path / "bank/bank.json").exists():
            calls.append(path)
            if len(calls) > removed:
                raise Killed
        remove(path, **options)

    monkeypatch.setattr(shutil, "rmtree", killed)
    with pytest.raises(Killed):
        build_bank(config)
    monkeypatch.undo()
    assert (tmp_path / "bank/.work/plan.json").exists()
    build_bank(config)
    assert files_of(tmp_path / "bank") == want
    (tmp_path / "bank/.work").mkdir()  # as a kill leaves it after the last file in it
    with pytest.raises(UsageError, match="holds a bank; `bank add` adds to one"):
        build_bank(config)


def test_what_has_been_read_is_not_read_again(records, want, tmp_path, monkeypatch):
    config = BankBuildConfig(records=records, out=tmp_path / "bank", part_mb=1)
    monkeypatch.setattr(stages, "merge_part", lambda *_: (_ for _ in ()).throw(StorageError("full")))
    with pytest.raises(StorageError, match="full"):
        build_bank(config)
    monkeypatch.undo()
    monkeypatch.setattr(stages, "gather", None)  # would fail if called
    build_bank(config)
    assert files_of(tmp_path / "bank") == want


def test_other_options_start_over_and_other_records_are_told(records, want, tmp_path, monkeypatch):
    out = tmp_path / "bank"
    monkeypatch.setattr(stages, "merge_part", lambda *_: (_ for _ in ()).throw(StorageError("full")))
    for config in (BankBuildConfig(records=records, out=out, min_words=3), BankBuildConfig(records=records, out=out)):
        with pytest.raises(StorageError):
            build_bank(config)
    monkeypatch.undo()
    (tmp_path / "one.jsonl").write_text('{"action": "a", "text": "b"}\n')
    with pytest.raises(
        UsageError, match=r"holds an unfinished job on .*/in; run that again, or start over: --no-resume"
    ):
        build_bank(BankBuildConfig(records=tmp_path / "one.jsonl", out=out))
    build_bank(BankBuildConfig(records=records, out=out, part_mb=1))
    assert files_of(out) == want


def test_records_that_change_meanwhile_are_told(tmp_path, monkeypatch):
    path = tmp_path / "in.jsonl"
    path.write_text('{"action": "a", "text": "b"}\n')
    check, calls = gather._check_unchanged, list[object]()

    def touched(file):
        if calls:
            os.utime(path, ns=(1, 1))
        calls.append(file)
        check(file)

    monkeypatch.setattr(gather, "_check_unchanged", touched)
    with pytest.raises(StorageError, match=r"in\.jsonl changed while it was read; run again"):
        build_bank(BankBuildConfig(records=path, out=tmp_path / "bank"))
    monkeypatch.undo()
    assert build_bank(BankBuildConfig(records=path, out=tmp_path / "bank")).descriptions == 1


def test_two_jobs_do_not_meet(records, tmp_path):
    config = BankBuildConfig(records=records, out=tmp_path / "bank")
    with BankWork(tmp_path / "bank").lock(), pytest.raises(UsageError, match="another job is at work on"):
        build_bank(config)


def test_a_full_disk_is_one_error(records, small_disk):
    out = small_disk / "bank"
    with pytest.raises(StorageError, match=r"cannot write .*: No space left on device; make it writable or free space"):
        build_bank(BankBuildConfig(records=records, out=out, part_mb=1))
    assert not (out / "bank.json").exists()
    assert not list(out.rglob("*.part"))


def test_a_folder_that_cannot_be_made_is_told(records, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"cannot write .*/file/bank: Not a directory"):
        build_bank(BankBuildConfig(records=records, out=tmp_path / "file/bank"))
