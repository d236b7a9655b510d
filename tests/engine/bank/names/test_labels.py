"""Label lists in every published form, and the wrong ones told."""

import json

import pytest
from reelmill.engine.bank.names import text_file
from reelmill.engine.bank.names.labels import read_labels
from reelmill.shards.errors import UsageError


@pytest.mark.parametrize(
    ("file", "content", "names"),
    [
        ("a.txt", "jump\n\n  run fast \r\nsit", ["jump", "run fast", "sit"]),
        ("a.txt", "\ufeffjump\nrun\njump\n", ["jump", "run", "jump"]),  # a name twice has two ids
        ("names", "Jump\u2028high\n", ["Jump\u2028high"]),
        ("a.txt", "c000 Holding some clothes\r\nc001 Sitting\r\n", ["Holding some clothes", "Sitting"]),
        ("a.txt", "1: bend/bow (at the waist)\n3: crouch/kneel\n", ["bend/bow (at the waist)", "crouch/kneel"]),
        ("a.txt", "1 ApplyEyeMakeup\n2 Archery\n", ["ApplyEyeMakeup", "Archery"]),
        ("a.txt", "3 point shot\n3 way handshake\n", ["3 point shot", "3 way handshake"]),  # no numbering
        ("a.txt", "10m air\nrun\n", ["10m air", "run"]),
        ("a.csv", 'id,name\n1,"run, fast"\n0,jump\n', ["jump", "run, fast"]),
        ("a.CSV", "\ufeffname,id,more\r\njump,0,x\r\n", ["jump"]),
        ("a.json", json.dumps([{"word": "brush hair", "defn": "…"}, {"word": " chew"}]), ["brush hair", "chew"]),
        ("a.json", '\ufeff["jump", "run"]', ["jump", "run"]),
    ],
)
def test_forms(tmp_path, file, content, names):
    path = tmp_path / file
    path.write_bytes(content.encode())
    assert read_labels(path) == names


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("a.txt", b"\n \n", "must name at least one action, got none"),
        ("a.txt", b"jump\n\xff\n", "must be UTF-8 text: .*0xff"),
        ("a.txt", b"jump\nr\0n\n", r"name 2 must have no control characters, got 'r\\x00n'"),
        ("a.txt", b"x" * 1001, "name 1 must have at most 1000 characters, got 1001"),
        ("a.csv", b"", "must name at least one action, got none"),
        ("a.csv", b"class,name\n0,jump\n", "must have columns id and name, got class, name"),
        ("a.csv", b"id,name\n0,jump\n0,run\n", "every id must be given once, got 0 twice"),
        ("a.csv", b"id,name\n1,jump\n2,run\n", "ids must be 0 to 1 for 2 names, 0 is missing"),
        ("a.csv", b"id,name\n-1,jump\n", "id of row 1 must be a number from 0, got '-1'"),
        ("a.csv", b"id,name\n0, \n", "name 1 must not be blank"),
        ("a.csv", b"id,name\n0,a,b\n", "must have 2 fields, got 3"),
        ("a.json", b'{"0": ["phrase"]}', "must be a list of names or .* `word`, got an object with 1 keys"),
        ("a.json", b"7", "must be a list of names .* got int"),
        ("a.json", b'["jump", {"name": "run"}]', "item 2 must be a name or have one as `word`, got {'name': 'run'}"),
        ("a.json", b'["\\ud800"]', r"name 1 must have no control characters, got '\\ud800'"),
        ("a.json", b"[" * 100_000, "does not read as json: .*recursion"),
        ("a.json", b"[", "does not read as json"),
    ],
)
def test_wrong_lists_are_told(tmp_path, file, content, message):
    path = tmp_path / file
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as caught:
        read_labels(path)
    assert str(path) in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_list_must_be_a_file_of_bounded_size(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match="must be a file, but there is none"):
        read_labels(tmp_path / "none.txt")
    with pytest.raises(UsageError, match="must be a file, but there is none"):
        read_labels(tmp_path)
    for name in ("a.txt", "a.csv", "a.json"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(text_file.MAX_BYTES + 10**6)
        with pytest.raises(UsageError, match=r"must have at most 16 MB, got 17\.0 MB"):
            read_labels(tmp_path / name)


@pytest.mark.parametrize(
    ("file", "count", "first", "last"),
    [
        ("activitynet/anet1.3_labels.csv", 200, "Applying sunscreen", "Zumba"),
        ("activitynet/label_map_200.txt", 200, "Applying sunscreen", "Playing badminton"),
        ("ava/label_map_80.txt", 80, "bend/bow (at the waist)", "watch (a person)"),
        ("ava/label_map_60_mmaction2.txt", 60, "bend/bow (at the waist)", "watch (a person)"),
        ("charades/Charades_v1_classes.txt", 157, "Holding some clothes", "Someone is eating something"),
        ("hmdb51/vifi_hmdb_51_labels.csv", 51, "brush hair", "wave"),
        ("kinetics400/label_map_k400.txt", 400, "abseiling", "zumba"),
        ("kinetics600/vifi_kinetics_600_labels.csv", 600, "abseiling", "zumba"),
        ("kinetics_zsar/er_classes620_label_defn.json", 620, "abseiling", "yarn spinning"),
        ("mit/label_map.txt", 339, "clapping", "typing"),
        ("ssv2/vifi_ssv2_labels.csv", 174, "Approaching something with your camera", None),
        ("ucf101/label_map.txt", 101, "ApplyEyeMakeup", "YoYo"),
    ],
)
def test_published_lists(label_lists, file, count, first, last):
    names = read_labels(label_lists / file)
    assert len(names) == count
    assert names[0] == first
    assert last is None or names[-1] == last
    if file.startswith("ssv2"):
        assert names == read_labels(label_lists / "ssv2/label_map.txt")
    if file.startswith("kinetics600"):
        assert names == read_labels(label_lists / "kinetics600/label_map_k600.txt")
