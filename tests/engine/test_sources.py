"""Inputs: what a folder or manifest says, and one clear error for each way in which it can be wrong."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reelmill.engine.sources import read_inputs
from reelmill.shards.errors import UsageError

ROWS = [
    {"path": "a.mp4", "id": "one", "label": "jump", "caption": "a jump", "split": "train", "view": "left"},
    {"path": "b.mp4", "id": "two", "label": "run", "caption": "", "split": "", "view": "right"},
]


def write(folder: Path, kind: str, rows: list[dict]) -> Path:
    path = folder / f"videos.{kind}"
    if kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif kind == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    else:
        mark = "\t" if kind == "tsv" else ","
        lines = [mark.join(rows[0])] + [mark.join(str(value) for value in row.values()) for row in rows]
        path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_every_kind_of_manifest_says_the_same(tmp_path, kind):
    first, second = read_inputs(write(tmp_path, kind, ROWS)).rows
    assert (first.input_id, first.labels, first.caption, first.split) == ("one", ["jump"], "a jump", "train")
    assert first.path == str(tmp_path / "a.mp4")
    assert first.uri == "a.mp4"
    assert first.extra == {"view": "left"}
    assert (second.caption, second.split) == (None, None)


def test_a_folder_gives_sorted_rows_labels_and_ignored_files(tmp_path):
    for name in ("run/b.mp4", "jump/deep/a.MOV", "top.mkv", "notes.txt", "run/.DS_Store"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    inputs = read_inputs(tmp_path)
    assert [(row.input_id, row.labels) for row in inputs.rows] == [
        ("jump/deep/a.MOV", ["jump"]),
        ("run/b.mp4", ["run"]),
        ("top.mkv", []),
    ]
    assert inputs.ignored == 2


def test_labels_may_be_a_list_and_spans_are_numbers(tmp_path):
    row = {"path": "a.mp4", "label": ["jump", "run"], "start_seconds": 1, "end_seconds": "2.5"}
    (found,) = read_inputs(write(tmp_path, "jsonl", [row])).rows
    assert (found.labels, found.start_seconds, found.end_seconds) == (["jump", "run"], 1.0, 2.5)
    assert found.input_id == "a.mp4"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([ROWS[0], ROWS[0]], "every id must be given once, got 'one' twice"),
        ([{"id": "x"}], "row 1 must name its video in a column `path` or `url`, got columns id"),
        ([{"path": "http://host/a.mp4"}], "row 1 must be a local path, got 'http://host/a.mp4'"),
        ([{"path": "a.mp4", "start_seconds": "soon"}], "row 1 must have a number as start_seconds, got 'soon'"),
        (
            [{"path": "a.mp4", "start_seconds": 3, "end_seconds": 2}],
            "0 <= start_seconds < end_seconds, got 3.0 and 2.0",
        ),
        ([{"path": "a.mp4", "label": 3}], "row 1 must have a name or a list of names as label, got 3"),
        ([], "must hold at least one video"),
    ],
)
def test_a_wrong_manifest_is_told_by_row(tmp_path, rows, message):
    path = tmp_path / "videos.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(UsageError, match=message):
        read_inputs(path)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"path": "a.mp4"}\n{', "a.jsonl:2: must be one JSON object per line"),
        ("a.jsonl", "[1]", "a.jsonl:1: must be a JSON object, got list"),
        ("a.csv", "path,id\na.mp4,1,2\n", "a.csv:2: must have 2 fields"),
        ("a.csv", "path,id\na.mp4\n", "a.csv:2: must have 2 fields"),
        ("a.csv", 'path,id\n"a.mp4,1\n', "does not read as csv"),
        ("a.csv", "path\n\udcff.mp4\n", "does not read as csv"),
        ("a.parquet", "nothing", "does not read as parquet"),
        ("a.docx", "", r"must be a folder or a manifest \(.csv, .tsv, .jsonl, .parquet\), got a .docx file"),
    ],
)
def test_a_file_that_does_not_read_is_named(tmp_path, name, text, message):
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=message):
        read_inputs(tmp_path / name)


def test_nothing_there(tmp_path):
    with pytest.raises(UsageError, match=r"must be a folder or a manifest, but there is nothing"):
        read_inputs(tmp_path / "none")


def test_an_empty_folder(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match=r"must hold at least one video \(.*\.mp4.*\), got 1 other files"):
        read_inputs(tmp_path)
