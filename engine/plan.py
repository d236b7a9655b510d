"""Input rows + probe facts + config → samples and shards. Pure and deterministic: no files, no clock, no Ray."""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..shards.ledger import Clip, LedgerRow, Reason
from ..shards.schema import sample_key
from .config import IngestConfig
from .sources import InputRow
from .transcode import output_size

COPIED_CONTAINERS = {"mov,mp4": (".mp4", ".mov", ".m4v"), "matroska,webm": (".mkv", ".webm")}
JPEG_BYTES_PER_PIXEL = 0.16  # at the quantiser of `transcode`: 0.15 to 0.19 on ordinary clips
PER_SAMPLE_BYTES = 4096  # tar headers, padding and the json
CONTAINER_BYTES_PER_FRAME = 24  # a Matroska block and its share of the cues


@dataclass(frozen=True, slots=True)
class SamplePlan:
    """One sample that is to be written."""

    key: str
    row: InputRow
    facts: dict[str, Any]
    """Of the source, as `probe` found them."""
    ext: str
    form: str
    """copy (the bytes as they are), remux or intra."""
    estimated_bytes: int


@dataclass(frozen=True, slots=True)
class Plan:
    """Which samples go into which shard, and the ledger rows of every input that is not written."""

    shards: list[list[SamplePlan]]
    rejected: list[LedgerRow]

    @property
    def samples(self) -> int:
        """How many samples will be written."""
        return sum(len(shard) for shard in self.shards)


def make_plan(
    rows: Sequence[InputRow],
    facts: Sequence[Mapping[str, Any]],
    config: IngestConfig,
    known_labels: Container[str] | None = None,
) -> Plan:
    """Decide for every input what becomes of it, and cut the rest into shards in input order.

    Args:
        rows: the inputs.
        facts: for each row what `probe` found, or {"reason", "detail"} where it failed.
        config: the job's options.
        known_labels: labels that are actions of the bank, or None to take every label.

    Returns:
        Shards of at most `shard_mb` by estimate (a sample larger than that has a shard of its own).
    """
    rejected: list[LedgerRow] = []
    samples: list[SamplePlan] = []
    first_with: dict[object, InputRow] = {}
    for row, found in zip(rows, facts, strict=True):
        unknown = [label for label in row.labels if known_labels is not None and label not in known_labels]
        if "reason" in found:
            rejected.append(_reject(row, "failed", found["reason"], found["detail"]))
        elif unknown:
            rejected.append(_reject(row, "failed", "unknown_label", f"the bank has no action {unknown[0]!r}"))
        elif row.start_seconds is not None and row.start_seconds >= found["duration_seconds"]:
            detail = f"starts at {row.start_seconds} s, the video ends at {found['duration_seconds']:.3f} s"
            rejected.append(_reject(row, "filtered", "span", detail))
        elif (twin := _twin(row, found, config, first_with)) is not None:
            rejected.append(_reject(row, "duplicate", twin[1], f"same as {twin[0].input_id}"))
        else:
            samples.append(_sample(row, dict(found), config))
    return Plan(_cut(samples, config.shard_mb * 1_000_000), rejected)


def _reject(row: InputRow, status: Any, reason: Reason, detail: str) -> LedgerRow:
    key = sample_key(row.input_id, row.start_seconds, row.end_seconds)
    return LedgerRow(row.input_id, row.uri, status, reason, detail, [Clip(key, status, reason)])


def _twin(
    row: InputRow, found: Mapping[str, Any], config: IngestConfig, first_with: dict[object, InputRow]
) -> tuple[InputRow, Reason] | None:
    """The earlier input that this one repeats, if any; the first one in input order stays."""
    prints: dict[Reason, str] = {}
    if config.dedup != "none":
        prints["exact"] = found["sha256"]
    if config.dedup == "stream" and found["stream_hash"]:
        prints["stream"] = found["stream_hash"]
    span = (row.start_seconds, row.end_seconds)
    for reason, fingerprint in prints.items():
        earlier = first_with.setdefault((reason, fingerprint, span), row)
        if earlier is not row:
            return earlier, reason
    return None


def _sample(row: InputRow, facts: dict[str, Any], config: IngestConfig) -> SamplePlan:
    key = sample_key(row.input_id, row.start_seconds, row.end_seconds)
    if config.preset == "archive":
        ext = _copied_extension(row.path, facts["container"])
        form = "copy" if ext else "remux"
        return SamplePlan(key, row, facts, ext or "mkv", form, facts["bytes"] + PER_SAMPLE_BYTES)
    start, end = row.start_seconds or 0.0, row.end_seconds or facts["duration_seconds"]
    wide, high = output_size(
        facts["width"], facts["height"], facts["pixel_aspect"], facts["rotation"], config.short_side
    )
    frames = max(1.0, (min(end, facts["duration_seconds"]) - start) * facts["fps"])
    estimate = frames * (wide * high * JPEG_BYTES_PER_PIXEL + CONTAINER_BYTES_PER_FRAME)
    return SamplePlan(key, row, facts, "mkv", "intra", int(estimate) + PER_SAMPLE_BYTES)


def _copied_extension(path: str, container: str) -> str | None:
    """The extension under which the bytes are kept, None where the container is remuxed."""
    for formats, extensions in COPIED_CONTAINERS.items():
        if container.startswith(formats):
            given = next((e for e in extensions if path.lower().endswith(e)), extensions[0])
            return given[1:]
    return None


def _cut(samples: list[SamplePlan], limit_bytes: int) -> list[list[SamplePlan]]:
    shards: list[list[SamplePlan]] = []
    filled = limit_bytes
    for sample in samples:
        if filled + sample.estimated_bytes > limit_bytes:
            shards.append([])
            filled = 0
        shards[-1].append(sample)
        filled += sample.estimated_bytes
    return shards
