"""Published class texts reach the right classes, all of them; wrong lists and files are told."""

import json

import pyarrow.parquet as pq
import pytest
from reelmill.engine.bank.names.labels import read_labels
from reelmill.engine.bank.texts.definitions import (
    DEFINITIONS,
    in_order_of,
    read_definitions,
    read_descriptors,
    write_definitions,
)
from reelmill.shards.errors import UsageError


def write(path, content):
    path.write_text(json.dumps(content))
    return path


def test_definitions_in_file_order(tmp_path):
    path = write(tmp_path / "d.json", [{"word": "jump", "defn": " leap up. "}, {"word": "run", "defn": "go", "x": 1}])
    rows = read_definitions(path)
    assert [(r.class_id, r.position, r.name, r.text, r.source) for r in rows] == [
        (0, 0, "jump", "leap up.", "d.json"),
        (1, 0, "run", "go", "d.json"),
    ]
    assert {row.source for row in read_definitions(path, source="mine")} == {"mine"}


def test_descriptors_by_class_id(tmp_path):
    path = write(tmp_path / "o.json", {"1": ["legs", "road"], "0": ["air "]})
    rows = read_descriptors(path, ["jump", "run"])
    assert [(r.class_id, r.position, r.name, r.text) for r in rows] == [
        (0, 0, "jump", "air"),
        (1, 0, "run", "legs"),
        (1, 1, "run", "road"),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"word": "x"}, "must be a list of objects with word and defn, got an object"),
        ([{"word": "jump", "defn": " "}], "item 1 must have word and defn, got {'word': 'jump'"),
        ([{"word": "jump", "defn": "up"}, "run"], "item 2 must have word and defn, got 'run'"),
        ([{"word": 3, "defn": "up"}], "item 1 must have word and defn"),
    ],
)
def test_wrong_definitions_are_told(tmp_path, content, message):
    with pytest.raises(UsageError, match=message):
        read_definitions(write(tmp_path / "d.json", content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([["a"]], "must be an object of class ids with lists of texts, got a list"),
        ({"0": ["a"]}, "must have the class ids 0 to 1 of the 2 labels, got 1 ids"),
        ({"0": ["a"], "1": ["b"], "2": ["c"]}, "of the 2 labels, got 3 ids: give the list"),
        ({"1": ["a"], "2": ["b"]}, "got 2 ids and none of them 0: give the list"),
        ({"0": ["a"], "01": ["b"]}, "got 2 ids and none of them 1"),
        ({"0": ["a"], "1": []}, r"class 1 must have a list of texts, got \[\]"),
        ({"0": ["a", " "], "1": ["b"]}, "class 0 must have a list of texts"),
        ({"0": "abc", "1": ["b"]}, "class 0 must have a list of texts, got 'abc'"),
    ],
)
def test_wrong_descriptors_are_told(tmp_path, content, message):
    with pytest.raises(UsageError, match=message):
        read_descriptors(write(tmp_path / "o.json", content), ["jump", "run"])


def test_a_class_given_twice_is_told(tmp_path):
    path = tmp_path / "o.json"
    path.write_text('{"0": ["a"], "0": ["b"]}')
    with pytest.raises(UsageError, match="an object must have every key once, got '0' twice"):
        read_descriptors(path, ["jump"])


def test_another_lists_ids(tmp_path):
    path = write(tmp_path / "d.json", [{"word": w, "defn": w} for w in ("hand stand", "juggle", "kick ball")])
    rows, others = in_order_of(["KickBall", "HandStand"], read_definitions(path))
    assert [(row.class_id, row.name, row.text) for row in rows] == [
        (0, "KickBall", "kick ball"),
        (1, "HandStand", "hand stand"),
    ]
    assert others == ["juggle"]
    with pytest.raises(UsageError, match="labels must differ in their letters, got 'kick ball' and 'KickBall'"):
        in_order_of(["kick ball", "KickBall"], [])


def test_written_definitions_are_sorted_and_the_same_in_any_order(tmp_path):
    rows = [(7, "b", "x"), (3, "c", "x"), (7, "a", "y"), (7, "b", "x")]
    assert write_definitions(tmp_path, rows) == 3
    table = pq.read_table(tmp_path / "definitions.parquet")
    assert table.schema.equals(DEFINITIONS)
    assert [tuple(row.values()) for row in table.to_pylist()] == [(3, "c", "x"), (7, "a", "y"), (7, "b", "x")]
    first = (tmp_path / "definitions.parquet").read_bytes()
    assert write_definitions(tmp_path, reversed(rows)) == 3
    assert (tmp_path / "definitions.parquet").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["definitions.parquet"]
    assert write_definitions(tmp_path, []) == 0
    assert pq.read_table(tmp_path / "definitions.parquet").schema.equals(DEFINITIONS)


