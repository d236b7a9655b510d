"""Folders of numbered JPEGs as inputs: which folders, which files, in which order, and what their names tell."""

import os
from pathlib import Path

import pytest
from reelmill.engine.errors import MediaError
from reelmill.engine.sources import frames as frames_module
from reelmill.engine.sources import open_source
from reelmill.engine.sources.frames import open_frames
from reelmill.shards.errors import UsageError


def fill(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).write_bytes(b"a picture")
    return folder


def numbered(folder: Path, count: int, form: str = "img_{:05d}.jpg", first: int = 1) -> Path:
    return fill(folder, *(form.format(number) for number in range(first, first + count)))


def rows_of(path: Path, **options: object) -> list[tuple]:
    rows = open_source(path, frames_fps=25, **options)  # type: ignore[arg-type]
    return [(row.input_id, row.labels, row.frames_fps, os.path.relpath(row.path, path)) for row in rows]


@pytest.mark.parametrize("form", ["img_{:05d}.jpg", "frame_{:06d}.JPG", "{:04d}.jpeg", "{}.jpg", "v1_{:d}.jpg"])
def test_names_in_order_of_their_numbers(tmp_path, form):
    folder = numbered(tmp_path, 12, form, first=0)
    fill(folder, "flow_x_00001.jpg", "flow_y_00001.jpg", "Flow.jpg", "info.txt", "a.png")
    found = open_frames(str(folder))
    assert [frame.name for frame in found.frames] == [form.format(number) for number in range(12)]
    assert found.bytes == 12 * 9


def test_numbers_may_go_up_by_another_step(tmp_path):
    fill(tmp_path, "f_10.jpg", "f_20.jpg", "f_30.jpg")
    assert [frame.number for frame in open_frames(str(tmp_path)).frames] == [10, 20, 30]


def test_what_names_tell_to_be_wrong(tmp_path):
    gap = fill(tmp_path / "gap", "1.jpg", "2.jpg", "4.jpg", "5.jpg")
    twice = fill(tmp_path / "twice", "1.jpg", "2.jpg", "02.jpg")
    words = fill(tmp_path / "words", "img_1.jpg", "thumb_1.jpg")
    none = fill(tmp_path / "none", "flow_x_1.jpg", "a.jpg")
    empty = numbered(tmp_path / "empty", 2)
    (empty / "img_00002.jpg").write_bytes(b"")
    within = numbered(tmp_path / "within", 2)
    (within / "img_00003.jpg").mkdir()
    pipe = numbered(tmp_path / "pipe", 2)
    os.mkfifo(pipe / "img_00003.jpg")
    expected = {
        gap: "damaged: after 2.jpg comes 4.jpg: frames are missing",
        twice: "damaged: 02.jpg and 2.jpg have one number",
        words: "damaged: frames must be named alike but for their number, got img_1.jpg and thumb_1.jpg",
        none: "empty: the folder holds no numbered JPEG",
        empty: "damaged: img_00002.jpg has 0 bytes",
        within: "unreadable: img_00003.jpg must be a file",
        pipe: "unreadable: img_00003.jpg must be a file",
        tmp_path / "gone": "missing: no such folder",
        gap / "1.jpg": "missing: no such folder",
        tmp_path / ("n" * 300): "unreadable: File name too long",
    }
    for path, words_of_it in expected.items():
        with pytest.raises(MediaError) as error:
            open_frames(str(path))
        assert str(error.value) == words_of_it


def test_links_stay_in_their_folder(tmp_path):
    (tmp_path / "secret.jpg").write_bytes(b"elsewhere")
    folder = numbered(tmp_path / "a", 2)
    (folder / "img_00003.jpg").symlink_to("img_00001.jpg")
    assert len(open_frames(str(folder)).frames) == 3
    (tmp_path / "link").symlink_to("a")
    assert len(open_frames(str(tmp_path / "link")).frames) == 3
    (folder / "img_00004.jpg").symlink_to("../secret.jpg")
    with pytest.raises(MediaError, match=r"unreadable: img_00004.jpg is a link out of its folder"):
        open_frames(str(folder))
    (folder / "img_00004.jpg").unlink()
    (folder / "img_00004.jpg").symlink_to("nowhere.jpg")
    with pytest.raises(MediaError, match=r"unreadable: img_00004.jpg must be a file"):
        open_frames(str(folder))


def test_a_folder_holds_so_many_frames_at_most(tmp_path, monkeypatch):
    monkeypatch.setattr(frames_module, "MAX_FOLDER_FRAMES", 5)
    assert len(open_frames(str(numbered(tmp_path, 5))).frames) == 5
    with pytest.raises(MediaError, match="limit: more than 5 frames in a folder"):
        open_frames(str(numbered(tmp_path, 6)))


