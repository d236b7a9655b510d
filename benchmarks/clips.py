"""Ordinary video files in any number, quickly: a few are encoded, the others are copies with bytes of their own."""

from pathlib import Path
from typing import Any

import av
import numpy as np

DISTINCT = 8
WIDTH, HEIGHT, FRAMES, FRAMES_PER_SECOND = 320, 240, 250, 25
FREE_BOX_BYTES = 24


def write_clips(folder: Path, count: int) -> Path:
    """Write `count` H.264 mp4 files of 10 s at 320x240, about 260 kB each: a camera moves over a texture.

    Every file differs from the others in a trailing `free` box, which no reader looks into: no two have the same bytes,
    though every eighth holds the same stream.
    """
    folder.mkdir(parents=True, exist_ok=True)
    templates = []
    for number in range(min(DISTINCT, count)):
        path = folder / "template.mp4"
        _encode(path, number)
        templates.append(path.read_bytes())
        path.unlink()
    for number in range(count):
        box = FREE_BOX_BYTES.to_bytes(4, "big") + b"free" + number.to_bytes(FREE_BOX_BYTES - 8, "big")
        (folder / f"{number:06d}.mp4").write_bytes(templates[number % DISTINCT] + box)
    return folder


def _encode(path: Path, seed: int) -> None:
    texture = np.random.default_rng(seed).integers(64, 192, (HEIGHT + 60, WIDTH + 80, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        options = {"preset": "veryfast", "crf": "26", "g": "50"}
        stream: Any = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.thread_count = 1
        for number in range(FRAMES):
            x, y = number // 4 % 80, number // 8 % 60
            picture = np.ascontiguousarray(texture[y : y + HEIGHT, x : x + WIDTH])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
