"""How well and at what cost near duplicates are found: changed copies of clips, and fingerprints by the million."""

import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import console
from ..engine.dedup.search import find_duplicates
from ..engine.media.look import look
from ..engine.sources import VIDEO_EXTENSIONS
from ..shards.errors import UsageError
from . import dedup_synthetic, dedup_worlds
from .dedup_worlds import Source
from .environment import RESULTS, append, capture
from .toyverbs.world import VERBS

SOURCES = ("source", "class", "neighbour")  # kinds of clips that are copied, and must be kept
NEGATIVES = ("mirror", "reverse")  # kinds of changed clips that must be kept
LEAST_PRECISION, LEAST_RECALL = 0.99, 0.95
MOST_BYTES, AT_VIDEOS = 2_000_000_000, 1_000_000
QUADRATIC = 2.0
ALIKE_CLASSES = 4  # of verb and noun, for each verb

Tag = tuple[str, int]


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchDedupConfig:
    """Measure near-duplicate detection: quality on changed copies of clips, cost on synthetic fingerprints."""

    input: Path | None = None
    """A folder of clips: also taken, whole and in stretches of a few seconds."""
    sources: int = 36
    """Clips of each rendered kind to copy, >= 3; of long ones half as many."""
    seed: int = 5000
    """Draws what is rendered; the thresholds were chosen on other seeds."""
    synthetic: tuple[int, ...] = (10_000, 30_000, 100_000, 300_000, 1_000_000)
    """Numbers of synthetic fingerprints, ascending; memory grows with the last."""
    results: Path = RESULTS / "dedup.jsonl"
    """File to which one line per measurement is appended."""

    def __post_init__(self) -> None:
        if self.sources < 3:
            raise UsageError(f"sources must be >= 3, got {self.sources}")
        if sorted(set(self.synthetic)) != list(self.synthetic) or min(self.synthetic, default=100) < 100:
            raise UsageError(f"synthetic must be ascending numbers >= 100, got {self.synthetic}")


def bench_dedup(config: BenchDedupConfig) -> int:
    """`reelmill bench dedup`."""
    worlds = _worlds(config)
    # The synthetic part comes first: the peak of a process's memory never falls again.
    synthetic = []
    with console.progress(None, "synthetic fingerprints", "sizes") as shown:
        for videos in config.synthetic:
            synthetic.append(dedup_synthetic.measure(videos))
            shown.update()
    quality = [_quality(name, sources) for name, sources in worlds.items()]
    alike = _alike(config)
    bars = _bars(synthetic, quality)
    machine = capture()
    for record in [*synthetic, *quality, alike, {"part": "verdict", "bars": bars}]:
        append(config.results, {"bench": "dedup"} | record | machine)
    console.table("near duplicates among synthetic fingerprints", _cost_rows(synthetic))
    for record in quality:
        console.table(f"near duplicates, {record['part']}", _quality_rows(record))
    verdict = [(bar["bar"], f"{'met' if bar['met'] else 'not met'}: {bar['got']}") for bar in bars]
    summary = f"{alike['flagged']} of {alike['videos']} different clips in {alike['classes']} classes taken for copies"
    console.table("verdict", [*verdict, ("look-alikes", summary), ("appended to", str(config.results))])
    return 0


