"""Tars are the same bytes every time, and what every reader of the field expects."""

import gc
import io
import tarfile
import zlib
from pathlib import Path

import pytest
import wds2idx
import webdataset as wds
from reelmill.shards.errors import UsageError
from reelmill.shards.files import write_atomic
from reelmill.shards.tar import TarWriter

SAMPLES = [
    ("00ff", {"mp4": b"video" * 300, "json": b"{}", "txt": b"a caption"}),
    ("01aa", {"mp4": b"", "json": b'{"n": 1}'}),
    ("02bb", {"mp4": b"x" * 512, "json": b"{}"}),
]


def write(path: Path, samples=SAMPLES):
    file = io.BytesIO()
    writer = TarWriter(file)
    members = [writer.add(key, parts) for key, parts in samples]
    sha256 = writer.close()
    write_atomic(path, file.getvalue())
    write_atomic(path.with_suffix(".idx"), writer.index())
    return members, sha256


def test_same_samples_give_same_bytes(tmp_path):
    _, first = write(tmp_path / "a.tar")
    _, second = write(tmp_path / "b.tar")
    assert first == second
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_members_say_where_their_bytes_are(tmp_path):
    members, _ = write(tmp_path / "a.tar")
    data = (tmp_path / "a.tar").read_bytes()
    for (_, parts), found in zip(SAMPLES, members, strict=True):
        for (ext, payload), member in zip(parts.items(), found, strict=True):
            assert member.ext == ext
            assert data[member.offset : member.offset + member.size] == payload
            assert member.crc32 == zlib.crc32(payload)


def test_headers_are_plain_ustar_without_time_or_owner(tmp_path):
    write(tmp_path / "a.tar")
    with tarfile.open(tmp_path / "a.tar") as archive:
        infos = archive.getmembers()
    assert [info.name for info in infos] == [f"{key}.{ext}" for key, parts in SAMPLES for ext in parts]
    assert {(i.mtime, i.uid, i.gid, i.uname, i.gname, i.pax_headers.get("mtime")) for i in infos} == {
        (0, 0, 0, "", "", None)
    }


@pytest.mark.filterwarnings("ignore:Exception ignored in")  # webdataset leaves its file to the garbage collector
def test_webdataset_reads_it(tmp_path):
    write(tmp_path / "a.tar")
    read = list(wds.WebDataset(str(tmp_path / "a.tar"), shardshuffle=False))
    gc.collect()
    assert [sample["__key__"] for sample in read] == [key for key, _ in SAMPLES]
    assert read[0]["mp4"] == SAMPLES[0][1]["mp4"]


def test_index_equals_what_wds2idx_writes(tmp_path):
    write(tmp_path / "a.tar")
    with wds2idx.IndexCreator(str(tmp_path / "a.tar"), str(tmp_path / "theirs.idx"), verbose=False) as creator:
        creator.create_index()
    assert (tmp_path / "a.idx").read_bytes() == (tmp_path / "theirs.idx").read_bytes()


def test_a_payload_may_be_a_file(tmp_path):
    source = tmp_path / "source.bin"
    source.write_bytes(bytes(range(256)) * 9000)
    from_file, _ = write(tmp_path / "a.tar", [("00ff", {"mp4": source})])
    from_bytes, _ = write(tmp_path / "b.tar", [("00ff", {"mp4": source.read_bytes()})])
    assert from_file == from_bytes
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


@pytest.mark.parametrize("key", ["", "a.b", "a/b"])
def test_a_key_that_would_split_a_sample_is_refused(tmp_path, key):
    with pytest.raises(UsageError, match="must hold no dot and no slash"):
        write(tmp_path / "a.tar", [(key, {"mp4": b""})])


def test_a_member_of_8_gib_is_refused(tmp_path):
    huge = tmp_path / "huge.mp4"
    with huge.open("wb") as file:
        file.truncate(8 << 30)  # a hole: takes no space
    with pytest.raises(UsageError, match=r"00ff\.mp4 must be smaller than 8 GiB .* got 8589934592 bytes"):
        TarWriter(io.BytesIO()).add("00ff", {"mp4": huge})
