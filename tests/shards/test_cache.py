"""A cache makes a file once, keeps to its bytes, and is shared by processes."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from reelmill.shards.cache import DiskCache
from reelmill.shards.errors import StorageError, UsageError

WRITER = """
import sys, time
from pathlib import Path
from reelmill.shards.cache import DiskCache

def make(path):
    with open(sys.argv[2], "a") as log:
        log.write("made\\n")
    time.sleep(0.2)
    path.write_bytes(b"x" * 1000)

DiskCache(Path(sys.argv[1]), 5000).open("shared", make)
"""


def read(descriptor: int) -> bytes:
    with os.fdopen(descriptor, "rb") as file:
        return file.read()


def never(path: Path) -> None:
    raise AssertionError(f"{path} must be there already")


def kept(cache: DiskCache) -> set[str]:
    return {path.name for path in cache.folder.iterdir() if not path.name.startswith(".")}


def test_a_file_is_made_once(tmp_path):
    cache = DiskCache(tmp_path / "cache", 100)
    assert read(cache.open("a.tar", lambda path: path.write_bytes(b"one"))) == b"one"
    assert read(cache.open("a.tar", never)) == b"one"
    assert read(DiskCache(tmp_path / "cache", 100).open("a.tar", never)) == b"one"


def test_the_file_not_asked_for_longest_goes_first_and_stays_readable(tmp_path):
    cache = DiskCache(tmp_path, 100)
    held = cache.open("a", lambda path: path.write_bytes(b"a" * 40))
    os.close(cache.open("b", lambda path: path.write_bytes(b"b" * 40)))
    os.utime(tmp_path / "a", ns=(2, 2))
    os.utime(tmp_path / "b", ns=(1, 1))
    os.close(cache.open("c", lambda path: path.write_bytes(b"c" * 40)))
    assert kept(cache) == {"a", "c"}
    os.utime(tmp_path / "c", ns=(1, 1))
    os.close(cache.open("a", never))  # asked for: younger than c
    os.close(cache.open("d", lambda path: path.write_bytes(b"d" * 90)))
    assert kept(cache) == {"d"}
    assert read(held) == b"a" * 40


def test_processes_and_threads_wait_for_the_one_that_makes_it(tmp_path):
    log = tmp_path / "log"
    command = [sys.executable, "-c", WRITER, str(tmp_path / "cache"), str(log)]
    others = [subprocess.Popen(command) for _ in range(2)]
    cache = DiskCache(tmp_path / "cache", 5000)

    def make(path: Path) -> None:
        with log.open("a") as file:
            file.write("made\n")
        path.write_bytes(b"x" * 1000)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: read(cache.open("shared", make)), range(8)))
    assert [other.wait() for other in others] == [0, 0]
    assert set(found) == {b"x" * 1000}
    assert log.read_text() == "made\n"


def test_a_file_that_could_not_be_made_leaves_nothing(tmp_path):
    cache = DiskCache(tmp_path, 10)

    def fails(path: Path) -> None:
        path.write_bytes(b"half")
        raise ConnectionError("link cut")

    with pytest.raises(StorageError, match=r"cannot write .*a: link cut"):
        cache.open("a", fails)
    with pytest.raises(UsageError, match=r"must hold big of 11 bytes, but its limit is 10; raise it"):
        cache.open("big", lambda path: path.write_bytes(b"x" * 11))
    assert kept(cache) == set()
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("name", ["../a", "a/b", ".hidden", ""])
def test_a_name_stays_in_the_folder(tmp_path, name):
    with pytest.raises(ValueError, match="name must match"):
        DiskCache(tmp_path, 10).open(name, never)


def test_a_limit_must_be_positive(tmp_path):
    with pytest.raises(UsageError, match="must be > 0 bytes, got 0"):
        DiskCache(tmp_path, 0)
