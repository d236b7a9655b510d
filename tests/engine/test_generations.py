"""A dataset grows by generations: only what is new or changed is read and written, and nothing is lost on the way."""

import json
import os
import shutil
from pathlib import Path

import pytest
from reelmill.engine import LoaderConfig
from reelmill.engine import commit as commit_module
from reelmill.engine.compact import compact
from reelmill.engine.config import CompactConfig, IngestConfig, PlanConfig, RetryConfig
from reelmill.engine.forecast import forecast
from reelmill.engine.ingest import ingest, retry
from reelmill.engine.loading.loader import ClipLoader
from reelmill.shards.errors import UsageError
from reelmill.shards.ledger import read_ledger
from reelmill.shards.manifest import read_manifest, write_manifest
from reelmill.shards.reader import Dataset
from reelmill.shards.verify import verify

pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.fixture
def videos(media, tmp_path) -> Path:
    for number in range(4):
        media.video(tmp_path / f"videos/{number}.mp4", frames=4 + number, tint=9 * number)
    folder: Path = tmp_path / "videos"
    return folder


@pytest.fixture
def config(videos, tmp_path) -> IngestConfig:
    return IngestConfig(input=videos, out=tmp_path / "out")


def rows_of(folder: Path) -> dict[str, tuple[str, str, int]]:
    rows = read_ledger(folder).to_pylist()
    return {row["input_id"]: (row["status"], row["reason"], row["generation"]) for row in rows}


def live_sources(folder: Path) -> list[str]:
    dataset = Dataset(folder)
    sources = dataset.table(["source"]).column("source").to_pylist()
    return sorted(source for source, live in zip(sources, dataset.live(), strict=True) if live)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_unchanged_inputs_are_neither_read_nor_written(config):
    ingest(config)
    before = files_of(config.out)
    done = ingest(config)
    assert (done.read.worked, done.written.worked, done.unchanged) == (0, 0, 4)
    assert files_of(config.out) == before


def test_new_inputs_become_a_generation_beside_the_old_ones(config, videos, media):
    ingest(config)
    before = files_of(config.out / "shards")
    media.video(videos / "new.mp4", frames=9)
    done = ingest(config)
    assert (done.read.worked, done.written.worked, done.unchanged) == (1, 1, 4)
    after = files_of(config.out / "shards")
    assert {name: after[name] for name in before} == before
    assert sorted(set(after) - set(before)) == ["000001.idx", "000001.parquet", "000001.tar"]
    assert rows_of(config.out)["new.mp4"] == ("ok", "", 1)
    assert [len(g.shards) for g in read_manifest(config.out).generations] == [1, 1]
    assert verify(config.out) == []


def test_one_percent_more_inputs_cost_one_percent_more_bytes(media, tmp_path):
    template = media.video(tmp_path / "a.mp4", frames=4).read_bytes()
    (tmp_path / "videos").mkdir()

    def add(numbers: range) -> None:
        for number in numbers:  # bytes that no decoder reads make each file another one, of 300 kB
            (tmp_path / f"videos/{number:03d}.mp4").write_bytes(template + number.to_bytes(300_000, "big"))

    config = IngestConfig(input=tmp_path / "videos", out=tmp_path / "out", validate="none", shard_mb=16)
    add(range(100))
    ingest(config)
    before = files_of(config.out)
    add(range(100, 101))
    assert ingest(config).read.worked == 1
    after = files_of(config.out)
    written = {name: len(data) for name, data in after.items() if before.get(name) != data}
    assert {name.split("/")[0] for name in written} == {"shards", "ledger.parquet", "inputs.parquet", "dataset.json"}
    assert not any(name in before for name in written if name.startswith("shards/"))
    assert sum(written.values()) <= 0.012 * sum(map(len, before.values()))


def test_a_changed_and_a_removed_input_leave_tombstones(config, videos, media):
    ingest(config)
    media.video(videos / "1.mp4", frames=20, tint=77)
    (videos / "2.mp4").unlink()
    done = ingest(config)
    assert (done.read.worked, done.written.worked, done.unchanged) == (1, 1, 2)
    manifest = read_manifest(config.out)
    assert len(manifest.generations[1].tombstones) == 2
    assert manifest.totals["samples"] == manifest.totals["inputs"] == 3
    assert live_sources(config.out) == ["0.mp4", "1.mp4", "3.mp4"]
    assert set(rows_of(config.out)) == {"0.mp4", "1.mp4", "3.mp4"}
    assert verify(config.out) == []
    loader = ClipLoader(config.out, LoaderConfig(global_batch=1, frames=2, size=16, training=False))
    assert sorted(key for batch in loader for key in batch.keys) == sorted(
        clip["key"] for row in read_ledger(config.out).to_pylist() for clip in row["clips"]
    )


def test_a_touched_file_is_told_by_its_bytes_when_asked(config, videos):
    ingest(config)
    os.utime(videos / "1.mp4")
    by_bytes = IngestConfig(input=videos, out=config.out, checksum=True)
    assert (ingest(by_bytes).read.worked, ingest(config).read.worked) == (0, 1)


def test_with_append_what_is_not_named_stays(config, media, tmp_path):
    ingest(config)
    media.video(tmp_path / "more/x.mp4", frames=9, tint=30)
    more = IngestConfig(input=tmp_path / "more", out=config.out, append=True)
    assert (ingest(more).written.worked, ingest(more).read.worked) == (1, 0)
    assert live_sources(config.out) == ["0.mp4", "1.mp4", "2.mp4", "3.mp4", "x.mp4"]
    assert verify(config.out) == []
    assert read_manifest(config.out).totals["inputs"] == 5


