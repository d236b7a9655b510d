"""How well and at what cost near duplicates are found: changed copies of clips, and fingerprints by the million."""

import resource
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from .. import console
from ..engine.dedup import find_duplicates
from ..engine.fingerprint import VERSION, fingerprint
from ..engine.probe import open_video
from ..engine.sources import VIDEO_EXTENSIONS
from ..engine.transcode import remux
from ..shards.errors import UsageError
from .environment import RESULTS, append, capture
from .toyverbs.world import NOUNS, VERBS, render

Frames = list[NDArray[np.uint8]]

SHORT_SIDE = 240  # of clips that are read, pixels
LONGEST_SECONDS = 30  # of clips that are read
GOOD, STRONG = 23, 36  # x264's crf: an ordinary copy, and strong compression
NEGATIVES = ("source", "mirror", "reverse")  # kinds that must be kept

PLANTED_SHARE = 0.05
PLANTED_FLIPS = 0.04  # of the bits of a planted copy, of which a third is cut off besides
HASHES = (10, 30)


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchDedupConfig:
    """Measure near-duplicate detection: quality on changed copies of clips, cost on synthetic fingerprints."""

    input: Path | None = None
    """A folder of clips to copy; without it, toyverbs and moving textures are rendered."""
    sources: int = 36
    """Clips of each kind to render, >= 2."""
    synthetic: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    """Numbers of synthetic fingerprints, ascending; memory grows with the last."""
    results: Path = RESULTS / "dedup.jsonl"
    """File to which one line per measurement is appended."""

    def __post_init__(self) -> None:
        if self.sources < 2:
            raise UsageError(f"sources must be >= 2, got {self.sources}")
        if list(self.synthetic) != sorted(self.synthetic) or min(self.synthetic, default=2) < 2:
            raise UsageError(f"synthetic must be ascending numbers >= 2, got {self.synthetic}")


def bench_dedup(config: BenchDedupConfig) -> int:
    """`reelmill bench dedup`."""
    # The synthetic part comes first: the peak of a process's memory never falls again.
    records = [_scale(videos) for videos in config.synthetic]
    for name, clips in _worlds(config).items():
        records.append(_quality(name, clips))
    machine = capture()
    for record in records:
        append(config.results, {"bench": "dedup"} | record | machine)
    rows = [(f"{r['videos']} {r['part']}", _summary(r)) for r in records]
    console.table("near duplicates", [*rows, ("appended to", str(config.results))])
    return 0


def _summary(record: dict[str, Any]) -> str:
    cost = f"{record['hash_comparisons']} hashes and {record['video_comparisons']} videos compared"
    found = f"precision {record['precision']}, recall {record['recall']}"
    if record["part"] == "synthetic":
        return f"{found}, {record['seconds']} s, peak {console.human_bytes(record['peak_rss_bytes'])}, {cost}"
    kinds = " ".join(f"{kind} {right}/{videos}" for kind, (videos, _, right) in record["kinds"].items())
    return f"{found}, {cost}\n    right: {kinds}"


def _scale(videos: int) -> dict[str, Any]:
    rng = np.random.default_rng(videos)
    originals = np.where(rng.random(videos) < PLANTED_SHARE, (rng.random(videos) * np.arange(videos)).astype(int), -1)
    originals[0] = -1
    originals[originals[originals] >= 0] = -1  # of originals only
    start = time.monotonic()
    found = find_duplicates(_synthetic(originals, rng))
    seconds = time.monotonic() - start
    flagged, right = found.of >= 0, (found.of == originals) & (originals >= 0)
    return {
        "part": "synthetic",
        "videos": videos,
        "precision": round(right.sum() / max(1, flagged.sum()), 4),
        "recall": round(right.sum() / max(1, (originals >= 0).sum()), 4),
        "seconds": round(seconds, 2),
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "hash_comparisons": found.hash_comparisons,
        "video_comparisons": found.video_comparisons,
    }


def _synthetic(originals: NDArray[np.int64], rng: np.random.Generator) -> Iterator[bytes]:
    """Random fingerprints; a planted one lacks a third of its original's hashes and has some bits flipped."""
    starts = np.concatenate([[0], np.cumsum(rng.integers(HASHES[0], HASHES[1] + 1, len(originals)))])
    words = rng.integers(1, 2**64, starts[-1], np.uint64)
    header = np.array([VERSION << 56], np.uint64)
    for video, original in enumerate(originals.tolist()):
        if original < 0:
            hashes = words[starts[video] : starts[video + 1]]
        else:
            first, last = starts[original], starts[original + 1]
            cut = int(last - first) // 3
            begin = first + int(rng.integers(cut + 1))
            flips = np.packbits(rng.random((last - first - cut, 64)) < PLANTED_FLIPS, axis=1).view(np.uint64)[:, 0]
            hashes = words[begin : begin + len(flips)] ^ flips
        yield np.concatenate([header, hashes]).astype("<u8").tobytes()


def _worlds(config: BenchDedupConfig) -> dict[str, Iterator[tuple[Frames, float]]]:
    if config.input is not None:
        paths = sorted(path for path in config.input.rglob("*") if path.suffix.lower() in VIDEO_EXTENSIONS)
        if not paths:
            raise UsageError(f"input must be a folder with videos, but {config.input} holds none")
        return {"input": (_read(path) for path in paths)}
    return {
        "texture": ((_texture(seed), 24.0) for seed in range(config.sources)),
        "toyverbs": (_toy(seed) for seed in range(config.sources)),
    }


