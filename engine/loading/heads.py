"""Which decoder a video takes, and the way of every head from a video's bytes to a batch of clips.

B samples, V views of each, T frames, C channels, H and W pixels.
"""

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.dlpack import from_dlpack

from ...shards.table import Packets
from .config import LoaderConfig
from .decode import decode_windows, head_of
from .graph import FrameGraph, VideoGraph
from .meter import Meter
from .pixels import resized
from .sampling import View
from .workers import Workers

NVDEC_CODECS = ("h264", "hevc", "vp8", "vp9", "av1", "mpeg4", "mjpeg")
DALI_CPU_CODECS = ("vp8", "vp9", "mjpeg")
Video = list[NDArray[np.uint8]] | list[NDArray[np.float32]] | bytes
"""One sample on its way: per view (T, size, size, 3) levels; or per view (T, 3, size, size) normalised, by dali-cpu; or
the file itself, which the GPU will decode with the whole batch."""
_log = logging.getLogger("reelmill.loader")


class Heads:
    """Decodes the samples of one loader; `decode` runs in several threads, `batch` in one.

    Args:
        config: of the loader.
        meter: counts what is decoded.
        max_samples: of one batch of this rank.
    """

    def __init__(self, config: LoaderConfig, meter: Meter, *, max_samples: int) -> None:
        self._config, self._meter = config, meter
        self._views = config.clips * config.crops
        self._max_views = max_samples * self._views
        self._frames = FrameGraph(config, max_views=self._max_views, convert=from_dlpack)
        self._videos: VideoGraph | None = None  # of nvdec, made with the first video that it takes
        self._own = threading.local()  # a graph of dali-cpu for each thread
        self._workers = Workers(config, meter) if config.workers else None
        self._said, self._saying = set[tuple[str, str]](), threading.Lock()

    def close(self) -> None:
        """End the worker processes."""
        if self._workers is not None:
            self._workers.close()

    def decode(self, data: bytes, packets: Packets, views: Sequence[View], *, codec: str, rotation: int) -> Video:
        """One sample, as far as a thread takes it.

        Raises:
            DamageError, MediaError, ValueError, IndexError, av.error.FFmpegError: it does not decode.
        """
        head, why = head_for(self._config, packets, codec=codec, rotation=rotation)
        with self._saying:
            new = (codec, head) not in self._said
            self._said.add((codec, head))
        if new:
            _log.info("%s is decoded by %s%s", codec, head, f": {why}" if why else "")
        if head == "nvdec":
            return data
        if self._workers is not None:
            found = self._workers.decode(data, packets, views, head=head, codec=codec, rotation=rotation)
        else:
            with self._meter.decoding(head, len(data)):
                if head == "dali-cpu":
                    found = self._by_dali(data, views)
                else:
                    found = decode_windows(data, packets, views, codec=codec, rotation=rotation)
        return found if head == "dali-cpu" else [resized(window, self._config.size) for window in found]

    def batch(self, videos: Sequence[Video | None], views: Sequence[Sequence[View]]) -> "Decoded":
        """The clips of a batch; a slot without a video of its own shows its nearest neighbour's, or black.

        Args:
            videos: B of what `decode` gave, None where there is none.
            views: of each.
        """
        errors: dict[int, Exception] = {}
        clips = self._decoded_together(videos, views, errors)
        levels = [i for i, video in enumerate(videos) if isinstance(video, list) and i not in clips]
        good = sorted([*clips, *levels])
        donors = [min(good, key=lambda g: (abs(g - i), g), default=i) for i in range(len(videos))]
        black = [np.zeros((self._config.frames, self._config.size, self._config.size, 3), np.uint8)] * self._views
        if not clips:  # one graph makes the whole batch, in memory of its own
            shown: list[Any] = [videos[donor] if good else black for donor in donors]
            its_views = [view for donor in donors for view in views[donor]]
            out = self._frames.run([levels for video in shown for levels in video], its_views)
            out = out.reshape(len(videos), self._views, *out.shape[1:])
        else:
            for i in levels:
                clips[i] = self._frames.run(videos[i], views[i])  # type: ignore[arg-type]
            out = torch.stack([clips[donor] for donor in donors])
        return Decoded(out.to(getattr(torch, self._config.dtype)), [i in good for i in range(len(videos))], errors)

    def _decoded_together(
        self, videos: Sequence[Video | None], views: Sequence[Sequence[View]], errors: dict[int, Exception]
    ) -> dict[int, torch.Tensor]:
        """(V, T, C, H, W) by sample, of those that DALI decodes: with the whole batch, or each before."""
        clips = {
            i: torch.from_numpy(np.stack(video))
            for i, video in enumerate(videos)
            if isinstance(video, list) and video[0].dtype == np.float32
        }
        encoded = {i: video for i, video in enumerate(videos) if isinstance(video, bytes)}
        if not encoded:
            return clips
        if self._videos is None:
            self._videos = VideoGraph(self._config, decoder="mixed", max_views=self._max_views, convert=from_dlpack)
        every = [(i, video, view) for i, video in encoded.items() for view in views[i]]
        with self._meter.decoding("nvdec", sum(map(len, encoded.values())), len(encoded)):
            found = self._videos.run([video for _, video, _ in every], [view for _, _, view in every])
        for place, i in enumerate(encoded):
            its = found[place * self._views : (place + 1) * self._views]
            wrong = next((view for view in its if isinstance(view, Exception)), None)
            if wrong is None:
                clips[i] = torch.stack(its)
            else:
                errors[i] = wrong
        return clips

    def _by_dali(self, data: bytes, views: Sequence[View]) -> list[NDArray[np.float32]]:
        graph = getattr(self._own, "graph", None)
        if graph is None:
            alone = replace(self._config, threads=1)
            graph = self._own.graph = VideoGraph(alone, decoder="cpu", max_views=self._views, convert=np.from_dlpack)
        found: list[NDArray[np.float32]] = graph.whole([data] * len(views), views)
        return found


class Decoded:
    """What `Heads.batch` gives.

    Args:
        clips_BVTCHW: in the config's dtype. float32 of one graph is DALI's own memory, handed over by DLPack; another
            dtype is a copy (DALI writes no bfloat16, and its CPU writes float16 and uint8 three to eight times slower
            than float32), and so is a batch of which DALI decoded some samples.
        valid: for each sample whether the clip is its own.
        errors: of samples that were to be decoded with the batch and did not.
    """

    __slots__ = ("clips_BVTCHW", "errors", "valid")

    def __init__(self, clips_BVTCHW: torch.Tensor, valid: list[bool], errors: dict[int, Exception]) -> None:
        self.clips_BVTCHW, self.valid, self.errors = clips_BVTCHW, valid, errors


def head_for(config: LoaderConfig, packets: Packets, *, codec: str, rotation: int) -> tuple[str, str]:
    """The head that a video takes, and why not the one asked for ("" where it is)."""
    plain = head_of(codec, packets)
    if config.head == "pyav" or (config.head == "auto" and (config.device_id is None or plain == "jpeg")):
        return plain, ""
    asked = "nvdec" if config.head == "auto" else config.head
    takes = NVDEC_CODECS if asked == "nvdec" else DALI_CPU_CODECS
    if codec not in takes:
        return plain, f"{asked} takes {', '.join(takes)} only"
    if rotation:
        return plain, f"{asked} does not turn videos upright"
    if not packets.shown.all():
        return plain, f"{asked} counts frames that are not shown"
    return asked, ""