@pytest.mark.parametrize(
    ("file", "labels", "classes"),
    [
        ("hmdb51", "hmdb51/label_map.txt", 51),
        ("hmdb51", "hmdb51/vifi_hmdb_51_labels.csv", 51),
        ("ucf101", "ucf101/label_map.txt", 101),
        ("kinetics_zsar", "kinetics400/label_map_k400.txt", 400),
        ("kinetics_zsar", "kinetics600/label_map_k600.txt", 589),
    ],
)
def test_published_definitions(label_lists, file, labels, classes):
    path = next((label_lists / file).glob("er_classes*label_defn.json"))
    content = json.loads(path.read_bytes())
    rows = read_definitions(path)
    assert [(row.name, row.text) for row in rows] == [(item["word"], item["defn"].strip()) for item in content]
    names = read_labels(label_lists / labels)
    found, others = in_order_of(names, rows)
    assert len(found) == len({row.class_id for row in found}) == classes
    assert len(found) + len(others) == len(rows)
    texts = {"".join(filter(str.isalnum, item["word"])).lower(): item["defn"].strip() for item in content}
    for row in found:
        assert row.name == names[row.class_id]
        assert row.text == texts["".join(filter(str.isalnum, row.name)).lower()]


def test_kinetics_definitions_are_k400_then_the_new_classes_of_k600(label_lists):
    rows = read_definitions(label_lists / "kinetics_zsar/er_classes620_label_defn.json")
    assert len(rows) == 620
    k400 = read_labels(label_lists / "kinetics400/label_map_k400.txt")
    assert [row.name for row in rows[:400]] == k400
    k600 = set(read_labels(label_lists / "kinetics600/label_map_k600.txt"))
    assert {row.name for row in rows[400:]} <= k600


def zero_shot_names(label_lists):
    """The 217 names of K600's three zero-shot splits: what the ids of OST's whole K600 file stand for."""
    splits = [read_labels(label_lists / f"kinetics600/vifi_ZS_split{i}_K600.csv") for i in (1, 2, 3)]
    return sorted(set().union(*splits))


@pytest.mark.parametrize(
    ("folder", "labels", "classes", "sizes"),
    [
        ("hmdb51", "hmdb51/label_map.txt", 51, (2, 4, 8)),
        ("ucf101", "ucf101/label_map.txt", 101, (2, 4, 8)),
        ("kinetics400", "kinetics400/label_map_k400.txt", 400, (2, 4, 8)),
        ("kinetics600", None, 217, (4,)),
        ("ssv2", "ssv2/label_map.txt", 174, (4,)),
    ],
)
def test_published_descriptors(label_lists, folder, labels, classes, sizes):
    names = zero_shot_names(label_lists) if labels is None else read_labels(label_lists / labels)
    assert len(names) == classes
    for kind in ("spatio", "temporal"):
        for size in sizes:
            path = label_lists / folder / f"ost_{kind}_{size}_descriptors.json"
            content = json.loads(path.read_bytes())
            rows = read_descriptors(path, names)
            assert len(rows) == classes * size == sum(map(len, content.values()))
            assert all(row.text == content[str(row.class_id)][row.position].strip() for row in rows)
            assert all(row.name == names[row.class_id] for row in rows)


def texts_of(label_lists, file, names, name):
    return " ".join(row.text for row in read_descriptors(label_lists / file, names) if row.name == name).lower()


def test_descriptors_reach_the_class_that_they_describe(label_lists):
    """Where two lists of a dataset differ in their order, the texts say which of them the file was written with."""
    hmdb = read_labels(label_lists / "hmdb51/label_map.txt")
    assert "soccer ball" in texts_of(label_lists, "hmdb51/ost_spatio_8_descriptors.json", hmdb, "kick_ball")
    assert "martial arts" in texts_of(label_lists, "hmdb51/ost_spatio_8_descriptors.json", hmdb, "sword_exercise")
    ucf = read_labels(label_lists / "ucf101/label_map.txt")
    assert "nail" in texts_of(label_lists, "ucf101/ost_spatio_8_descriptors.json", ucf, "Hammering")
    assert "jump rope" in texts_of(label_lists, "ucf101/ost_temporal_4_descriptors.json", ucf, "JumpRope")


def test_the_217_ids_of_k600_agree_with_the_splits(label_lists):
    union = zero_shot_names(label_lists)
    for kind in ("spatio", "temporal"):
        whole = read_descriptors(label_lists / f"kinetics600/ost_{kind}_4_descriptors.json", union)
        texts = {(row.name, row.position): row.text for row in whole}
        for i in (1, 2, 3):
            names = read_labels(label_lists / f"kinetics600/vifi_ZS_split{i}_K600.csv")
            rows = read_descriptors(label_lists / f"kinetics600/ost_split{i}_{kind}_4_descriptors.json", names)
            assert len(rows) == 160 * 4
            assert all(texts[row.name, row.position] == row.text for row in rows)
    with pytest.raises(UsageError, match="0 to 599 of the 600 labels, got 217 ids"):
        read_descriptors(
            label_lists / "kinetics600/ost_spatio_4_descriptors.json",
            read_labels(label_lists / "kinetics600/label_map_k600.txt"),
        )
