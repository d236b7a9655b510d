"""All that is to be found out about a video in the one pass that decodes it. Runs inside the sandbox's child."""

from typing import Any

from av.video.frame import VideoFrame

from ..config import Validate
from .fingerprint import Fingerprinter
from .limits import MAX_PIXELS
from .probe import probe
from .scenes import SceneDetector


def look(
    path: str,
    validate: Validate,
    *,
    max_pixels: int = MAX_PIXELS,
    table: bool = False,
    fingerprint: bool = False,
    scene_threshold: float | None = None,
) -> dict[str, Any]:
    """What `probe` finds, and what else is asked for.

    Args:
        path: of the video.
        validate: how much of it must hold; what is asked for of its pictures needs "decode".
        max_pixels: as `probe` takes it.
        table: whether `packets` is wanted, see `probe`.
        fingerprint: whether `fingerprint` is wanted: `Fingerprinter.digest` in hex.
        scene_threshold: of a `SceneDetector`, whose cuts (seconds) are wanted as `scene_cuts`; None asks for none.

    Raises:
        MediaError: what `probe` raises.
    """
    prints = Fingerprinter() if fingerprint else None
    scenes = SceneDetector(scene_threshold) if scene_threshold is not None else None

    def on_frame(frame: VideoFrame) -> None:
        if prints is not None and frame.time is not None:
            prints.add(frame, frame.time)
        if scenes is not None:
            scenes.push(frame)

    watched = prints is not None or scenes is not None
    facts = probe(path, validate, on_frame if watched else None, max_pixels=max_pixels, table=table)
    if prints is not None:
        facts["fingerprint"] = prints.digest().hex()
    if scenes is not None:
        facts["scene_cuts"] = scenes.cuts()
    return facts
