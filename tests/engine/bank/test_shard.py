"""A bank as tars is the bank: every row, table and draw comes back, whatever it was cut into and whoever wrote it."""

import gc
import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset as wds
from reelmill.engine.bank import shard
from reelmill.engine.bank.commands import bank_shard
from reelmill.engine.bank.config import ShardConfig
from reelmill.engine.bank.records.build import build_bank
from reelmill.engine.bank.records.config import BankBuildConfig
from reelmill.engine.bank.shard import shard_bank, write_bank_tars
from reelmill.engine.bank.texts.commands import updated
from reelmill.engine.compact import compact
from reelmill.engine.config import CompactConfig, IngestConfig
from reelmill.engine.ingest import ingest
from reelmill.shards.bank import Bank
from reelmill.shards.bank.files import read_record
from reelmill.shards.bank.tars import BLOCK, open_blocks, read_table, stream_blocks
from reelmill.shards.bank.texts import read_prompts, read_subtexts, read_synonyms, write_rows
from reelmill.shards.errors import DamageError, StorageError, UsageError
from reelmill.shards.manifest import read_manifest
from reelmill.shards.schema import action_id
from reelmill.shards.verify import verify

COUNTS = {"jump": 700, "run": 40, "fly": 1, "sit down": 13}


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def bank(tmp_path_factory) -> Path:
    """Four actions with descriptions in several parts, one without, and two more tables."""
    folder: Path = tmp_path_factory.mktemp("world")
    with (folder / "records.jsonl").open("w") as file:
        for action, count in COUNTS.items():
            for number in range(count):
                text = f"{action} {number} {'ü' * (number % 50)} {'x' * 1800}"
                file.write(json.dumps({"action": action, "text": text, "source": f"s{number % 3}"}) + "\n")
    (folder / "labels.txt").write_text("\n".join([*COUNTS, "wait"]))
    labels = (folder / "labels.txt",)
    build_bank(
        BankBuildConfig(records=folder / "records.jsonl", out=folder / "bank", labels=labels, dedup="exact", part_mb=1)
    )
    assert len(read_record(folder / "bank").parts) == 2
    origin = {"source": "me", "prompt_hash": None}
    with updated(folder / "bank", ["synonyms.parquet", "subtexts.parquet"]):
        row = {"verb": "jump", "order": 1, "parent": "jump", "child": "jump", "position": 0}
        write_rows(folder / "bank", "synonyms", [row | origin])
        row = {"action_id": action_id("jump"), "n": 0, "text": "bend the knees", "tpp": 1.5}
        write_rows(folder / "bank", "subtexts", [row | origin])
    return folder / "bank"


@pytest.fixture
def small(monkeypatch) -> None:
    """Blocks and tars of some kB."""
    monkeypatch.setattr(shard, "BLOCK_BYTES", 50_000)
    monkeypatch.setattr(shard, "SHARD_BYTES", 400_000)


@pytest.fixture(scope="module")
def want(bank, tmp_path_factory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("undisturbed") / "tars"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard, "BLOCK_BYTES", 50_000)
        patch.setattr(shard, "SHARD_BYTES", 400_000)
        shard_bank(ShardConfig(bank=bank, out=out))
    return files_of(out)


def tars_of(out: Path) -> list[Path]:
    return [out / entry.uri for entry in read_manifest(out).bank]


