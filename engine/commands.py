"""The engine's commands: options in, a summary table out, an exit code back."""

import time
from pathlib import Path

import numpy as np

from .. import console
from ..shards.errors import ReelmillError
from ..shards.manifest import read_manifest
from ..shards.reader import Dataset, SampleRef, members_of
from ..shards.verify import verify as find_faults
from .adopt import adopt as run_adopt
from .cluster import Effort
from .compact import compact as run_compact
from .config import (
    AdoptConfig,
    CompactConfig,
    DoctorConfig,
    FeaturesConfig,
    IngestConfig,
    PlanConfig,
    RetryConfig,
    VerifyConfig,
)
from .doctor import examine
from .features.load import load_features
from .forecast import forecast as forecast_of
from .ingest import Done
from .ingest import ingest as run_ingest
from .ingest import retry as run_retry
from .loading.decode import decode_frames
from .loading.frames import segment_frames

COST_CLIPS = 16
COST_FRAMES = 8
SHOWN_FAILURES = 10
SHOWN_FAULTS = 50


def ingest(config: IngestConfig) -> int:
    """`reelmill ingest INPUT OUT`."""
    start = time.monotonic()
    return _report(run_ingest(config), start, config.max_failed_fraction)


def retry(config: RetryConfig) -> int:
    """`reelmill retry DATASET`."""
    return _report(run_retry(config), time.monotonic(), 1.0)


def compact(config: CompactConfig) -> int:
    """`reelmill compact DATASET`."""
    before = read_manifest(config.dataset)
    after = run_compact(config)
    rows = [
        ("generations", f"{len(before.generations)} → {len(after.generations)}"),
        ("shards", f"{len(before.shards)} → {len(after.shards)}"),
        ("bytes", f"{console.human_bytes(before.totals['bytes'])} → {console.human_bytes(after.totals['bytes'])}"),
        ("samples", str(after.totals["samples"])),
    ]
    console.table("compacted", rows)
    return 0


def adopt(config: AdoptConfig) -> int:
    """`reelmill adopt TARS OUT`."""
    totals = run_adopt(config).totals
    rows = [(name, str(totals[name])) for name in ("ok", "failed", "samples")]
    rows += [("bytes", console.human_bytes(totals["bytes"])), ("dataset", str(config.out))]
    console.table("adopted", rows)
    return 0


def features(config: FeaturesConfig) -> int:
    """`reelmill features DATASET FILES --name NAME`."""
    done = load_features(config)
    rows = [(name, str(getattr(done, name))) for name in ("matched", "missing", "damaged", "unknown")]
    console.table(f"features of {done.samples} samples", [*rows, ("features", str(done.folder))])
    for what, shown, count in (("damaged", done.faults, done.damaged), ("unknown", done.strangers, done.unknown)):
        for each in shown:
            print(console.printable(f"  {what}: {each}"))
        if count > len(shown):
            print(f"  … {count} {what} in all")
    return 0


def plan(config: PlanConfig) -> int:
    """`reelmill plan INPUT`."""
    forecast = forecast_of(config)
    totals = forecast.totals
    each = totals.estimated_bytes / max(1, len(totals.shards))
    rows = [(status, str(count)) for status, count in forecast.counts.items()]
    rows += [
        ("samples", f"{totals.samples} in {len(totals.shards)} shards of {console.human_bytes(each)}"),
        ("bytes", f"{console.human_bytes(totals.estimated_bytes)}, estimated"),
        ("source", f"{console.human_bytes(forecast.source_bytes)}, {forecast.source_seconds / 3600:.2f} h of video"),
        ("probing", f"took {forecast.probe_seconds:.1f} s"),
    ]
    console.table(f"plan for {totals.inputs} inputs; nothing was written", rows)
    return 0


