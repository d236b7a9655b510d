"""WebDataset tars as input: what members say, and every way in which a tar can be broken."""

import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest
from reelmill.engine.sources import InputRow, open_source
from reelmill.shards.errors import UsageError


def make(path: Path, members: dict[str, bytes], form: int = tarfile.USTAR_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def content(row: InputRow) -> bytes:
    assert row.byte_range is not None
    with open(row.path, "rb") as file:
        file.seek(row.byte_range[0])
        return file.read(row.byte_range[1])


def faults(rows: list[InputRow]) -> list[tuple[str, str | None]]:
    return [(row.input_id, row.fault) for row in rows]


def test_every_video_member_is_a_row_with_what_is_beside_it(tmp_path):
    path = make(
        tmp_path / "a.tar",
        {
            "000.json": b'{"caption": "from json", "url": "u", "labels": ["x", "y"], "split": "train"}',
            "000.mp4": b"first",
            "000.txt": "from tëxt\n".encode(),
            "dir/1.left.mp4": b"left",
            "dir/1.right.MKV": b"right",
            "dir/1.cls": b"7\n",
            "notes.md": b"no sample",
            "2.webm": b"bare",
            "2.jpg": b"ignored",
            "noextension": b"",
        },
    )
    rows = list(open_source(path))
    assert [(row.input_id, row.labels, row.caption, row.split) for row in rows] == [
        ("a.tar/000.mp4", ["x", "y"], "from tëxt", "train"),
        ("a.tar/dir/1.left.mp4", ["7"], None, None),
        ("a.tar/dir/1.right.MKV", ["7"], None, None),
        ("a.tar/2.webm", [], None, None),
    ]
    assert rows[0].extra == {"url": "u"}
    assert [content(row) for row in rows] == [b"first", b"left", b"right", b"bare"]
    assert {row.path for row in rows} == {str(path)}
    assert {row.fault for row in rows} == {None}
    (tmp_path / "names.txt").write_text("".join(f"class {number}\n" for number in range(9)))
    cls = make(tmp_path / "b.tar", {"1.mp4": b"", "1.cls": b"7"})
    (row,) = open_source(cls, "webdataset", label_map=tmp_path / "names.txt")
    assert row.labels == ["class 7"]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_long_and_hostile_names(tmp_path, form):
    names = ["d" * 90 + "/" + "n" * 150 + ".mp4", "ünï\ncode/ä.mp4", "../../etc/x.mp4", "/abs/y.mp4"]
    rows = list(open_source(make(tmp_path / "a.tar", {name: name.encode() for name in names}, form)))
    assert [content(row).decode() for row in rows] == names
    assert [row.input_id for row in rows] == [f"a.tar/{name}" for name in names]
    assert {row.path for row in rows} == {str(tmp_path / "a.tar")}


def test_a_name_that_is_no_text_is_shown_escaped(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT, errors="surrogateescape") as tar:
        tar.addfile(tarfile.TarInfo("\udcff.mp4"))
    (row,) = open_source(path)
    assert row.input_id == "a.tar/\\xff.mp4"


def test_only_plain_members_count(tmp_path):
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo(f"{kind.decode()}.mp4")
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        tar.addfile(tarfile.TarInfo("real.mp4"))
    assert [row.input_id for row in open_source(path)] == ["a.tar/real.mp4"]


def test_folders_and_brace_patterns_of_tars(tmp_path):
    for name in ("s/1.tar", "s/0.tar", "t/0.tar"):
        make(tmp_path / name, {"k.mp4": b""})
    (tmp_path / "s/info.json").touch()
    source = open_source(tmp_path)
    assert [row.input_id for row in source] == ["s/0.tar/k.mp4", "s/1.tar/k.mp4", "t/0.tar/k.mp4"]
    assert source.ignored == 1
    assert [row.input_id for row in open_source(f"{tmp_path}/s/{{0..1}}.tar")] == ["0.tar/k.mp4", "1.tar/k.mp4"]
    assert [row.input_id for row in open_source(f"{tmp_path}/{{t,s}}/0.tar")] == ["t/0.tar/k.mp4", "s/0.tar/k.mp4"]
    with pytest.raises(UsageError, match=r"must name tars, but there is no file .*/s/2.tar"):
        list(open_source(f"{tmp_path}/s/{{0..9}}.tar"))
    with pytest.raises(UsageError, match=r"must name at most 1000000 tars, got 100000000000"):
        list(open_source(f"{tmp_path}/s/{{0..99999999999}}.tar"))
    with pytest.raises(UsageError, match=r"must have as many { as }"):
        list(open_source(f"{tmp_path}/s/{{0,{{1}}.tar"))
    (tmp_path / "s/v.mp4").touch()
    assert [row.input_id for row in open_source(tmp_path)] == ["s/v.mp4"]
    assert len(list(open_source(tmp_path, "webdataset"))) == 3


def test_a_tar_cut_inside_a_member_loses_only_that(tmp_path):
    path = make(tmp_path / "a.tar", {"1.mp4": b"x" * 1000, "1.txt": b"one", "2.mp4": b"y" * 1000})
    os.truncate(path, 512 + 1024 + 512 + 512 + 512 + 300)
    rows = list(open_source(path))
    assert faults(rows)[:2] == [
        ("a.tar/1.mp4", None),
        ("a.tar/2.mp4", "damaged: the tar ends 700 bytes before the end of this member"),
    ]
    assert rows[0].caption == "one"
    assert rows[2].input_id == "a.tar#rest"
    assert rows[2].fault is not None
    assert rows[2].fault.startswith("damaged: the tar is cut or damaged near byte")


@pytest.mark.parametrize("kept", [1536, 1700])
def test_a_tar_cut_between_members_fails_the_sample_at_the_break(tmp_path, kept):
    """Its label or caption may be what is missing."""
    path = make(tmp_path / "a.tar", {"1.mp4": b"x" * 1000, "2.mp4": b"y" * 1000})
    os.truncate(path, kept)
    rows = list(open_source(path))
    fault = f"damaged: the tar is cut at byte {kept}: its end mark is missing"
    assert faults(rows) == [("a.tar/1.mp4", fault), ("a.tar#rest", fault)]


def test_a_damaged_header_ends_the_tar_loudly(tmp_path):
    path = make(tmp_path / "a.tar", {"1.mp4": b"x" * 1000, "2.mp4": b"y" * 1000, "3.mp4": b"z"})
    with path.open("r+b") as file:
        file.seek(1536)
        file.write(b"garbage!" * 64)
    fault = "damaged: the tar is damaged at byte 1536: no header of a member"
    assert faults(list(open_source(path))) == [("a.tar/1.mp4", fault), ("a.tar#rest", fault)]


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "damaged: not a tar (empty file)"),
        (b"nothing", "damaged: not a tar (truncated header)"),
        (b"x" * 2000, "damaged: not a tar (invalid header)"),
    ],
)
def test_what_is_no_tar_is_one_failed_row_among_the_others(tmp_path, data, fault):
    (tmp_path / "0.tar").write_bytes(data)
    make(tmp_path / "1.tar", {"k.mp4": b""})
    rows = list(open_source(tmp_path))
    assert [row.input_id for row in rows] == ["0.tar#rest", "1.tar/k.mp4"]
    assert rows[0].fault == fault


