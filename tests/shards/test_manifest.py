"""dataset.json is believed only when it hashes to what it says and stays inside its folder."""

import json
from dataclasses import replace

import pytest
from reelmill.shards.errors import DamageError, UsageError
from reelmill.shards.manifest import Generation, Manifest, ShardEntry, read_manifest, write_manifest

SHARD = ShardEntry("000000", "shards/000000.tar", 3, 1024, "a", "b", "c")
MANIFEST = Manifest(["jump"], [Generation({"preset": "archive"}, "h", [SHARD])], "l", {"samples": 3})


def test_round_trip(tmp_path):
    write_manifest(tmp_path, MANIFEST)
    assert read_manifest(tmp_path) == MANIFEST


def test_no_dataset(tmp_path):
    with pytest.raises(UsageError, match=r"must be a dataset \(a folder with dataset.json\), but there is none"):
        read_manifest(tmp_path)


def test_another_version(tmp_path):
    write_manifest(tmp_path, replace(MANIFEST, format_version=99))
    with pytest.raises(UsageError, match="must be of format version 1, got 99"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"[]", b"{}", b'{"format_version": 1}', b"\xff"])
def test_what_is_not_a_manifest(tmp_path, damage):
    (tmp_path / "dataset.json").write_bytes(damage)
    with pytest.raises(DamageError, match="is not a dataset manifest"):
        read_manifest(tmp_path)


def test_a_changed_field_breaks_its_own_hash(tmp_path):
    write_manifest(tmp_path, MANIFEST)
    path = tmp_path / "dataset.json"
    path.write_text(path.read_text().replace('"samples": 3', '"samples": 4', 1))
    with pytest.raises(DamageError, match=r"must hash to .* as it says itself"):
        read_manifest(tmp_path)


def test_an_unknown_field_is_named(tmp_path):
    write_manifest(tmp_path, MANIFEST)
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"extra": 1}))
    with pytest.raises(DamageError, match="extra"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("uri", ["/etc/passwd", "../other/000000.tar"])
def test_a_shard_outside_the_folder_is_refused(tmp_path, uri):
    generation = Generation({}, "h", [replace(SHARD, uri=uri)])
    write_manifest(tmp_path, replace(MANIFEST, generations=[generation]))
    with pytest.raises(DamageError, match="must be relative and stay inside it"):
        read_manifest(tmp_path)
