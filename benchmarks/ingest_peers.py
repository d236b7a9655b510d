"""What else writes WebDataset tars of the same files: the rivals of `reelmill bench ingest`, and its limit.

None of them opens a video, tells duplicates or failures apart, or leaves an index; all write plain tars of whole files.
Each returns the seconds that it took, without what a job does once: importing, starting processes.
"""

import csv
import hashlib
import json
import os
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import webdataset as wds

SHARD_BYTES = 32_000_000
WORKERS = 2
VIDEO2DATASET = Path(__file__).with_name("video2dataset_peer.py")

Way = Callable[[Path, Path], float]


def tar_and_sum(videos: Path, out: Path) -> float:
    """The limit: `tar`, `sha256sum`, and the bytes on the disk."""
    start = time.monotonic()
    out.mkdir()
    tar = out / "all.tar"
    subprocess.run(["tar", "cf", str(tar), "-C", str(videos), "."], check=True)
    _sum_and_sync([tar])
    return time.monotonic() - start


def _sum_and_sync(tars: list[Path]) -> None:
    subprocess.run(["sha256sum", *map(str, tars)], check=True, stdout=subprocess.DEVNULL)
    for tar in tars:
        with tar.open("rb") as file:
            os.fsync(file.fileno())


def shard_writers(videos: Path, out: Path) -> float:
    """Webdataset's ShardWriter in a pool of processes, each over its share of the files."""
    out.mkdir()
    paths = sorted(videos.iterdir())
    with ProcessPoolExecutor(WORKERS) as pool:
        start = time.monotonic()
        list(pool.map(partial(_write_share, out=out), [(n, paths[n::WORKERS]) for n in range(WORKERS)]))
        return time.monotonic() - start


def shard_writers_and_sum(videos: Path, out: Path) -> float:
    """The same, with hashes of the tars, and these on the disk."""
    seconds = shard_writers(videos, out)
    start = time.monotonic()
    _sum_and_sync(sorted(out.iterdir()))
    return seconds + time.monotonic() - start


def _write_share(share: tuple[int, list[Path]], out: Path) -> None:
    number, paths = share
    with wds.ShardWriter(str(out / f"{number}-%06d.tar"), maxsize=SHARD_BYTES, verbose=0) as writer:
        for path in paths:
            writer.write({"__key__": _key(path), "mp4": path.read_bytes(), "json": {"source": path.name}})


def ray_data(videos: Path, out: Path) -> float:
    """Ray Data: read_binary_files, then write_webdataset."""
    import ray

    ray.data.DataContext.get_current().enable_progress_bars = False
    start = time.monotonic()
    rows = ray.data.read_binary_files(str(videos), include_paths=True)
    rows.map(_sample).write_webdataset(str(out))
    return time.monotonic() - start


def _sample(row: dict[str, Any]) -> dict[str, Any]:
    path = Path(row["path"])
    return {"__key__": _key(path), "mp4": row["bytes"], "json": {"source": path.name}}


def _key(path: Path) -> str:
    return hashlib.blake2b(path.name.encode(), digest_size=8).hexdigest()


def video2dataset(python: Path, videos: Path, out: Path) -> float:
    """video2dataset, from its first download to its last, by its own clock.

    Args:
        python: of an environment of its own: `pip install video2dataset==1.3.0 "pyarrow<17" "webdataset<0.3"
            "setuptools<80"`.
        videos: local files; it copies them as it does downloads.
        out: the folder that it makes.
    """
    out.mkdir()
    listed = out / "videos.csv"
    paths = sorted(videos.iterdir())
    with listed.open("w", newline="") as file:
        csv.writer(file).writerows([["url"], *([str(path)] for path in paths)])
    in_a_shard = max(1, SHARD_BYTES * len(paths) // sum(path.stat().st_size for path in paths))
    command = [str(python), str(VIDEO2DATASET), str(listed), str(out / "shards"), str(in_a_shard), str(WORKERS)]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    stats = [json.loads(path.read_bytes()) for path in (out / "shards").glob("*_stats.json")]
    if sum(shard["successes"] for shard in stats) != len(paths):
        raise RuntimeError(f"video2dataset must write {len(paths)} videos, its statistics say otherwise: {stats}")
    return float(max(shard["end_time"] for shard in stats) - min(shard["start_time"] for shard in stats))


PEERS: dict[str, Way] = {
    "tar + sha256sum + fsync": tar_and_sum,
    "webdataset ShardWriter": shard_writers,
    "webdataset ShardWriter + sha256sum + fsync": shard_writers_and_sum,
}
if find_spec("pandas") is not None:  # which Ray Data needs, and nothing of ours
    PEERS["Ray Data write_webdataset"] = ray_data
