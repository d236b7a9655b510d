"""Features from files find their samples by key or by input, and are written beside the dataset's shards."""

import io
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import webdataset as wds
from reelmill.engine import commands
from reelmill.engine.config import FeaturesConfig
from reelmill.engine.features.load import load_features
from reelmill.shards.errors import ReelmillError, UsageError
from reelmill.shards.features import Features
from reelmill.shards.manifest import read_manifest, write_manifest
from reelmill.shards.reader import Dataset
from reelmill.shards.store import Folder
from reelmill.shards.verify import verify
from safetensors.numpy import save_file


@pytest.fixture
def dataset(small_dataset, tmp_path) -> Path:
    return Path(shutil.copytree(small_dataset, tmp_path / "dataset"))


def samples_of(dataset: Path) -> list[dict]:
    rows: list[dict] = Dataset(dataset).table(["key", "input_id"]).to_pylist()
    return rows


def feature(number: int) -> np.ndarray:
    return np.full((4 + number % 3, 2), number, np.float16)


def fill(folder: Path, names: list[str]) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{name}.npy", feature(number))
    return folder


def config_of(dataset: Path, source: Path, **options: object) -> FeaturesConfig:
    return FeaturesConfig(dataset=dataset, source=source, **({"name": "clip"} | options))  # type: ignore[arg-type]


def check(dataset: Path, name: str = "clip", tensor: str = "frames") -> None:
    features = Features(Folder(dataset), name)
    for number, row in enumerate(samples_of(dataset)):
        assert np.array_equal(features.read(row["key"])[tensor].numpy(), feature(number))


@pytest.mark.parametrize("form", ["key", "id", "id without extension"])
def test_names_find_their_samples(dataset, tmp_path, form):
    names = [row["key"] if form == "key" else row["input_id"] for row in samples_of(dataset)]
    names = [name.removesuffix(".mp4") for name in names] if form == "id without extension" else names
    done = load_features(config_of(dataset, fill(tmp_path / "in", names)))
    assert (done.matched, done.missing, done.damaged, done.unknown) == (15, 0, 0, 0)
    check(dataset)
    assert [tar.name for tar in Features(Folder(dataset), "clip").set.tars] == [
        entry.name for entry in read_manifest(dataset).shards
    ]
    assert verify(dataset) == []


def test_the_last_part_of_an_id_is_a_name_where_it_is_one_samples(media, tmp_path, local_ray):
    from reelmill.engine.config import IngestConfig
    from reelmill.engine.ingest import ingest

    for name in ("jump/a", "run/b"):
        media.video(tmp_path / f"videos/{name}.mp4", frames=4)
    ingest(IngestConfig(input=tmp_path / "videos", out=tmp_path / "out", dedup="none"))
    assert load_features(config_of(tmp_path / "out", fill(tmp_path / "in", ["a", "b"]))).matched == 2
    check(tmp_path / "out")


def test_a_name_of_several_samples_is_refused(dataset, tmp_path):
    with pytest.raises(UsageError, match=r"'0' must fit one sample, but fit 3 \(.* of jump/0.mp4, .* of run/0"):
        load_features(config_of(dataset, fill(tmp_path / "in", ["0"])))
    assert not (dataset / "features").exists() or not list((dataset / "features").iterdir())


def test_missing_unknown_and_damaged_are_told(dataset, tmp_path, capsys):
    keys = [row["key"] for row in samples_of(dataset)]
    source = fill(tmp_path / "in", [*keys[:10], "stranger", "other/one"])
    (source / f"{keys[3]}.npy").write_bytes(b"no array")
    np.save(source / f"{keys[4]}.npy", np.zeros((4, 2), np.float32))  # the others are float16
    np.save(source / f"{keys[5]}.npy", np.zeros((4, 2, 1), np.float16))
    (source / "readme.txt").write_text("text")
    assert commands.features(config_of(dataset, source)) == 0
    out = capsys.readouterr().out
    for name, count in (("matched", 7), ("missing", 5), ("damaged", 3), ("unknown", 2)):
        assert any(line.split()[:2] == [name, str(count)] for line in out.splitlines()), out
    assert f"damaged: {keys[3]}: does not read as npy" in out
    assert (
        f"damaged: {keys[4]}: tensors must be frames F16 (*, 2) as in the samples before, got frames F32 (4, 2)" in out
    )
    assert "unknown: stranger" in out
    assert Features(Folder(dataset), "clip").set.samples == 7


def test_files_with_several_tensors(dataset, tmp_path):
    source = tmp_path / "in"
    source.mkdir()
    for number, row in enumerate(samples_of(dataset)):
        tensors = {"frames": feature(number), "video": np.zeros(3, np.float32)}
        if number % 2:
            np.savez(source / f"{row['key']}.npz", **tensors)  # type: ignore[arg-type]
        else:
            save_file(tensors, source / f"{row['key']}.safetensors")
    load_features(config_of(dataset, source, description="both", versions=("clip=1", "x=y=z")))
    check(dataset)
    made = Features(Folder(dataset), "clip").set
    assert (made.description, made.versions) == ("both", {"clip": "1", "x": "y=z"})
    assert {name: str(spec) for name, spec in made.tensors.items()} == {"frames": "F16 (*, 2)", "video": "F32 (3)"}


