"""How fast shards become clips: ClipLoader beside what people write by hand with webdataset and PyAV."""

import gc
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import av
import numpy as np
import torch
import webdataset as wds

from .. import console
from ..engine import ClipLoader, LoaderConfig
from ..engine.config import IngestConfig
from ..engine.ingest import ingest
from ..shards.manifest import read_manifest
from .environment import RESULTS, append, capture
from .toyverbs.corpus import write_corpus


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchLoadConfig:
    """Time an epoch of `ClipLoader` and of a plain webdataset + PyAV pipeline on the same shards, in turn."""

    dataset: Path | None = None
    """A dataset of at least one batch; without it a corpus is rendered and ingested with train-cpu."""
    videos: int = 400
    """Videos to render, >= 64."""
    frames: int = 8
    """Frames per clip."""
    size: int = 112
    """Height and width of a clip, pixels."""
    global_batch: int = 16
    """Clips per batch."""
    threads: int = 2
    """Threads of either pipeline."""
    repeats: int = 3
    """Epochs of each, in turn; the median counts."""
    results: Path = RESULTS / "load.jsonl"
    """File to which one line per pipeline is appended."""


def bench_load(config: BenchLoadConfig) -> int:
    """`reelmill bench load`."""
    with tempfile.TemporaryDirectory(prefix="reelmill-bench-") as scratch:
        dataset = config.dataset or _render(Path(scratch), config.videos)
        pipelines: dict[str, Callable[[], Iterator[torch.Tensor]]] = {
            "ClipLoader": _clip_loader(dataset, config),
            "webdataset + PyAV": lambda: _by_hand(dataset, config),
        }
        rates: dict[str, list[float]] = {name: [] for name in pipelines}
        for _ in range(config.repeats):
            for name, pipeline in pipelines.items():
                rates[name].append(_rate(pipeline()))
    best = median(rates["webdataset + PyAV"])
    rows = []
    for name, found in rates.items():
        record = {
            "bench": "load",
            "pipeline": name,
            "clips_per_second": [round(rate, 1) for rate in found],
            "median_clips_per_second": round(median(found), 1),
            "ratio_to_by_hand": round(median(found) / best, 2),
            "frames": config.frames,
            "size": config.size,
            "threads": config.threads,
            "rendered": config.dataset is None,
        }
        append(config.results, record | capture())
        rows.append((name, f"{median(found):.1f} clips/s, {median(found) / best:.2f} x by hand"))
    console.table("load", [*rows, ("appended to", str(config.results))])
    return 0


def _render(folder: Path, videos: int) -> Path:
    manifest = write_corpus(folder / "corpus", videos=videos).manifest
    ingest(IngestConfig(input=manifest, out=folder / "dataset", preset="train-cpu"))
    return folder / "dataset"


def _clip_loader(dataset: Path, config: BenchLoadConfig) -> Callable[[], Iterator[torch.Tensor]]:
    loader = ClipLoader(
        dataset,
        LoaderConfig(global_batch=config.global_batch, frames=config.frames, size=config.size, threads=config.threads),
    )
    return lambda: (batch.clips_BVTCHW for batch in loader)


def _by_hand(dataset: Path, config: BenchLoadConfig) -> Iterator[torch.Tensor]:
    """The usual pipeline: read the tar in order, decode the whole video, keep every n-th frame, resize."""
    torch.set_num_threads(config.threads)
    tars = [str(dataset / shard.uri) for shard in read_manifest(dataset).shards]
    clips = []
    for sample in wds.WebDataset(tars, shardshuffle=False):
        name = next(name for name in sample if name in ("mkv", "mp4", "mov", "webm"))
        clips.append(_decode_whole(sample[name], config))
        if len(clips) == config.global_batch:
            yield torch.stack(clips)
            clips = []


def _decode_whole(data: bytes, config: BenchLoadConfig) -> torch.Tensor:
    with av.open(io.BytesIO(data), "r") as container:
        container.streams.video[0].thread_count = config.threads
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    kept = np.linspace(0, len(frames) - 1, config.frames).round().astype(int)
    clip_TCHW = torch.from_numpy(np.stack([frames[i] for i in kept])).permute(0, 3, 1, 2).float() / 255
    size = (config.size, config.size)
    return torch.nn.functional.interpolate(clip_TCHW, size=size, mode="bilinear", antialias=True)


def _rate(batches: Iterator[torch.Tensor]) -> float:
    gc.collect()
    start = time.monotonic()
    clips = sum(len(batch) for batch in batches)
    return clips / (time.monotonic() - start)
