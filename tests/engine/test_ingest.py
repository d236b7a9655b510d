"""Whole ingests on a real Ray: formats, ledger, determinism, resume, and every kind of bad input."""

import gc
import json
import os
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
import wds2idx
import webdataset as wds
from nvidia.dali import Pipeline, fn
from reelmill.engine import ingest as ingest_module
from reelmill.engine.bank.records.build import build_bank
from reelmill.engine.bank.records.config import BankBuildConfig
from reelmill.engine.config import Dedup, IngestConfig, RetryConfig
from reelmill.engine.dedup.config import DedupConfig
from reelmill.engine.ingest import ingest, retry
from reelmill.engine.listing import known_actions
from reelmill.engine.work import Work
from reelmill.shards.bank import Bank
from reelmill.shards.errors import DamageError, StorageError, UsageError
from reelmill.shards.ledger import read_ledger
from reelmill.shards.reader import Dataset
from reelmill.shards.verify import verify

pytestmark = pytest.mark.usefixtures("local_ray")


def ledger_of(folder: Path) -> dict[str, tuple[str, str]]:
    return {row["input_id"]: (row["status"], row["reason"]) for row in read_ledger(folder).to_pylist()}


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def manifest_of(folder: Path, rows: list[dict]) -> Path:
    path = folder / "videos.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_real_clips_as_they_are(real_videos, tmp_path):
    result = ingest(IngestConfig(input=real_videos, out=tmp_path / "out", preset="archive"))
    assert verify(tmp_path / "out") == []
    assert result.counts == {"ok": 4, "duplicate": 0, "filtered": 0, "failed": 1}
    assert ledger_of(tmp_path / "out")["corrupted.mp4"] == ("failed", "damaged")
    dataset = Dataset(tmp_path / "out")
    assert dataset.table(["source", "frames", "rotation"]).to_pylist() == [
        {"source": "bikes.mp4", "frames": 250, "rotation": 0},
        {"source": "mm_demo.mp4", "frames": 280, "rotation": 0},
        {"source": "pancake.mkv", "frames": 310, "rotation": 0},
        {"source": "rot90.mov", "frames": 3, "rotation": 90},
    ]


@pytest.mark.filterwarnings("ignore:Exception ignored in")  # webdataset leaves its file to the garbage collector
def test_webdataset_dali_and_wds2idx_agree_on_the_shards(small_videos, tmp_path):
    ingest(IngestConfig(input=small_videos, out=tmp_path / "out", preset="archive"))
    tar, idx = tmp_path / "out/shards/000000.tar", tmp_path / "out/shards/000000.idx"
    rows = Dataset(tmp_path / "out").table(["key", "source", "labels"]).to_pylist()

    samples = list(wds.WebDataset(str(tar), shardshuffle=False))
    gc.collect()
    assert [s["__key__"] for s in samples] == [row["key"] for row in rows]
    assert json.loads(samples[0]["json"])["labels"] == rows[0]["labels"]

    with wds2idx.IndexCreator(str(tar), str(tmp_path / "theirs.idx"), verbose=False) as creator:
        creator.create_index()
    assert idx.read_bytes() == (tmp_path / "theirs.idx").read_bytes()

    with Pipeline(batch_size=len(rows), num_threads=1, device_id=None) as pipe:
        pipe.set_outputs(fn.readers.webdataset(paths=[str(tar)], index_paths=[str(idx)], ext=["mp4"]))
    pipe.build()
    (read,) = pipe.run()
    for number, row in enumerate(rows):
        assert bytes(read.at(number)) == samples[number]["mp4"] == (small_videos / row["source"]).read_bytes()


def test_folders_may_be_named_from_where_the_driver_is(media, tmp_path, monkeypatch):
    media.video(tmp_path / "videos/a.mp4", frames=4)
    monkeypatch.chdir(tmp_path)  # the workers are somewhere else
    ingest(IngestConfig(input=Path("videos"), out=Path("out")))
    assert verify("out") == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "videos"]


@pytest.mark.parametrize("workers", [1, 4])
def test_bytes_do_not_depend_on_workers(small_videos, small_dataset, tmp_path, workers):
    options = {"input": small_videos, "preset": "train-cpu", "short_side": 64, "shard_mb": 1}
    ingest(IngestConfig(out=tmp_path / "out", workers=workers, **options))
    assert files_of(tmp_path / "out") == files_of(small_dataset)