@pytest.mark.usefixtures("small")
def test_every_row_and_table_comes_back(bank, tmp_path):
    done = shard_bank(ShardConfig(bank=bank, out=tmp_path / "tars"))
    tars, record = tars_of(tmp_path / "tars"), read_record(bank)
    assert (len(tars), done.actions, done.descriptions) == (len(done.shards), 5, 754)
    assert len(tars) >= 4
    blocks = list(stream_blocks(tars))
    assert max(sum(map(len, map(str.encode, b.rows.column("text").to_pylist()))) for b in blocks) <= 50_000
    jump = [block.facts for block in blocks if block.facts["canonical"] == "jump"]
    assert [facts["block"] for facts in jump] == list(range(jump[0]["blocks"]))
    assert len(jump) > 20
    assert [block.facts["rows"] for block in blocks if block.facts["canonical"] == "wait"] == [0]
    rows = pa.concat_tables(block.rows for block in blocks)
    parts = pa.concat_tables(pq.read_table(bank / part.table, columns=BLOCK.names) for part in record.parts)
    assert rows.combine_chunks().equals(parts.combine_chunks())
    for name in ("synonyms", "subtexts"):
        assert read_table(tars, name) == (bank / f"{name}.parquet").read_bytes()
    assert read_table(tars, "entities") is None
    assert read_table([], "synonyms") is None
    assert read_synonyms(tmp_path / "tars") == read_synonyms(bank)
    assert read_subtexts(tmp_path / "tars") == read_subtexts(bank) != {}
    with pytest.raises(UsageError, match=r"must be a bank with prompts\.parquet, but it has none"):
        read_prompts(tmp_path / "tars")
    carried, own = Bank.open(tmp_path / "tars"), Bank.open(bank)
    assert carried.actions == own.actions
    for action in own.actions:
        assert carried.descriptions(action.action_id) == own.descriptions(action.action_id)
        assert carried.draw(action.action_id, 20, seed=3) == own.draw(action.action_id, 20, seed=3)
    assert verify(tmp_path / "tars") == []


@pytest.mark.usefixtures("small")
def test_a_stream_that_does_not_seek_is_read_block_by_block(bank, tmp_path):
    class Pipe(io.RawIOBase):
        def __init__(self, content: bytes) -> None:
            self.content, self.place = content, 0

        def read(self, size: int = -1) -> bytes:
            assert size >= 0
            piece = self.content[self.place : self.place + size]
            self.place += len(piece)
            return piece

    shard_bank(ShardConfig(bank=bank, out=tmp_path / "tars"))
    tars = tars_of(tmp_path / "tars")
    pipes = [Pipe(tar.read_bytes()) for tar in tars]
    streamed = stream_blocks(pipes)  # type: ignore[arg-type]
    first = next(streamed)
    assert pipes[0].place < 100_000
    assert pipes[1].place == 0
    assert [first.facts, *(block.facts for block in streamed)] == [block.facts for block in stream_blocks(tars)]


@pytest.mark.filterwarnings("ignore:Exception ignored in")  # webdataset leaves its file to the garbage collector
def test_webdataset_reads_the_tars(bank, tmp_path):
    done = shard_bank(ShardConfig(bank=bank, out=tmp_path / "tars"))
    assert len(done.shards) == 1
    samples = list(wds.WebDataset(str(tars_of(tmp_path / "tars")[0]), shardshuffle=False))
    gc.collect()
    assert samples[0]["__key__"] == "tables"
    assert len(samples) == 6
    found = {json.loads(s["json"])["canonical"]: pa.ipc.open_file(s["arrow"]).read_all() for s in samples[1:]}
    assert {name: len(table) for name, table in found.items()} == COUNTS | {"wait": 0}


def test_labels_of_a_dataset_become_aliases(bank, tmp_path):
    spellings = {"Leaping": action_id("jump"), "jump": action_id("jump")}
    shards = write_bank_tars(bank, tmp_path, spellings=spellings, first=7)
    assert [entry.uri for entry in shards] == ["bank/000007.tar"]
    blocks = {block.facts["canonical"]: block.facts for block in stream_blocks([tmp_path / shards[0].uri])}
    assert blocks["jump"]["aliases"] == ["Leaping", "jump"]
    assert blocks["run"]["aliases"] == ["run"]


def test_one_long_text_is_a_block_of_its_own(tmp_path, monkeypatch):
    rows = [{"action": "a", "text": "word " * count} for count in (1, 400, 2, 3, 500)]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    build_bank(BankBuildConfig(records=tmp_path / "r.jsonl", out=tmp_path / "bank", dedup="exact"))
    monkeypatch.setattr(shard, "BLOCK_BYTES", 100)
    shards = write_bank_tars(tmp_path / "bank", tmp_path, spellings={})
    blocks = list(stream_blocks([tmp_path / entry.uri for entry in shards]))
    texts = [text for block in blocks for text in block.rows.column("text").to_pylist()]
    assert texts == Bank.open(tmp_path / "bank").descriptions(action_id("a"))
    assert [len(block.rows) for block in blocks] == [3, 1, 1]


