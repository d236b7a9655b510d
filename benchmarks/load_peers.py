"""The rivals of `reelmill bench load`; runs in an environment of its own, which has nothing of ours: SETUP as JSON.

Each does the same work on the same tars: eight frames in the middles of equal segments, the centre square of 7/8 of
the short side, an antialiased resize, mean and std, batches of float32. It prints one JSON line about a first batch,
and one for every line that it is sent: an epoch.
"""

import io
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def wanted(count: int, frames: int) -> Any:
    """Middle of each segment."""
    return np.minimum(((np.arange(frames) + 0.5) * count / frames).astype(int), count - 1)


def finished(frames_TCHW: Any, size: int) -> Any:
    """Frames as uint8 tensor to a normalised clip."""
    import torch

    height, width = frames_TCHW.shape[2:]
    side = round(min(height, width) * 224 / 256)
    top, left = round((height - side) / 2), round((width - side) / 2)
    window = frames_TCHW[:, :, top : top + side, left : left + side]
    clip = torch.nn.functional.interpolate(window, size=(size, size), mode="bilinear", antialias=True)
    mean, std = (torch.tensor(v).view(3, 1, 1) * 255 for v in (MEAN, STD))
    return clip.float().sub_(mean).div_(std)


def pyav(data: bytes, frames: int) -> Any:
    """PyAV used naively: the whole video, of which some frames are kept."""
    import av
    import torch

    with av.open(io.BytesIO(data), "r") as container:
        container.streams.video[0].thread_count = 1
        decoded = list(container.decode(video=0))
    kept = [decoded[i].to_ndarray(format="rgb24") for i in wanted(len(decoded), frames)]
    return torch.from_numpy(np.stack(kept)).permute(0, 3, 1, 2)


def decord(data: bytes, frames: int) -> Any:
    """decord, which goes to keyframes."""
    import decord as library  # type: ignore[import-not-found]
    import torch

    reader = library.VideoReader(io.BytesIO(data), num_threads=1)
    return torch.from_numpy(reader.get_batch(wanted(len(reader), frames)).asnumpy()).permute(0, 3, 1, 2)


def torchcodec(data: bytes, frames: int, seek_mode: Any = "exact") -> Any:
    """torchcodec, which goes to keyframes; "exact" reads the packets' times first."""
    from torchcodec.decoders import VideoDecoder  # type: ignore[import-not-found]

    decoder = VideoDecoder(data, num_ffmpeg_threads=1, seek_mode=seek_mode)
    return decoder.get_frames_at(wanted(len(decoder), frames).tolist()).data


def torchcodec_approximate(data: bytes, frames: int) -> Any:
    """torchcodec, which trusts the header for times."""
    return torchcodec(data, frames, "approximate")


DECODERS = {
    "PyAV": pyav,
    "decord": decord,
    "torchcodec exact": torchcodec,
    "torchcodec approximate": torchcodec_approximate,
}


class Videos:
    """A map-style dataset: bytes by their place in a tar, decoded; a DataLoader's workers run it."""

    def __init__(self, setup: dict[str, Any], decode: Callable[[bytes, int], Any]) -> None:
        self.setup, self.decode = setup, decode
        self.files: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.setup["videos"])

    def __getitem__(self, number: int) -> Any:
        """One clip."""
        import torch

        torch.set_num_threads(1)
        tar, offset, size = self.setup["videos"][number]
        if tar not in self.files:
            self.files[tar] = os.open(tar, os.O_RDONLY)
        data = os.pread(self.files[tar], size, offset)
        return finished(self.decode(data, self.setup["frames"]), self.setup["size"])


def data_loader(setup: dict[str, Any], decode: Callable[[bytes, int], Any]) -> Any:
    """The usual way: worker processes."""
    from torch.utils.data import DataLoader

    videos: Any = Videos(setup, decode)
    return DataLoader(videos, batch_size=setup["batch"], num_workers=setup["workers"], persistent_workers=True)


def web_dataset(setup: dict[str, Any]) -> Any:
    """Webdataset + PyAV: worker processes over tars."""
    import webdataset as wds
    from torch.utils.data import DataLoader

    def clip(sample: dict[str, bytes]) -> Any:
        import torch

        torch.set_num_threads(1)
        data = next(sample[name] for name in ("mkv", "mp4", "webm") if name in sample)
        return finished(pyav(data, setup["frames"]), setup["size"])

    clips = wds.WebDataset(setup["tars"], shardshuffle=False).map(clip)
    workers = min(setup["workers"], len(setup["tars"]))  # one without a tar stops webdataset
    return DataLoader(clips, batch_size=setup["batch"], num_workers=workers, persistent_workers=True)


def dali(setup: dict[str, Any]) -> Any:
    """DALI's own: its webdataset reader and its CPU decoder, which takes VP8, VP9 and MJPEG."""
    from nvidia.dali import Pipeline, fn, types

    size, count = setup["size"], setup["count"]
    height, width = setup["height"], setup["width"]
    side = round(min(height, width) * 224 / 256)
    options = {"batch_size": setup["batch"], "num_threads": setup["workers"], "device_id": None}
    with Pipeline(**options, exec_dynamic=True) as pipe:
        indexes = [tar[: -len("tar")] + "idx" for tar in setup["tars"]]
        read = fn.readers.webdataset(paths=setup["tars"], index_paths=indexes, ext=[setup["ext"]], name="reader")
        read = read[0] if isinstance(read, (list, tuple)) else read
        video = fn.decoders.video(read, device="cpu", frames=wanted(count, setup["frames"]).tolist(), pad_mode="none")
        start = [round((height - side) / 2), round((width - side) / 2)]
        window = fn.slice(video, start, [side, side], axis_names="HW")
        resized = fn.resize(window, size=[size, size], antialias=True)
        mean, std = [255 * v for v in MEAN], [255 * v for v in STD]
        pipe.set_outputs(fn.crop_mirror_normalize(resized, dtype=types.FLOAT, output_layout="FCHW", mean=mean, std=std))
    pipe.build()

    def batches() -> Iterator[Any]:
        for _ in range(-(-len(setup["videos"]) // setup["batch"])):
            yield np.array(pipe.run()[0].as_tensor())

    class Epochs:
        def __iter__(self) -> Iterator[Any]:
            return batches()

    return Epochs()


def main() -> None:
    """Serve epochs."""
    setup = json.loads(sys.argv[1])
    os.sched_setaffinity(0, setup["cores"])
    way = setup["way"]
    if way == "webdataset + PyAV":
        loader = web_dataset(setup)
    elif way == "DALI's reader":
        loader = dali(setup)
    else:
        loader = data_loader(setup, DECODERS[way])
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    first = next(iter(loader))
    means = [float(clip.mean()) for clip in first]
    print(json.dumps({"means": means, "shape": list(first.shape)}), file=out, flush=True)
    for _ in sys.stdin:
        start, clips = time.monotonic(), 0
        for batch in loader:
            clips += len(batch)
        print(json.dumps({"seconds": time.monotonic() - start, "clips": clips}), file=out, flush=True)


if __name__ == "__main__":
    main()