def test_a_compressed_tar_is_told(tmp_path):
    plain = make(tmp_path / "a.tar", {"1.mp4": b""}).read_bytes()
    (tmp_path / "a.tar").write_bytes(gzip.compress(plain))
    with pytest.raises(UsageError, match=r"a.tar must be a plain tar, got a compressed one: unpack it first"):
        list(open_source(tmp_path / "a.tar"))


@pytest.mark.parametrize(
    ("name", "data", "fault"),
    [
        ("1.json", b"{", "the text beside it does not read: Expecting property name"),
        ("1.json", b"[1]", "the text beside it does not read: the json must be an object, got list"),
        ("1.json", b"[" * 100_000, "the text beside it does not read: maximum recursion depth exceeded"),
        ("1.json", b'{"label": {"a": 1}}', "the text beside it does not read: labels and caption must be text"),
        ("1.txt", b"\xff", "the text beside it does not read: 'utf-8' codec"),
        ("1.txt", b"x" * (1 << 20) + b"x", "1.txt has 1048577 bytes, at most 1048576 are read"),
    ],
)
def test_a_sample_whose_text_does_not_read_fails_alone(tmp_path, name, data, fault):
    path = make(tmp_path / "a.tar", {"1.mp4": b"", name: data, "2.mp4": b""})
    one, two = open_source(path)
    assert one.fault is not None
    assert fault in one.fault
    assert two.fault is None


def test_pickles_are_never_read(tmp_path):
    bomb = b"cos\nsystem\n(S'touch " + str(tmp_path / "pwned").encode() + b"'\ntR."
    path = make(tmp_path / "a.tar", {"1.mp4": b"", "1.pyd": bomb, "1.pickle": bomb, "1.pkl": bomb, "1.pth": bomb})
    (row,) = open_source(path)
    assert row.fault is None
    assert not (tmp_path / "pwned").exists()


def test_a_header_that_claims_much_is_not_read(tmp_path):
    """An extended header is read whole by tarfile: 64 MB of it here."""
    path = make(tmp_path / "a.tar", {"1.mp4": b"x"})
    header = tarfile.TarInfo("././@PaxHeader")
    header.type, header.size = tarfile.XHDTYPE, 64_000_000
    data = header.tobuf(tarfile.USTAR_FORMAT)
    with path.open("r+b") as file:
        file.seek(1024)
        file.write(data)
        file.truncate(1536 + 64_000_000)
    rows = list(open_source(path))
    assert faults(rows)[1][0] == "a.tar#rest"
    assert "a header of 64000000 bytes" in str(rows[1].fault)


def test_a_sparse_member_is_refused(tmp_path):
    info = tarfile.TarInfo("1.mp4")
    info.type = tarfile.GNUTYPE_SPARSE
    path = tmp_path / "a.tar"
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10240 - 512))
    (row,) = open_source(path)
    assert row.fault == "damaged: a sparse member, whose bytes do not lie together"
