"""Everything that planning needs to know of one video. Runs inside the sandbox's child process."""

import mmap
from collections.abc import Callable
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from typing import Any

from av.container import InputContainer
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ...shards.files import sha256_of
from ..config import Validate
from .limits import MAX_PIXELS, believable_aspect
from .video import file_size, open_video
from .walk import PacketTable, Walk


def probe(
    path: str,
    validate: Validate,
    on_frame: Callable[[VideoFrame], None] | None = None,
    *,
    max_pixels: int = MAX_PIXELS,
    table: bool = False,
) -> dict[str, Any]:
    """Validate and measure a video in one pass; see `shards.schema.SAMPLE` for fields and units.

    Args:
        path: of the video.
        validate: how much of it must hold.
        on_frame: gets every decoded frame in presentation order, with validate "decode".
        max_pixels: of one picture that there is memory for; of a larger video nothing is told but its {"pixels"}.
        table: whether `packets` is wanted too: a list of offset, size, pts and keyframe each, over the video's packets
            in decode order. Offset is that of the payload in the file, -1 where it does not lie there in one piece; pts
            is None for a packet that shows no frame of its own.

    Raises:
        MediaError: the file is missing, empty, no video, or does not hold to its end.
    """
    size = file_size(path)
    with ExitStack() as opened:
        container, stream = opened.enter_context(open_video(path, to_decode=validate == "decode"))
        pixels = stream.codec_context.width * stream.codec_context.height
        if pixels > max_pixels:
            return {"pixels": pixels}
        packets = None
        if table:
            file = opened.enter_context(open(path, "rb"))
            packets = PacketTable(opened.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
        facts = _header(container, stream) | Walk(container, stream, validate, on_frame, packets).run()
    walked_seconds = facts.pop("walked_seconds", 0.0)
    facts["duration_seconds"] = facts["duration_seconds"] or walked_seconds  # a live stream's header does not say it
    return facts | {"bytes": size, "sha256": sha256_of(Path(path))}


def _header(container: InputContainer, stream: VideoStream) -> dict[str, Any]:
    codec = stream.codec_context
    rate = stream.average_rate or stream.guessed_rate or Fraction(0)
    base = stream.time_base or Fraction(1, 1)
    own = None if stream.duration is None else float(stream.duration * base)
    return {
        "container": container.format.name,
        "codec": codec.codec.canonical_name,
        "pixel_aspect": believable_aspect(stream.sample_aspect_ratio),
        "fps": float(rate),
        "time_base": str(base),
        "duration_seconds": own if own is not None else (container.duration or 0) / 1e6,
    }