def test_a_new_copy_of_an_old_input_is_a_duplicate_and_comes_back_when_the_old_one_goes(config, videos):
    ingest(config)
    shutil.copy(videos / "0.mp4", videos / "copy.mp4")
    ingest(config)
    assert rows_of(config.out)["copy.mp4"] == ("duplicate", "exact", 1)
    assert read_ledger(config.out, where=("status", "==", "duplicate"))["duplicate_of"].to_pylist() == ["0.mp4"]
    (videos / "0.mp4").unlink()
    done = ingest(config)
    assert rows_of(config.out)["copy.mp4"] == ("ok", "", 2)
    assert done.read.worked == 1
    assert verify(config.out) == []


def test_another_label_for_the_same_video_is_a_change(videos, tmp_path):
    manifest = tmp_path / "videos.jsonl"
    config = IngestConfig(input=manifest, out=tmp_path / "out")
    for label in ("jump", "run"):
        rows = [{"path": f"videos/{n}.mp4", "label": label if n == 1 else "sit"} for n in range(3)]
        manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
        done = ingest(config)
    assert done.written.worked == 1
    assert read_manifest(config.out).classes == ["run", "sit"]


def test_another_form_is_refused(config, videos):
    ingest(config)
    with pytest.raises(UsageError, match=r"preset must be 'archive' as in the dataset .*, got 'train-cpu'"):
        ingest(IngestConfig(input=videos, out=config.out, preset="train-cpu"))


def test_retry_reads_the_failed_inputs_alone(config, videos, media):
    good = (videos / "1.mp4").read_bytes()
    (videos / "1.mp4").write_bytes(good[:300])
    (videos / "empty.mp4").touch()
    ingest(config)
    again = RetryConfig(dataset=config.out)
    done = retry(again)
    assert (done.counts["failed"], done.written.worked, len(done.manifest.generations)) == (2, 0, 1)  # nothing new
    (videos / "1.mp4").write_bytes(good)
    done = retry(again)
    assert (done.read.worked, done.written.worked, done.counts["failed"], done.counts["ok"]) == (1, 1, 1, 4)
    assert rows_of(config.out)["1.mp4"] == ("ok", "", 1)
    assert verify(config.out) == []
    (config.out / "inputs.parquet").unlink()
    with pytest.raises(UsageError, match=r"out must hold inputs.parquet to know where its inputs lie"):
        retry(again)


def test_without_its_memory_a_dataset_takes_every_input_as_changed(config):
    ingest(config)
    (config.out / "inputs.parquet").unlink()
    done = ingest(config)
    assert (done.read.worked, done.written.worked) == (4, 4)
    assert verify(config.out) == []


@pytest.mark.parametrize("stop", ["write_manifest", "os.replace"])
def test_a_kill_inside_the_commit_is_made_good(config, videos, media, monkeypatch, stop):
    ingest(config)
    media.video(videos / "new.mp4", frames=9)
    with monkeypatch.context() as patched:
        real = write_manifest

        def dies(*args):
            if stop == "os.replace":
                real(*args)
            pytest.exit("killed", returncode=0)

        patched.setattr(commit_module, "write_manifest", dies)
        with pytest.raises(pytest.exit.Exception):
            ingest(config)
    assert read_manifest(config.out).totals["inputs"] == (5 if stop == "os.replace" else 4)
    done = ingest(config)
    assert done.read.worked == 0
    assert done.counts["ok"] == 5
    assert verify(config.out) == []
    assert not (config.out / ".work").exists()


def test_compact_folds_generations_into_one_without_decoding(config, videos, media):
    ingest(config)
    (videos / "2.mp4").unlink()
    media.video(videos / "new.mp4", frames=9)
    ingest(config)
    before = {row["key"]: row for row in Dataset(config.out).table().to_pylist()}
    manifest = compact(CompactConfig(dataset=config.out))
    after = Dataset(config.out).table().to_pylist()
    assert verify(config.out) == []
    assert [len(g.shards) for g in manifest.generations] == [1]
    assert [row["source"] for row in after] == ["0.mp4", "1.mp4", "3.mp4", "new.mp4"]
    for row in after:
        same = {name: value for name, value in row.items() if name not in ("members", "generation")}
        assert same == {name: before[row["key"]][name] for name in same}
    assert sorted(p.name for p in (config.out / "shards").iterdir()) == ["000002.idx", "000002.parquet", "000002.tar"]
    assert ingest(config).read.worked == 0  # what is there is still known
    assert compact(CompactConfig(dataset=config.out)) == manifest


def test_a_plan_writes_nothing_and_says_what_would_be(videos, tmp_path):
    (videos / "empty.mp4").touch()
    shutil.copy(videos / "0.mp4", videos / "copy.mp4")
    found = forecast(PlanConfig(input=videos, preset="train-cpu"))
    assert found.counts == {"ok": 4, "duplicate": 1, "filtered": 0, "failed": 1}
    assert (found.totals.inputs, found.totals.samples, found.totals.shards) == (6, 4, {0})
    made = ingest(IngestConfig(input=videos, out=tmp_path / "out", preset="train-cpu")).manifest.totals["bytes"]
    assert made / 4 < found.totals.estimated_bytes < 4 * made  # tiny flat pictures are far from what is usual
    assert found.source_bytes == sum((videos / f"{n}.mp4").stat().st_size for n in range(4))
