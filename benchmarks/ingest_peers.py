"""What else writes WebDataset tars of the same files: the rivals of `reelmill bench ingest`, and its limit.

None of them probes a video, decodes it, or leaves an index; all write plain tars of whole files.
"""

import hashlib
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import webdataset as wds

SHARD_BYTES = 32_000_000
WORKERS = 2


def tar_and_sum(videos: Path, out: Path) -> None:
    """The limit: `tar`, `sha256sum`, and the bytes on the disk."""
    out.mkdir()
    tar = out / "all.tar"
    subprocess.run(["tar", "cf", str(tar), "-C", str(videos), "."], check=True)
    subprocess.run(["sha256sum", str(tar)], check=True, stdout=subprocess.DEVNULL)
    with tar.open("rb") as file:
        os.fsync(file.fileno())


def shard_writers(videos: Path, out: Path) -> None:
    """Webdataset's ShardWriter in a pool of processes, each over its share of the files."""
    out.mkdir()
    paths = sorted(videos.iterdir())
    with ProcessPoolExecutor(WORKERS) as pool:
        list(pool.map(partial(_write_share, out=out), [(n, paths[n::WORKERS]) for n in range(WORKERS)]))


def _write_share(share: tuple[int, list[Path]], out: Path) -> None:
    number, paths = share
    with wds.ShardWriter(str(out / f"{number}-%06d.tar"), maxsize=SHARD_BYTES, verbose=0) as writer:
        for path in paths:
            writer.write({"__key__": _key(path), "mp4": path.read_bytes(), "json": {"source": path.name}})


def ray_data(videos: Path, out: Path) -> None:
    """Ray Data: read_binary_files, then write_webdataset."""
    import ray

    ray.data.DataContext.get_current().enable_progress_bars = False
    rows = ray.data.read_binary_files(str(videos), include_paths=True)
    rows.map(_sample).write_webdataset(str(out))


def _sample(row: dict[str, Any]) -> dict[str, Any]:
    path = Path(row["path"])
    return {"__key__": _key(path), "mp4": row["bytes"], "json": {"source": path.name}}


def _key(path: Path) -> str:
    return hashlib.blake2b(path.name.encode(), digest_size=8).hexdigest()


PEERS: dict[str, Callable[[Path, Path], None]] = {
    "tar + sha256sum + fsync": tar_and_sum,
    "webdataset ShardWriter": shard_writers,
}
if find_spec("pandas") is not None:  # which Ray Data needs, and nothing of ours
    PEERS["Ray Data write_webdataset"] = ray_data
