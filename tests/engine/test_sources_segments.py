"""Lists of labelled stretches of untrimmed videos: Charades, ActivityNet, and the smaller datasets' forms."""

import json
from pathlib import Path

import pytest
from reelmill.engine.sources import InputRow, open_source
from reelmill.shards.errors import UsageError
from reelmill.tests.engine.listed import fill, text


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    return tmp_path / "videos"


def spans(rows: list[InputRow]) -> list[tuple]:
    return [(row.input_id, row.labels, row.start_seconds, row.end_seconds) for row in rows]


CHARADES = (
    "id,subject,scene,quality,relevance,verified,script,objects,descriptions,actions,length\n"
    '46GP8,HR43,Kitchen,6,7,Yes,"A person, cooks.",food;stove,"A person cooks.",'
    '"c092 11.90 21.20;c001 0.00 12.60;c000 11.90 21.20;c001 5.00 5.00",24.83\n'
    "N11GT,0KZ7,Stairs,6,7,Yes,x,y,z,,18.33\n"
)


def test_charades_gives_segments_or_whole_videos(tmp_path, videos):
    text(tmp_path / "Charades_v1_classes.txt", "c000 Holding clothes\nc001 Putting clothes\nc092 Watching\n")
    path = text(tmp_path / "Charades_v1_train.csv", CHARADES)
    rows = list(open_source(path, "charades", videos=fill(videos, "46GP8.mp4")))
    assert spans(rows) == [
        ("46GP8#t=11.9,21.2", ["Watching", "Holding clothes"], 11.9, 21.2),
        ("46GP8#t=0,12.6", ["Putting clothes"], 0.0, 12.6),
        ("46GP8#t=5,5", ["Putting clothes"], None, None),
        ("N11GT", [], None, None),
    ]
    assert [row.fault for row in rows] == [None, None, "span: the list gives 5 to 5 s, which holds no frame", None]
    assert rows[0].path == rows[1].path == str(videos / "46GP8.mp4")
    assert rows[0].split == "train"
    whole = list(open_source(path, "charades", videos=videos, whole_videos=True))
    assert spans(whole) == [
        ("46GP8", ["Watching", "Holding clothes", "Putting clothes"], None, None),
        ("N11GT", [], None, None),
    ]
    assert whole[0].caption == "A person cooks."


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        ("c000 1", "row 1 must have actions like `c092 11.90 21.20`, got 'c000 1'"),
        ("c000 a 2", "row 1 must have a number as start, got 'a'"),
        ("c000 1 2", "row 1 gives the class id c000: say which file names the classes"),
    ],
)
def test_a_wrong_action_of_charades_is_told(tmp_path, actions, message):
    path = text(tmp_path / "Charades_v1_test.csv", f"id,actions\nA,{actions}\n")
    with pytest.raises(UsageError, match=message):
        list(open_source(path, "charades"))


def database(tmp_path: Path, entries: dict, name: str = "activity_net.v1-3.min.json") -> Path:
    return text(tmp_path / name, json.dumps({"database": entries, "version": "1.3"}))


def test_activitynet_gives_segments_or_whole_videos(tmp_path, videos):
    path = database(
        tmp_path,
        {
            "sJn7Uu6hMZg": {
                "subset": "training",
                "annotations": [
                    {"segment": [0.28, 55.15], "label": "Drinking coffee"},
                    {"segment": [3, 3], "label": "Archery"},
                    {"segment": [0.28, 55.15], "label": "Talking"},
                ],
            },
            "-b": {"subset": "testing", "annotations": []},
        },
    )
    rows = list(open_source(path, "activitynet", videos=fill(videos, "v_sJn7Uu6hMZg.webm", "-b.mkv")))
    assert spans(rows) == [
        ("sJn7Uu6hMZg#t=0.28,55.15", ["Drinking coffee", "Talking"], 0.28, 55.15),
        ("sJn7Uu6hMZg#t=3,3", ["Archery"], None, None),
        ("-b", [], None, None),
    ]
    assert rows[1].fault == "span: the list gives 3 to 3 s, which holds no frame"
    assert [Path(row.path).name for row in rows] == ["v_sJn7Uu6hMZg.webm", "v_sJn7Uu6hMZg.webm", "-b.mkv"]
    assert [row.split for row in rows] == ["train", "train", "test"]
    (whole,) = open_source(path, "activitynet", videos=videos, whole_videos=True, split="train")
    assert (whole.input_id, whole.labels) == ("sJn7Uu6hMZg", ["Drinking coffee", "Talking", "Archery"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", "must be a json object with a `database` of videos"),
        ('{"database": {"a": 3}}', "must be a json object with a `database` of videos"),
        ('{"database": {"a": {"annotations": [{"label": 3}]}}}', r"video 'a' must have annotations of a label and a"),
        (
            '{"database": {"a": {"annotations": [{"label": "b", "segment": [NaN, 2]}]}}}',
            "video 'a' must have a finite number >= 0 as start, got nan",
        ),
    ],
)
def test_a_wrong_database_is_told(tmp_path, content, message):
    with pytest.raises(UsageError, match=message):
        list(open_source(text(tmp_path / "a.json", content), "activitynet"))


