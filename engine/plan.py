"""Input rows + probe facts + config → what becomes of each, and which shard holds it. No files, no clock, no Ray."""

import hashlib
import json
import math
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from ..shards.ledger import Clip, LedgerRow, Reason, Status
from ..shards.schema import sample_key
from .clip_config import SHORT_SIDE
from .config import IngestConfig
from .cut import TICK, Span, spans_of, stretch_of
from .errors import MediaError
from .media.transcode import output_size
from .sources import InputRow
from .work import row_text

COPIED_CONTAINERS = {"mov,mp4": (".mp4", ".mov", ".m4v"), "matroska,webm": (".mkv", ".webm")}
# Measured on ordinary clips at a short side of 256, at the settings of `encoders`.
JPEG_BYTES_PER_PIXEL = 0.16  # 0.15 to 0.19
# H.264; with groups of 8 frames that is 0.029 on average, 0.024 to 0.033 measured
KEYFRAME_BYTES_PER_PIXEL, OTHER_BYTES_PER_PIXEL = 0.11, 0.017
ALL_KEYFRAMES_BYTES_PER_PIXEL = 0.055  # nothing is spent on what other frames build on
SMALLER = 0.65  # bytes per pixel grow as the short side to the power of minus this: 1.6-fold at 128, 2.5-fold at 64
SLOWER = 0.8  # bytes of other frames grow as the time between two to this power: 2.4-fold at 10 of 28 per second
PER_SAMPLE_BYTES = 4096  # tar headers, padding and the json
SOUND_BYTES_PER_SECOND = 16_000  # 128 kbit/s
LEAD_SECONDS = 2.5  # from the keyframe to the start of a span, on average: half of 5 s, a common distance
CONTAINER_BYTES_PER_FRAME = 24  # a Matroska block and its share of the cues

Form = Literal["copy", "remux", "span", "intra", "h264"]


@dataclass(frozen=True, slots=True)
class SamplePlan:
    """One sample that is to be written."""

    key: str
    row: InputRow
    span: Span
    facts: dict[str, Any]
    """Of the source, as `probe` found them."""
    ext: str
    form: Form
    """copy (the bytes as they are), remux (the whole video), span (a remux of what shows it), intra or h264."""
    estimated_bytes: int


@dataclass(frozen=True, slots=True)
class Decision:
    """What becomes of one input: samples, a ledger row that says why there are none, or what it was before."""

    row: InputRow
    facts: dict[str, Any]
    samples: list[SamplePlan] = field(default_factory=list)
    rejected: LedgerRow | None = None
    carried: int | None = None
    """Ledger row of an earlier generation that still holds."""


def decide(
    row: InputRow,
    facts: dict[str, Any],
    config: IngestConfig,
    twin: tuple[str, Reason] | None = None,
    known_labels: Container[str] | None = None,
) -> Decision:
    """Decide what becomes of an input.

    Args:
        row: the input.
        facts: what `probe` found, or {"reason", "detail"} where it failed.
        config: the job's options.
        twin: id of the input that this one repeats, and how that was told.
        known_labels: labels that are actions of the bank, or None to take every label.
    """
    if "reason" in facts:
        return _reject(row, facts, status_of(facts["reason"]), facts["reason"], facts["detail"])
    unknown = unknown_label(row, known_labels)
    if unknown is not None:
        return _reject(row, facts, "failed", "unknown_label", f"the bank has no action {unknown!r}")
    if row.start_seconds is not None and row.start_seconds >= facts["duration_seconds"]:
        detail = f"starts at {row.start_seconds} s, the video ends at {facts['duration_seconds']:.3f} s"
        return _reject(row, facts, "filtered", "span", detail)
    if twin is not None:
        return _reject(row, facts, "duplicate", twin[1], f"same as {twin[0]}", twin[0])
    try:
        spans = spans_of(row, facts, config)
    except MediaError as error:
        return _reject(row, facts, status_of(error.reason), error.reason, error.detail)
    if not spans:
        detail = f"{facts['duration_seconds']:.3f} s hold no clip of at least {config.min_clip_seconds} s"
        return _reject(row, facts, "filtered", "span", detail)
    return Decision(row, facts, [_sample(row, span, facts, config) for span in spans])


def status_of(reason: Reason) -> Status:
    """What an input or a clip counts as that ended for this reason; "" is none."""
    return "ok" if not reason else "filtered" if reason == "span" else "failed"


def unknown_label(row: InputRow, known_labels: Container[str] | None) -> str | None:
    """The first label that the bank lacks."""
    if known_labels is None:
        return None
    return next((label for label in row.labels if label not in known_labels), None)


def _reject(
    row: InputRow, facts: dict[str, Any], status: Status, reason: Reason, detail: str, twin: str | None = None
) -> Decision:
    key = sample_key(row.input_id, row.start_seconds, row.end_seconds)
    rejected = ledger_row(row, facts, status, reason, detail, [Clip(key, status, reason)], twin)
    return Decision(row, facts, rejected=rejected)


