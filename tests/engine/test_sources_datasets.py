"""Published datasets' own lists: small ones in each form, and the real split files where they exist."""

import json
from collections import Counter
from pathlib import Path

import pytest
from reelmill.engine.sources import InputRow, check_unique, open_source
from reelmill.engine.sources.labels import read_label_map
from reelmill.shards.errors import UsageError
from reelmill.tests.engine.listed import fill, text

LABELS = Path(__file__).resolve().parents[3] / "shared" / "labels"


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    return tmp_path / "videos"


def told(rows: list[InputRow]) -> list[tuple]:
    return [(row.input_id, row.labels, row.split) for row in rows]


@pytest.mark.parametrize(
    "place", ["{s}.mp4", "abseiling rock/{s}.mkv", "abseiling_rock/{s}.mp4", "val/{s}.webm", "k/validate/{s}.mp4"]
)
def test_kinetics_finds_its_clips_wherever_they_were_put(tmp_path, videos, place):
    path = text(
        tmp_path / "kinetics.csv",
        "label,youtube_id,time_start,time_end,split,is_cc\n"
        "abseiling rock,-3B32lodo2M,59,69,validate,0\n"
        "abseiling rock,gone,1.0,11.0,train,1\n",
    )
    here = place.format(s="-3B32lodo2M_000059_000069")
    one, two = open_source(path, "kinetics", videos=fill(videos, here, "other/-3B32lodo2M_000060_000070.mp4"))
    assert told([one, two]) == [
        ("-3B32lodo2M_000059_000069", ["abseiling rock"], "val"),
        ("gone_000001_000011", ["abseiling rock"], "train"),
    ]
    assert one.path == str(videos / here)
    assert one.extra == {"youtube_id": "-3B32lodo2M", "time_start": "59", "time_end": "69", "is_cc": "0"}
    assert not Path(two.path).exists()


def test_kinetics_test_list_has_no_labels(tmp_path, videos):
    text(tmp_path / "lists/test.csv", "youtube_id,time_start,time_end,split\nabc,0,10,test\n")
    (row,) = open_source(tmp_path / "lists", "kinetics", videos=fill(videos, "abc_000000_000010.mp4"))
    assert (row.labels, row.split) == ([], "test")


def test_lists_in_their_several_forms(tmp_path, videos):
    fill(videos, "val/a b.mp4", "c.webm")
    names = text(tmp_path / "names.txt", "jump\nrun\nsit down\n")
    listed = text(tmp_path / "x_val_list.txt", "val/a b.mp4 2\n\nc.mp4 0 1 0\nnone.mp4\nhttps://h/x.mp4 1\n")
    rows = list(open_source(listed, "list", videos=videos, label_map=names))
    assert told(rows) == [
        ("val/a b.mp4", ["sit down"], "val"),
        ("c.mp4", ["jump", "run"], "val"),
        ("none.mp4", [], "val"),
        ("https://h/x.mp4", ["run"], "val"),
    ]
    places = [str(videos / "val/a b.mp4"), str(videos / "c.webm"), str(videos / "none.mp4"), "https://h/x.mp4"]
    assert [row.path for row in rows] == places
    commas = text(tmp_path / "all.csv", 'path,label\n"val/a b.mp4",run fast\nc.mp4,"sit, down"\n')
    assert told(list(open_source(commas, "list", videos=videos))) == [
        ("val/a b.mp4", ["run fast"], None),
        ("c.mp4", ["sit, down"], None),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.mp4 3", r"list.txt:1: gives the class id 3, which the label map of 1 names has not"),
        ("ftp://h/a.mp4 0", r"list.txt:1: must be a plain path or one of http://"),
    ],
)
def test_a_wrong_line_of_a_list_is_told(tmp_path, line, message):
    names = text(tmp_path / "names.txt", "jump\n")
    with pytest.raises(UsageError, match=message):
        list(open_source(text(tmp_path / "list.txt", line), "list", label_map=names))
    with pytest.raises(UsageError, match="class id 0: say which file names the classes"):
        list(open_source(text(tmp_path / "list.txt", "a.mp4 0"), "list"))


