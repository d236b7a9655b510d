"""Foreign tars become a dataset where they lie."""

from pathlib import Path

import numpy as np
import pytest
import webdataset as wds
from reelmill.engine import LoaderConfig
from reelmill.engine.adopt import adopt
from reelmill.engine.config import AdoptConfig, IngestConfig
from reelmill.engine.ingest import ingest
from reelmill.engine.loading.loader import ClipLoader
from reelmill.shards.errors import UsageError
from reelmill.shards.ledger import read_ledger
from reelmill.shards.reader import Dataset
from reelmill.shards.verify import verify

pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.fixture
def tars(media, tmp_path) -> Path:
    """What video2dataset writes: two tars, PAX headers, a caption and a json beside every video."""
    (tmp_path / "tars").mkdir()
    for shard in range(2):
        with wds.TarWriter(str(tmp_path / f"tars/{shard:05d}.tar")) as writer:
            for number in range(3):
                path = media.video(tmp_path / "video.mp4", frames=6 + number, tint=20 * shard)
                video = path.read_bytes() if (shard, number) != (1, 2) else b"not a video"
                meta = {"label": f"class {number}", "url": f"https://host/{number}"}
                sample = {"__key__": f"{shard}000{number}", "mp4": video, "txt": "a caption", "json": meta}
                writer.write(sample)
    folder: Path = tmp_path / "tars"
    return folder


def test_tars_are_taken_without_a_copy(tars, tmp_path):
    before = {path.name: path.read_bytes() for path in tars.iterdir()}
    manifest = adopt(AdoptConfig(tars=str(tars), out=tmp_path / "out"))
    assert verify(tmp_path / "out") == []
    assert (manifest.totals["samples"], manifest.totals["failed"]) == (5, 1)
    assert {path.name: path.read_bytes() for path in tars.iterdir()} == before
    assert (tmp_path / "out/shards/000000.tar").samefile(tars / "00000.tar")
    rows = Dataset(tmp_path / "out").table(["key", "labels", "caption", "frames", "source"]).to_pylist()
    assert rows[1] == {
        "key": "00001",
        "labels": ["class 1"],
        "caption": "a caption",
        "frames": 7,
        "source": "00000.tar/00001.mp4",
    }
    failed = read_ledger(tmp_path / "out", where=("status", "==", "failed")).to_pylist()
    assert [(row["input_id"], row["reason"]) for row in failed] == [("000001/00001.tar/10002.mp4", "not_video")]


def test_adopted_clips_are_those_of_an_ingest(tars, tmp_path):
    adopt(AdoptConfig(tars=str(tars), out=tmp_path / "adopted"))
    ingest(IngestConfig(input=tars, out=tmp_path / "ingested"))
    batches = []
    for name in ("adopted", "ingested"):
        loader = ClipLoader(tmp_path / name, LoaderConfig(global_batch=5, frames=2, size=16, training=False))
        batches.append(next(iter(loader)))
    assert np.array_equal(batches[0].clips_BVTCHW, batches[1].clips_BVTCHW)
    assert batches[0].labels_B.tolist() == batches[1].labels_B.tolist()


def test_a_cut_tar_gives_what_lies_before_the_cut(tars, tmp_path):
    whole = (tars / "00000.tar").read_bytes()
    (tars / "00000.tar").write_bytes(whole[: len(whole) // 2])
    manifest = adopt(AdoptConfig(tars=str(tars / "00000.tar"), out=tmp_path / "out"))
    assert 1 <= manifest.totals["samples"] < 3
    assert verify(tmp_path / "out") == []
    assert "damaged" in read_ledger(tmp_path / "out")["reason"].to_pylist()


def test_sample_names_that_two_tars_share_are_told(tars, tmp_path):
    (tars / "00001.tar").write_bytes((tars / "00000.tar").read_bytes())
    with pytest.raises(UsageError, match=r"every id must be given once, got '00000' twice"):
        adopt(AdoptConfig(tars=str(tars), out=tmp_path / "out"))


def test_an_output_that_is_not_empty_and_an_input_without_tars_are_refused(tars, tmp_path):
    with pytest.raises(UsageError, match=r"out must be a new or empty folder, got .*tars"):
        adopt(AdoptConfig(tars=str(tars), out=tars))
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError, match=r"tars must be a folder with .tar files, a tar .*, got .*none"):
        adopt(AdoptConfig(tars=str(tmp_path / "none"), out=tmp_path / "out"))