def ledger_row(
    row: InputRow,
    facts: dict[str, Any],
    status: Status,
    reason: Reason,
    detail: str,
    clips: list[Clip],
    duplicate_of: str | None = None,
) -> LedgerRow:
    """The ledger's row of an input, with the fingerprints of its source."""
    fingerprint = facts.get("fingerprint")
    return LedgerRow(
        row.input_id,
        row.uri,
        status,
        reason,
        detail,
        clips,
        duplicate_of=duplicate_of,
        source_bytes=facts.get("bytes"),
        sha256=facts.get("sha256"),
        stream_hash=facts.get("stream_hash") or None,
        fingerprint=bytes.fromhex(fingerprint) if fingerprint else None,
    )


def _sample(row: InputRow, span: Span, facts: dict[str, Any], config: IngestConfig) -> SamplePlan:
    key = sample_key(row.input_id, *span)
    start, end = stretch_of(span, facts)
    seconds = max(0.0, end - start)
    whole = seconds >= facts["duration_seconds"] - TICK
    if config.preset == "archive" or _is_in_form(row, facts, config):
        ext = "mkv" if row.frames_fps else None
        if config.keeps_audio and not ext:
            ext = _copied_extension(row.path, facts["container"])
        if not whole:
            share = min(1.0, (seconds + LEAD_SECONDS) / facts["duration_seconds"])
            return SamplePlan(key, row, span, facts, "mkv", "span", int(facts["bytes"] * share) + PER_SAMPLE_BYTES)
        form: Form = "copy" if ext else "remux"
        return SamplePlan(key, row, span, facts, ext or "mkv", form, facts["bytes"] + PER_SAMPLE_BYTES)
    wide, high = output_size(
        facts["width"], facts["height"], facts["pixel_aspect"], facts["rotation"], config.short_side
    )
    fps = config.fps or facts["fps"]
    form, ext, per_pixel = "intra", "mkv", JPEG_BYTES_PER_PIXEL
    if config.preset == "train-gpu":
        form, ext, per_pixel = "h264", "mp4", _h264_bytes_per_pixel(config.gop_frames, facts["fps"] / fps if fps else 1)
    each = wide * high * per_pixel * (SHORT_SIDE / min(wide, high)) ** SMALLER
    sound = seconds * SOUND_BYTES_PER_SECOND if config.keeps_audio else 0
    estimate = max(1.0, seconds * fps) * (each + CONTAINER_BYTES_PER_FRAME) + sound
    return SamplePlan(key, row, span, facts, ext, form, int(estimate) + PER_SAMPLE_BYTES)


def _is_in_form(row: InputRow, facts: dict[str, Any], config: IngestConfig) -> bool:
    """Whether frames, as they were given, are what `train-cpu` would make of them, but for another compression."""
    return (
        row.frames_fps is not None
        and config.preset == "train-cpu"
        and config.fps in (None, row.frames_fps)
        and facts["pix_fmt"] == "yuvj420p"
        and facts["rotation"] == 0
        and min(facts["width"], facts["height"]) <= config.short_side
    )


def _h264_bytes_per_pixel(gop_frames: int, gap: float) -> float:
    """`gap`: time between two written frames, in frames of the source."""
    if gop_frames == 1:
        return ALL_KEYFRAMES_BYTES_PER_PIXEL
    other = min(OTHER_BYTES_PER_PIXEL * math.pow(gap, SLOWER), KEYFRAME_BYTES_PER_PIXEL)
    return (KEYFRAME_BYTES_PER_PIXEL + other * (gop_frames - 1)) / gop_frames


def _copied_extension(path: str, container: str) -> str | None:
    """The extension under which the bytes are kept, None where the container is remuxed."""
    for formats, extensions in COPIED_CONTAINERS.items():
        if container.startswith(formats):
            given = next((e for e in extensions if path.lower().endswith(e)), extensions[0])
            return given[1:]
    return None


def place(decisions: Iterable[Decision], shard_bytes: int, first: int) -> Iterator[tuple[Decision, list[int]]]:
    """Cut samples into shards in input order; yields every decision with the shard number of each of its samples.

    A shard holds at most `shard_bytes` by estimate; a sample larger than that has a shard of its own.
    """
    number, filled = first - 1, shard_bytes
    for decision in decisions:
        numbers = []
        for sample in decision.samples:
            if filled + sample.estimated_bytes > shard_bytes:
                number, filled = number + 1, 0
            numbers.append(number)
            filled += sample.estimated_bytes
        yield decision, numbers


def shards_of(placed: Iterable[tuple[Decision, list[int]]]) -> Iterator[tuple[int, list[SamplePlan]]]:
    """The samples of each shard, one shard at a time."""
    number, samples = -1, list[SamplePlan]()
    for decision, numbers in placed:
        for sample, its in zip(decision.samples, numbers, strict=True):
            if its != number and samples:
                yield number, samples
                samples = []
            number = its
            samples.append(sample)
    if samples:
        yield number, samples


def shard_digest(samples: list[SamplePlan], config: dict[str, Any], actions: dict[str, int] | None) -> str:
    """Names the bytes of a shard before it is written: everything that they depend on."""
    digest = hashlib.blake2b(json.dumps([config, actions], sort_keys=True).encode(), digest_size=16)
    for sample in samples:
        # a copy of the same file has another time, and another place among the inputs
        facts = {name: value for name, value in sample.facts.items() if name not in ("version", "at")}
        made_of = [
            sample.key,
            row_text(sample.row),
            sample.span,
            facts,
            sample.ext,
            sample.form,
            sample.estimated_bytes,
        ]
        digest.update(json.dumps(made_of, sort_keys=True).encode())
    return digest.hexdigest()
