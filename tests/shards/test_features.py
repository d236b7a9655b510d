"""Feature sets on disk: streamed in, found by key, the same bytes every time, and never believed without a crc32."""

import json
import signal
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from reelmill.shards.errors import DamageError, StorageError, UsageError
from reelmill.shards.features import Features, FeatureWriter, Stored, TensorSpec
from reelmill.shards.features.tensors import decode, encode
from reelmill.shards.store import Folder
from safetensors.numpy import load, save

VERSIONS = {"clip": "1.0"}


def tensors(seed: int, length: int = 4) -> dict[str, Stored]:
    rng = np.random.default_rng(seed)
    return {
        "frames": Stored.of(rng.normal(size=(length, 3)).astype(np.float16)),
        "video": Stored.of(rng.normal(size=3).astype(np.float32)),
    }


def write(dataset: Path, name: str = "clip", count: int = 5) -> Path:
    with FeatureWriter(dataset, name, description="CLIP's", versions=VERSIONS) as writer:
        for number in range(count):
            writer.add(f"{number // 2:06d}", f"key{9 - number}", tensors(number, length=4 + number % 2))
    return writer.folder


def opened(dataset: Path, name: str = "clip") -> Features:
    return Features(Folder(dataset), name)


def rewritten(path: Path, **changes: object) -> None:
    """features.json with other fields, and the hash that it then has."""
    record = json.loads(path.read_bytes()) | changes
    from reelmill.shards.manifest import hash_json

    digest = hash_json({name: value for name, value in record.items() if name != "digest"})
    path.write_text(json.dumps(record | {"digest": digest}))


def test_what_was_written_is_found_by_key(tmp_path):
    write(tmp_path)
    features = opened(tmp_path)
    assert features.set.tensors == {"frames": TensorSpec("F16", (None, 3)), "video": TensorSpec("F32", (3,))}
    assert (features.set.description, features.set.versions, features.set.samples) == ("CLIP's", VERSIONS, 5)
    assert [(tar.name, tar.samples) for tar in features.set.tars] == [("000000", 2), ("000001", 2), ("000002", 1)]
    for number in (3, 0, 4, 2, 1):
        found = features.read(f"key{9 - number}")
        for name, tensor in tensors(number, 4 + number % 2).items():
            assert np.array_equal(found[name].numpy(), tensor.numpy())
    assert features.index.column("key").to_pylist() == ["key5", "key6", "key7", "key8", "key9"]


def test_the_same_features_are_the_same_bytes(tmp_path):
    def files(folder: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in folder.iterdir()}

    one, two = files(write(tmp_path / "a")), files(write(tmp_path / "b"))
    assert one == two
    assert sorted(one) == ["000000.tar", "000001.tar", "000002.tar", "features.json", "index.parquet"]


def test_the_tars_are_plain(tmp_path):
    folder = write(tmp_path)
    with tarfile.open(folder / "000000.tar") as tar:
        assert tar.getnames() == ["key9.safetensors", "key8.safetensors"]
        member = tar.extractfile("key9.safetensors")
        assert member is not None
        assert np.array_equal(load(member.read())["frames"], tensors(0)["frames"].numpy())
    row = pq.read_table(folder / "index.parquet").to_pylist()[-1]
    data = (folder / "000000.tar").read_bytes()[row["offset"] : row["offset"] + row["size"]]
    assert decode(data, "here")["video"].shape == (3,)