@pytest.mark.filterwarnings("ignore:Exception ignored in")
def test_labels_captions_and_further_columns_reach_the_sample(media, tmp_path):
    media.video(tmp_path / "a.mp4", frames=6)
    row = {"path": "a.mp4", "id": "one", "label": ["Jumping", "run"], "caption": "a jump", "split": "val", "view": 3}
    ingest(IngestConfig(input=manifest_of(tmp_path, [row]), out=tmp_path / "out"))
    (sample,) = wds.WebDataset(str(tmp_path / "out/shards/000000.tar"), shardshuffle=False)
    gc.collect()
    sidecar = json.loads(sample["json"])
    assert (sidecar["labels"], sidecar["split"], sidecar["extra"]) == (["Jumping", "run"], "val", {"view": 3})
    assert sample["txt"] == b"a jump"
    assert Dataset(tmp_path / "out").manifest.classes == ["Jumping", "run"]


def test_every_bad_input_is_a_ledger_row_and_nothing_is_lost(media, tmp_path):
    videos = tmp_path / "videos"
    good = media.video(videos / "good.mp4", frames=6)
    shutil.copy(good, videos / "twin.mp4")
    (videos / "text.mp4").write_text("not a video\n" * 40)
    (videos / "empty.mp4").touch()
    media.audio(videos / "sound.mp4")
    rows = [{"path": f"videos/{name}.mp4", "id": name} for name in ("good", "twin", "text", "empty", "sound", "gone")]
    result = ingest(IngestConfig(input=manifest_of(tmp_path, rows), out=tmp_path / "out"))
    assert ledger_of(tmp_path / "out") == {
        "good": ("ok", ""),
        "twin": ("duplicate", "exact"),
        "text": ("failed", "not_video"),
        "empty": ("failed", "empty"),
        "sound": ("failed", "no_video_stream"),
        "gone": ("failed", "missing"),
    }
    assert result.counts == Counter(ok=1, duplicate=1, filtered=0, failed=4)
    assert verify(tmp_path / "out") == []


def test_the_same_pictures_in_another_encoding_are_a_duplicate_when_asked(media, real_videos, tmp_path):
    videos = tmp_path / "videos"
    videos.mkdir()
    shutil.copy(real_videos / "bikes.mp4", videos / "a.mp4")
    rescale(videos / "a.mp4", videos / "b.mp4", 0.5)
    media.video(videos / "c.mp4", frames=48)
    found: dict[Dedup, tuple[str, str]] = {"stream": ("ok", ""), "perceptual": ("duplicate", "perceptual")}
    for dedup, expected in found.items():
        ingest(IngestConfig(input=videos, out=tmp_path / dedup, dedup=dedup))
        assert ledger_of(tmp_path / dedup) == {"a.mp4": ("ok", ""), "b.mp4": expected, "c.mp4": ("ok", "")}
    strict = DedupConfig(max_distance=0, max_mean_distance=0.0)
    config = IngestConfig(input=videos, out=tmp_path / "strict", dedup="perceptual", near=strict)
    assert ingest(config).counts["ok"] == 3
    assert IngestConfig.from_record(config.hashed(), input=videos, out=videos).near == strict
    with pytest.raises(UsageError, match="near must go with dedup perceptual, got exact"):
        IngestConfig(input=videos, out=tmp_path, near=strict)
    with pytest.raises(UsageError, match="dedup perceptual must go with validate decode, got packets"):
        IngestConfig(input=videos, out=tmp_path, dedup="perceptual", validate="packets")


