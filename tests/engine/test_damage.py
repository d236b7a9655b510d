"""Ingest is held to a corpus of damaged and odd files: it ends, one ledger row for each, with the right outcome."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from reelmill.benchmarks.damage import flips, table
from reelmill.benchmarks.damage.__main__ import main
from reelmill.benchmarks.damage.corpus import EXPECTED, FAMILIES, all_kinds
from reelmill.benchmarks.damage.kinds import Draw, Kind
from reelmill.engine.config import IngestConfig
from reelmill.engine.errors import MediaError
from reelmill.engine.ingest import ingest
from reelmill.engine.media.sandbox import Sandbox
from reelmill.shards.ledger import read_ledger
from reelmill.shards.verify import verify

ROOT_READS_ALL = os.geteuid() == 0
LOCKED = "places/locked.mp4"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> Path:
    """Written by the command, as a user would."""
    folder: Path = tmp_path_factory.mktemp("damage") / "corpus"
    command = [sys.executable, "-m", "reelmill.benchmarks.damage", str(folder)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stderr == ""
    assert f"wrote {len(all_kinds())} kinds to {folder}" in result.stdout
    return folder


def judged() -> dict[str, Kind]:
    """The kinds that mean the same to every user."""
    return {path: kind for path, kind in all_kinds().items() if not (ROOT_READS_ALL and path == LOCKED)}


@pytest.mark.parametrize(
    ("preset", "validate"),
    [
        ("archive", "decode"),
        ("train-cpu", "decode"),
        ("archive", "packets"),
        ("train-cpu", "packets"),
        ("archive", "none"),
        ("train-cpu", "none"),
        ("train-gpu", "packets"),
    ],
)
def test_every_file_ends_as_its_kind_says(corpus, local_ray, tmp_path, preset, validate):
    config = IngestConfig(
        input=corpus,
        out=tmp_path / "d",
        preset=preset,
        validate=validate,
        dedup="exact" if validate == "none" else "stream",
        short_side=256 if preset == "archive" else 64,
    )
    result = ingest(config)
    rows = read_ledger(tmp_path / "d").to_pylist()
    want = {path: kind.outcome(preset, validate) for path, kind in judged().items()}
    got = {row["input_id"]: (row["status"], row["reason"]) for row in rows}
    details = {row["input_id"]: row["detail"] for row in rows}
    if ROOT_READS_ALL:
        assert got.pop(LOCKED) == ("ok", "")
    wrong = {
        path: (want.get(path), got.get(path), details.get(path))
        for path in sorted(want.keys() | got.keys())
        if want.get(path) != got.get(path)
    }
    assert wrong == {}
    assert len(rows) == len(details) == sum(result.counts.values())
    assert verify(tmp_path / "d") == []


@pytest.mark.skipif(ROOT_READS_ALL, reason="root may read every file")
def test_a_locked_file_is_unreadable(corpus):
    sandbox = Sandbox(cpu_seconds=60, memory_mb=4096)
    with pytest.raises(MediaError, match="unreadable: Permission denied"):
        sandbox.call("look", path=str(corpus / LOCKED), validate="decode")
    sandbox.close()


def test_a_seed_gives_the_same_bytes_and_another_seed_others(corpus, tmp_path):
    for kind in FAMILIES["healthy"]:
        kind.write(tmp_path / str(kind.file), Draw(kind.name, 0))
        assert (tmp_path / str(kind.file)).read_bytes() == (corpus / "healthy" / str(kind.file)).read_bytes(), kind.name
    first = FAMILIES["healthy"][0]
    first.write(tmp_path / "other.mp4", Draw(first.name, 1))
    assert (tmp_path / "other.mp4").read_bytes() != (corpus / "healthy" / str(first.file)).read_bytes()


def test_every_kind_has_a_name_and_a_file_of_its_own():
    kinds = [kind for family in FAMILIES.values() for kind in family]
    assert len({kind.name for kind in kinds}) == len(kinds) == len(all_kinds())


def test_the_readme_is_the_table():
    readme = Path(table.__file__).with_name("README.md").read_text(encoding="utf-8")
    assert readme == table.readme(), "write it again: python -m reelmill.benchmarks.damage.table > README.md"


def test_the_corpus_says_what_is_expected(corpus):
    records = [json.loads(line) for line in (corpus / EXPECTED).read_text(encoding="utf-8").splitlines()]
    assert [record["path"] for record in records] == list(all_kinds())
    half = next(record for record in records if record["kind"] == "webm-half")
    assert half["archive decode"] == {"status": "failed", "reason": "damaged"}
    assert half["archive none"] == {"status": "ok", "reason": ""}


def test_flips_are_counted():
    assert flips.MEASURED.keys() == flips.CODECS.keys()
    assert flips.measure("HEVC with picture checksums", 5) == (5, 0)
    assert flips.measure("FFV1", 3) == (0, 0)  # FFmpeg fills a slice whose checksum is wrong from the frame before


def test_the_command_does_not_write_over_anything(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert main([str(tmp_path)]) == 2
    assert capsys.readouterr().err == f"error: out must be a new or empty folder, but {tmp_path} holds something\n"
