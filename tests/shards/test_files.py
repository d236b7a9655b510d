"""A file appears whole or not at all, and a disk that refuses is named."""

import subprocess
from pathlib import Path

import pytest
from reelmill.shards.errors import DamageError, StorageError
from reelmill.shards.files import atomic_file, inside, make_folder, write_atomic


def fail_halfway(path: Path) -> None:
    with atomic_file(path) as file:
        file.write(b"half")
        raise RuntimeError


def test_an_error_leaves_nothing_behind(tmp_path):
    with pytest.raises(RuntimeError):
        fail_halfway(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


def test_an_old_file_stays_until_the_new_one_is_whole(tmp_path):
    write_atomic(tmp_path / "a", b"old")
    with pytest.raises(RuntimeError):
        fail_halfway(tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == b"old"
    write_atomic(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"new"


def test_a_full_disk_is_one_clear_error(small_disk: Path):
    with pytest.raises(StorageError, match=r"cannot write .*/big: No space left on device; .* run again"):
        write_atomic(small_disk / "big", bytes(4 << 20))
    assert list(small_disk.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*/file/sub: (Not a directory|File exists)"):
        make_folder(tmp_path / "file" / "sub")


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "shards/../../x", ""])
def test_a_path_that_leaves_its_folder_is_refused(tmp_path, path):
    with pytest.raises(DamageError, match="must be relative and stay inside it"):
        inside(tmp_path, path)


def test_mount_is_a_real_small_disk(small_disk: Path):
    assert "tmpfs" in subprocess.run(["df", "-T", small_disk], capture_output=True, text=True, check=True).stdout
