"""The DALI graphs behind the heads: videos or cut frames in, normalised clips out.

Frames, windows, mirrors and colours are given per view, so DALI draws nothing itself: a clip depends on its own
input alone, whatever the threads and the split into batches. V views, T frames, C channels, H and W pixels, S the size
of a clip.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from nvidia.dali import Pipeline, fn, types

from .config import LoaderConfig
from .sampling import View

OPTIONS = {"exec_dynamic": True, "prefetch_queue_depth": 1}
"""Of every pipeline. The dynamic executor gives each output memory of its own: it stays whole while the next runs."""
COLOURS = ("brightness", "contrast", "saturation", "hue")
"""Fields of `Colours` that are inputs of color_twist."""
Convert = Callable[[Any], Any]
"""`from_dlpack` of torch or NumPy: takes DALI's memory over, without a copy."""


class FrameGraph:
    """Mirrors, colours and normalises frames that were decoded, cut and resized before (`pixels`); on a CPU or a GPU.

    Args:
        config: gives mean, std, threads, device and whether levels stay as they are.
        max_views: of one run.
        convert: DALI's tensor into what `run` returns.
    """

    def __init__(self, config: LoaderConfig, *, max_views: int, convert: Convert) -> None:
        self._config, self._convert = config, convert
        with _pipeline(config, max_views) as self._pipe:
            video = fn.external_source(name="video", layout="FHWC", dtype=types.UINT8, ndim=4, no_copy=True)
            # through pinned memory, where there is a GPU
            self._pipe.set_outputs(_finished(video if config.device_id is None else video.gpu(), config))
        self._pipe.build()

    def run(self, videos: Sequence[NDArray[np.uint8]], views: Sequence[View]) -> Any:
        """Normalise clips.

        Args:
            videos: per view, (T, S, S, 3) uint8.
            views: per view, its mirror and colours.

        Returns:
            (V, T, 3, S, S) float32.
        """
        (clips,) = self._pipe.run(video=list(videos), **_given(views, self._config))
        return self._convert(clips.as_tensor())


class VideoGraph:
    """All in DALI: encoded videos in, normalised clips out. The GPU decodes ("mixed") or DALI's own CPU decoder.

    On a GPU it is NVDEC that decodes, and windows, resizing and normalising follow there; nothing but the encoded video
    crosses the bus. DALI's CPU decoder takes VP8, VP9 and MJPEG, and decodes from the start of the video.

    Args:
        config: gives size, mean, std, threads, device and whether levels stay as they are.
        decoder: where the frames are decoded.
        max_views: of one run.
        convert: DALI's tensor into what `run` returns.
    """

    def __init__(
        self, config: LoaderConfig, *, decoder: Literal["cpu", "mixed"], max_views: int, convert: Convert
    ) -> None:
        self._config, self._decoder, self._max_views, self._convert = config, decoder, max_views, convert
        self._pipe = self._build()

    def run(self, videos: Sequence[bytes], views: Sequence[View]) -> list[Any]:
        """Decode and normalise clips.

        An error says neither which video it is of nor leaves a pipeline that runs: then each is tried alone, in a new
        one.

        Args:
            videos: per view, a whole file.
            views: per view, its frames, window, mirror and colours.

        Returns:
            Per view, (T, 3, S, S) float32, or the ValueError that says what was wrong with it.
        """
        try:
            return list(self._run(videos, views))
        except RuntimeError as error:
            self._pipe = self._build()
            if len(videos) == 1:
                return [ValueError(f"DALI does not decode it: {_last_line(error)}")]
        return [self.run([video], [view])[0] for video, view in zip(videos, views, strict=True)]

    def whole(self, videos: Sequence[bytes], views: Sequence[View]) -> list[Any]:
        """As `run`, but the first error is raised."""
        found = self.run(videos, views)
        for clip in found:
            if isinstance(clip, Exception):
                raise clip
        return found

    def _run(self, videos: Sequence[bytes], views: Sequence[View]) -> Any:
        (clips,) = self._pipe.run(
            video=[np.frombuffer(video, np.uint8) for video in videos],
            frames=[view.frames.astype(np.int32) for view in views],
            anchor=[np.array(view.anchor, np.float32) for view in views],
            shape=[np.array(view.shape, np.float32) for view in views],
            **_given(views, self._config),
        )
        return self._convert(clips.as_tensor())

    def _build(self) -> Any:
        size = self._config.size
        with _pipeline(self._config, self._max_views) as pipe:
            video = fn.external_source(name="video", dtype=types.UINT8, ndim=1)
            wanted = fn.external_source(name="frames", dtype=types.INT32, ndim=1)
            anchor = fn.external_source(name="anchor", dtype=types.FLOAT, ndim=1)
            shape = fn.external_source(name="shape", dtype=types.FLOAT, ndim=1)
            # "none": a frame that is not there is an error, not a black picture
            decoded = fn.decoders.video(video, device=self._decoder, frames=wanted, pad_mode="none")
            windows = fn.slice(decoded, anchor, shape, axis_names="HW")
            resized = fn.resize(windows, size=[size, size], antialias=True)
            pipe.set_outputs(_finished(resized, self._config))
        pipe.build()
        return pipe


def _pipeline(config: LoaderConfig, max_views: int) -> Any:
    return Pipeline(batch_size=max_views, num_threads=config.threads, device_id=config.device_id, **OPTIONS)


def _finished(frames: Any, config: LoaderConfig) -> Any:
    """What follows the resize, in every graph; its inputs are those of `_given`."""
    if _colours(config):
        values = [fn.external_source(name=name, dtype=types.FLOAT, ndim=0) for name in COLOURS]
        frames = fn.color_twist(frames, **dict(zip(COLOURS, values, strict=True)))
    raw = config.dtype == "uint8"  # levels as they are
    return fn.crop_mirror_normalize(
        frames,
        dtype=types.FLOAT,
        output_layout="FCHW",
        mirror=fn.external_source(name="mirror", dtype=types.INT32, ndim=0),
        mean=[0.0] * 3 if raw else [255 * value for value in config.mean],
        std=[1.0] * 3 if raw else [255 * value for value in config.std],
    )


def _given(views: Sequence[View], config: LoaderConfig) -> dict[str, list[NDArray[Any]]]:
    given: dict[str, list[NDArray[Any]]] = {"mirror": [np.array(view.mirror, np.int32) for view in views]}
    if _colours(config):
        for name in COLOURS:
            given[name] = [np.array(getattr(view.colours, name), np.float32) for view in views]
    return given


def _colours(config: LoaderConfig) -> bool:
    return config.training and bool(config.colour_jitter or config.grey)


def _last_line(error: Exception) -> str:
    return next((line.strip() for line in reversed(str(error).splitlines()) if line.strip()), type(error).__name__)
