"""Fetching: local files, and stretches of a tar."""

import io
import os
import re
import tarfile

import pytest
from reelmill.engine.errors import MediaError
from reelmill.engine.fetch import local_copy, version_of
from reelmill.engine.sources import open_source
from reelmill.shards.errors import StorageError
from reelmill.tests.engine.fetching import BODY, failure, fetched, row


def test_a_local_file_is_itself(tmp_path):
    path = tmp_path / "ä b\n.mp4"
    path.write_bytes(BODY)
    before = version_of(str(path))
    assert before == f"{len(BODY)}:{path.stat().st_mtime_ns}"
    with local_copy(row(str(path)), tmp_path / "scratch", max_bytes=len(BODY)) as found:
        assert found == path
    assert path.exists()
    assert not (tmp_path / "scratch").exists()
    os.utime(path, ns=(1, 1))
    assert version_of(str(path)) != before


def test_what_is_no_readable_file_is_told_apart(tmp_path):
    (tmp_path / "file.mp4").write_bytes(BODY)
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "loop.mp4").symlink_to("loop.mp4")
    expected = {
        "none.mp4": ("missing", "no such file"),
        "file.mp4/under.mp4": ("missing", "no such file"),
        ".": ("unreadable", "must be a file, but is a folder (of frames? give frames_fps)"),
        "pipe.mp4": ("unreadable", "must be a file, but is neither file nor folder"),
        "loop.mp4": ("unreadable", "Too many levels of symbolic links"),
        "n" * 300: ("unreadable", "File name too long"),
    }
    for name, (reason, detail) in expected.items():
        assert failure(row(str(tmp_path / name)), tmp_path / "scratch") == (reason, detail)
        with pytest.raises(MediaError, match=re.escape(detail)):
            version_of(str(tmp_path / name))


def test_more_bytes_than_allowed_are_not_taken(tmp_path):
    (tmp_path / "a.mp4").write_bytes(BODY)
    path = str(tmp_path / "a.mp4")
    expected = ("limit", f"{len(BODY)} bytes, at most 99 are taken")
    assert failure(row(path), tmp_path / "scratch", max_bytes=99) == expected
    assert failure(row(path, (0, 100)), tmp_path / "scratch", max_bytes=99)[0] == "limit"


def test_a_member_of_a_tar_is_cut_out_under_its_own_extension(tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(b"x" * 512 + BODY + b"y" * 512)
    wanted = row(str(path), (512, len(BODY)), "a.tar/jump/1.WebM")
    with local_copy(wanted, tmp_path / "scratch", max_bytes=10**6) as found:
        assert found.suffix == ".webm"
        assert found.parent == tmp_path / "scratch"
        assert found.read_bytes() == BODY
    assert fetched(wanted, tmp_path / "scratch") == BODY
    assert fetched(row(str(path), (512, 0)), tmp_path / "scratch") == b""
    reason, detail = failure(row(str(path), (1024, len(BODY) + 512)), tmp_path / "scratch")
    assert (reason, detail) == ("damaged", "the file ends 512 bytes before the end of this video")
    assert failure(row(str(tmp_path / "none.tar"), (0, 1)), tmp_path / "scratch") == ("missing", "no such file")


def test_a_fault_known_from_listing_is_raised(tmp_path):
    assert failure(row("/a.tar", fault="damaged: cut: here"), tmp_path) == ("damaged", "cut: here")


def test_a_cut_tar_fails_by_sample(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in ("1.mp4", "2.mp4", "3.mp4"):
            info = tarfile.TarInfo(name)
            info.size = len(BODY)
            tar.addfile(info, io.BytesIO(BODY))
    os.truncate(path, 2 * (512 + len(BODY)) + 512 + 1000)
    one, two, three, rest = open_source(path)
    assert fetched(one, tmp_path / "scratch") == fetched(two, tmp_path / "scratch") == BODY
    lacking = len(BODY) - 1000
    expected = ("damaged", f"the tar ends {lacking} bytes before the end of this member")
    assert failure(three, tmp_path / "scratch") == expected
    assert failure(rest, tmp_path / "scratch")[0] == "damaged"


def test_a_full_scratch_disk_is_not_the_videos_fault(small_disk, tmp_path):
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(4_000_000))
    with pytest.raises(StorageError, match="cannot write"):
        fetched(row(str(path), (0, 4_000_000)), small_disk, max_bytes=10**7)
    assert list(small_disk.iterdir()) == []
