"""The form in which a sample is written: which function makes it, with which of the job's options."""

import errno
from pathlib import Path
from typing import Any

from ..shards.errors import ReelmillError
from ..shards.files import storage_error
from .config import IngestConfig
from .media.sandbox import Sandbox
from .plan import SamplePlan


def make_form(
    sample: SamplePlan, source: Path, config: IngestConfig, sandbox: Sandbox, scratch: Path
) -> tuple[dict[str, Any], Path]:
    """Make what goes into the tar, for every form but the verbatim copy.

    Args:
        sample: what is wanted.
        source: the whole video.
        config: the job's options.
        sandbox: does what touches the video.
        scratch: the file to write.

    Returns:
        What `probe` finds in the written file, with its `packets`; the file.

    Raises:
        MediaError: the video does not take the form.
        StorageError: the disk refused.
        ReelmillError: this machine lacks the encoder.
    """
    name, options = _maker(sample, config)
    try:
        facts = sandbox.call(name, path=str(source), out=str(scratch), audio=config.keeps_audio, **options)
    except OSError as error:
        if error.errno == errno.ENODEV:
            raise ReelmillError(
                f"encoder {config.encoder} is not on every machine of the job: {error.strerror}"
            ) from None
        raise storage_error(scratch, error) from error
    if sample.form in ("remux", "span"):
        # Matroska has no place for the one, and of a few frames FFmpeg guesses the other wrong
        facts |= {name: sample.facts[name] for name in ("rotation", "fps")}
    return facts, scratch


def _maker(sample: SamplePlan, config: IngestConfig) -> tuple[str, dict[str, Any]]:
    """The sandbox's function for a sample, and what it takes besides the files and `audio`."""
    if sample.form == "remux":
        return "remux", {}
    start, end = sample.span
    span = {"start_seconds": start, "end_seconds": end}
    if sample.form == "span":
        return "copy_span", span | {"validate": config.validate}
    form = span | {"short_side": config.short_side, "fps": config.fps}
    if sample.form == "intra":
        return "to_intra", form
    return "to_h264", form | {"gop_frames": config.gop_frames, "encoder": config.encoder}
