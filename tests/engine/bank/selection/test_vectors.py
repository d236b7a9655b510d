"""Word vectors are read out of every form the same; what is damaged is told by line or byte."""

import gzip
import io
from pathlib import Path

import numpy as np
import pytest
from reelmill.engine.bank.selection import vectors
from reelmill.engine.bank.selection.vectors import keep_vectors
from reelmill.shards.errors import UsageError

WORDS = {"the": [1.0, 0.0, -0.5], "dog": [0.25, 2.0, 3.0], "Paris": [7.0, 8.0, 9.0], "paris": [4.0, 5.0, 6.0]}
ALL = {"the", "dog", "paris", "cat"}


def lines(words=WORDS) -> bytes:
    return "".join(f"{word} {' '.join(map(str, numbers))}\n" for word, numbers in words.items()).encode()


def binary(words=WORDS, end: bytes = b"\n", count: int | None = None) -> bytes:
    head = f"{len(words) if count is None else count} 3\n".encode()
    return head + b"".join(w.encode() + b" " + np.array(numbers, "<f4").tobytes() + end for w, numbers in words.items())


FORMS = {
    "text": lines(),
    "word2vec.txt": f"{len(WORDS)} 3\n".encode() + lines(),
    "trailing spaces": f"{len(WORDS)} 3 \r\n".encode() + lines().replace(b"\n", b" \r\n"),
    "no newline at the end": lines()[:-1],
    "binary": binary(),
    "binary without newlines": binary(end=b""),
    "text.gz": gzip.compress(lines()),
    "binary.gz": gzip.compress(binary()),
}


def read(path: Path, wanted=ALL) -> tuple[dict[str, list[float]], vectors.Found]:
    kept = io.BytesIO()
    found = keep_vectors(path, wanted, kept)
    rows = np.frombuffer(kept.getvalue(), "<f4").reshape(-1, found.dimensions)
    return {word: rows[row].tolist() for word, row in found.rows.items()}, found


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_vectors(tmp_path, name):
    (tmp_path / name).write_bytes(FORMS[name])
    words, found = read(tmp_path / name)
    assert words == {"the": WORDS["the"], "dog": WORDS["dog"], "paris": WORDS["paris"]}
    assert (found.entries, found.dimensions) == (4, 3)
    want = (
        "word2vec binary" if "binary" in name else "GloVe text" if name.startswith(("text", "no")) else "word2vec text"
    )
    assert found.format == want


def test_the_same_word_in_other_cases_stands_in_until_it_comes_itself(tmp_path):
    content = {"PARIS": [1, 1, 1], "Paris": [2, 2, 2], "ÉTÉ": [3, 3, 3], "dog": [4, 4, 4], "Dog": [5, 5, 5]}
    (tmp_path / "v").write_bytes(lines(content) + b"dog 9 9 9\n")
    words, _ = read(tmp_path / "v", {"paris", "été", "dog"})
    assert words == {"paris": [1.0] * 3, "été": [3.0] * 3, "dog": [4.0] * 3}


def test_entries_of_several_words_and_foreign_bytes_are_passed_over(tmp_path):
    (tmp_path / "v").write_bytes(b"dog 1 2 3\n. . . 4 5 6\n\xff\xfe 7 8 9\ncat 1 1 1\n")
    words, found = read(tmp_path / "v", {"dog", "cat", "."})
    assert words == {"dog": [1.0, 2.0, 3.0], "cat": [1.0, 1.0, 1.0]}
    assert found.entries == 4


@pytest.mark.parametrize("read_bytes", [1, 7, 64])
def test_a_binary_file_is_read_in_pieces(tmp_path, monkeypatch, read_bytes):
    words = {f"w{number}": [number, 0.5, -number] for number in range(50)}
    (tmp_path / "v").write_bytes(binary(words))
    monkeypatch.setattr(vectors, "READ_BYTES", read_bytes + vectors.MAX_WORD_BYTES + 20)
    monkeypatch.setattr(vectors, "AT_A_TIME", 8)
    found, _ = read(tmp_path / "v", set(words))
    assert found == words


def test_only_what_is_wanted_is_kept(tmp_path):
    (tmp_path / "v").write_bytes(lines())
    kept = io.BytesIO()
    assert keep_vectors(tmp_path / "v", {"dog"}, kept).rows == {"dog": 0}
    assert len(kept.getvalue()) == 12
    assert read(tmp_path / "v", {"zebra"})[0] == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"must begin with a line 'WORDS DIMENSIONS' \(word2vec\) or a word and its numbers \(GloVe\), got b''"),
        (b"just some prose\nand more\n", "must begin with a line 'WORDS DIMENSIONS'"),
        (b"\x00\x01\x02" * 100, "must begin with a line"),
        (b"a nan 1\nb 1 2\n", "must begin with a line"),
        (b"0 3\n", "must have 1 to 268435456 words of 1 to 4096 dimensions, got 0 of 3"),
        (b"5 9999\nx", "1 to 4096 dimensions, got 5 of 9999"),
        (lines() + b"cat 1 2\n", "line 5 must be a word and 3 finite numbers, got b'cat 1 2'"),
        (lines() + b"cat 1 x 2\n", "line 5 must be a word and 3 finite numbers, got b'cat 1 x 2'"),
        (lines() + b"cat 1 nan 2\ndog 1 2 3\n", "line 5 must be a word and 3 finite numbers"),
        (lines() + b"cat 1  2\n", "line 5 must be a word and 3 finite numbers"),
        (lines() + b"cat 1 \xff 2\n", "line 5 must be a word and 3 finite numbers"),
        (lines() + b"\n", "line 5 must be a word and 3 finite numbers, got b''"),
        (b"9 3\n" + lines(), "must have 9 words as its first line says, got 4"),
        (b"3 3\n" + lines(), "must have 3 words as its first line says, got 4"),
        (lines() + b"x" * 2_000_000, "line 5 must have at most 1048576 bytes"),
        (
            binary()[:-3],
            "at byte 56 word 4 of 4 must be at most 4096 bytes, a space and 12 bytes of numbers, but the f",
        ),
        (binary(count=5), "word 5 of 5 must be .*, but no space comes"),
        (binary(count=3), "must end at byte 56, after 3 words as its first line says"),
        (binary({"the": [1, 2, 3], "dog": [1, float("inf"), 3]}), "the numbers of b'dog' must be finite"),
        (b"2 3\n" + b"y" * 9000, "at byte 4 word 1 of 2 must be at most 4096 bytes, a space"),
    ],
)
def test_damage_is_told_with_its_place(tmp_path, content, message):
    (tmp_path / "v").write_bytes(content)
    with pytest.raises(UsageError, match=message):
        read(tmp_path / "v")


def test_no_file_and_no_gzip_are_told(tmp_path):
    with pytest.raises(UsageError, match=r"vectors must be a file, but there is none at .*/none"):
        read(tmp_path / "none")
    (tmp_path / "v.gz").write_bytes(b"not packed")
    with pytest.raises(UsageError, match=r"vectors .*/v\.gz does not read: Not a gzipped file"):
        read(tmp_path / "v.gz")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(lines() * 1000)[:-20])
    with pytest.raises(UsageError, match=r"cut\.gz does not read"):
        read(tmp_path / "cut.gz")
