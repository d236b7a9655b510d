"""Ordinary video files in any number, quickly: a few are encoded, the others are copies with bytes of their own."""

from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

DISTINCT = 8
WIDTH, HEIGHT, FRAMES_PER_SECOND = 340, 256, 30
GRAIN = 6  # grey levels, standard deviation: what makes film cost bits between its keyframes
FREE_BOX_BYTES = 24

Picture = NDArray[np.uint8]


def write_clips(folder: Path, count: int, *, seconds: float = 10.0) -> Path:
    """Write `count` H.264 mp4 files at 340x256: something moves before a background under a moving camera.

    Size, keyframes and cost of decoding are like those of web videos in that size: 10 s take about half a MB. Every
    file differs from the others in a trailing `free` box, which no reader looks into: no two have the same bytes,
    though every eighth holds the same stream.
    """
    folder.mkdir(parents=True, exist_ok=True)
    templates = []
    for number in range(min(DISTINCT, count)):
        path = folder / "template.mp4"
        _encode(path, np.random.default_rng(number), round(seconds * FRAMES_PER_SECOND))
        templates.append(path.read_bytes())
        path.unlink()
    for number in range(count):
        box = FREE_BOX_BYTES.to_bytes(4, "big") + b"free" + number.to_bytes(FREE_BOX_BYTES - 8, "big")
        (folder / f"{number:06d}.mp4").write_bytes(templates[number % DISTINCT] + box)
    return folder


def _encode(path: Path, rng: np.random.Generator, frames: int) -> None:
    background, thing = texture(rng, HEIGHT + 80, WIDTH + 100), texture(rng, 64, 64)
    grains = rng.normal(0, GRAIN, (7, HEIGHT, WIDTH, 1)).astype(np.int16)
    with av.open(str(path), "w") as container:
        options = {"preset": "veryfast", "crf": "24", "g": "100"}
        stream: Any = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=options)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.thread_count = 1
        for number in range(frames):
            x, y = int(50 + 49 * np.sin(number / 40)), int(40 + 39 * np.cos(number / 53))
            picture = background[y : y + HEIGHT, x : x + WIDTH].copy()
            x, y = int(130 + 120 * np.sin(number / 17)), int(90 + 85 * np.cos(number / 23))
            picture[y : y + 64, x : x + 64] = thing
            grainy = np.clip(picture + grains[number % 7], 0, 255).astype(np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grainy, format="rgb24")))
        container.mux(stream.encode(None))


def texture(rng: np.random.Generator, height: int, width: int) -> Picture:
    """Random patches of every size, the larger the stronger, as in pictures of the world."""
    sum_HWC = np.zeros((height, width, 3))
    for octave in range(1, 8):
        cells = 2**octave
        values = rng.normal(size=(cells + 2, cells + 2, 3)) / cells**0.9
        rows, columns = np.linspace(0, cells, height), np.linspace(0, cells, width)
        r, c = rows.astype(int), columns.astype(int)
        down, right = (rows - r)[:, None, None], (columns - c)[None, :, None]
        upper = values[r][:, c] * (1 - right) + values[r][:, c + 1] * right
        lower = values[r + 1][:, c] * (1 - right) + values[r + 1][:, c + 1] * right
        sum_HWC += upper * (1 - down) + lower * down
    sum_HWC -= sum_HWC.min()
    picture: Picture = (sum_HWC * (235 / sum_HWC.max())).astype(np.uint8)
    return picture
