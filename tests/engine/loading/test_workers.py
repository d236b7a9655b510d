"""Worker processes that are killed, stopped or starved cost no sample; what ends two of them is a bad one."""

import gc
import json
import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from reelmill.benchmarks.processes import command_line
from reelmill.engine import Batch, ClipLoader, LoaderConfig
from reelmill.engine.loading.decode import decode_windows
from reelmill.engine.loading.meter import Meter
from reelmill.engine.loading.sampling import View
from reelmill.engine.loading.workers import Workers
from reelmill.engine.media.probe import probe
from reelmill.shards.errors import DamageError
from reelmill.shards.table import Packets, packet_table

CONFIG = LoaderConfig(global_batch=1, frames=3, size=32, seed=3, workers=2, threads=1)
VIEW = View(np.array([0, 7, 7, 20]), (0.1, 0.2), (0.5, 0.4), False)


def pids() -> list[int]:
    """Of the workers of this process, whichever thread started them."""
    listed = [path.read_text() for path in Path("/proc/self/task").glob("*/children")]
    return [int(pid) for pid in " ".join(listed).split() if "worker_child" in command_line(int(pid))]


@pytest.fixture
def video(media, tmp_path):
    path = media.video(tmp_path / "a.mp4", frames=24)
    return path.read_bytes(), Packets.of(packet_table(probe(str(path), "decode", table=True)["packets"]))


@pytest.fixture
def one(video):
    """A single worker that has started, and what it must give."""
    workers = Workers(replace(CONFIG, workers=1, sample_seconds=2.0), Meter())
    data, packets = video
    want = decode_windows(data, packets, [VIEW], codec="h264", rotation=0)
    assert np.array_equal(decode(workers, video)[0], want[0])
    yield workers, want
    workers.close()
    assert pids() == []


def decode(workers: Workers, video: tuple[bytes, Packets], codec: str = "h264") -> list[np.ndarray]:
    return workers.decode(*video, [VIEW], head="pyav", codec=codec, rotation=0)


def test_a_killed_worker_is_replaced(one, video):
    workers, want = one
    (pid,) = pids()
    os.kill(pid, signal.SIGKILL)
    assert np.array_equal(decode(workers, video)[0], want[0])
    assert pids() != [pid]


def test_a_worker_killed_while_it_decodes_is_replaced(one, video):
    workers, want = one
    (pid,) = pids()
    os.kill(pid, signal.SIGSTOP)  # it is asked and does not answer
    threading.Timer(0.3, os.kill, (pid, signal.SIGKILL)).start()
    assert np.array_equal(decode(workers, video)[0], want[0])


def test_a_worker_that_hangs_is_replaced(one, video):
    workers, want = one
    (pid,) = pids()
    os.kill(pid, signal.SIGSTOP)
    assert np.array_equal(decode(workers, video)[0], want[0])
    assert not Path(f"/proc/{pid}").exists()


def test_a_video_that_takes_too_long_is_a_bad_one(video):
    workers = Workers(replace(CONFIG, workers=1, sample_seconds=1e-6), Meter())
    with pytest.raises(DamageError, match="it ended 2 decoding processes, the last one gave no answer in 1e-06 s"):
        decode(workers, video)
    workers.close()


def test_what_does_not_decode_leaves_the_worker_alone(one, video):
    workers, want = one
    data, packets = video
    before = pids()
    with pytest.raises(DamageError, match="Invalid data found"):
        decode(workers, (b"nothing" * len(data), packets))
    with pytest.raises(DamageError, match="must lie in the video of"):
        decode(workers, (data, replace(packets, offset=packets.offset + (1 << 40))))
    assert np.array_equal(decode(workers, video)[0], want[0])
    assert pids() == before