@pytest.mark.parametrize(
    ("name", "content", "names"),
    [
        ("map.txt", "jump\nrun fast\n", {"0": "jump", "1": "run fast"}),
        ("classInd.txt", "1 Jump\n2 RunFast\n", {"1": "Jump", "2": "RunFast"}),
        ("ava.txt", "1: bend/bow (at the waist)\n3: crouch\n", {"1": "bend/bow (at the waist)", "3": "crouch"}),
        ("c.txt", "c000 Holding some clothes\nc001 Putting\n", {"c000": "Holding some clothes", "c001": "Putting"}),
        ("vifi.csv", 'id,name\n0,"a, b"\n1,c\n', {"0": "a, b", "1": "c"}),
        ("labels.json", '{"Holding something": "46", "Two": 3}', {"46": "Holding something", "3": "Two"}),
        ("ids.json", '{"0": "jump"}', {"0": "jump"}),
        ("list.json", '["jump", "run"]', {"0": "jump", "1": "run"}),
    ],
)
def test_label_maps_in_their_several_forms(tmp_path, name, content, names):
    assert read_label_map(text(tmp_path / name, content)) == names


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "3", "label map .*a.json must be a JSON object of names and class ids, got int"),
        ("a.json", '{"a": [1]}', "must be a JSON object of names and class ids, got dict"),
        ("a.json", "{", "a.json does not read as json"),
        ("a.csv", "number,name\n1,a\n", "must have columns id and name, got number, name"),
        ("a.txt", None, "a.txt does not read as text"),
    ],
)
def test_a_wrong_label_map_is_told(tmp_path, name, content, message):
    if content is not None:
        text(tmp_path / name, content)
    with pytest.raises(UsageError, match=message):
        read_label_map(tmp_path / name)


def test_ucf101_reads_the_fold(tmp_path, videos):
    text(tmp_path / "trainlist02.txt", "YoYo/v_YoYo_g08_c01.avi 101\n")
    text(tmp_path / "testlist02.txt", "YoYo/v_YoYo_g01_c01.avi\nv_HandstandPushups_g01_c02.avi\n")
    text(tmp_path / "testlist01.txt", "Other/v_Other_g01_c01.avi\n")
    fill(videos, "YoYo/v_YoYo_g01_c01.mp4", "HandStandPushups/v_HandstandPushups_g01_c02.avi")
    rows = list(open_source(tmp_path, "ucf101", videos=videos, fold=2))
    assert told(rows) == [
        ("YoYo/v_YoYo_g08_c01.avi", ["YoYo"], "train"),
        ("YoYo/v_YoYo_g01_c01.avi", ["YoYo"], "test"),
        ("v_HandstandPushups_g01_c02.avi", ["HandstandPushups"], "test"),
    ]
    assert [Path(row.path).exists() for row in rows] == [False, True, True]
    with pytest.raises(UsageError, match=r"must be a list or hold trainlist03.txt or testlist03.txt"):
        list(open_source(tmp_path, "ucf101", fold=3))
    with pytest.raises(UsageError, match=r"bad.txt:1: must be a video called v_<Class>_gNN_cNN, got 'a.avi'"):
        list(open_source(text(tmp_path / "bad.txt", "a.avi 1"), "ucf101"))


def test_hmdb51_reads_the_flags(tmp_path, videos):
    lines = "April_09_brush_hair_u_nm_np1_ba_goo_0.avi 1 \nb (1).avi 2 \nc.avi 0\n"
    text(tmp_path / "brush_hair_test_split1.txt", lines)
    text(tmp_path / "brush_hair_test_split2.txt", "c.avi 1\n")
    fill(videos, "brush_hair/c.avi", "b (1).avi", "wave/c.avi")
    rows = list(open_source(tmp_path, "hmdb51", videos=videos))
    assert told(rows) == [
        ("brush_hair/April_09_brush_hair_u_nm_np1_ba_goo_0.avi", ["brush_hair"], "train"),
        ("brush_hair/b (1).avi", ["brush_hair"], "test"),
        ("brush_hair/c.avi", ["brush_hair"], "unused"),
    ]
    assert [Path(row.path).exists() for row in rows] == [False, True, True]
    assert [row.input_id for row in open_source(tmp_path, "hmdb51", videos=videos, split="test")] == [rows[1].input_id]
    with pytest.raises(UsageError, match=r"_split1.txt:1: must be a clip and 0, 1 or 2, got 'a.avi 7'"):
        list(open_source(text(tmp_path / "brush_hair_test_split1.txt", "a.avi 7"), "hmdb51"))


