"""Manifests: what a row says, one clear error for each way in which it can be wrong, and ids among many."""

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from reelmill.engine.sources import check_unique, open_source, unique
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
    first, second = open_source(write(tmp_path, kind, ROWS))
    assert (first.input_id, first.labels, first.caption, first.split) == ("one", ["jump"], "a jump", "train")
    assert first.path == str(tmp_path / "a.mp4")
    assert first.uri == "a.mp4"
    assert first.extra == {"view": "left"}
    assert (second.caption, second.split) == (None, None)


def test_labels_may_be_a_list_and_spans_are_numbers(tmp_path):
    row = {"path": "a.mp4", "label": ["jump", "run"], "start_seconds": 1, "end_seconds": "2.5"}
    (found,) = open_source(write(tmp_path, "jsonl", [row]))
    assert (found.labels, found.start_seconds, found.end_seconds) == (["jump", "run"], 1.0, 2.5)
    assert found.input_id == "a.mp4#t=1,2.5"


@pytest.mark.parametrize(
    ("span", "name"),
    [
        ({"start_seconds": 1.25}, "a.mp4#t=1.25"),
        ({"end_seconds": 3}, "a.mp4#t=,3"),
        ({"start_seconds": 0, "end_seconds": 0.1}, "a.mp4#t=0,0.1"),
        ({"id": "mine", "start_seconds": 2}, "mine"),
        ({"id": 0}, "0"),
        ({"path": "./x//a.mp4"}, "x/a.mp4"),
        ({"path": "https://host/a//b.mp4"}, "https://host/a//b.mp4"),
        ({"path": "HTTPS://host/a.mp4", "end_seconds": 2}, "HTTPS://host/a.mp4#t=,2"),
    ],
)
def test_a_row_without_an_id_is_called_by_path_and_span(tmp_path, span, name):
    (found,) = open_source(write(tmp_path, "jsonl", [{"path": "a.mp4"} | span]))
    assert found.input_id == name


def test_paths_are_absolute_or_urls_of_the_allowed_schemes(tmp_path):
    given = ["../up.mp4", "/abs/a.mp4", "S3://bucket/a.mp4", "gs://b/c.mp4", "http://h/ü b.mp4", "new\nline ä.mp4"]
    rows = list(open_source(write(tmp_path, "jsonl", [{"path": path} for path in given])))
    assert [row.uri for row in rows] == given
    assert [row.path for row in rows] == [
        f"{tmp_path}/../up.mp4",
        "/abs/a.mp4",
        "s3://bucket/a.mp4",
        "gs://b/c.mp4",
        "http://h/ü b.mp4",
        f"{tmp_path}/new\nline ä.mp4",
    ]


def test_labels_come_from_either_column_and_from_json_in_a_cell(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('path,label,labels\na.mp4,"[""run"", ""jump, high""]",run\nb.mp4,"run, fast",\nc.mp4,,"[""x""]"\n')
    assert [row.labels for row in open_source(path)] == [["run", "jump, high"], ["run, fast"], ["x"]]
    (row,) = open_source(write(tmp_path, "jsonl", [{"path": "a.mp4", "label": "[odd]", "labels": ["b", "b"]}]))
    assert row.labels == ["[odd]", "b"]


def test_a_split_is_taken_alone_and_given_to_rows_without_one(tmp_path):
    rows = [{"path": "a.mp4", "split": "train"}, {"path": "b.mp4", "split": "validation"}, {"path": "c.mp4"}]
    source = open_source(write(tmp_path, "jsonl", rows), split="val")
    assert [(row.uri, row.split) for row in source] == [("b.mp4", "val"), ("c.mp4", "val")]
    assert [row.split for row in open_source(tmp_path / "videos.jsonl")] == ["train", "validation", None]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"id": "x"}], "row 1 must name its video in a column `path` or `url`, got columns id"),
        (
            [{"path": "ftp://host/a.mp4"}],
            "row 1 must be a plain path or one of http://, https://, s3://, gs://, got 'ftp://host/a.mp4'",
        ),
        ([{"path": "file:///a.mp4"}], "row 1 must be a plain path or one of"),
        ([{"path": "simplecache::s3://a/b.mp4"}], "row 1 must be a plain path or one of"),
        ([{"path": "a.mp4"}, {"path": "a\0.mp4"}], "row 2 must not have a NUL byte in its path"),
        ([{"path": "a.mp4", "id": 1.5}], "row 1 must have text or a whole number as id, got 1.5"),
        ([{"path": "a.mp4", "caption": ["a"]}], r"row 1 must have text as caption, got \['a'\]"),
        ([{"path": "a.mp4", "label": "\ud800"}], r"row 1 must be valid Unicode, got '\\ud800'"),
        ([{"path": "a.mp4", "start_seconds": -1}], "row 1 must have a finite number >= 0 as start_seconds, got -1"),
        (
            [{"path": "a.mp4", "end_seconds": float("nan")}],
            "row 1 must have a finite number >= 0 as end_seconds, got nan",
        ),
        (
            [{"path": "a.mp4", "end_seconds": float("inf")}],
            "row 1 must have a finite number >= 0 as end_seconds, got inf",
        ),
        ([{"path": "a.mp4", "end_seconds": True}], "row 1 must have a finite number >= 0 as end_seconds, got True"),
        ([{"path": "a.mp4", "end_seconds": [1]}], r"row 1 must have a number as end_seconds, got \[1\]"),
        (
            [{"path": "a.mp4", "start_seconds": 2, "end_seconds": 2}],
            "0 <= start_seconds < end_seconds, got 2.0 and 2.0",
        ),
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
        list(open_source(path))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"path": "a.mp4"}\n{', "a.jsonl:2: must be one JSON object per line"),
        ("a.jsonl", "[1]", "a.jsonl:1: must be a JSON object, got list"),
        ("a.csv", "path,id\na.mp4,1,2\n", "a.csv:2: must have 2 fields, got 3"),
        ("a.csv", "path,id\na.mp4\n", "a.csv:2: must have 2 fields, got 1"),
        ("a.csv", "path, Label\na.mp4,x\n", "row 1 must name its column 'label', got ' Label'"),
        ("a.csv", "path,label\n,x\n", "row 1 must name its video in a column `path` or `url`, got '' there"),
        ("a.csv", 'path,id\n"a.mp4,1\n', "does not read as csv"),
        ("a.csv", "path\n\udcff.mp4\n", "does not read as csv"),
        ("a.csv", "path,id,path\na,b,c\n", "a.csv:1: every column must be named once, got 'path' twice"),
        ("a.csv", 'path,label\na.mp4,"[""x"""\n', "row 1 must have a name or a JSON list of names as label"),
        ("a.jsonl", "[" * 100_000, "a.jsonl:1: must be one JSON object per line"),
        ("a.jsonl", '{"path": ' + "1" * 5000 + "}", "a.jsonl:1: must be one JSON object per line"),
        ("a.jsonl", "x" * (1 << 24), "a.jsonl:1: a line must be shorter than 16777216 characters"),
        ("a.csv", "x" * (1 << 24), "a.csv:1: a line must be shorter than 16777216 characters"),
        ("a.parquet", "nothing", "does not read as parquet"),
        ("a.docx", "", r"must be a folder or a manifest \(.csv, .tsv, .jsonl, .parquet, .tar\), got a .docx file"),
    ],
)
def test_a_file_that_does_not_read_is_named(tmp_path, name, text, message):
    (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=message):
        list(open_source(tmp_path / name))


