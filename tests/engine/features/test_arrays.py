"""Array files from anywhere: what they hold comes out, what would hurt is refused by its header."""

import io
import zipfile

import numpy as np
import pytest
from reelmill.engine.features import arrays as arrays_module
from reelmill.engine.features.arrays import check_not_pickled, split_member, tensors_of
from reelmill.shards.errors import DamageError, UsageError
from safetensors.numpy import save


def npy(array: np.ndarray, **options: bool) -> bytes:
    file = io.BytesIO()
    np.save(file, array, **options)
    return file.getvalue()


def npz(**arrays: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def header(text: str, body: bytes = b"") -> bytes:
    padded = text.encode() + b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\0" + len(padded).to_bytes(2, "little") + padded + body


@pytest.mark.parametrize("kind", ["<f4", ">f4", "<f2", "<f8", "<i8", "|u1", "?"])
def test_arrays_of_every_kind_and_order(kind):
    array = np.arange(24).reshape(2, 3, 4).astype(kind)
    for each in (array, np.asfortranarray(array), array[:0], array[0, 0, 0]):
        (name, found), *_ = tensors_of(npy(each), ".npy", "frames").items()
        assert name == "frames"
        assert np.array_equal(found.numpy(), each)
        assert found.shape == each.shape


def test_several_in_a_file():
    frames, words = np.ones((4, 2), np.float16), np.zeros((3, 2), np.float32)
    for data, kind in (
        (npz(frames=frames, words=words), ".npz"),
        (save({"frames": frames, "words": words}), ".safetensors"),
    ):
        found = tensors_of(data, kind, "unused")
        assert {name: tensor.shape for name, tensor in found.items()} == {"frames": (4, 2), "words": (3, 2)}


def test_nothing_is_unpickled(tmp_path):
    touched = tmp_path / "touched"

    class Evil:
        def __reduce__(self):
            return (open, (str(touched), "w"))

    data = npy(np.array([Evil()], dtype=object), allow_pickle=True)
    for file, kind in ((data, ".npy"), (_zip({"a.npy": data}), ".npz")):
        with pytest.raises(DamageError, match="must hold plain numbers, got object"):
            tensors_of(file, kind, "frames")
    assert not touched.exists()
    for name in ("a.pt", "b/c.PTH", "d.pkl", "e.pickle", "f.pyd"):
        with pytest.raises(UsageError, match=r"is a pickle, .* write \.npy \(numpy\.save\) or \.safetensors"):
            check_not_pickled(name)
    check_not_pickled("a.npy")


def test_headers_are_not_believed():
    shape = "{'descr': '<f4', 'fortran_order': False, 'shape': (%s,), }"
    wrong = {
        header(shape % 10**15, b"1234"): "must be 4000000000000000 bytes, got 4",
        header(shape % "-4", b"1234"): "at most 8 axes",
        header(shape % ",".join("1" * 9), b"1234"): "at most 8 axes",
        header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", b"1234"): "plain numbers",
        header("{'descr': '<c8', 'fortran_order': False, 'shape': (1,), }", b"12345678"): "got complex64",
        header("{'descr': '<U1', 'fortran_order': False, 'shape': (1,), }", b"1234"): "got <U1",
        header("__import__('os').abort()"): "does not read as npy",
        header("(" * 400): "does not read as npy",
        npy(np.zeros(4))[:-1]: "must be 32 bytes, got 31",
        npy(np.zeros(4)) + b"x": "must be 32 bytes, got 33",
        b"\x93NUMPY\x03\0" + b"\0" * 60: r"version 1.0 or 2.0 of the format, got \(3, 0\)",
        b"\x93NUM": "does not read as npy",
        b"": "does not read as npy",
    }
    for data, words in wrong.items():
        with pytest.raises(DamageError, match=words):
            tensors_of(data, ".npy", "frames")


def test_archives_are_not_believed(monkeypatch):
    good = npz(frames=np.random.default_rng(0).normal(size=(64, 64)))
    wrong = {
        _zip({"a.txt": b"text"}): "must hold .npy files, got 'a.txt'",
        _zip({}): "holds no array",
        good[:-30]: "does not read as npz",
        good[:2000] + b"\xff" * 20 + good[2020:]: "does not read as npz",
        b"PK": "does not read as npz",
    }
    for data, words in wrong.items():
        with pytest.raises(DamageError, match=words):
            tensors_of(data, ".npz", "frames")
    monkeypatch.setattr(arrays_module, "MAX_SAMPLE_BYTES", 1000)
    with pytest.raises(DamageError, match="its arrays hold 32896 bytes, at most 1000 are taken"):
        tensors_of(npz(frames=np.zeros((64, 64))), ".npz", "frames")
    with pytest.raises(DamageError, match="2128 bytes, at most 1000"):
        tensors_of(npy(np.zeros(250)), ".npy", "frames")
    with pytest.raises(DamageError, match="does not read as safetensors"):
        tensors_of(b"1234", ".safetensors", "frames")


def test_what_a_members_extension_says():
    assert split_member("npy") == ("", ".npy")
    assert split_member("frames.npy") == ("frames", ".npy")
    assert split_member("clip.frames.NPZ") == ("clip.frames", ".npz")
    assert split_member("mp4") is None
    assert split_member("") is None


def _zip(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()
