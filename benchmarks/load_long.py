"""What a long run shows of the loader: memory over thousands of batches, a resume in the midst of a million samples."""

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np

from .. import console
from ..engine import LoaderConfig
from .clips import texture
from .environment import RESULTS, append, capture
from .load_world import write_dataset
from .processes import resident_bytes, tree

SIDE, FRAMES = 64, 8
"""Tiny videos: what is looked at is all but the decoding."""
SHARD_SAMPLES = 1000
BASE = LoaderConfig(global_batch=8, frames=2, size=16, threads=1)
LOOKS = 20
"""Times that memory is looked at during a run."""
HERE = "reelmill.benchmarks.load_long"


def bench_long(batches: int, samples: int, results: Path = RESULTS / "load.jsonl") -> None:
    """Run both and append a line for each.

    Args:
        batches: over which memory is looked at.
        samples: of the dataset of the resume.
        results: file that the lines are appended to.
    """
    with tempfile.TemporaryDirectory(prefix="reelmill-bench-") as scratch:
        folder = Path(scratch)
        videos = [_video(folder / f"{n}.mkv", n) for n in range(4)]
        small = write_dataset(folder / "small", videos, 4 * SHARD_SAMPLES, shard_samples=SHARD_SAMPLES)
        rows = []
        for workers in (0, 1):
            memory = _memory(small, batches, workers)
            append(results, memory | capture())
            growth = memory["last_bytes"] / memory["first_bytes"]
            told = f"{console.human_bytes(memory['most_bytes'])} at most, end / first tenth {growth:.3f}"
            rows.append((f"{batches} batches, {workers} worker processes", told))
        start = time.monotonic()
        large = write_dataset(folder / "large", videos, samples, shard_samples=SHARD_SAMPLES)
        rows.append((f"{samples} samples", f"written in {time.monotonic() - start:.0f} s"))
        for shards in (None, 32):
            resumes = [_resume(large, folder / f"cache{shards}", shards) for _ in range(4)]
            record = {"bench": "load resume", "samples": samples, "window_shards": shards, "cold_cache": resumes[0]}
            append(results, record | {"next": resumes[1:]} | capture())
            each = ", ".join(f"{run['first_batch_seconds']:.2f}" for run in resumes)
            name = "all shards" if shards is None else f"windows of {shards} shards"
            rows.append((f"first batch after a resume, {name}", f"{each} s (the first with an empty cache)"))
    console.table("long runs", [*rows, ("appended to", str(results))])


def _video(path: Path, seed: int) -> Path:
    picture = np.ascontiguousarray(texture(np.random.default_rng(seed), SIDE, SIDE))
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("mjpeg", rate=8)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuvj420p"
        for n in range(FRAMES):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(picture, 3 * n, axis=1))))
        container.mux(stream.encode(None))
    return path


def _memory(dataset: Path, batches: int, workers: int) -> dict[str, Any]:
    """Resident bytes of a loader and its processes, over batches."""
    setup = {"what": "memory", "dataset": str(dataset), "batches": batches, "workers": workers}
    with subprocess.Popen(
        [sys.executable, "-m", HERE, json.dumps(setup)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        found = []
        for _ in child.stdout:  # it waits at every look
            found.append(sum(map(resident_bytes, tree(child.pid))))
            child.stdin.write("\n")
            child.stdin.flush()
    tenth = max(1, len(found) // 10)
    record = {"bench": "load memory", "batches": batches, "workers": workers, "most_bytes": max(found)}
    return record | {"first_bytes": max(found[:tenth]), "last_bytes": max(found[-tenth:]), "bytes": found}


def _resume(dataset: Path, cache: Path, window_shards: int | None) -> dict[str, float]:
    """Seconds from the start of making a loader to its first batch, in a new process."""
    setup = {"what": "resume", "dataset": str(dataset), "cache": str(cache), "window_shards": window_shards}
    run = subprocess.run([sys.executable, "-m", HERE, json.dumps(setup)], check=True, capture_output=True, text=True)
    answer: dict[str, float] = json.loads(run.stdout.splitlines()[-1])
    return answer


def _looked_at(dataset: str, batches: int, workers: int) -> None:
    from ..engine import ClipLoader

    loader = ClipLoader(dataset, replace(BASE, workers=workers))
    taken, every = 0, max(1, batches // LOOKS)
    while taken < batches:
        for _ in loader:
            taken += 1
            if taken % every == 0:
                print(taken, flush=True)
                sys.stdin.readline()
            if taken == batches:
                break
    loader.close()


def _resumed(dataset: str, cache: str, window_shards: int | None) -> None:
    from ..engine import ClipLoader

    start = time.monotonic()
    config = replace(BASE, window_shards=window_shards, cache=Path(cache))
    loader = ClipLoader(dataset, config)
    made = time.monotonic()
    middle = loader.samples // 2 // BASE.global_batch * BASE.global_batch
    loader.load_state_dict(loader.state_dict() | {"position": middle})
    batch = next(iter(loader))
    assert bool(batch.valid_B.all())
    seconds = time.monotonic() - start
    print(json.dumps({"first_batch_seconds": round(seconds, 3), "made_seconds": round(made - start, 3)}), flush=True)


if __name__ == "__main__":
    _setup = json.loads(sys.argv[1])
    _what = _setup.pop("what")
    (_looked_at if _what == "memory" else _resumed)(**_setup)
