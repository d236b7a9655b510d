"""Plain webdataset reads the same samples."""

import json

import pytest
from reelmill.engine import as_webdataset
from reelmill.engine.config import IngestConfig
from reelmill.engine.ingest import ingest
from reelmill.shards.errors import UsageError
from reelmill.shards.reader import Dataset
from torch.utils.data import DataLoader

pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in"
)  # webdataset leaves tars to the garbage collector


def test_webdataset_reads_every_sample(small_dataset):
    samples = list(as_webdataset(small_dataset))
    table = Dataset(small_dataset).table(["key", "labels"]).to_pylist()
    assert [sample["__key__"] for sample in samples] == [row["key"] for row in table]
    assert [json.loads(sample["json"])["labels"] for sample in samples] == [row["labels"] for row in table]
    assert all(sample["mkv"].startswith(b"\x1aE\xdf\xa3") for sample in samples)


def test_it_goes_into_worker_processes_and_takes_webdatasets_options(small_dataset):
    pipeline = as_webdataset(small_dataset, shardshuffle=10, seed=3).to_tuple("__key__", "json")
    found = list(DataLoader(pipeline, batch_size=None, num_workers=1))
    assert sorted(key for key, _ in found) == sorted(Dataset(small_dataset).table(["key"]).column("key").to_pylist())


def test_what_later_generations_took_away_is_left_out(media, tmp_path):
    for number in range(4):
        media.video(tmp_path / f"videos/{number}.mp4", frames=6, tint=20 * number)
    config = IngestConfig(input=tmp_path / "videos", out=tmp_path / "out", dedup="none")
    ingest(config)
    (tmp_path / "videos/1.mp4").unlink()
    media.video(tmp_path / "videos/2.mp4", frames=9, tint=99)
    ingest(config)
    samples = {sample["__key__"]: json.loads(sample["json"]) for sample in as_webdataset(tmp_path / "out")}
    assert sorted(record["input_id"] for record in samples.values()) == ["0.mp4", "2.mp4", "3.mp4"]
    assert {record["input_id"]: record["frames"] for record in samples.values()}["2.mp4"] == 9


def test_a_folder_without_a_dataset_is_told(tmp_path):
    with pytest.raises(UsageError, match=r"must be a dataset .*, but there is none"):
        as_webdataset(tmp_path)