def _toy(seed: int) -> tuple[Frames, float]:
    verb, noun = VERBS[seed % len(VERBS)], NOUNS[(seed // len(VERBS)) % len(NOUNS)]
    return list(render(verb, noun, seed=(0, seed)).frames_THWC), 12.0


def _texture(seed: int, frames: int = 84, height: int = 120, width: int = 160) -> Frames:
    """A camera that pans over a plane of coloured tiles, or of clouds, with a little noise."""
    rng = np.random.default_rng(seed)
    plane = (
        rng.integers(0, 256, (height // 8 + 30, width // 8 + 30, 3)).repeat(8, axis=0).repeat(8, axis=1).astype(float)
    )
    if seed % 2:
        for axis in (0, 1):
            plane = np.mean([np.roll(plane, shift, axis) for shift in range(-12, 13)], axis=0)
        plane = (plane - plane.min()) / np.ptp(plane) * 255
    down, across = rng.uniform(0.3, 2, 2)
    windows = [
        plane[int(t * down) : int(t * down) + height, int(t * across) : int(t * across) + width] for t in range(frames)
    ]
    return [(window + rng.normal(0, 4, window.shape)).clip(0, 255).astype(np.uint8) for window in windows]


def _read(path: Path) -> tuple[Frames, float]:
    frames: Frames = []
    with open_video(str(path)) as (container, stream):
        rate = float(stream.average_rate or 25)
        scale = min(1.0, SHORT_SIDE / min(stream.codec_context.width, stream.codec_context.height))
        for frame in container.decode(stream):
            frames.append(_resized(frame, scale))
            if len(frames) >= LONGEST_SECONDS * rate:
                break
    return frames, rate


def _resized(frame: av.VideoFrame, scale: float) -> NDArray[np.uint8]:
    width, height = (max(2, 2 * round(side * scale / 2)) for side in (frame.width, frame.height))
    small = frame.reformat(width=width, height=height, format="rgb24", interpolation="BICUBIC", threads=1)
    return small.to_ndarray().astype(np.uint8, copy=False)


def _quality(name: str, clips: Iterator[tuple[Frames, float]]) -> dict[str, Any]:
    prints: dict[tuple[str, int], bytes] = {}
    seconds = 0.0
    with (
        tempfile.TemporaryDirectory(prefix="reelmill-bench-") as scratch,
        console.progress(None, name, "clips") as shown,
    ):
        for number, (frames, rate) in enumerate(clips):
            for kind, path in _write_copies(frames, rate, Path(scratch)):
                start = time.monotonic()
                prints[kind, number] = fingerprint(str(path))
                seconds += time.monotonic() - start
            shown.update()
    tags = sorted(prints, key=lambda tag: tag[0] != "source")  # the sources come first
    found = find_duplicates(prints[tag] for tag in tags)
    kinds: dict[str, list[int]] = {}
    for (kind, number), original in zip(tags, found.of.tolist(), strict=True):
        counts = kinds.setdefault(kind, [0, 0, 0])
        wanted = ("source", number) if kind not in NEGATIVES else None
        given = tags[original] if original >= 0 else None
        counts[0] += 1
        counts[1] += given is not None
        counts[2] += given == wanted
    copies = [counts for kind, counts in kinds.items() if kind not in NEGATIVES]
    flagged, right = sum(flags for _, flags, _ in kinds.values()), sum(right for _, _, right in copies)
    return {
        "part": name,
        "videos": len(tags),
        "precision": round(right / max(1, flagged), 4),
        "recall": round(right / max(1, sum(videos for videos, _, _ in copies)), 4),
        "kinds": kinds,  # videos, flagged, right
        "prints_per_second": round(len(tags) / seconds, 1),
        "hash_comparisons": found.hash_comparisons,
        "video_comparisons": found.video_comparisons,
    }


def _write_copies(frames: Frames, rate: float, folder: Path) -> Iterator[tuple[str, Path]]:
    """The clip and its copies as files, one at a time, and what was done to each."""
    yield "source", _encode(folder / "source.mp4", frames, rate, GOOD)
    remux(str(folder / "source.mp4"), str(folder / "remux.mkv"))
    yield "remux", folder / "remux.mkv"
    third = len(frames) // 3
    pictures = [av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24") for frame in frames]
    bar = len(frames[0]) // 14 * 2
    copies: dict[str, tuple[Frames, float]] = {
        "scale_0.5": ([_resized(picture, 0.5) for picture in pictures], rate),
        "scale_0.75": ([_resized(picture, 0.75) for picture in pictures], rate),
        "low_bitrate": (frames, rate),
        "fps_0.5": (_retimed(frames, 0.5), rate * 0.5),
        "fps_1.5": (_retimed(frames, 1.5), rate * 1.5),
        "no_first_third": (frames[third + 1 :], rate),  # one more: not a whole number of cells
        "no_last_third": (frames[: -third - 1], rate),
        "letterbox": ([np.pad(frame, ((bar, bar), (0, 0), (0, 0))) for frame in frames], rate),
        "mirror": ([frame[:, ::-1] for frame in frames], rate),
        "reverse": (frames[::-1], rate),
    }
    for kind, (copy, copy_rate) in copies.items():
        crf = STRONG if kind == "low_bitrate" else GOOD
        yield kind, _encode(folder / "copy.mp4", copy, copy_rate, crf)


def _retimed(frames: Frames, factor: float) -> Frames:
    return [frames[int((index + 0.5) / factor)] for index in range(int(len(frames) * factor))]


def _encode(path: Path, frames: Frames, rate: float, crf: int) -> Path:
    with av.open(str(path), "w") as container:
        options = {"preset": "veryfast", "crf": str(crf), "threads": "1"}
        stream = container.add_stream("libx264", rate=Fraction(rate).limit_denominator(1001), options=options)
        height, width = (side // 2 * 2 for side in frames[0].shape[:2])
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame in frames:
            picture = np.ascontiguousarray(frame[:height, :width])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    return path
