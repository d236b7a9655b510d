"""The tars of a bank are not trusted: what is no bank, or not all of one, is told."""

import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest
from reelmill.shards.bank.tars import BLOCK, open_blocks, read_table, stream_blocks
from reelmill.shards.errors import DamageError
from reelmill.shards.tar import TarWriter


def tar_of(path: Path, members: list[tuple[str, str, bytes]]) -> Path:
    with path.open("wb") as file:
        writer = TarWriter(file)
        for key, ext, payload in members:
            writer.add(key, {ext: payload})
        writer.close()
    return path


def facts(**changes: object) -> bytes:
    record: dict[str, object] = {"action_id": 1, "name": "a", "canonical": "a", "aliases": [], "origins": []}
    return json.dumps(record | {"descriptions": 2, "block": 0, "blocks": 1, "rows": 2} | changes).encode()


def rows(texts: list[str], schema: pa.Schema = BLOCK) -> bytes:
    sink = pa.BufferOutputStream()
    columns = {"text": texts, "source": texts, "sentences": [1] * len(texts), "relevance": [None] * len(texts)}
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch([pa.array(columns[f.name], f.type) for f in schema], schema=schema))
    content: bytes = sink.getvalue().to_pybytes()
    return content


KEY, AB = "0000000000000001-000000", rows(["x", "y"])
SECOND = "0000000000000001-000001"


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([(KEY, "json", b"{")], "does not read: Expecting property name"),
        ([(KEY, "json", b"[" * 100_000)], "does not read"),
        ([(KEY, "json", b"[]")], "must say action_id, name"),
        ([(KEY, "json", facts(rows="2"))], "must say action_id, name"),
        ([(KEY, "json", facts(surprise=1))], "must say action_id, name"),
        ([(KEY, "json", facts(block=1))], "must say action_id, name"),
        ([(KEY, "json", facts(action_id=-1))], "must say action_id, name"),
        ([(KEY, "json", facts(action_id=2))], "must be named after its action and block"),
        ([(KEY, "json", facts())], "must have the rows of 'a' at its end"),
        ([(KEY, "arrow", AB)], r"must be a \.json and its \.arrow, each at most 256 MiB; a bank of an earlier version"),
        ([(KEY, "json", facts()), (KEY, "json", facts())], r"must be a \.json and its \.arrow"),
        ([(KEY, "json", facts()), (KEY, "txt", b"x")], r"must be a \.json and its \.arrow"),
        ([(KEY, "json", facts()), (KEY, "arrow", b"not arrow")], "does not read"),
        ([(KEY, "json", facts(rows=3)), (KEY, "arrow", AB)], "must have 3 rows"),
        ([(KEY, "json", facts()), (KEY, "arrow", rows(["x", "y"], pa.schema([BLOCK.field(0)])))], "must h"),
    ],
)
def test_tars_that_are_no_bank_are_told(tmp_path, members, message):
    tar = tar_of(tmp_path / "x.tar", members)
    with pytest.raises(DamageError, match=message):
        list(stream_blocks([tar]))
    with pytest.raises(DamageError, match=message):
        open_blocks([tar])


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([(KEY, "json", facts(blocks=2)), (KEY, "arrow", AB)], "must end with 2 blocks of 'a', got 1"),
        ([(KEY, "json", facts(descriptions=5)), (KEY, "arrow", AB)], "must have 'a' once, with 5 descriptions, got 2"),
        ([(SECOND, "json", facts(block=1, blocks=2)), (SECOND, "arrow", AB)], "must follow the block before it"),
        ([(KEY, "json", facts()), (KEY, "arrow", AB)] * 2, "must have 'a' once, with 2 descriptions"),
        (
            [
                (KEY, "json", facts(blocks=2, descriptions=4)),
                (KEY, "arrow", AB),
                (SECOND, "json", facts(blocks=2, block=1, descriptions=4, name="b")),
                (SECOND, "arrow", AB),
            ],
            "block 1 of 'a' must follow the block before it",
        ),
    ],
)
def test_blocks_that_do_not_fit_are_told(tmp_path, members, message):
    tar = tar_of(tmp_path / "x.tar", members)
    with pytest.raises(DamageError, match=message):
        open_blocks([tar])


def test_links_and_what_is_not_there_are_told(tmp_path):
    with tarfile.open(tmp_path / "link.tar", "w") as archive:
        info = tarfile.TarInfo(f"{KEY}.json")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(info)
    with pytest.raises(DamageError, match=r"must be a \.json and its \.arrow"):
        open_blocks([tmp_path / "link.tar"])
    with pytest.raises(DamageError, match="is not a bank tar"):
        read_table([tmp_path / "none.tar"], "synonyms")


def test_a_whole_bank_is_read(tmp_path):
    members = [(KEY, "json", facts(blocks=2, descriptions=4)), (KEY, "arrow", AB)]
    members += [(SECOND, "json", facts(blocks=2, block=1, descriptions=4)), (SECOND, "arrow", rows(["z", "ü"]))]
    tar = tar_of(tmp_path / "x.tar", [("tables", "synonyms.parquet", b"a table"), *members])
    actions, texts = open_blocks([tar])
    assert [action["canonical"] for action in actions] == ["a"]
    assert list(texts[1]) == ["x", "y", "z", "ü"]
    assert [block.facts["block"] for block in stream_blocks([tar])] == [0, 1]
    assert (read_table([tar], "synonyms"), read_table([tar], "entities")) == (b"a table", None)