def rescale(source: Path, target: Path, scale: float) -> None:
    with av.open(str(source)) as read, av.open(str(target), "w") as write:
        stream = write.add_stream("libx264", rate=25, options={"crf": "34"})
        given = read.streams.video[0]
        stream.width, stream.height = (int(side * scale) // 2 * 2 for side in (given.width, given.height))
        for frame in read.decode(given):
            write.mux(stream.encode(frame.reformat(stream.width, stream.height)))
        write.mux(stream.encode(None))


def test_an_ingest_without_any_good_video_still_says_why(tmp_path):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos/empty.mp4").touch()
    ingest(IngestConfig(input=tmp_path / "videos", out=tmp_path / "out"))
    assert ledger_of(tmp_path / "out") == {"empty.mp4": ("failed", "empty")}
    assert verify(tmp_path / "out") == []


def bank_of(folder: Path, actions: list[str]) -> Path:
    records = folder / "records.jsonl"
    records.write_text("".join(json.dumps({"action": a, "text": f"they {a}"}) + "\n" for a in actions))
    build_bank(BankBuildConfig(records=records, out=folder / "bank"))
    return folder / "bank"


def test_a_bank_travels_with_the_dataset_and_an_unknown_label_is_told(media, tmp_path):
    for label in ("jumping", "fly"):
        media.video(tmp_path / "videos" / label / "a.mp4", frames=6, tint=len(label))
    bank = bank_of(tmp_path, ["jump", "run"])
    ingest(IngestConfig(input=tmp_path / "videos", out=tmp_path / "out", bank=bank))
    assert ledger_of(tmp_path / "out")["fly/a.mp4"] == ("failed", "unknown_label")
    carried = Bank.open(tmp_path / "out")
    assert [action.canonical for action in carried.actions] == ["jump", "run"]
    assert carried.find("jumping") == carried.find("jump")  # the dataset's own spelling
    assert Dataset(tmp_path / "out").table(["action_id"]).to_pylist() == [{"action_id": carried.find("jump").action_id}]
    assert verify(tmp_path / "out") == []


def test_labels_are_known_by_the_rules_that_the_bank_was_built_by(tmp_path):
    (tmp_path / "texts.jsonl").write_text('{"action": "jump over the fence", "text": "up and over"}')
    (tmp_path / "overrides.csv").write_text("canonical,spelling\njump fence,clear a hurdle\n")
    paper = BankBuildConfig(
        records=tmp_path / "texts.jsonl", out=tmp_path / "bank", rules="paper", overrides=tmp_path / "overrides.csv"
    )
    build_bank(paper)
    known = known_actions(["jumping fence", "clear a hurdle", "walk"], tmp_path / "bank")
    assert known == dict.fromkeys(
        ["jumping fence", "clear a hurdle"], Bank.open(tmp_path / "bank").actions[0].action_id
    )
    record = tmp_path / "bank/bank.json"
    record.write_text(record.read_text().replace('"lemma":', '"lemmas":'))
    with pytest.raises(DamageError, match=r"names in bank.json do not read: TypeError"):
        known_actions(["walk"], tmp_path / "bank")


def test_an_id_given_twice_is_a_wrong_manifest_and_nothing_is_written(tmp_path):
    rows = [{"path": "a.mp4", "id": "one"}, {"path": "b.mp4", "id": "one"}]
    with pytest.raises(UsageError, match=r"every id must be given once, got 'one' twice \(rows 1 and 2\)"):
        ingest(IngestConfig(input=manifest_of(tmp_path, rows), out=tmp_path / "out"))
    assert not (tmp_path / "out/shards").exists()


def test_a_retry_and_a_later_ingest_hold_labels_to_the_bank_that_is_carried(media, tmp_path):
    for label in ("jumping", "fly"):
        media.video(tmp_path / "videos" / label / "a.mp4", frames=6, tint=len(label))
    ingest(IngestConfig(input=tmp_path / "videos", out=tmp_path / "out", bank=bank_of(tmp_path, ["jump", "run"])))
    retry(RetryConfig(dataset=tmp_path / "out"))
    media.video(tmp_path / "videos/swim/a.mp4", frames=8)
    ingest(IngestConfig(input=tmp_path / "videos", out=tmp_path / "out"))
    assert ledger_of(tmp_path / "out") == {
        "jumping/a.mp4": ("ok", ""),
        "fly/a.mp4": ("failed", "unknown_label"),
        "swim/a.mp4": ("failed", "unknown_label"),
    }
    assert verify(tmp_path / "out") == []


@pytest.mark.parametrize("preset", ["archive", "train-cpu", "train-gpu"])
def test_listed_spans_are_cut(media, tmp_path, preset):
    media.video(tmp_path / "a.mp4", frames=48, fps=12, options={"g": "6"})
    rows = [
        {"path": "a.mp4", "id": "first", "start_seconds": 0, "end_seconds": 1},
        {"path": "a.mp4", "id": "second", "start_seconds": 1.25, "end_seconds": 2},
        {"path": "a.mp4", "id": "late", "start_seconds": 9},
    ]
    ingest(IngestConfig(input=manifest_of(tmp_path, rows), out=tmp_path / "out", preset=preset))
    found = Dataset(tmp_path / "out").table(["input_id", "frames", "start_seconds", "end_seconds"]).to_pylist()
    assert [row["input_id"] for row in found] == ["first", "second"]
    assert (found[0]["frames"], found[0]["start_seconds"], found[0]["end_seconds"]) == (12, 0.0, 1.0)
    if preset == "archive":  # from the keyframe at or before it
        assert (found[1]["frames"], found[1]["start_seconds"], found[1]["end_seconds"]) == (12, 1.0, 2.0)
    else:
        assert (found[1]["frames"], found[1]["start_seconds"], found[1]["end_seconds"]) == (9, 1.25, 2.0)
    assert ledger_of(tmp_path / "out")["late"] == ("filtered", "span")
    assert verify(tmp_path / "out") == []


@pytest.mark.parametrize("preset", ["archive", "train-cpu"])
def test_scenes_become_clips(tmp_path, preset):
    (tmp_path / "videos").mkdir()
    with av.open(str(tmp_path / "videos/a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=15, options={"g": "30"})
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for number in range(90):
            picture = np.random.default_rng(number // 30).integers(0, 255, (8, 12, 3), np.uint8)
            picture = picture.repeat(8, axis=0).repeat(8, axis=1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
        container.mux(stream.encode(None))
    config = IngestConfig(input=tmp_path / "videos", out=tmp_path / "out", preset=preset, scenes=True)
    ingest(config)
    found = Dataset(tmp_path / "out").table(["start_seconds", "end_seconds", "frames"]).to_pylist()
    assert [(row["start_seconds"], row["end_seconds"], row["frames"]) for row in found] == [
        (0.0, 2.0, 30),
        (2.0, 4.0, 30),
        (4.0, 6.0, 30),
    ]
    assert ingest(config).read.worked == 0


def test_an_output_folder_that_holds_something_else_is_left_alone(small_videos, small_dataset, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(UsageError, match=r"out must be .* or a dataset, but .* holds \['thesis.txt'\]"):
        ingest(IngestConfig(input=small_videos, out=tmp_path))
    assert (tmp_path / "thesis.txt").read_text() == "precious"
    with pytest.raises(UsageError, match=r"preset must be 'train-cpu' as in the dataset .*, got 'archive'"):
        ingest(IngestConfig(input=small_videos, out=small_dataset))
    with pytest.raises(UsageError, match=r"out must be a folder, but .*thesis.txt is a file"):
        ingest(IngestConfig(input=small_videos, out=tmp_path / "thesis.txt"))


def test_a_full_disk_is_one_error_and_the_job_goes_on_where_it_stood(media, small_disk, tmp_path):
    for number in range(6):
        path = media.video(tmp_path / f"videos/{number}.mp4", frames=4, tint=number)
        path.write_bytes(path.read_bytes() + os.urandom(600_000))  # trailing bytes that no decoder reads
    config = IngestConfig(input=tmp_path / "videos", out=small_disk / "out", shard_mb=1)
    with pytest.raises(StorageError, match=r"cannot write .*: No space left on device; .* run again"):
        ingest(config)
    assert not (small_disk / "out/dataset.json").exists()
    subprocess.run(["mount", "-o", "remount,size=32m", str(small_disk)], check=True)
    written = [f"{int(note.stem):06d}.tar" for note in (small_disk / "out/.work/notes").iterdir()]
    assert written
    times = {name: (small_disk / "out/shards" / name).stat().st_mtime_ns for name in written}
    result = ingest(config)
    assert result.counts["ok"] == 6
    assert verify(small_disk / "out") == []
    done = {name for name in written if (small_disk / "out/shards" / name).stat().st_mtime_ns == times[name]}
    assert done == set(written)  # what was committed is not written again
    ingest(IngestConfig(input=tmp_path / "videos", out=tmp_path / "fresh", shard_mb=1))
    assert files_of(tmp_path / "fresh") == files_of(small_disk / "out")


def leave_unfinished(config: IngestConfig) -> None:
    """An ingest that ends before its commit."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ingest_module, "commit", lambda *args: pytest.exit("killed", returncode=0))
        with pytest.raises(pytest.exit.Exception):
            ingest(config)


def test_leftovers_of_another_input_are_not_mixed_in(media, tmp_path):
    media.video(tmp_path / "first/a.mp4", frames=4)
    media.video(tmp_path / "second/b.mp4", frames=5)
    out = tmp_path / "out"
    leave_unfinished(IngestConfig(input=tmp_path / "first", out=out))
    (out / "shards/000007.tar").write_bytes(b"old")
    with pytest.raises(UsageError, match=r"out holds an unfinished ingest of .*first; run that again"):
        ingest(IngestConfig(input=tmp_path / "second", out=out))
    ingest(IngestConfig(input=tmp_path / "second", out=out, resume=False))
    assert verify(out) == []
    assert set(ledger_of(out)) == {"b.mp4"}


def test_a_resumed_job_reads_and_writes_nothing_twice(small_videos, tmp_path):
    config = IngestConfig(input=small_videos, out=tmp_path / "out", workers=1)
    leave_unfinished(config)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out/shards").iterdir()}
    done = ingest(config)
    assert (done.read.worked, done.written.worked, done.counts["ok"]) == (0, 0, 15)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "out/shards").iterdir()} == times
    ingest(IngestConfig(input=small_videos, out=tmp_path / "fresh"))
    assert files_of(tmp_path / "fresh") == files_of(tmp_path / "out")


@pytest.mark.parametrize("stage", ["probe_all", "_write"])
def test_inputs_that_went_away_with_their_folder_are_not_lost(small_videos, tmp_path, monkeypatch, stage):
    shutil.copytree(small_videos, tmp_path / "mount")
    config = IngestConfig(input=tmp_path / "mount", out=tmp_path / "out")
    at_work = getattr(ingest_module, stage)

    def unmounted(*args):
        (tmp_path / "mount").rename(tmp_path / "gone")
        (tmp_path / "mount").mkdir()
        return at_work(*args)

    with monkeypatch.context() as patched:
        patched.setattr(ingest_module, stage, unmounted)
        with pytest.raises(StorageError, match=r"mount went away while it was read; bring it back and run again"):
            ingest(config)
    (tmp_path / "mount").rmdir()
    (tmp_path / "gone").rename(tmp_path / "mount")
    done = ingest(config)
    assert (done.counts["ok"], done.written.worked) == (15, 15)
    assert done.read.worked == (15 if stage == "probe_all" else 0)
    assert verify(tmp_path / "out") == []


def test_only_what_another_try_may_find_is_probed_again(small_videos, media, tmp_path):
    shutil.copytree(small_videos, tmp_path / "videos")
    rows = [{"path": f"videos/{path.relative_to(small_videos)}"} for path in small_videos.rglob("*.mp4")]
    rows += [{"path": "videos/late.mp4"}, {"path": "videos/empty.mp4"}]
    (tmp_path / "videos/empty.mp4").touch()
    (tmp_path / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = IngestConfig(input=tmp_path / "list.jsonl", out=tmp_path / "out", workers=1)
    leave_unfinished(config)
    media.video(tmp_path / "videos/late.mp4", frames=7)
    done = ingest(config)
    assert (done.read.worked, done.counts["ok"], done.counts["failed"]) == (1, 16, 1)


def test_a_resumed_job_with_another_option_takes_over_what_still_holds(small_videos, tmp_path):
    leave_unfinished(IngestConfig(input=small_videos, out=tmp_path / "out"))
    done = ingest(IngestConfig(input=small_videos, out=tmp_path / "out", dedup="none"))
    assert (done.read.worked, done.written.worked) == (0, 15)  # the facts hold, the shard's config does not
    assert verify(tmp_path / "out") == []


def test_two_jobs_on_one_dataset_are_refused(small_videos, tmp_path):
    with Work(tmp_path / "out").lock(), pytest.raises(UsageError, match=r"another job is at work on .*out"):
        ingest(IngestConfig(input=small_videos, out=tmp_path / "out"))
