"""Foreign tars with features beside a video, or in its place."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
import webdataset as wds
from reelmill.engine import ClipLoader, LoaderConfig
from reelmill.engine.adopt import adopt
from reelmill.engine.config import AdoptConfig, IngestConfig
from reelmill.engine.ingest import ingest
from reelmill.shards.errors import UsageError
from reelmill.shards.ledger import read_ledger
from reelmill.shards.reader import Dataset
from reelmill.shards.verify import verify

pytestmark = pytest.mark.usefixtures("local_ray")


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def feature(number: int) -> np.ndarray:
    return (np.arange(6 * 2, dtype=np.float32) + 100 * number).reshape(6, 2)


@pytest.fixture
def beside(media, tmp_path) -> Path:
    with wds.TarWriter(str(tmp_path / "a.tar")) as writer:
        for number in range(4):
            video = media.video(tmp_path / "video.mp4", frames=6, tint=20 * number).read_bytes()
            arrays = {"npy": npy(feature(number)), "words.npy": npy(np.full((1 + number, 3), number, np.float16))}
            writer.write({"__key__": f"{number:05d}", **arrays, "mp4": video, "json": {"label": f"class {number % 2}"}})
    adopt(AdoptConfig(tars=str(tmp_path / "a.tar"), out=tmp_path / "out"))
    folder: Path = tmp_path / "out"
    return folder


@pytest.fixture
def alone(tmp_path) -> Path:
    with wds.TarWriter(str(tmp_path / "a.tar")) as writer:
        for number in range(4):
            told = {"json": {"label": f"class {number % 2}", "split": "train"}, "txt": "a caption"}
            writer.write({"__key__": f"{number:05d}", "npy": npy(feature(number)), **told})
        writer.write({"__key__": "00004", "npy": b"no array"})
        writer.write({"__key__": "00005", "txt": "text alone"})
    adopt(AdoptConfig(tars=str(tmp_path / "a.tar"), out=tmp_path / "out"))
    folder: Path = tmp_path / "out"
    return folder


def evaluation(**options: object) -> LoaderConfig:
    given = {"global_batch": 4, "frames": 3, "size": 32, "training": False} | options
    return LoaderConfig(**given)  # type: ignore[arg-type]


def test_features_beside_the_video_load_with_it(beside):
    assert verify(beside) == []
    (batch,) = ClipLoader(beside, evaluation(features=".npy"))
    assert batch.valid_B.all()
    assert batch.clips_BVTCHW.shape == (4, 1, 3, 3, 32, 32)
    assert batch.features is not None
    assert batch.feature_masks is not None
    # frames 1, 3 and 5 of 6: the middle of each third
    rows = torch.stack([torch.from_numpy(feature(number)[[1, 3, 5]]) for number in range(4)])
    assert torch.equal(batch.features["frames"][:, 0], rows)
    assert batch.features["words"].shape == (4, 4, 3)
    assert batch.feature_masks["words"].sum(1).tolist() == [1, 2, 3, 4]
    assert batch.features["words"].dtype == torch.float16
    (batch,) = ClipLoader(beside, evaluation(features=".words.npy"))
    assert list(batch.features or ()) == ["words"]


def test_features_in_place_of_the_video(alone):
    assert verify(alone) == []
    rows = Dataset(alone).table(["key", "labels", "caption", "split", "codec", "frames", "source"]).to_pylist()
    assert rows[1] == {
        "key": "00001",
        "labels": ["class 1"],
        "caption": "a caption",
        "split": "train",
        "codec": None,
        "frames": None,
        "source": "a.tar/00001.npy",
    }
    failed = read_ledger(alone, where=("status", "==", "failed")).to_pylist()
    assert [(row["uri"], row["reason"]) for row in failed] == [("a.tar/00004.npy", "damaged")]
    (batch,) = ClipLoader(alone, evaluation(features=".npy", video=False, split="train"))
    assert batch.valid_B.all()
    assert batch.labels_B.tolist() == [0, 1, 0, 1]
    assert batch.clips_BVTCHW.shape == (4, 1, 0, 3, 32, 32)
    rows = torch.stack([torch.from_numpy(feature(number)[[1, 3, 5]]) for number in range(4)])
    assert batch.features is not None
    assert torch.equal(batch.features["frames"][:, 0], rows)


def test_samples_without_a_video_are_bad_where_one_is_asked_for(alone, tmp_path):
    config = evaluation(quarantine=tmp_path / "bad.jsonl", max_bad_fraction=1.0)
    (batch,) = ClipLoader(alone, config)
    assert not batch.valid_B.any()
    assert "codec" in (tmp_path / "bad.jsonl").read_text()


def test_an_ending_that_no_member_has(beside):
    with pytest.raises(UsageError, match=r"must have samples with members that end with \.regions\.npy, but 0.* has"):
        ClipLoader(beside, evaluation(features=".regions.npy"))
    with pytest.raises(UsageError, match=r"features must be a set's name or end with \.npy, .* got '\.mp4'"):
        ClipLoader(beside, evaluation(features=".mp4"))


def test_an_ingest_takes_no_features_for_videos(alone, tmp_path):
    with pytest.raises(UsageError, match="must hold at least one video"):
        ingest(IngestConfig(input=tmp_path / "a.tar", out=tmp_path / "ingested"))