def test_a_set_appears_whole_or_not_at_all(tmp_path):
    def fail() -> None:
        with FeatureWriter(tmp_path, "clip", description="", versions={}) as writer:
            writer.add("000000", "key", tensors(0))
            assert not writer.folder.exists()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert list((tmp_path / "features").iterdir()) == []
    left = tmp_path / "features/.clip.part"  # by a job that was killed
    left.mkdir()
    (left / "000000.tar").write_bytes(b"half")
    write(tmp_path)
    assert [path.name for path in (tmp_path / "features").iterdir()] == ["clip"]
    with pytest.raises(UsageError, match="is there already: remove it, or take another name"):
        write(tmp_path)


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from reelmill.shards.features import FeatureWriter, Stored
with FeatureWriter(Path(sys.argv[1]), "clip", description="CLIP's", versions={"clip": "1.0"}) as writer:
    for shard in ("000000", "000001"):
        writer.add(shard, f"key{shard}", {"frames": Stored.of(np.zeros((4, 3), np.float16))})
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_writer_leaves_no_set_and_the_next_one_the_same_bytes(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "a")], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert [path.name for path in (tmp_path / "a/features").iterdir()] == [".clip.part"]
    with pytest.raises(UsageError, match="must be a file of the dataset"):
        opened(tmp_path / "a")
    one, two = write(tmp_path / "a"), write(tmp_path / "b")
    assert {p.name: p.read_bytes() for p in one.iterdir()} == {p.name: p.read_bytes() for p in two.iterdir()}
    assert [path.name for path in (tmp_path / "a/features").iterdir()] == ["clip"]


def test_a_full_disk_leaves_nothing(small_disk):
    big = {"frames": Stored.of(np.zeros((1 << 19, 8), np.float32))}
    with (
        pytest.raises(StorageError, match="free space and run again"),
        FeatureWriter(small_disk, "clip", description="", versions={}) as writer,
    ):
        writer.add("000000", "key", big)
    assert list((small_disk / "features").iterdir()) == []


def test_what_a_writer_refuses(tmp_path):
    with pytest.raises(UsageError, match=r"name must match .*, got '\.npy'"):
        FeatureWriter(tmp_path, ".npy", description="", versions={})
    with FeatureWriter(tmp_path, "clip", description="", versions={}) as writer:
        writer.add("000000", "a", tensors(0))
        with pytest.raises(UsageError, match="at least one tensor"):
            writer.add("000000", "b", {})
        with pytest.raises(UsageError, match=r"tensors must be frames F16 \(4, 3\), video F32 \(3\) as in the samples"):
            writer.add("000000", "b", {"frames": tensors(0)["frames"]})
        with pytest.raises(UsageError, match="key must hold no dot"):
            writer.add("000000", "b.c", tensors(0))
        writer.add("000001", "d", tensors(0))
        with pytest.raises(UsageError, match="shard 000000 must follow each other"):
            writer.add("000000", "e", tensors(0))
    assert opened(tmp_path).set.samples == 2

    def add_twice() -> None:
        with FeatureWriter(tmp_path, "twice", description="", versions={}) as writer:
            writer.add("000000", "f", tensors(0))
            writer.add("000001", "f", tensors(0))

    with pytest.raises(UsageError, match="added once, got f twice"):
        add_twice()
    assert not (tmp_path / "features/twice").exists()


def test_damage_is_told_before_anything_is_believed(tmp_path):
    folder = write(tmp_path)
    features = opened(tmp_path)
    with pytest.raises(DamageError, match="features/clip holds no features of nokey"):
        features.read("nokey")
    tar = folder / "000000.tar"
    data = bytearray(tar.read_bytes())
    data[600] ^= 1
    tar.write_bytes(data)
    with pytest.raises(DamageError, match=r"000000.tar: key9.safetensors at offset 512 must have crc32"):
        features.read("key9")
    tar.write_bytes(data[:700])
    with pytest.raises(DamageError, match="must end inside the tar"):
        features.read("key8")
    tar.unlink()
    with pytest.raises(DamageError, match="listed in the dataset but cannot be opened"):
        features.read("key8")
    assert features.read("key5")


