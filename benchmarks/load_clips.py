"""What `reelmill bench load` decodes: rendered clips in the forms that datasets hold, or your own videos."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np

from ..engine.loading.bitstream import disposable
from ..engine.media.transcode import to_intra
from .clips import texture

DISTINCT = 3
FRAMES = 300
GRAIN = 3  # grey levels: about as many pictures are not referred to as in clips of a camera, two in five
GOPS = {"long": 250, "short": 16}  # x264's default, and one for training
SIZES = {"240": (320, 240), "720": (1280, 720)}


@dataclass(frozen=True, slots=True)
class Form:
    """One form of clips."""

    name: str
    videos: list[Path]
    nonref_share: float
    """Pictures of the first video that no other is predicted from and that a decoder may leave out."""


def write_forms(folder: Path, sizes: Sequence[str], frames: int = FRAMES) -> list[Form]:
    """Render H.264 with long and short groups, and both sizes as train-cpu stores them."""
    forms = []
    for size in sizes:
        width, height = SIZES[size]
        for gop, keyint in GOPS.items():
            archived = [folder / f"{gop}-{size}-{n}.mp4" for n in range(DISTINCT)]
            for number, path in enumerate(archived):
                _encode(path, np.random.default_rng(number), width, height, keyint, frames)
            forms.append(Form(f"archive, {gop} groups, {width}x{height}", archived, nonref_share(archived[0])))
        forms.append(_intra(folder, f"train-cpu, {width}x{height}", archived, height))
    return forms


def own_forms(folder: Path, videos: Sequence[Path]) -> list[Form]:
    """A user's videos as they are, and as train-cpu stores them."""
    return [Form("archive, own", list(videos), nonref_share(videos[0])), _intra(folder, "train-cpu, own", videos, 256)]


def nonref_share(path: Path) -> float:
    """See `Form`."""
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        packets = [bytes(packet) for packet in container.demux(video=0) if packet.size]
        return sum(disposable(codec.name, codec.extradata, packets)) / len(packets)


def _intra(folder: Path, name: str, videos: Sequence[Path], short_side: int) -> Form:
    paths = []
    for path in videos:
        paths.append(folder / f"intra-{path.stem}.mkv")
        to_intra(str(path), str(paths[-1]), short_side=short_side)
    return Form(name, paths, 0.0)


def _encode(path: Path, rng: np.random.Generator, width: int, height: int, keyint: int, frames: int) -> None:
    side = height // 4
    background, thing = texture(rng, height + 80, width + 100), texture(rng, side, side)
    with av.open(str(path), "w") as container:
        options = {"preset": "medium", "crf": "23", "g": str(keyint)}
        stream: Any = container.add_stream("libx264", rate=30, options=options)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.thread_count = 1
        for number in range(frames):
            x, y = int(50 + 49 * np.sin(number / 40)), int(40 + 39 * np.cos(number / 53))
            picture = background[y : y + height, x : x + width].astype(np.int16)
            x = int((width - side) / 2 * (1 + 0.9 * np.sin(number / 17)))
            y = int((height - side) / 2 * (1 + 0.9 * np.cos(number / 23)))
            picture[y : y + side, x : x + side] = thing
            picture += np.rint(rng.normal(0, GRAIN, (height, width, 1))).astype(np.int16)
            frame = av.VideoFrame.from_ndarray(np.clip(picture, 0, 255).astype(np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
