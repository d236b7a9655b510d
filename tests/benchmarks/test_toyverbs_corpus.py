import csv
import hashlib
import json
from pathlib import Path

import av
import numpy as np
import pytest
from reelmill.benchmarks.toyverbs.corpus import SIDE, WIDE, write_corpus
from reelmill.benchmarks.toyverbs.world import render
from reelmill.shards.errors import UsageError

VIDEOS = 70  # past the first wide and the first sideways video


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("toyverbs"), videos=VIDEOS, seed=5)


@pytest.fixture(scope="module")
def rows(corpus):
    with corpus.manifest.open(newline="") as file:
        return list(csv.DictReader(file))


def decode(path: Path):
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return np.stack([frame.to_ndarray(format="rgb24") for frame in frames]), frames[0].rotation


def digests(folder: Path):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_same_seed_same_bytes_and_another_seed_others(corpus, tmp_path):
    counted: list[int] = []
    write_corpus(tmp_path / "again", videos=VIDEOS, seed=5, progress=counted.append)
    write_corpus(tmp_path / "other", videos=8, seed=6)
    assert digests(tmp_path / "again") == digests(corpus.manifest.parent)
    assert sum(counted) == VIDEOS
    name = "videos/000001.mp4"
    assert digests(tmp_path / "other")[name] != digests(corpus.manifest.parent)[name]


def test_train_split_never_shows_a_novel_class(corpus, rows):
    base, novel = (path.read_text().splitlines() for path in (corpus.base, corpus.novel))
    assert corpus.labels.read_text().splitlines() == base + novel
    assert {row["label"] for row in rows if row["split"] == "train"} <= set(base)
    tested = [row["label"] for row in rows if row["split"] == "test"]
    assert sum(label in base for label in tested) == 14
    assert sum(label in novel for label in tested) == 11
    assert len(rows) == corpus.videos + 2 == VIDEOS + 2
    assert len({row["id"] for row in rows}) == len(rows)


def test_full_rounds_hold_every_class(rows):
    train = [row["label"] for row in rows if row["split"] == "train"]
    assert len({label.split()[0] for label in train[:8]}) == 8
    assert len({label.split()[1] for label in train[:8]}) == 8


@pytest.mark.parametrize(("number", "shape"), [(1, (SIDE, SIDE)), (53, (SIDE, WIDE)), (67, (SIDE, SIDE))])
def test_videos_hold_what_was_rendered(corpus, rows, number, shape):
    row = rows[number - 1]
    frames_THWC, rotation = decode(corpus.manifest.parent / row["path"])
    upright_THWC = np.rot90(frames_THWC, rotation // 90, axes=(1, 2))
    truth = render(*row["label"].split(), seed=(5, number), width=shape[1])
    assert rotation == (-90 if number == 67 else 0)
    assert upright_THWC.shape == (36, *shape, 3)
    off = np.abs(upright_THWC.astype(int) - truth.frames_THWC)
    assert off.mean() < 6  # H.264 at this quality, with its colours at half resolution
    assert row["caption"].startswith("a ")
    assert truth.noun in row["caption"]


def test_videos_are_h264_in_yuv420p(corpus):
    with av.open(str(corpus.manifest.parent / "videos/000001.mp4")) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
        assert stream.average_rate == 12
        assert sum(packet.size > 0 for packet in container.demux(stream)) == 36


def test_faults_are_a_copy_and_a_half(corpus, rows):
    folder = corpus.manifest.parent
    first, copy, half = (folder / f"videos/{name}.mp4" for name in ("000001", "duplicate", "damaged"))
    assert copy.read_bytes() == first.read_bytes()
    assert first.read_bytes().startswith(half.read_bytes())
    with pytest.raises(av.error.FFmpegError):
        decode(half)
    assert [row["id"] for row in rows[-2:]] == ["duplicate", "damaged"]


def test_descriptions_are_records_of_every_class(corpus):
    records = [json.loads(line) for line in corpus.descriptions.read_text().splitlines()]
    assert {record["action"] for record in records} == set(corpus.labels.read_text().splitlines())
    assert all(set(record) == {"action", "text", "source"} for record in records)


def test_wrong_arguments_are_named(tmp_path):
    with pytest.raises(UsageError, match="videos >= 8 and seed >= 0, got 7 and 0"):
        write_corpus(tmp_path, videos=7)
    with pytest.raises(UsageError, match="got 8 and -1"):
        write_corpus(tmp_path, videos=8, seed=-1)
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UsageError, match=r"new or empty, but .* holds something"):
        write_corpus(tmp_path, videos=8)
