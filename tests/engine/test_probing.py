"""Videos with large pictures are looked at by a task that asked for the memory; the others are not looked at twice."""

from pathlib import Path

import pytest
from reelmill.engine import probing
from reelmill.engine.cluster import Effort, Task
from reelmill.engine.config import IngestConfig
from reelmill.engine.ingest import ingest
from reelmill.engine.media.limits import COMMON_PIXELS, task_memory_bytes
from reelmill.engine.sources import open_source
from reelmill.engine.work import Work
from reelmill.shards.verify import verify


@pytest.fixture
def mixed(media, tmp_path) -> Path:
    folder: Path = tmp_path / "videos"
    for name, width, height in (("a", 64, 48), ("b", 2560, 1440), ("c", 96, 64), ("d", 2048, 1152)):
        media.video(folder / f"{name}.mp4", frames=3, width=width, height=height, options={"preset": "ultrafast"})
    return folder


def test_large_pictures_wait_for_a_task_with_memory(mixed, tmp_path, monkeypatch):
    work = Work(tmp_path / "out")
    work.open()
    list(work.list_inputs(open_source(mixed)))
    config = IngestConfig(input=mixed, out=tmp_path / "out", validate="packets")
    asked = {"known": None}
    task = probing._probe_task(tmp_path / "out", 0, "digest", asked, config, COMMON_PIXELS, Effort())
    assert isinstance(task, Task)
    assert task.memory_bytes == task_memory_bytes(2560 * 1440)
    assert not work.has_facts(0, "digest")
    looked_at, probe = [], probing._probe

    def counted(row, *rest):
        looked_at.append(row.path[-5:])
        return probe(row, *rest)

    monkeypatch.setattr(probing, "_probe", counted)
    assert probing._probe_task(*task.arguments) == Effort(4, 4, sum(p.stat().st_size for p in mixed.iterdir()))
    assert looked_at == ["b.mp4", "d.mp4"]
    assert work.has_facts(0, "digest")
    assert [facts["width"] for facts in work.facts(0)] == [64, 2560, 96, 2048]
    assert [len(table) for table in work.packets(0)] == [3, 3, 3, 3]
    probing.sandbox_of(config.video_cpu_seconds, config.video_memory_mb).close()


def test_a_cluster_with_less_memory_than_a_large_video_asks_for_still_ends(mixed, tmp_path, local_ray):
    done = ingest(IngestConfig(input=mixed, out=tmp_path / "out"))
    assert done.counts["ok"] == 4
    assert done.read.worked == 4
    assert not verify(tmp_path / "out")