def test_segments_of_a_table_in_seconds_and_in_frames(tmp_path, videos):
    fill(videos, "one.mp4", "x/two.avi")
    seconds = text(
        tmp_path / "a_train.csv", "video,label,start,end\none,take,0.5,2\none,pour,0.5,2\nx/two.mp4,take,1,1\n"
    )
    rows = list(open_source(seconds, "segments", videos=videos))
    assert spans(rows) == [
        ("one#t=0.5,2", ["take", "pour"], 0.5, 2.0),
        ("x/two.mp4#t=1,1", ["take"], None, None),
    ]
    assert [row.path for row in rows] == [str(videos / "one.mp4"), str(videos / "x/two.avi")]
    assert rows[1].fault is not None
    frames = [
        {"video_id": "one", "action": "take", "start_frame": 10, "stop_frame": 29, "fps": 10, "subset": "testing"}
    ]
    for path in (text(tmp_path / "f.json", json.dumps(frames)), text(tmp_path / "f.jsonl", json.dumps(frames[0]))):
        (row,) = open_source(path, "segments", videos=videos)
        assert spans([row]) == [("one#t=1,3", ["take"], 1.0, 3.0)]
        assert row.split == "test"
    lines = text(tmp_path / "f.txt", "one,take,10,29\none\tpour, slowly\t30\t30\n")
    assert spans(list(open_source(lines, "segments", videos=videos, fps=10.0))) == [
        ("one#t=1,3", ["take"], 1.0, 3.0),
        ("one#t=3,3.1", ["pour, slowly"], 3.0, 3.1),
    ]
    (whole,) = open_source(lines, "segments", videos=videos, whole_videos=True)
    assert spans([whole]) == [("one", ["take", "pour, slowly"], None, None)]


def test_segments_out_of_a_file_per_video(tmp_path, videos):
    folder = tmp_path / "groundTruth"
    text(folder / "S1_Cheese_C1.txt", "background\nbackground\ntake\ntake\ntake\nbackground\n")
    text(folder / "S2_Coffee.txt", "<take><cup> (10-20) [1]\n<pour><milk,cup> (21-30) [1]\n")
    text(folder / "P03_cereals.txt", "1-30 SIL\n31-40 take_bowl\n")
    names = text(tmp_path / "map.json", '{"0": "x"}')
    rows = list(open_source(folder, "segments", videos=fill(videos, "S1_Cheese_C1.avi"), fps=10.0))
    assert spans(rows) == [
        ("P03_cereals#t=0.1,3.1", ["SIL"], 0.1, 3.1),
        ("P03_cereals#t=3.1,4.1", ["take_bowl"], 3.1, 4.1),
        ("S1_Cheese_C1#t=0,0.2", ["background"], 0.0, 0.2),
        ("S1_Cheese_C1#t=0.2,0.5", ["take"], 0.2, 0.5),
        ("S1_Cheese_C1#t=0.5,0.6", ["background"], 0.5, 0.6),
        ("S2_Coffee#t=1,2.1", ["<take><cup>"], 1.0, 2.1),
        ("S2_Coffee#t=2.1,3.1", ["<pour><milk,cup>"], 2.1, 3.1),
    ]
    assert rows[2].path == str(videos / "S1_Cheese_C1.avi")
    with pytest.raises(UsageError, match=r"gives frames: say how many there are per second \(fps\)"):
        list(open_source(folder, "segments"))
    with pytest.raises(UsageError, match="class id SIL, which the label map of 1 names has not"):
        list(open_source(folder, "segments", fps=10.0, label_map=names))


def test_ikea_asm_finds_its_videos_by_a_pattern(tmp_path, videos):
    annotation = [{"segment": [0, 91], "label": "NA"}, {"segment": [92, 186], "label": "pick up leg"}]
    path = database(tmp_path, {"Lack/0007_white": {"subset": "testing", "annotation": annotation}}, "gt_segments.json")
    fill(videos, "Lack/0007_white/dev3/images/scan_video.avi", "Lack/0007_white/dev1/images/scan_video.avi")
    options = {"videos": videos, "fps": 25.0, "pattern": "{video}/dev3/images/scan_video.avi"}
    rows = list(open_source(path, "segments", **options))
    assert spans(rows) == [
        ("Lack/0007_white#t=0,3.68", ["NA"], 0.0, 3.68),
        ("Lack/0007_white#t=3.68,7.48", ["pick up leg"], 3.68, 7.48),
    ]
    assert rows[0].path == str(videos / "Lack/0007_white/dev3/images/scan_video.avi")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "video,label,start\na,b,1\n", "row 1 must have a column end, got video, label, start"),
        ("a.csv", "label,start,end\nb,1,2\n", "row 1 must have a column video or path or .*, got label, start, end"),
        ("a.csv", "video,label,start_frame,end_frame\na,b,1,2\n", r"row 1 gives frames: say how many .* \(fps\)"),
        ("a.csv", "video,label,start,end\na,b,-1,2\n", "row 1 must have a finite number >= 0 as start, got '-1'"),
        ("a.json", "[3]", "row 1 must be an object, got 3"),
        ("a.txt", "a b 1 2\n", "a.txt:1: must be video,label,start,end, got 'a b 1 2'"),
    ],
)
def test_a_wrong_segment_is_told(tmp_path, name, content, message):
    with pytest.raises(UsageError, match=message):
        list(open_source(text(tmp_path / name, content), "segments"))