@pytest.mark.parametrize("members", [["npy"], ["regions.npy", "frames.npy", "txt"]])
@pytest.mark.parametrize("form", ["key", "./key", "id"])
def test_tars_of_arrays(dataset, tmp_path, members, form):
    (tmp_path / "in").mkdir()
    for shard in range(2):
        with wds.TarWriter(str(tmp_path / f"in/{shard}.tar")) as writer:
            for number, row in list(enumerate(samples_of(dataset)))[shard::2]:
                told = {"txt": "text"} | {name: feature(number) for name in members if name != "txt"}
                names = {"key": row["key"], "./key": f"./{row['key']}", "id": row["input_id"].removesuffix(".mp4")}
                writer.write({"__key__": names[form], **{name: told[name] for name in members}})
    done = load_features(config_of(dataset, tmp_path / "in"))
    assert (done.matched, done.missing) == (15, 0)
    check(dataset)
    load_features(config_of(dataset, Path(str(tmp_path / "in/{0..1}.tar")), name="again"))
    check(dataset, "again")


def test_the_same_features_are_the_same_bytes_whatever_lists_them(dataset, tmp_path):
    rows = samples_of(dataset)
    load_features(config_of(dataset, fill(tmp_path / "one", [row["key"] for row in rows])))
    load_features(config_of(dataset, fill(tmp_path / "two", [row["input_id"] for row in rows]), name="other"))
    for path in (dataset / "features/clip").iterdir():
        if path.name != "features.json":
            assert path.read_bytes() == (dataset / "features/other" / path.name).read_bytes()


def test_wrong_usage(dataset, tmp_path):
    keys = [row["key"] for row in samples_of(dataset)]
    source = fill(tmp_path / "in", keys)
    with pytest.raises(UsageError, match=r"must be a folder of .npy, .npz, .safetensors files, or tars"):
        load_features(config_of(dataset, tmp_path / "none"))
    with pytest.raises(UsageError, match="must be a dataset"):
        load_features(config_of(tmp_path / "in", source))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="empty holds none"):
        load_features(config_of(dataset, tmp_path / "empty"))
    with pytest.raises(UsageError, match=r"must be named like keys or inputs .* all 2 are not, such as"):
        load_features(config_of(dataset, fill(tmp_path / "others", ["x", "y"])))
    with pytest.raises(UsageError, match="name must match"):
        config_of(dataset, source, name="../x")
    with pytest.raises(UsageError, match="versions must be NAME=VERSION, got clip"):
        config_of(dataset, source, versions=("clip",))
    (source / f"{keys[0]}.pt").write_bytes(b"pickle")
    with pytest.raises(UsageError, match=f"{keys[0]}.pt is a pickle"):
        load_features(config_of(dataset, source))
    (source / f"{keys[0]}.pt").rename(source / "jump")
    (source / "jump").unlink()
    np.savez(source / f"{keys[0]}.npz", frames=feature(0))
    with pytest.raises(UsageError, match="must be one file's for each sample, got"):
        load_features(config_of(dataset, source))
    for path in source.iterdir():
        path.write_bytes(b"nothing")
    (source / f"{keys[0]}.npz").unlink()
    with pytest.raises(ReelmillError, match=r"none of the 15 files of .* reads"):
        load_features(config_of(dataset, source))
    with tarfile.open(tmp_path / "cut.tar", "w") as tar:
        info = tarfile.TarInfo(f"{keys[0]}.npy")
        info.size = 2000
        tar.addfile(info, io.BytesIO(bytes(2000)))
    data = (tmp_path / "cut.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(data[:1000])
    with pytest.raises(UsageError, match="must be a whole tar, but the tar is cut"):
        load_features(config_of(dataset, tmp_path / "cut.tar"))
    assert not list((dataset / "features").glob("*"))


def test_samples_that_are_gone_take_no_features(dataset, tmp_path):
    manifest = read_manifest(dataset)
    rows = samples_of(dataset)
    (only,) = manifest.generations
    gone = replace(only, shards=[], tombstones=[rows[0]["key"], rows[7]["key"]])
    write_manifest(dataset, replace(manifest, generations=[only, gone]))
    done = load_features(config_of(dataset, fill(tmp_path / "in", [row["key"] for row in rows])))
    assert (done.matched, done.missing, done.unknown) == (13, 0, 2)
    features = Features(Folder(dataset), "clip")
    assert np.array_equal(features.read(rows[14]["key"])["frames"].numpy(), feature(14))


def test_a_damaged_set_is_a_fault_of_the_dataset(dataset, tmp_path):
    load_features(config_of(dataset, fill(tmp_path / "in", [row["key"] for row in samples_of(dataset)])))
    tar = next((dataset / "features/clip").glob("*.tar"))
    data = bytearray(tar.read_bytes())
    data[520] ^= 1
    tar.write_bytes(data)
    key = samples_of(dataset)[0]["key"]
    faults = [str(fault) for fault in verify(dataset)]
    assert any("must have sha256" in fault for fault in faults)
    assert any(f"key {key}" in fault and "crc32" in fault for fault in faults)
    (dataset / "features/clip/stranger").touch()
    assert any("stranger" in str(fault) for fault in verify(dataset))
    (dataset / "features/clip/features.json").unlink()
    assert any("features/clip: does not read" in str(fault) for fault in verify(dataset))