def test_nothing_there(tmp_path):
    with pytest.raises(UsageError, match=r"must be a folder or a manifest, but there is nothing"):
        list(open_source(tmp_path / "none"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "cinema"}, "layout must be one of auto, folder, .*, got 'cinema'"),
        ({"videos": Path()}, "videos goes with the layouts list, .*activitynet; .*a.csv is read as manifest"),
        ({"label_map": Path("x")}, "label_map goes with the layouts list, segments, ssv2, charades, webdataset;"),
        ({"fold": 2, "layout": "ssv2"}, "fold goes with the layouts ucf101, hmdb51; .* is read as ssv2"),
        ({"fold": 0, "layout": "ucf101"}, "fold must be >= 1, got 0"),
        ({"fps": 0.0, "layout": "segments"}, "fps must be > 0, got 0.0"),
        ({"pattern": "x.mp4", "layout": "segments"}, "pattern must hold {video}, got 'x.mp4'"),
        ({"layout": "folder"}, "must be a folder for the layout folder, got a file"),
    ],
)
def test_options_must_fit_the_layout(tmp_path, options, message):
    (tmp_path / "a.csv").write_text("path\na.mp4\n")
    with pytest.raises(UsageError, match=message):
        open_source(tmp_path / "a.csv", **options)


def test_a_remote_input_is_refused_with_the_way_to_go():
    with pytest.raises(UsageError, match="input must be a local path, got 's3://b/': list remote videos in a manifest"):
        open_source("s3://b/")


def test_a_second_iteration_is_the_first_again(tmp_path):
    source = open_source(write(tmp_path, "csv", ROWS))
    assert list(source) == list(source)


def test_ids_are_checked_exactly_where_digests_meet(monkeypatch):
    ids = [str(number) for number in range(5000)]
    assert check_unique(lambda: ids, "x") == 5000
    # every digest meets another: only the ids themselves tell them apart
    monkeypatch.setattr(unique, "_digest", lambda text: len(text) % 2)
    assert check_unique(lambda: ids, "x") == 5000
    with pytest.raises(UsageError, match=r"x: every id must be given once, got '7' twice \(rows 8 and 5001\)"):
        check_unique(lambda: [*ids, "7"], "x")


def test_ids_are_checked_in_rounds(monkeypatch):
    monkeypatch.setattr(unique, "CANDIDATES", 1)
    monkeypatch.setattr(unique, "_digest", lambda text: hashlib.blake2b(text.encode(), digest_size=1).digest()[0])
    passes = []
    ids = [str(number) for number in range(300)]

    def give() -> list[str]:
        passes.append(1)
        return [*ids, "299"]

    with pytest.raises(UsageError, match="got '299' twice"):
        check_unique(give, "x")
    assert len(passes) > 2
    assert check_unique(lambda: [], "x") == 0


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_listing_many_rows_takes_little_memory(tmp_path):
    """In a process of its own: as objects the rows would take 120 MB."""
    path = tmp_path / "many.parquet"
    numbers = range(150_000)
    table = pa.table({"path": [f"videos/{n:08d}.mp4" for n in numbers], "caption": [f"{n:0200d}" for n in numbers]})
    pq.write_table(table, path)
    code = (
        "import re, sys\n"
        "from reelmill.engine.sources import check_unique, open_source\n"
        "source = open_source(sys.argv[1])\n"
        "peak = lambda: int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) // 1024\n"
        "next(iter(source)); before = peak()\n"
        "check_unique(lambda: (row.input_id for row in source), 'x'); print(peak() - before)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert int(result.stdout) < 40
