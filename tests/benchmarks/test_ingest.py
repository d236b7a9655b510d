"""The rivals of the ingest benchmark do what they are timed for, and every way is recorded."""

import tarfile

import pytest
from reelmill.benchmarks.clips import write_clips
from reelmill.benchmarks.ingest import BenchIngestConfig
from reelmill.benchmarks.ingest_peers import PEERS
from reelmill.shards.errors import UsageError

pytestmark = pytest.mark.usefixtures("local_ray")


@pytest.mark.parametrize("name", [name for name in PEERS if not name.startswith("Ray")])
def test_a_rival_writes_every_file(tmp_path, name):
    videos = write_clips(tmp_path / "videos", 9)
    PEERS[name](videos, tmp_path / "out")
    sizes = []
    for path in (tmp_path / "out").glob("*.tar"):
        with tarfile.open(path) as tar:
            sizes += [member.size for member in tar if member.name.endswith("mp4")]
    assert sorted(sizes) == sorted(path.stat().st_size for path in videos.iterdir())


def test_options_are_checked():
    with pytest.raises(UsageError, match=r"videos must be >= 8, repeats > 0 and seconds > 0, got 8, 0 and 10\.0"):
        BenchIngestConfig(videos=8, repeats=0)
