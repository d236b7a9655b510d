"""How fast shards become clips: ClipLoader beside a good webdataset + PyAV pipeline written by hand."""

import gc
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import av
import numpy as np
import torch
import webdataset as wds
from av.video.reformatter import VideoReformatter
from torch.utils.data import DataLoader

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
    videos: int = 1000
    """Videos to render, >= 64."""
    frames: int = 8
    """Frames per clip."""
    size: int = 112
    """Height and width of a clip, pixels."""
    global_batch: int = 16
    """Clips per batch."""
    threads: int = 2
    """Decoding threads of ClipLoader, worker processes of the other."""
    repeats: int = 5
    """Epochs of each, in turn; the median counts."""
    results: Path = RESULTS / "load.jsonl"
    """File to which one line per pipeline is appended."""


def bench_load(config: BenchLoadConfig) -> int:
    """`reelmill bench load`."""
    with tempfile.TemporaryDirectory(prefix="reelmill-bench-") as scratch:
        dataset = config.dataset or _render(Path(scratch), config.videos)
        pipelines: dict[str, Callable[[], Iterator[torch.Tensor]]] = {
            "ClipLoader": _clip_loader(dataset, config),
            "webdataset + PyAV": _by_hand(dataset, config),
        }
        rates: dict[str, list[float]] = {name: [] for name in pipelines}
        for pipeline in pipelines.values():
            _rate(pipeline())  # starts workers and warms the page cache
        for _ in range(config.repeats):
            for name, pipeline in pipelines.items():
                rates[name].append(_rate(pipeline()))
    by_hand = median(rates["webdataset + PyAV"])
    rows = []
    for name, found in rates.items():
        record = {
            "bench": "load",
            "pipeline": name,
            "clips_per_second": [round(rate, 1) for rate in found],
            "median_clips_per_second": round(median(found), 1),
            "ratio_to_by_hand": round(median(found) / by_hand, 2),
            "frames": config.frames,
            "size": config.size,
            "threads": config.threads,
            "rendered": config.dataset is None,
        }
        append(config.results, record | capture())
        rows.append((name, f"{median(found):.1f} clips/s, {median(found) / by_hand:.2f} x by hand"))
    console.table("load", [*rows, ("appended to", str(config.results))])
    return 0


def _render(folder: Path, videos: int) -> Path:
    manifest = write_corpus(folder / "corpus", videos=videos).manifest
    ingest(IngestConfig(input=manifest, out=folder / "dataset", preset="train-cpu", shard_mb=2))
    return folder / "dataset"


def _clip_loader(dataset: Path, config: BenchLoadConfig) -> Callable[[], Iterator[torch.Tensor]]:
    loader = ClipLoader(
        dataset,
        LoaderConfig(global_batch=config.global_batch, frames=config.frames, size=config.size, threads=config.threads),
    )
    return lambda: (batch.clips_BVTCHW for batch in loader)


def _by_hand(dataset: Path, config: BenchLoadConfig) -> Callable[[], Iterator[torch.Tensor]]:
    """The usual pipeline, done well: worker processes over tars, only the kept frames leave the decoder's format."""
    tars = [str(dataset / shard.uri) for shard in read_manifest(dataset).shards]
    decode = partial(_decode_sample, frames=config.frames, size=config.size)
    clips = wds.WebDataset(tars, shardshuffle=False).map(decode)
    # A worker without a tar stops webdataset; persistent workers keep their start out of the timed epochs.
    workers = min(config.threads, len(tars))
    loader = DataLoader(clips, batch_size=config.global_batch, num_workers=workers, persistent_workers=True)
    return lambda: iter(loader)


def _decode_sample(sample: dict[str, bytes], frames: int, size: int) -> torch.Tensor:
    torch.set_num_threads(1)
    data = next(sample[name] for name in ("mkv", "mp4", "mov", "webm") if name in sample)
    with av.open(io.BytesIO(data), "r") as container:
        container.streams.video[0].thread_count = 1
        decoded = list(container.decode(video=0))
    reformatter = VideoReformatter()
    kept = np.linspace(0, len(decoded) - 1, frames).round().astype(int)
    pictures = [reformatter.reformat(decoded[i], format="rgb24").to_ndarray() for i in kept]
    clip_TCHW = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 255
    return torch.nn.functional.interpolate(clip_TCHW, size=(size, size), mode="bilinear", antialias=True)


def _rate(batches: Iterator[torch.Tensor]) -> float:
    gc.collect()
    start = time.monotonic()
    clips = sum(len(batch) for batch in batches)
    return clips / (time.monotonic() - start)