def _report(result: Done, start: float, max_failed_fraction: float) -> int:
    totals, read, written = result.manifest.totals, result.read, result.written
    rows = [(status, str(count)) for status, count in result.counts.items()]
    if len(result.manifest.generations) > 1 or result.unchanged:
        rows.append(("unchanged", f"{result.unchanged}; {read.worked} videos read, {written.worked} samples written"))
    if result.ignored:
        rows.append(("ignored files", str(result.ignored)))
    rows += [
        ("samples", f"{totals['samples']} in {len(result.manifest.shards)} shards"),
        ("classes", str(len(result.manifest.classes))),
        ("bytes", f"{console.human_bytes(totals['bytes'])}"),
        ("dataset", str(result.out)),
    ]
    if totals["samples"]:
        rows[-1:-1] = [
            ("per clip", console.human_bytes(totals["bytes"] / totals["samples"])),
            ("decode cost", _decode_cost(result.out)),
        ]
    rows[-1:-1] = [
        (what, _throughput(effort)) for what, effort in (("probed", read), ("written", written)) if effort.worked
    ]
    console.table(f"ingested {totals['inputs']} inputs in {time.monotonic() - start:.1f} s", rows)
    failed = totals["failed"]
    if not totals["samples"]:
        print("  warning: no input became a sample; the dataset is empty")
    for row in result.failed(SHOWN_FAILURES):
        print(console.printable(f"  failed: {row.uri}: {row.reason}: {row.detail}"))
    if failed > SHOWN_FAILURES:
        print(f"  … {failed} failed in all; every one is in {result.out / 'ledger.parquet'}")
    if failed > max_failed_fraction * totals["inputs"]:
        raise ReelmillError(
            f"{failed} of {totals['inputs']} inputs failed, more than max_failed_fraction {max_failed_fraction}"
        )
    return 0


def _throughput(effort: Effort) -> str:
    """What one core did in a second, on average over the tasks."""
    rate, bytes_rate = effort.worked / effort.core_seconds, effort.bytes / effort.core_seconds
    return f"{effort.worked}, {rate:.1f}/s and {console.human_bytes(bytes_rate)}/s per core"


def _decode_cost(folder: Path) -> str:
    """What eight sparse frames of a clip cost in the form that was written, on one core."""
    dataset = Dataset(folder)
    rows = dataset.shard_table(0, ["key", "members", "frames", "codec", "rotation"]).slice(0, COST_CLIPS).to_pylist()
    start = time.process_time()
    for number, row in enumerate(rows):
        data = dataset.tar(0).read(row["key"], members_of(row["members"])[0])
        indices = segment_frames(row["frames"], COST_FRAMES, np.full(COST_FRAMES, 0.5))
        decode_frames(
            data, dataset.packets(SampleRef(0, number)), indices, codec=row["codec"], rotation=row["rotation"]
        )
    seconds = time.process_time() - start
    dataset.close()
    return f"{1000 * seconds / len(rows):.1f} ms of CPU for {COST_FRAMES} sparse frames of a clip ({len(rows)} tried)"


def verify(config: VerifyConfig) -> int:
    """`reelmill verify DATASET`."""
    totals = read_manifest(config.dataset).totals
    with console.progress(totals["samples"], "verify", "samples") as shown:
        faults = find_faults(config.dataset, shown.update)
    for fault in faults[:SHOWN_FAULTS]:
        print(console.printable(f"fault: {fault}"))
    if len(faults) > SHOWN_FAULTS:
        print(f"… {len(faults)} faults in all")
    if faults:
        raise ReelmillError(f"{config.dataset} has {len(faults)} faults")
    console.table("whole", [("samples", str(totals["samples"])), ("bytes", console.human_bytes(totals["bytes"]))])
    return 0


def doctor(config: DoctorConfig) -> int:
    """`reelmill doctor`."""
    findings = examine()
    console.table("this machine", [(f.name, f.state) for f in findings])
    missing = [f for f in findings if f.advice]
    for finding in missing:
        print(f"  {finding.name}: {finding.advice}")
    return 1 if any(f.needed for f in missing) else 0
