"""Folders: order, labels, links, hostile names; and finding listed videos in them."""

import os
from pathlib import Path

import pytest
from reelmill.engine.sources import open_source
from reelmill.engine.sources.index import VideoIndex
from reelmill.shards.errors import UsageError


def fill(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def ids(folder: Path) -> list[str]:
    return [row.input_id for row in open_source(folder)]


def test_rows_are_sorted_and_labelled_and_other_files_counted(tmp_path):
    source = open_source(fill(tmp_path, "run/b.mp4", "jump/deep/a.MOV", "top.mkv", "notes.txt", "run/.DS_Store"))
    assert [(row.input_id, row.labels) for row in source] == [
        ("jump/deep/a.MOV", ["jump"]),
        ("run/b.mp4", ["run"]),
        ("top.mkv", []),
    ]
    assert source.ignored == 2
    assert next(iter(source)).path == str(tmp_path / "jump/deep/a.MOV")


def test_an_empty_folder(tmp_path):
    with pytest.raises(UsageError, match=r"must hold at least one video \(.*\.mp4.*\), got 1 other files"):
        list(open_source(fill(tmp_path, "notes.txt")))


def test_hostile_names_are_kept(tmp_path):
    names = ["a b.mp4", "line\nbreak.mp4", "ünï/çødé.mp4", "-rf.mp4", "…/..mp4.mp4", "%2e%2e.mp4", "[x]*.mp4"]
    assert sorted(ids(fill(tmp_path, *names))) == sorted(names)


def test_a_name_that_is_no_text_is_shown_escaped_and_opens(tmp_path):
    with open(os.fsencode(tmp_path) + b"/\xff.mp4", "wb") as file:
        file.write(b"here")
    (row,) = open_source(tmp_path)
    assert (row.input_id, row.uri) == ("\\xff.mp4", "\\xff.mp4")
    assert Path(row.path).read_bytes() == b"here"


def test_links_are_followed_once_and_never_in_circles(tmp_path):
    outside = fill(tmp_path / "outside", "c.mp4")
    folder = fill(tmp_path / "in", "a/x.mp4", "b/y.mp4")
    (folder / "a" / "up").symlink_to(folder)
    (folder / "b" / "self").symlink_to(".")
    (folder / "0-twin").symlink_to(folder / "a")
    (folder / "link").symlink_to(outside)
    (folder / "link2").symlink_to(outside)
    (outside / "back").symlink_to(folder / "b")
    (folder / "broken.mp4").symlink_to("nowhere")
    (folder / "loop").symlink_to("loop")
    source = open_source(folder)
    assert [row.input_id for row in source] == ["a/x.mp4", "b/y.mp4", "broken.mp4", "link/c.mp4"]
    assert source.ignored == 1  # the link to itself


def test_many_crossing_links_end(tmp_path):
    for number in range(30):
        folder = fill(tmp_path, f"{number}/v.mp4") / str(number)
        (folder / "l1").symlink_to(tmp_path / str((number + 1) % 30))
        (folder / "l2").symlink_to(tmp_path / str((number + 7) % 30))
    assert len(ids(tmp_path)) == 30


def test_a_folder_that_cannot_be_read_is_told(tmp_path):
    source = open_source(fill(tmp_path / "a", "x.mp4"))
    (tmp_path / "a").rename(tmp_path / "b")
    with pytest.raises(UsageError, match=r"folder .*/a must be readable: No such file or directory"):
        list(source)


@pytest.mark.parametrize(
    ("listed", "found"),
    [
        ("val/abc.mp4", "val/abc.mp4"),
        ("val/abc.avi", "val/abc.mp4"),
        ("val/abc", "val/abc.mp4"),
        ("./val//abc.mp4", "val/abc.mp4"),
        ("data/k400/val/abc.mp4", "val/abc.mp4"),
        ("solo.avi", "deep/er/solo.webm"),
        ("er/solo", "deep/er/solo.webm"),
        ("dotted.name.v2", "dotted.name.v2.mkv"),
        ("both.webm", "both.webm"),
        ("both", "both.mp4"),
        ("both.avi", "both.mp4"),
        ("jump/solo.webm", None),
        ("olo.webm", None),
        ("../val/abc.mp4", None),
        ("none.mp4", None),
    ],
)
def test_a_listed_video_is_found_by_its_stem_where_folders_agree(tmp_path, listed, found):
    names = ("val/abc.mp4", "train/abc.mp4", "deep/er/solo.webm", "dotted.name.v2.mkv", "both.mp4", "both.webm")
    index = VideoIndex(fill(tmp_path, *names))
    assert index.locate(listed) == str(tmp_path / (found or listed))
    assert index.locate(str(tmp_path / "train/abc.avi")) == str(tmp_path / "train/abc.mp4")
    assert index.locate("/elsewhere/abc.mp4") == "/elsewhere/abc.mp4"
    assert index.locate("none/abc.mp4", "val/abc") == str(tmp_path / "val/abc.mp4")


def test_a_name_that_fits_several_videos_is_told(tmp_path):
    index = VideoIndex(fill(tmp_path, "val/abc.mp4", "train/abc.mp4"))
    with pytest.raises(
        UsageError, match=r"must hold one video called abc, got train/abc.mp4 and val/abc.mp4: give the"
    ):
        index.locate("abc")


def test_names_of_the_same_hash_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.hash", lambda text: 5)
    index = VideoIndex(fill(tmp_path, "a.mp4", "b.mp4", "c.mp4"))
    assert index.locate("b.webm") == str(tmp_path / "b.mp4")


def test_videos_must_be_a_folder(tmp_path):
    with pytest.raises(UsageError, match=f"videos must be a folder, got {tmp_path}/none"):
        VideoIndex(tmp_path / "none").locate("a")