def test_a_worker_has_no_more_memory_than_its_limit(one, video, monkeypatch):
    monkeypatch.setattr("reelmill.engine.loading.workers.task_memory_bytes", lambda pixels: 900 << 20)
    workers = Workers(replace(CONFIG, workers=1), Meter())
    data, packets = video
    with pytest.raises(DamageError, match=r"needs more than 900 MB of memory"):
        decode(workers, (bytes(700 << 20) + data, replace(packets, offset=packets.offset + (700 << 20))))
    assert len(decode(workers, video)) == 1
    workers.close()


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"no json\n", "answered nonsense"),
        (b"[]\n", "answered nonsense"),
        (b'{"dtype": "uint8", "shapes": [[4, 99999999, 99999999, 3]]}\n', "answered nonsense"),
        (b'{"dtype": "uint8", "shapes": [[4, 8, 8, 3], [4, 8, 8, 3]]}\n', "answered nonsense"),
        (b'{"dtype": "object", "shapes": [[4, 8, 8, 3]]}\n', "answered nonsense"),
        (b'{"dtype": "uint8", "shapes": [[4, 4000, 4000, 3]]}\n', "answered with less than it said"),
        (b"x" * (2 << 20), "answered with more than 1048576 bytes"),
        (b"", "with exit code 3"),
    ],
)
def test_a_decoder_that_was_taken_over_is_not_believed(video, monkeypatch, tmp_path, reply, message):
    """A child that says what it likes in the place of the real one."""
    (tmp_path / "reply").write_bytes(reply)
    script = "import sys; out = sys.stdout.buffer; out.write(b'{}\\n'); out.flush(); sys.stdin.readline(); "
    script += f"out.write(open({str(tmp_path / 'reply')!r}, 'rb').read()); out.flush(); sys.exit(3)"
    workers = Workers(replace(CONFIG, workers=1), Meter())
    monkeypatch.setattr("reelmill.engine.loading.workers._command", lambda *_: [sys.executable, "-c", script])
    with pytest.raises(DamageError, match=f"it ended 2 decoding processes, the last one {message}"):
        decode(workers, video)
    workers.close()


def test_a_worker_does_not_import_torch_or_dali(one):
    (pid,) = pids()
    maps = Path(f"/proc/{pid}/maps").read_text()
    assert "libav" in maps
    assert "libtorch" not in maps
    assert "libdali" not in maps


def same(first: list[Batch], second: list[Batch]) -> bool:
    return len(first) == len(second) and all(
        a.keys == b.keys and torch.equal(a.clips_BVTCHW, b.clips_BVTCHW) and torch.equal(a.valid_B, b.valid_B)
        for a, b in zip(first, second, strict=True)
    )


def test_kills_and_stops_in_the_middle_of_an_epoch_cost_no_sample(small_dataset, tmp_path):
    want = list(ClipLoader(small_dataset, replace(CONFIG, workers=0)))
    quarantine = tmp_path / "quarantine.jsonl"
    loader = ClipLoader(small_dataset, replace(CONFIG, sample_seconds=4.0, quarantine=quarantine))
    found: list[Batch] = []
    sent = {1: signal.SIGKILL, 7: signal.SIGSTOP, 13: signal.SIGKILL}  # farther apart than batches are made ahead
    hit = 0
    for step, batch in enumerate(loader):
        found.append(batch)
        if step in sent:
            os.kill(pids()[0], sent[step])
            hit += 1
    assert hit == 3
    assert same(found, want)
    assert all(batch.valid_B.all() for batch in found)
    assert len({key for batch in found for key in batch.keys}) == 15
    assert not quarantine.exists()
    loader.close()
    assert pids() == []


def test_a_sample_that_ends_two_workers_is_quarantined(small_dataset, tmp_path):
    quarantine = tmp_path / "quarantine.jsonl"
    config = replace(CONFIG, workers=1, sample_seconds=1e-6, quarantine=quarantine, max_bad_fraction=1.0, prefetch=1)
    loader = ClipLoader(small_dataset, config)
    batches = iter(loader)
    batch = next(batches)
    batches.close()  # type: ignore[attr-defined]
    loader.close()
    assert not batch.valid_B.any()
    lines = {line["key"]: line["error"] for line in map(json.loads, quarantine.read_text().splitlines())}
    assert lines[batch.keys[0]].startswith("it ended 2 decoding processes")


def test_workers_end_with_their_loader(small_dataset):
    loader = ClipLoader(small_dataset, CONFIG)
    next(iter(loader))
    assert pids()
    del loader
    deadline = time.monotonic() + 10
    while gc.collect() >= 0 and pids() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert pids() == []
