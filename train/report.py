"""One page about one run: what went in, what came out, what was learnt beside chance. It needs no network."""

import base64
import json
import platform
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from ..console import human_bytes
from ..shards.files import write_atomic
from ..shards.ledger import read_ledger
from ..shards.manifest import read_manifest
from .chart import HEIGHT, LEFT, RIGHT, WIDTH, Chart, draw
from .config.file import CONFIG
from .run_log import read_metrics

PACKAGES = ("reelmill", "torch", "open_clip_torch", "nvidia-dali-cuda130", "ray", "av", "pyarrow", "numpy")


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """One step of the work that the page tells of."""

    name: str
    seconds: float
    """Wall time."""
    bytes: int | None = None
    """What it left on disk; None where that says nothing."""
    detail: str = ""
    """A few words on what it did."""


def write_report(
    out_html: Path,
    *,
    title: str,
    run: Path,
    stages: Sequence[Stage],
    dataset: Path,
    contact_sheet: Sequence[tuple[str, bytes]],
) -> None:
    """Write a page that stands alone: styles, curves and pictures are inside, and whatever came from data is escaped.

    Args:
        out_html: the file to write.
        title: its heading.
        run: a trained run; every eval-*.json in it is shown.
        stages: the work in its order.
        dataset: what the run was trained on.
        contact_sheet: captions and JPEG strips, as `contact_sheet` makes them.

    Raises:
        UsageError: `dataset` is no dataset.
        StorageError: the disk refused.
    """
    template = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
    page = (
        Environment(autoescape=True, undefined=StrictUndefined)
        .from_string(template)
        .render(
            title=title,
            evaluations=[json.loads(path.read_bytes()) for path in sorted(run.glob("eval-*.json"))],
            charts=_charts(run),
            box={"width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT},
            inputs=_inputs(dataset),
            outputs=_outputs(dataset),
            stages=stages,
            total_seconds=sum(stage.seconds for stage in stages),
            pictures=[(caption, base64.b64encode(jpeg).decode()) for caption, jpeg in contact_sheet],
            settings=_flat(json.loads((run / CONFIG).read_bytes())),
            versions=_versions(),
            human_bytes=human_bytes,
        )
    )
    write_atomic(out_html, page.encode())


def _charts(run: Path) -> list[Chart]:
    rows = read_metrics(run)
    if not rows:
        return []

    def curve(name: str) -> list[tuple[float, float]]:
        return [(row["step"], row[name]) for row in rows if name in row]

    accuracy = {"training batches": curve("train_top1"), "base classes, held out": curve("eval_base_top1")}
    return [
        draw("Loss", {"loss": curve("loss")}),
        draw("Top-1 accuracy", accuracy, percent=True),
        draw("Clips per second", {"clips per second": curve("samples_per_second")}),
        draw("Share of the time waiting for clips", {"waiting": curve("stall_share")}, percent=True),
    ]


def _inputs(dataset: Path) -> list[tuple[str, str, int]]:
    """(status, reason, number of inputs), the most frequent first."""
    ledger = read_ledger(dataset)
    counts = Counter(zip(ledger["status"].to_pylist(), ledger["reason"].to_pylist(), strict=True))
    return [(status, reason, count) for (status, reason), count in counts.most_common()]


def _outputs(dataset: Path) -> list[tuple[str, str]]:
    manifest = read_manifest(dataset)
    samples = sum(shard.samples for shard in manifest.shards)
    size = sum(shard.bytes for shard in manifest.shards)
    return [
        ("shards", str(len(manifest.shards))),
        ("samples", str(samples)),
        ("bytes", f"{human_bytes(size)}, {human_bytes(size / max(samples, 1))} per sample"),
        ("classes", str(len(manifest.classes))),
        ("description bank", human_bytes(sum(shard.bytes for shard in manifest.bank)) if manifest.bank else "none"),
        ("digest", manifest.digest),
    ]


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows = []
    for key, value in values.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{key}.")
        else:
            rows.append((prefix + key, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return rows


def _versions() -> list[tuple[str, str]]:
    rows = [("python", platform.python_version())]
    for name in PACKAGES:
        try:
            rows.append((name, version(name)))
        except PackageNotFoundError:  # DALI, say, is one package per CUDA version
            rows.append((name, "not installed"))
    return rows
