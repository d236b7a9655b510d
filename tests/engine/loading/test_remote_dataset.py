"""A dataset behind http loads like a local one: windows are fetched ahead, once, and the cache keeps to its bytes."""

import shutil
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from reelmill.engine import ClipLoader, LoaderConfig
from reelmill.engine.config import IngestConfig
from reelmill.engine.ingest import ingest
from reelmill.shards.errors import ReelmillError, UsageError
from reelmill.shards.features import FeatureWriter, Stored
from reelmill.shards.reader import Dataset


class Server:
    """A folder behind http; counts what is asked for, and refuses what it is told to."""

    def __init__(self, folder: Path) -> None:
        self.asked: Counter[str] = Counter()
        self.broken: set[str] = set()
        server = self

        class Handler(SimpleHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked[self.path.rsplit("/", 1)[-1]] += 1
                if self.path.rsplit("/", 1)[-1] in server.broken:
                    self.send_error(403)
                else:
                    super().do_GET()

            def log_message(self, *args: object) -> None:
                pass

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self._http.server_port}/dataset"
        self._thread = threading.Thread(target=self._http.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


@pytest.fixture(scope="module")
def sharded(media, tmp_path_factory) -> Path:
    """Twelve videos, a shard each."""
    folder = Path(tmp_path_factory.mktemp("remote"))
    for number in range(12):
        media.video(folder / f"videos/run/{number}.mp4", frames=60, width=340, height=256, tint=3 * number)
    made = IngestConfig(input=folder / "videos", out=folder / "dataset", preset="train-cpu", dedup="none", shard_mb=1)
    ingest(made)
    return folder


@pytest.fixture
def server(sharded: Path) -> Iterator[Server]:
    server = Server(sharded)
    yield server
    server.close()


def config(tmp_path: Path, **options) -> LoaderConfig:
    known = LoaderConfig(global_batch=2, frames=2, size=16, window_shards=2, cache=tmp_path / "cache")
    return replace(known, **options)


def test_a_remote_dataset_loads_like_a_local_one(server, sharded, tmp_path):
    shards = Dataset(sharded / "dataset").manifest.shards
    assert len(shards) >= 6
    options = config(tmp_path)
    local = list(ClipLoader(sharded / "dataset", replace(options, cache=tmp_path / "unused")))
    remote = list(ClipLoader(server.url, options))
    assert [batch.keys for batch in remote] == [batch.keys for batch in local]
    assert all(torch.equal(a.clips_BVTCHW, b.clips_BVTCHW) for a, b in zip(remote, local, strict=True))
    assert not (tmp_path / "unused").exists()
    tars = {name: count for name, count in server.asked.items() if name.endswith(".tar")}
    assert tars == {f"{shard.name}.tar": 1 for shard in shards}
    list(ClipLoader(server.url, options))
    assert all(server.asked[name] == 1 for name in tars)  # from the cache


def test_the_cache_keeps_to_its_bytes(server, sharded, tmp_path):
    largest = max(shard.bytes for shard in Dataset(sharded / "dataset").manifest.shards)
    options = config(tmp_path, window_shards=1, cache_gb=3.5 * largest / 1e9)
    peak = 0
    loader = ClipLoader(server.url, options)
    for _ in range(2):
        for _ in loader:
            files = [path for path in (tmp_path / "cache").iterdir() if not path.name.startswith(".")]
            peak = max(peak, sum(path.stat().st_size for path in files if path.exists()))
    assert 0 < peak <= 3.5 * largest
    with pytest.raises(UsageError, match=r"cache_gb must be at least 0\.\d+ to hold two windows of 2 shards, got 0.00"):
        ClipLoader(server.url, config(tmp_path, cache_gb=1.5 * largest / 1e9))


def test_what_cannot_be_fetched_is_told(server, sharded, tmp_path):
    with pytest.raises(UsageError, match=r"window_shards must be given where a dataset is remote, as http://"):
        ClipLoader(server.url, config(tmp_path, window_shards=None))
    with pytest.raises(
        UsageError, match=r"nothing/dataset.json must be a file of a dataset, but there is none: HTTP 404"
    ):
        ClipLoader(server.url + "/nothing", config(tmp_path))
    server.broken = {"000001.tar"}
    with pytest.raises(ReelmillError, match=r"shards/000001.tar could not be read: HTTP 403"):
        list(ClipLoader(server.url, config(tmp_path)))


def test_a_shard_that_changed_behind_the_url_is_quarantined(server, sharded, tmp_path):
    tar = sharded / "dataset/shards/000002.tar"
    good = tar.read_bytes()
    tar.write_bytes(good[:600] + bytes([good[600] ^ 255]) + good[601:])
    try:
        batches = list(ClipLoader(server.url, config(tmp_path, quarantine=tmp_path / "q.jsonl")))
    finally:
        tar.write_bytes(good)
    bad = set(Dataset(sharded / "dataset").shard_table(2, ["key"]).column("key").to_pylist())
    found = {key for batch in batches for key, ok in zip(batch.keys, batch.valid_B.tolist(), strict=True) if not ok}
    assert found == bad
    assert "000002.tar must have sha256" in (tmp_path / "q.jsonl").read_text()


def test_features_come_without_the_videos(sharded, tmp_path):
    folder = tmp_path / "served/dataset"
    shutil.copytree(sharded / "dataset", folder)
    rows = Dataset(folder).table(["key", "frames"]).to_pylist()
    with FeatureWriter(folder, "clip", description="", versions={}) as writer:
        names = [entry.name for entry in Dataset(folder).manifest.shards for _ in range(entry.samples)]
        for number, (row, name) in enumerate(zip(rows, names, strict=True)):
            frames = np.full((row["frames"], 2), number, np.float32)
            writer.add(name, row["key"], {"frames": Stored.of(frames)})
    options = config(tmp_path, features="clip", video=False)
    local = list(ClipLoader(folder, options))
    server = Server(tmp_path / "served")
    try:
        remote = list(ClipLoader(server.url, options))
    finally:
        server.close()
    assert all(
        a.keys == b.keys and torch.equal((a.features or {})["frames"], (b.features or {})["frames"])
        for a, b in zip(remote, local, strict=True)
    )
    assert server.asked["features.json"] == server.asked["index.parquet"] == 1
    assert {count for name, count in server.asked.items() if name.endswith(".tar")} == {1}
    videos = {f"{entry.sha256}.tar" for entry in Dataset(folder).manifest.shards}
    assert not videos & {path.name for path in (tmp_path / "cache").iterdir()}