def test_a_damaged_list_or_index(tmp_path):
    with pytest.raises(UsageError, match=r"features.json must be a file of the dataset"):
        opened(tmp_path)
    with pytest.raises(UsageError, match="name must match"):
        opened(tmp_path, "../clip")
    folder = write(tmp_path)
    path = folder / "features.json"
    text = path.read_text()
    wrong = {
        "format version 1, got 9": text.replace('"format_version": 1', '"format_version": 9'),
        "must hash to": text.replace("CLIP's", "BLIP's"),
        "is no list of features: JSONDecodeError": text[:100],
        "is no list of features: KeyError": "{}",
        "is no list of features: TypeError": "[1]",
    }
    for words, changed in wrong.items():
        path.write_text(changed)
        with pytest.raises((DamageError, UsageError), match=words):
            opened(tmp_path)
    path.write_text(text)
    rewritten(path, tensors={"frames": {"dtype": "F8", "shape": [-1]}})
    with pytest.raises(DamageError, match="must give tensors by dtype and shape"):
        opened(tmp_path)
    path.write_text(text)
    rewritten(path, tars=[{"name": "../../secret", "samples": 1, "bytes": 1, "sha256": ""}] * 3)
    with pytest.raises(DamageError, match="must be relative and stay inside it"):
        opened(tmp_path).read("key9")
    path.write_text(text)
    rewritten(path, samples=6)
    with pytest.raises(DamageError, match=r"index.parquet must hold 6 rows of key, tar"):
        opened(tmp_path).read("key9")
    path.write_text(text)
    rewritten(path, tensors={"frames": {"dtype": "F16", "shape": [None, 4]}})
    with pytest.raises(DamageError, match=r"key9 must hold frames F16 \(\*, 4\), got frames F16 \(4, 3\), video"):
        opened(tmp_path).read("key9")
    path.write_text(text)
    (folder / "index.parquet").write_bytes(b"PAR1")
    with pytest.raises(DamageError, match=r"index.parquet does not read"):
        opened(tmp_path).read("key9")


names = st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__")
arrays = st.builds(
    lambda shape, kind: np.arange(int(np.prod(shape)), dtype=kind).reshape(shape),
    st.lists(st.integers(0, 3), max_size=3),
    st.sampled_from(["<f4", ">f4", "<f2", "<i8", "|u1", ">i2", "<f8"]),
)


@given(st.dictionaries(names, arrays, max_size=4))
def test_any_tensors_come_back_and_others_read_them(found):
    data = encode({name: Stored.of(array) for name, array in found.items()})
    back = decode(data, "here")
    theirs = load(data)
    assert back.keys() == theirs.keys() == found.keys()
    for name, array in found.items():
        assert np.array_equal(back[name].numpy(), array)
        assert np.array_equal(theirs[name], array)
    little = {name: array.astype(array.dtype.newbyteorder("<")) for name, array in found.items()}
    assert {name: tensor.shape for name, tensor in decode(save(little), "here").items()} == {
        name: array.shape for name, array in found.items()
    }


def test_types_and_bytes_that_are_no_features():
    with pytest.raises(UsageError, match="got object"):
        Stored.of(np.array([None]))
    with pytest.raises(UsageError, match="got complex64"):
        Stored.of(np.zeros(2, np.complex64))
    half = Stored("BF16", (2,), b"\x80\x3f\x00\x40")
    assert decode(encode({"a": half}), "here")["a"].shape == (2,)
    with pytest.raises(UsageError, match=r"NumPy reads .*, got BF16"):
        half.numpy()
    assert np.array_equal(Stored.of(np.arange(6).reshape(2, 3).T).numpy(), np.arange(6).reshape(2, 3).T)
    for data in (b"", b"\xff" * 8, b"\x02\0\0\0\0\0\0\0{]", encode({"a": half})[:-1]):
        with pytest.raises(DamageError, match=r"here does not read as safetensors"):
            decode(data, "here")
    with pytest.raises(DamageError, match=r"a must be of one of .*, got U16"):
        decode(save({"a": np.zeros(2, np.uint16)}), "here")
