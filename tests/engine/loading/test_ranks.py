"""Real processes with gloo between them: shards of uneven sizes, one damaged, and no rank waits for another in vain."""

import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from reelmill.engine import ClipLoader, LoaderConfig
from reelmill.shards.reader import Dataset

RANKS = 4
CHILD = Path(__file__).with_name("rank_child.py")


@pytest.fixture(scope="module")
def uneven(sources, tmp_path_factory) -> Path:
    """Eleven samples in shards of four, four and three, of which the last one's tar is gone."""
    folder = Path(shutil.copytree(sources[0], tmp_path_factory.mktemp("uneven") / "dataset"))
    (folder / "shards/000002.tar").unlink()
    return folder


@pytest.fixture(scope="module")
def ranks(uneven, tmp_path_factory) -> list[dict[str, Any]]:
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, str(CHILD), str(RANKS), str(folder), str(uneven)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(RANKS)]


def test_every_sample_counts_once_in_an_evaluation(uneven, ranks):
    keys = Dataset(uneven).table(["key"]).column("key").to_pylist()
    assert [len(rank["evaluated"]) for rank in ranks] == [3] * RANKS
    came = Counter(key for rank in ranks for step in rank["evaluated"] for key, valid in step if valid)
    assert came == dict.fromkeys(keys[:8], 1)
    assert {rank["counted"] for rank in ranks} == {8}
    seen = {key for rank in ranks for step in rank["evaluated"] for key, _ in step}
    assert seen == set(keys)  # the damaged ones have their slots


def test_an_epoch_goes_on_with_half_of_the_ranks(uneven, ranks):
    config = LoaderConfig(global_batch=4, frames=1, size=8, seed=2, max_bad_fraction=1.0)
    whole = [list(zip(batch.keys, batch.valid_B.tolist(), strict=True)) for batch in ClipLoader(uneven, config)]
    assert len(whole) == 2
    assert not all(valid for step in whole for _, valid in step)
    assert [tuple(rank["begun"][0][0]) for rank in ranks] == whole[0]
    assert all(rank["state"] == ranks[0]["state"] for rank in ranks)
    first, second = (rank["rest"] for rank in ranks[:2])
    assert [tuple(slot) for pair in zip(first[0], second[0], strict=True) for slot in pair] == whole[1]
    assert ranks[0]["weights"] == ranks[1]["weights"] != ranks[2]["weights"] == ranks[3]["weights"]
    assert any(ranks[3]["weights"])
