"""What tests share: real small videos made on the spot, one Ray for the session, the real clips where they exist."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import ray
from numpy.typing import NDArray
from reelmill.engine.cluster import ray_session
from reelmill.engine.config import IngestConfig
from reelmill.engine.ingest import ingest

SHARED = Path(__file__).resolve().parents[2] / "shared"


class Media:
    """Makes real media files."""

    @staticmethod
    def frame(index: int, width: int, height: int) -> NDArray[np.uint8]:
        """A picture from which the frame's index can be told: a bright column moves to the right over a ramp."""
        ramp = np.linspace(0, 120, height, dtype=np.uint8)[:, None, None]
        picture = np.broadcast_to(ramp, (height, width, 3)).copy()
        column = (index * 4) % (width - 8)
        picture[:, column : column + 8] = (255, 220, 60)
        return picture

    @classmethod
    def video(
        cls,
        path: Path,
        *,
        frames: int = 24,
        width: int = 96,
        height: int = 64,
        fps: int = 12,
        codec: str = "libx264",
        options: dict[str, str] | None = None,
        rotation: int = 0,
        tint: int = 0,
    ) -> Path:
        """Write a video; `rotation` is the metadata that asks the player to turn it clockwise."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream(codec, rate=fps, options=options or {})
            stream.width, stream.height = width, height
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            if rotation:
                stream.set_display_rotation(-rotation)
            for index in range(frames):
                picture = cls.frame(index, width, height)
                picture[..., 0] = (picture[..., 0].astype(int) + tint).clip(0, 255)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
            container.mux(stream.encode(None))
        return path

    @staticmethod
    def audio(path: Path) -> Path:
        """Write a file with sound and no picture."""
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream("aac", rate=16000)
            sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            sound.sample_rate, sound.pts = 16000, 0
            container.mux(stream.encode(sound))
            container.mux(stream.encode(None))
        return path


@pytest.fixture(scope="session")
def media() -> Media:
    return Media()


@pytest.fixture(scope="session")
def real_videos() -> Path:
    folder = SHARED / "videos"
    if not folder.is_dir():
        pytest.skip(f"no real clips at {folder}: they are not part of the repository")
    return folder


@pytest.fixture(scope="session")
def local_ray() -> Iterator[None]:
    """Starting Ray takes seconds: one for all tests, which jobs under test join."""
    with ray_session(None, 2):
        yield
    assert not ray.is_initialized()


@pytest.fixture(scope="session")
def small_videos(tmp_path_factory: pytest.TempPathFactory, media: Media) -> Path:
    """Three labels with five small H.264 clips each."""
    folder = tmp_path_factory.mktemp("videos")
    for number, label in enumerate(("jump", "run", "sit down")):
        for clip in range(5):
            media.video(folder / label / f"{clip}.mp4", frames=20 + clip, tint=40 * number + 5 * clip)
    return folder


@pytest.fixture(scope="session")
def small_dataset(tmp_path_factory: pytest.TempPathFactory, small_videos: Path, local_ray: None) -> Path:
    """`small_videos` as a train-cpu dataset of several shards."""
    out = tmp_path_factory.mktemp("dataset") / "small"
    ingest(IngestConfig(input=small_videos, out=out, preset="train-cpu", short_side=64, shard_mb=1))
    return out


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 2 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a small tmpfs needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