def test_a_version_tells_names_sizes_and_times(tmp_path):
    folder = numbered(tmp_path / "a", 3)
    versions = {open_frames(str(folder)).version}
    (folder / "img_00002.jpg").write_bytes(b"another picture")
    versions.add(open_frames(str(folder)).version)
    os.utime(folder / "img_00002.jpg", ns=(1, 1))
    versions.add(open_frames(str(folder)).version)
    for name in ("img_00001", "img_00002", "img_00003"):
        (folder / f"{name}.jpg").rename(folder / f"{name}.jpeg")
    versions.add(open_frames(str(folder)).version)
    assert len(versions) == 4
    (folder / "flow_x_00001.jpg").write_bytes(b"flow")
    assert open_frames(str(folder)).version in versions


def test_a_tree_of_folders_beside_videos(tmp_path):
    numbered(tmp_path / "jump/one", 3)
    fill(tmp_path / "jump/one", "flow_x_00001.jpg", "flow_y_00001.jpg", "label.txt")
    numbered(tmp_path / "run/two", 2, "{:04d}.jpg")
    fill(tmp_path / "run", "three.mp4", "preview1.jpg")  # a folder with videos is none of frames
    source = open_source(tmp_path, frames_fps=25)
    assert [(row.input_id, row.labels, row.frames_fps) for row in source] == [
        ("jump/one", ["jump"], 25),
        ("run/three.mp4", ["run"], None),
        ("run/two", ["run"], 25),
    ]
    assert source.ignored == 4
    without = open_source(tmp_path)
    assert [row.input_id for row in without] == ["run/three.mp4"]
    assert without.ignored == 9


def test_a_folder_that_is_itself_one_video(tmp_path):
    numbered(tmp_path / "video.mp4", 3)
    assert rows_of(tmp_path / "video.mp4") == [("video.mp4", [], 25, ".")]


def test_manifest_rows_name_folders_and_files(tmp_path):
    numbered(tmp_path / "frames/a", 3)
    fill(tmp_path / "frames", "b.mp4")
    (tmp_path / "m.csv").write_text("path,label\nframes/a,jump\nframes/b.mp4,run\nframes/gone,run\n")
    rows = list(open_source(tmp_path / "m.csv", frames_fps=12.5))
    assert [(row.input_id, row.frames_fps) for row in rows] == [
        ("frames/a", 12.5),
        ("frames/b.mp4", None),
        ("frames/gone", None),
    ]


def test_mmaction2s_list_of_frames(tmp_path):
    numbered(tmp_path / "k400/abseiling/a b", 3)
    numbered(tmp_path / "k400/x_000001", 3)
    fill(tmp_path / "k400", "clip.mp4")
    path = tmp_path / "k400_train_list_rawframes.txt"
    path.write_text("abseiling/a b 3 1\nx_000001 2 0 1\nclip.mp4 1\ngone 300 0\nabseiling/a b 3\n")
    labels = tmp_path / "labels.txt"
    labels.write_text("run\njump\n")
    rows = list(open_source(path, "list", videos=tmp_path / "k400", label_map=labels, frames_fps=25))
    assert [(row.input_id, row.labels, row.frames, row.frames_fps, row.split) for row in rows] == [
        ("abseiling/a b", ["jump"], 3, 25, "train"),
        ("x_000001", ["run", "jump"], 2, 25, "train"),
        ("clip.mp4", ["jump"], None, None, "train"),
        ("gone", ["run"], 300, None, "train"),
        ("abseiling/a b", [], 3, 25, "train"),
    ]
    path.write_text("x_000001\n")
    with pytest.raises(UsageError, match="must be a folder, its number of frames >= 1, and classes, got none"):
        list(open_source(path, "list", videos=tmp_path / "k400", frames_fps=25))


def test_something_somethings_ids_find_folders_of_frames(tmp_path):
    numbered(tmp_path / "frames/78687", 3, "{:06d}.jpg")
    path = tmp_path / "something-something-v2-train.json"
    path.write_text('[{"id": "78687", "template": "Holding [something] next to [something]"}]')
    (row,) = open_source(path, "ssv2", videos=tmp_path / "frames", frames_fps=12)
    assert (row.frames_fps, row.labels) == (12, ["Holding something next to something"])
    assert row.path == str(tmp_path / "frames/78687")


def test_tars_hold_no_folders_of_frames(tmp_path):
    with pytest.raises(UsageError, match="frames_fps goes with folders of frames"):
        open_source(tmp_path / "a.tar", frames_fps=25)


def test_who_forgot_the_rate_is_told(tmp_path):
    numbered(tmp_path / "a", 3)
    with pytest.raises(UsageError, match=r"got 3 other files; folders of numbered JPEGs .* \(frames_fps\)"):
        list(open_source(tmp_path))
