"""A few kills of a real ingest: the long run is `reelmill bench chaos`."""

import json
import subprocess
import sys

import pytest
from reelmill.benchmarks.chaos import BenchChaosConfig
from reelmill.shards.errors import UsageError


def test_killed_workers_and_drivers_change_no_byte(tmp_path):
    # in a process of its own: the cluster's nodes must not mix with the Ray that other tests share
    results = tmp_path / "chaos.jsonl"
    flags = ["--kills", "3", "--videos", "24", "--nodes", "1", "--results", str(results)]
    done = subprocess.run(
        [sys.executable, "-m", "reelmill", "bench", "chaos", *flags], capture_output=True, text=True, timeout=400
    )
    assert done.returncode == 0, done.stderr[-3000:]
    record = json.loads(results.read_text())
    assert (sum(record["kills"].values()), record["different"], record["faults"]) == (3, 0, 0)


def test_options_are_checked():
    with pytest.raises(UsageError, match="kills must be >= 1, got 0"):
        BenchChaosConfig(kills=0)