@pytest.mark.usefixtures("local_ray", "small")
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_number_of_workers_changes_no_byte(bank, want, tmp_path, monkeypatch, workers):
    monkeypatch.setattr(shard, "INLINE_ROWS", 0)
    shard_bank(ShardConfig(bank=bank, out=tmp_path / "tars", workers=workers))
    assert files_of(tmp_path / "tars") == want


class Killed(BaseException):
    pass


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("name", ["write_atomic", "TarWriter", "write_manifest"])
def test_what_a_kill_leaves_is_taken_over(bank, want, tmp_path, monkeypatch, name):
    real, calls = getattr(shard, name), list[object]()

    def killed(*arguments, **options):
        calls.append(arguments)
        if len(calls) == (1 if name == "write_manifest" else 3):
            raise Killed
        return real(*arguments, **options)

    config = ShardConfig(bank=bank, out=tmp_path / "tars")
    monkeypatch.setattr(shard, name, killed)
    with pytest.raises(Killed):
        shard_bank(config)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "tars/bank").glob("*.idx")}
    assert len(before) >= 2
    monkeypatch.setattr(shard, name, real)
    shard_bank(config)
    assert files_of(tmp_path / "tars") == want
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.usefixtures("small")
def test_a_bank_that_changed_in_between_is_written_anew(bank, want, tmp_path, monkeypatch):
    (tmp_path / "r.jsonl").write_text('{"action": "a", "text": "b"}\n')
    other, out = tmp_path / "bank", tmp_path / "tars"
    build_bank(BankBuildConfig(records=tmp_path / "r.jsonl", out=other))
    monkeypatch.setattr(shard, "write_manifest", lambda *_: (_ for _ in ()).throw(StorageError("full")))
    with pytest.raises(StorageError):
        shard_bank(ShardConfig(bank=bank, out=out))
    monkeypatch.undo()
    with pytest.raises(UsageError, match=r"holds an unfinished job on .*/bank; run that again, or start over: --no-r"):
        shard_bank(ShardConfig(bank=other, out=out))
    done = shard_bank(ShardConfig(bank=other, out=out, resume=False))
    assert (done.actions, len(done.shards)) == (1, 1)
    assert verify(out) == []


def test_what_is_in_the_way_is_told(bank, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/thesis.txt").touch()
    with pytest.raises(UsageError, match=r"out must be a new or empty folder, but .*/full holds thesis.txt"):
        shard_bank(ShardConfig(bank=bank, out=tmp_path / "full"))
    shard_bank(ShardConfig(bank=bank, out=tmp_path / "done"))
    with pytest.raises(UsageError, match=r"out must be a new or empty folder, but .*/done holds dataset.json"):
        shard_bank(ShardConfig(bank=bank, out=tmp_path / "done"))
    with pytest.raises(UsageError, match=r"bank must be a folder with bank.json, but .*/none has none"):
        shard_bank(ShardConfig(bank=tmp_path / "none", out=tmp_path / "out"))


def test_a_bank_alone_takes_no_videos(bank, tmp_path):
    out = tmp_path / "tars"
    shard_bank(ShardConfig(bank=bank, out=out))
    (tmp_path / "in").mkdir()
    with pytest.raises(UsageError, match=r"out must be .* a dataset of videos, but .*/tars holds a bank alone"):
        ingest(IngestConfig(input=tmp_path / "in", out=out))
    assert compact(CompactConfig(dataset=out)) == read_manifest(out)


def test_the_command_says_what_it_did(bank, tmp_path, capsys):
    assert bank_shard(ShardConfig(bank=bank, out=tmp_path / "tars")) == 0
    said = capsys.readouterr().out
    assert "bank written as tars in" in said
    assert "754" in said
    assert "1 of 1.43 MB in all" in said


def test_a_cut_tar_is_told(bank, tmp_path):
    [entry] = write_bank_tars(bank, tmp_path, spellings={})
    tar = tmp_path / entry.uri
    data = tar.read_bytes()
    for size in (len(data) // 2, 600, 100):
        tar.write_bytes(data[:size])
        with pytest.raises(DamageError):
            open_blocks([tar])
        with pytest.raises(DamageError):
            list(stream_blocks([tar]))