def _worlds(config: BenchDedupConfig) -> dict[str, Iterator[Source]]:
    count, seed = config.sources, config.seed
    worlds = {
        "textures": dedup_worlds.textures(count, seed),
        "toyverbs": dedup_worlds.toyverbs(count, seed),
        "still camera": dedup_worlds.still_camera((count + 1) // 2, seed),
    }
    if config.input is not None:
        paths = sorted(path for path in config.input.rglob("*") if path.suffix.lower() in VIDEO_EXTENSIONS)
        if not paths:
            raise UsageError(f"input must be a folder with videos, but {config.input} holds none")
        worlds["input in stretches"] = dedup_worlds.spans(paths)
        worlds["input"] = dedup_worlds.whole(paths)
    return worlds


def _quality(name: str, sources: Iterator[Source]) -> dict[str, Any]:
    prints: dict[Tag, bytes] = {}
    seconds = 0.0
    with (
        tempfile.TemporaryDirectory(prefix="reelmill-bench-") as scratch,
        console.progress(None, name, "clips") as shown,
    ):
        for number, source in enumerate(sources):
            for kind, path in dedup_worlds.write_copies(source, Path(scratch)):
                start = time.monotonic()
                prints[kind, number] = _fingerprint(path)
                seconds += time.monotonic() - start
            shown.update()
    return {"part": name, "prints_per_second": round(len(prints) / max(seconds, 1e-9), 1)} | _score(prints)


def _score(prints: dict[Tag, bytes]) -> dict[str, Any]:
    """Search copies and mirrored clips among the sources, then reversed ones, which may be mirrored ones too.

    A copy is right as a duplicate of its source or of another copy of it; a source or a negative is right when kept.
    """
    kinds: dict[str, list[int]] = {}
    hash_comparisons = video_comparisons = 0
    same = [tag for tag in prints if tag[0].endswith("_same")]  # a changed clip that shows the same: neither nor
    first = [tag for tag in prints if tag[0] in SOURCES]
    reverse = [tag for tag in prints if tag[0] == "reverse"]
    others = [tag for tag in prints if tag not in {*first, *reverse, *same}]
    for later in (others, reverse):
        tags = [*first, *later]
        found = find_duplicates(prints[tag] for tag in tags)
        hash_comparisons += found.hash_comparisons
        video_comparisons += found.video_comparisons
        for place, (kind, number) in enumerate(tags):
            if later is reverse and place < len(first):
                continue
            original = int(found.of[place])
            counts = kinds.setdefault(kind, [0, 0, 0])
            counts[0] += 1
            counts[1] += original >= 0
            counts[2] += _is_right((kind, number), tags[original] if original >= 0 else None)
    copies = [counts for kind, counts in kinds.items() if kind not in SOURCES + NEGATIVES]
    flagged, right = sum(flags for _, flags, _ in kinds.values()), sum(right for _, _, right in copies)
    return {
        "videos": len(prints) - len(same),
        "left_out_as_the_same": len(same),
        "precision": round(right / max(1, flagged), 4),
        "recall": round(right / max(1, sum(videos for videos, _, _ in copies)), 4),
        "kinds": kinds,  # videos, flagged, right
        "hash_comparisons": hash_comparisons,
        "video_comparisons": video_comparisons,
    }


def _is_right(tag: Tag, original: Tag | None) -> bool:
    if tag[0] in SOURCES + NEGATIVES:
        return original is None
    return original is not None and original[1] == tag[1] and original[0] not in NEGATIVES


def _alike(config: BenchDedupConfig) -> dict[str, Any]:
    """Many different clips of few actions and objects: how many are taken for copies."""
    count = 10 * config.sources
    with (
        tempfile.TemporaryDirectory(prefix="reelmill-bench-") as scratch,
        console.progress(count, "look-alikes", "clips") as shown,
    ):
        prints = []
        for source in dedup_worlds.look_alikes(count, ALIKE_CLASSES, config.seed):
            path = dedup_worlds.encode(Path(scratch) / "clip.mp4", source.frames, source.rate)
            prints.append(_fingerprint(path))
            shown.update()
    flagged = int((find_duplicates(prints).of >= 0).sum())
    classes = min(count, ALIKE_CLASSES * len(VERBS))
    return {"part": "look-alikes", "videos": count, "classes": classes, "flagged": flagged}


def _bars(synthetic: list[dict[str, Any]], quality: list[dict[str, Any]]) -> list[dict[str, Any]]:
    bars = []
    for record in quality:
        for name, least in (("precision", LEAST_PRECISION), ("recall", LEAST_RECALL)):
            got = record[name]
            bars.append({"bar": f"{record['part']}: {name} >= {least}", "got": got, "met": got >= least})
    growth = dedup_synthetic.exponents(synthetic)
    if growth:
        bars.append({"bar": "comparisons sub-quadratic", "got": growth, "met": max(growth) < QUADRATIC})
    for record in synthetic:
        if record["videos"] >= AT_VIDEOS:
            got = record["peak_rss_bytes"]
            bars.append({"bar": f"{record['videos']} videos in 2 GB", "got": got, "met": got <= MOST_BYTES})
    return bars


def _cost_rows(records: list[dict[str, Any]]) -> list[tuple[str, str]]:
    growth = ["", *(f", growing as n^{exponent}" for exponent in dedup_synthetic.exponents(records))]
    return [
        (
            f"{r['videos']:,} videos",
            f"{r['seconds']} s, peak {console.human_bytes(r['peak_rss_bytes'])}, precision {r['precision']}, "
            f"recall {r['recall']}, compared {r['hash_comparisons']:,} hashes{grows} and {r['video_comparisons']:,} "
            "videos",
        )
        for r, grows in zip(records, growth, strict=False)
    ]


def _quality_rows(record: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("precision, recall", f"{record['precision']}, {record['recall']}")]
    for kind, (videos, flagged, right) in record["kinds"].items():
        wanted = "kept" if kind in SOURCES + NEGATIVES else "found"
        rows.append((kind, f"{right} of {videos} {wanted}, {flagged} taken for copies"))
    rows.append(("left out", f"{record['left_out_as_the_same']} mirrored or reversed clips that show the same"))
    rows.append(("fingerprints", f"{record['prints_per_second']} a second, of clips as they are encoded"))
    return rows


def _fingerprint(path: Path) -> bytes:
    return bytes.fromhex(look(str(path), "decode", fingerprint=True)["fingerprint"])
