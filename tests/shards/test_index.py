"""An index that points outside its tar never reaches DALI, which would crash on it."""

import pytest
from reelmill.shards.errors import DamageError
from reelmill.shards.index import IndexEntry, read_index

GOOD = "v1.2 2\nmp4 512 10 a.mp4 json 1536 2 a.json\nmp4 2560 5 b.mp4\n"


def test_reads_what_was_written(tmp_path):
    path = tmp_path / "a.idx"
    path.write_text(GOOD)
    samples = read_index(path, 4096)
    assert samples[0] == [IndexEntry("mp4", 512, 10, "a.mp4"), IndexEntry("json", 1536, 2, "a.json")]
    assert samples[1] == [IndexEntry("mp4", 2560, 5, "b.mp4")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (GOOD.replace("v1.2", "v1.1"), r"must start with 'v1.2 2'"),
        (GOOD.replace("v1.2 2", "v1.2 3"), r"must start with 'v1.2 2' \(its line count\), got 'v1.2 3'"),
        (GOOD.replace("2560 5 b.mp4", "2560 5"), "groups of 4 fields, got 3"),
        (GOOD.replace("2560", "x"), "cannot be read"),
        (GOOD.replace("2560 5", "2560 5000"), r"b.mp4 at 2560\+5000 lies outside its 4096-byte tar"),
        (GOOD.replace("2560 5", "-1 5"), "lies outside"),
        ("", "cannot be read"),
        ("\xff\xfe", "cannot be read"),
    ],
)
def test_damage_is_named(tmp_path, text, message):
    path = tmp_path / "a.idx"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(DamageError, match=message):
        read_index(path, 4096)
