"""Which samples take part: by split, by label, by list of classes; a name that is not there is told."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from reelmill.engine import ClipLoader, LoaderConfig
from reelmill.engine.config import IngestConfig
from reelmill.engine.ingest import ingest
from reelmill.shards.errors import UsageError
from reelmill.shards.reader import Dataset

EVAL = LoaderConfig(global_batch=2, frames=1, size=8, training=False, threads=1)
SAMPLES = [
    ("train", ["jump"]),
    ("train", ["run", "jump"]),
    ("val", ["jump"]),
    ("val", ["sit"]),
    (None, ["run"]),
    ("train", []),
]


@pytest.fixture(scope="module")
def dataset(media, tmp_path_factory, local_ray) -> Path:
    folder = tmp_path_factory.mktemp("filters")
    lines = []
    for number, (split, labels) in enumerate(SAMPLES):
        media.video(folder / f"{number}.mp4", frames=4, tint=30 * number)
        lines.append(json.dumps({"path": f"{number}.mp4", "id": str(number), "label": labels, "split": split}))
    (folder / "list.jsonl").write_text("\n".join(lines))
    ingest(IngestConfig(input=folder / "list.jsonl", out=folder / "out", dedup="none"))
    return Path(folder) / "out"


def chosen(dataset: Path, **options) -> list[int]:
    """The numbers of the samples that come."""
    rows = Dataset(dataset).table(["key", "input_id"]).to_pylist()
    number = {row["key"]: int(row["input_id"]) for row in rows}
    batches = list(ClipLoader(dataset, replace(EVAL, **options)))
    pairs = [pair for batch in batches for pair in zip(batch.keys, batch.valid_B.tolist(), strict=True)]
    return sorted(number[key] for key, valid in pairs if valid)


@pytest.mark.parametrize(
    ("options", "want"),
    [
        ({}, [0, 1, 2, 3, 4, 5]),
        ({"split": "train"}, [0, 1, 5]),
        ({"split": "val"}, [2, 3]),
        ({"classes": ("jump",)}, [0, 1, 2]),
        ({"classes": ("sit", "run")}, [1, 3, 4]),
        ({"split": "val", "classes": ("run", "jump")}, [2]),
        ({"split": "train", "training": True, "global_batch": 1}, [0, 1, 5]),
    ],
)
def test_a_filter_takes_what_it_names(dataset, options, want):
    assert chosen(dataset, **options) == want


def test_a_label_is_numbered_by_the_list_that_was_asked_for(dataset):
    loader = ClipLoader(dataset, replace(EVAL, classes=("run", "jump"), split="train", multi_label=True))
    assert loader.classes == ("run", "jump")
    (batch,) = loader
    assert batch.labels_B.tolist() == [1, 0]
    assert batch.targets_BC is not None
    assert batch.targets_BC.tolist() == [[0, 1], [1, 1]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test"}, r"out must hold at least 1 samples of split 'test' and 3 classes, got 0 \(splits there: "),
        ({"split": "test"}, r"\(splits there: none, train, val\)"),
        ({"classes": ("jump", "fly")}, r"classes must be labels of .*out, got 'fly'"),
        ({"classes": ("Jump",)}, r"classes must be labels of .*out, got 'Jump'"),
        ({"classes": ("sit",), "split": "train"}, r"samples of split 'train' and 1 classes, got 0"),
    ],
)
def test_a_name_that_is_not_there_is_told(dataset, options, message):
    with pytest.raises(UsageError, match=message):
        ClipLoader(dataset, replace(EVAL, **options))


@pytest.mark.parametrize("training", [False, True])
def test_a_dataset_of_which_nothing_is_left_takes_no_part(dataset, sources, training):
    config = replace(EVAL, split="val", training=training)
    loader = ClipLoader([sources[0], dataset, sources[1]], config)  # the others say no split
    assert loader.samples == 2
    (batch,) = loader
    assert batch.valid_B.all()
    assert [loader.classes[label] for label in sorted(batch.labels_B.tolist())] == ["jump", "sit"]
