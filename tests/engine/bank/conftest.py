"""Published label lists, where they exist."""

from pathlib import Path

import pytest
from reelmill.engine.bank.names.labels import read_labels

LABELS = Path(__file__).resolve().parents[4] / "shared" / "labels"
SEVEN_LISTS = {
    "kinetics700/label_map_k700.txt": 700,
    "mit/label_map.txt": 339,
    "ava/label_map_80.txt": 80,
    "activitynet/label_map_200.txt": 200,
    "olympic16/er_classes_label_defn.json": 16,
    "hmdb51/label_map.txt": 51,
    "ucf101/label_map.txt": 101,
}


@pytest.fixture(scope="session")
def label_lists() -> Path:
    """The folder of published label lists and class texts."""
    if not LABELS.is_dir():
        pytest.skip(f"no label lists at {LABELS}: they are not part of the repository")
    return LABELS


@pytest.fixture(scope="session")
def seven_lists(label_lists) -> dict[str, list[str]]:
    """The names of ActionHub's seven datasets, ActivityNet with 200 of its 203, by file."""
    names = {file: read_labels(label_lists / file) for file in SEVEN_LISTS}
    assert {file: len(listed) for file, listed in names.items()} == SEVEN_LISTS
    return names