def test_ssv2_takes_the_template_as_class_and_the_sentence_as_caption(tmp_path, videos):
    entry = {
        "id": "78687",
        "label": "holding potato next to bottle",
        "template": "Holding [something] next to [something]",
        "placeholders": ["potato", "bottle"],
    }
    text(tmp_path / "something-something-v2-train.json", json.dumps([entry]))
    text(tmp_path / "something-something-v2-validation.json", json.dumps([entry | {"id": 5}]))
    text(tmp_path / "something-something-v2-test.json", '[{"id": "9"}]')
    names = text(tmp_path / "labels.json", '{"Holding something next to something": "46"}')
    one, two, three = open_source(tmp_path, "ssv2", videos=fill(videos, "78687.webm"), label_map=names)
    assert told([one, two, three]) == [
        ("78687", ["Holding something next to something"], "train"),
        ("5", ["Holding something next to something"], "val"),
        ("9", [], "test"),
    ]
    assert one.caption == "holding potato next to bottle"
    assert one.extra == {"placeholders": ["potato", "bottle"]}
    assert one.path == str(videos / "78687.webm")
    text(names, '{"Other": "1"}')
    with pytest.raises(UsageError, match=r"train.json: entry 1 has the template 'Holding something next to something'"):
        list(open_source(tmp_path, "ssv2", label_map=names))
    with pytest.raises(UsageError, match=r"bad.json: entry 1 must be an object with an id, got \[\]"):
        list(open_source(text(tmp_path / "bad.json", "[[]]"), "ssv2"))


def test_olympic_sports_is_a_folder_of_classes(tmp_path):
    (row,) = open_source(fill(tmp_path, "bowling/v_1.avi"), "olympic")
    assert told([row]) == [("bowling/v_1.avi", ["bowling"], None)]


@pytest.fixture
def real() -> Path:
    if not LABELS.is_dir():
        pytest.skip(f"no real split files at {LABELS}: they are not part of the repository")
    return LABELS


def test_the_real_lists_of_ucf101(real):
    rows = list(open_source(real / "ucf101/splits", "ucf101"))
    assert Counter(row.split for row in rows) == {"train": 9537, "test": 3783}
    assert len({label for row in rows for label in row.labels}) == 101
    assert check_unique(lambda: (row.input_id for row in rows), "ucf101") == 13320


@pytest.mark.parametrize(
    ("listed", "names", "rows", "classes", "first"),
    [
        ("ucf101/splits/vifi_val1.txt", "ucf101/vifi_ucf_101_labels.csv", 3783, 101, "ApplyEyeMakeup"),
        ("hmdb51/splits/vifi_val1.txt", "hmdb51/vifi_hmdb_51_labels.csv", 1530, 51, "brush hair"),
        ("hmdb51/splits/vifi_b2n_base_train.txt", "hmdb51/vifi_hmdb_51_base_labels.csv", None, None, "pour"),
        ("kinetics600/splits/vifi_ZS_split1_K600_eval.txt", "kinetics600/vifi_ZS_split1_K600.csv", None, 160, None),
    ],
)
def test_the_real_lists_of_vifi_clip(real, listed, names, rows, classes, first):
    found = list(open_source(real / listed, "list", label_map=real / names))
    assert rows is None or len(found) == rows
    assert classes is None or len({row.labels[0] for row in found}) == classes
    assert first is None or found[0].labels == [first]
    assert len(found) == len((real / listed).read_text().splitlines())
    assert {row.split for row in found} <= {"train", "val", None}


def test_the_real_label_maps(real):
    assert read_label_map(real / "charades/Charades_v1_classes.txt")["c156"] == "Someone is eating something"
    assert len(read_label_map(real / "kinetics400/label_map_k400.txt")) == 400
    assert read_label_map(real / "ava/label_map_60_mmaction2.txt")["3"] == "crouch/kneel"
    assert len(read_label_map(real / "mit/label_map.txt")) == 339
