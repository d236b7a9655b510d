"""What tests of the loader share: small datasets in several forms, and an epoch over one with all that became of it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reelmill.benchmarks.load_world import write_dataset
from reelmill.engine import ClipLoader, LoaderConfig
from reelmill.shards.reader import Dataset
from reelmill.shards.schema import SAMPLE

SHARD = 40
FORMS = {"mjpeg": ("mkv", "mjpeg"), "h264": ("mp4", "libx264"), "vp9": ("webm", "libvpx-vp9")}


@dataclass
class Epoch:
    """What an epoch gave."""

    times: dict[str, int] = field(default_factory=dict)
    """How often each key came whole."""
    lost: list[str] = field(default_factory=list)
    """The keys of slots that are not valid."""
    lines: list[dict[str, Any]] = field(default_factory=list)
    """Of the quarantine."""


@pytest.fixture
def epoch(tmp_path: Path) -> Callable[..., Epoch]:
    """Runs through a dataset in small clips, whatever is wrong with it."""

    def run(dataset: Path, **options: Any) -> Epoch:
        quarantine = tmp_path / "quarantine.jsonl"
        quarantine.unlink(missing_ok=True)
        known = LoaderConfig(global_batch=5, frames=4, size=16, quarantine=quarantine, max_bad_fraction=1.0)
        loader = ClipLoader(dataset, replace(known, **options))
        found = Epoch()
        for batch in loader:
            for key, valid in zip(batch.keys, batch.valid_B.tolist(), strict=True):
                if valid:
                    found.times[key] = found.times.get(key, 0) + 1
                else:
                    found.lost.append(key)
        loader.close()
        if quarantine.exists():
            found.lines = [json.loads(line) for line in quarantine.read_text().splitlines()]
        return found

    return run


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, media: Any) -> Path:
    """A dataset of each form, in a folder of its name: two shards of 40 samples."""
    folder = tmp_path_factory.mktemp("whole")
    for form, (suffix, codec) in FORMS.items():
        videos = [
            media.video(folder / "videos" / form / f"{n}.{suffix}", codec=codec, frames=16, tint=30 * n)
            for n in range(4)
        ]
        write_dataset(folder / form, videos, 2 * SHARD, shard_samples=SHARD)
    return folder


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory, media: Any) -> list[Path]:
    """Three datasets of tiny videos in several shards each."""
    folder, made = tmp_path_factory.mktemp("sources"), []
    for source, (samples, shard_samples) in enumerate([(11, 4), (6, 6), (7, 2)]):
        videos = [
            media.video(folder / f"{source}-{n}.mkv", codec="mjpeg", frames=1 + n % 3, width=16, height=16, tint=30 * n)
            for n in range(3 + source)
        ]
        folder_of = folder / str(source)
        made.append(write_dataset(folder_of, videos, samples, shard_samples=shard_samples, named=f"{source}-"))
    return made


@pytest.fixture(scope="session")
def write_rows() -> Callable[[Path, int, list[dict[str, Any]]], None]:
    """Writes the table of a shard anew; its manifest goes on saying what it said."""

    def write(dataset: Path, shard: int, rows: list[dict[str, Any]]) -> None:
        path = Dataset(dataset).tar_path(shard).with_suffix(".parquet")
        pq.write_table(pa.Table.from_pylist(rows, SAMPLE), path)

    return write
