"""The engine's commands: options in, a summary table out, an exit code back."""

import time
from collections import Counter
from pathlib import Path

import numpy as np

from .. import console
from ..shards.errors import ReelmillError
from ..shards.manifest import read_manifest
from ..shards.reader import Dataset, SampleRef, members_of
from ..shards.verify import verify as find_faults
from .bank.build import build_bank
from .config import BankBuildConfig, DoctorConfig, IngestConfig, VerifyConfig
from .decode import decode_frames
from .doctor import examine
from .ingest import ingest as run_ingest
from .sampling import segment_frames

COST_CLIPS = 16
COST_FRAMES = 8
SHOWN_FAILURES = 10
SHOWN_FAULTS = 50


def ingest(config: IngestConfig) -> int:
    """`reelmill ingest INPUT OUT`."""
    start = time.monotonic()
    result = run_ingest(config)
    totals = result.manifest.totals
    rows = [(status, str(count)) for status, count in result.counts.items()]
    if result.ignored:
        rows.append(("ignored files", str(result.ignored)))
    rows += [
        ("samples", f"{totals['samples']} in {len(result.manifest.shards)} shards"),
        ("bytes", f"{console.human_bytes(totals['bytes'])}"),
        ("dataset", str(config.out)),
    ]
    if totals["samples"]:
        rows[-1:-1] = [
            ("per clip", console.human_bytes(totals["bytes"] / totals["samples"])),
            ("decode cost", _decode_cost(config.out)),
        ]
    console.table(f"ingested {totals['inputs']} inputs in {time.monotonic() - start:.1f} s", rows)
    bad = [row for row in result.rows if row.status == "failed"]
    for row in bad[:SHOWN_FAILURES]:
        print(f"  failed: {row.uri}: {row.reason}: {row.detail}")
    if len(bad) > SHOWN_FAILURES:
        reasons = ", ".join(f"{reason} {count}" for reason, count in Counter(row.reason for row in bad).most_common())
        print(f"  … {len(bad)} failed in all ({reasons}); every one is in {config.out / 'ledger.parquet'}")
    failed_fraction = len(bad) / totals["inputs"]
    if failed_fraction > config.max_failed_fraction:
        limit = config.max_failed_fraction
        raise ReelmillError(f"{len(bad)} of {totals['inputs']} inputs failed, more than max_failed_fraction {limit}")
    return 0


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
        print(f"fault: {fault}")
    if len(faults) > SHOWN_FAULTS:
        print(f"… {len(faults)} faults in all")
    if faults:
        raise ReelmillError(f"{config.dataset} has {len(faults)} faults")
    console.table("whole", [("samples", str(totals["samples"])), ("bytes", console.human_bytes(totals["bytes"]))])
    return 0


def bank_build(config: BankBuildConfig) -> int:
    """`reelmill bank build RECORDS OUT`."""
    totals = build_bank(config)
    rows = [("actions", str(totals.actions)), ("descriptions", str(totals.descriptions))]
    rows += [("repeated texts", str(totals.repeated)), ("bank", str(config.out))]
    if totals.rejected:
        rows.append(("set aside", f"{totals.rejected} in {config.out / 'rejected.jsonl'} (their action is no label)"))
    console.table("bank built", rows)
    return 0


def doctor(config: DoctorConfig) -> int:
    """`reelmill doctor`."""
    findings = examine()
    console.table("this machine", [(f.name, f.state) for f in findings])
    missing = [f for f in findings if f.advice]
    for finding in missing:
        print(f"  {finding.name}: {finding.advice}")
    return 1 if any(f.needed for f in missing) else 0
