"""Folders of numbered JPEGs through a whole ingest: the files' bytes are what is decoded, and nothing is lost."""

import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from reelmill.engine import ClipLoader, LoaderConfig, commands
from reelmill.engine.config import IngestConfig, PlanConfig, RetryConfig
from reelmill.engine.forecast import forecast
from reelmill.engine.ingest import ingest, retry
from reelmill.shards.ledger import read_ledger
from reelmill.shards.reader import Dataset, SampleRef, members_of
from reelmill.shards.verify import verify

pytestmark = pytest.mark.usefixtures("local_ray")

Make = Callable[..., Path]


@pytest.fixture(scope="session")
def frames(media) -> Make:
    def make(folder: Path, count: int = 8, *, tint: int = 0, width: int = 96, height: int = 64, **options) -> Path:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            picture = media.frame(number, width, height)
            picture[..., 0] = (picture[..., 0].astype(int) + tint).clip(0, 255)
            Image.fromarray(picture).save(folder / f"img_{number + 1:05d}.jpg", **({"quality": 90} | options))
            (folder / f"flow_x_{number + 1:05d}.jpg").write_bytes(b"flow")
        return folder

    return make


@pytest.fixture
def tree(frames, tmp_path) -> Path:
    for number, label in enumerate(("jump", "run")):
        for clip in range(3):
            frames(tmp_path / f"frames/{label}/{clip}", 6 + clip, tint=60 * number + 15 * clip)
    folder: Path = tmp_path / "frames"
    return folder


def ledger_of(folder: Path) -> dict[str, tuple[str, str]]:
    return {row["input_id"]: (row["status"], row["reason"]) for row in read_ledger(folder).to_pylist()}


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def payloads(folder: Path) -> dict[str, list[bytes]]:
    """Every packet of every sample, cut out of its tar by the table."""
    dataset, found = Dataset(folder), {}
    for number, row in enumerate(dataset.table(["key", "members", "source"]).to_pylist()):
        data = dataset.tar(0).read(row["key"], members_of(row["members"])[0])
        packets = dataset.packets(SampleRef(0, number))
        places = zip(packets.offset.tolist(), packets.size.tolist(), strict=True)
        found[row["source"]] = [data[offset : offset + size] for offset, size in places]
    return found


@pytest.mark.parametrize("preset", ["archive", "train-cpu"])
def test_the_files_are_the_packets(tree, tmp_path, preset):
    done = ingest(IngestConfig(input=tree, out=tmp_path / "out", preset=preset, frames_fps=12.5))
    assert verify(tmp_path / "out") == []
    assert done.counts == {"ok": 6, "duplicate": 0, "filtered": 0, "failed": 0}
    assert done.ignored == 42  # the flow
    assert payloads(tmp_path / "out") == {
        str(folder.relative_to(tree)): [path.read_bytes() for path in sorted(folder.glob("img_*.jpg"))]
        for folder in sorted(tree.glob("*/*"))
    }
    rows = Dataset(tmp_path / "out").table(["labels", "fps", "frames", "codec", "container", "duration_seconds"])
    assert rows.to_pylist()[5] == {
        "labels": ["run"],
        "fps": 12.5,
        "frames": 8,
        "codec": "mjpeg",
        "container": "matroska,webm",
        "duration_seconds": 0.64,
    }


def test_the_loader_gives_the_pictures_of_the_files(tree, tmp_path):
    ingest(IngestConfig(input=tree, out=tmp_path / "out", frames_fps=25))
    config = LoaderConfig(global_batch=6, frames=6, size=64, sampling="every", training=False, dtype="uint8")
    loader = ClipLoader(tmp_path / "out", config)
    (batch,) = loader
    assert batch.valid_B.all()
    assert list(loader.meter.read().decoded) == ["jpeg"]
    for folder, clip_TCHW in zip(sorted(tree.glob("*/*")), batch.clips_BVTCHW[:, 0], strict=True):
        for path, picture_CHW in zip(sorted(folder.glob("img_*.jpg")), clip_TCHW, strict=False):
            ours = picture_CHW.permute(1, 2, 0).float()
            whole = np.asarray(Image.open(path))[4:60, 20:76]  # the centre: 224/256 of the short side
            theirs = torch.nn.functional.interpolate(
                torch.tensor(whole).permute(2, 0, 1)[None].float(), (64, 64), mode="bilinear", antialias=True
            )[0].permute(1, 2, 0)
            assert (ours - theirs).abs().mean() < 2  # another decoder rounds chroma otherwise


def test_a_preset_that_encodes_takes_what_is_not_in_its_form(frames, tmp_path):
    frames(tmp_path / "in/small", 6)
    frames(tmp_path / "in/large", 6, width=160, height=128, tint=9)
    frames(tmp_path / "in/full", 6, subsampling=0)
    frames(tmp_path / "in/grey", 6, tint=30)
    for path in (tmp_path / "in/grey").glob("img_*"):
        Image.open(path).convert("L").save(path)
    config = IngestConfig(input=tmp_path / "in", out=tmp_path / "out", preset="train-cpu", short_side=64, frames_fps=25)
    ingest(config)
    made = payloads(tmp_path / "out")
    kept = {name for name, parts in made.items() if parts[0] == (tmp_path / "in" / name / "img_00001.jpg").read_bytes()}
    assert kept == {"small"}
    rows = Dataset(tmp_path / "out").table(["source", "width", "height", "pix_fmt", "frames"]).to_pylist()
    assert all(row["height"] == 64 and row["pix_fmt"] == "yuvj420p" and row["frames"] == 6 for row in rows)
    ingest(replace(config, out=tmp_path / "slow", fps=5))  # another rate is another form
    assert [row["frames"] for row in Dataset(tmp_path / "slow").table(["frames"]).to_pylist()] == [2, 2, 2, 2]


@pytest.mark.parametrize("preset", ["archive", "train-cpu"])
def test_clips_of_frames_are_cut_to_the_frame(frames, tmp_path, preset):
    frames(tmp_path / "in/a", 10)
    ingest(IngestConfig(input=tmp_path / "in", out=tmp_path / "out", preset=preset, frames_fps=10, clip_seconds=0.4))
    dataset, files = Dataset(tmp_path / "out"), sorted((tmp_path / "in/a").glob("img_*"))
    rows = dataset.table(["key", "members", "frames", "fps"]).to_pylist()
    assert [(row["frames"], row["fps"]) for row in rows] == [(4, 10), (4, 10), (2, 10)]
    for number, row in enumerate(rows):
        data = dataset.tar(0).read(row["key"], members_of(row["members"])[0])
        packets = dataset.packets(SampleRef(0, number))
        first = int(packets.offset[0])
        assert data[first : first + int(packets.size[0])] == files[4 * number].read_bytes()


def test_every_hostile_folder_is_a_ledger_row(frames, tmp_path):
    root = tmp_path / "in"
    for name in ("good", "twin", "png", "cut", "sizes", "gap", "link", "changed_word", "damaged", "empty_file"):
        frames(root / name, 5, tint=0 if name in ("good", "twin") else 7 * len(name) + ord(name[0]))
    Image.open(root / "png/img_00001.jpg").save(root / "png/img_00002.jpg", "PNG")
    os.truncate(root / "cut/img_00003.jpg", 1000)
    Image.new("RGB", (64, 64)).save(root / "sizes/img_00004.jpg")
    (root / "gap/img_00003.jpg").unlink()
    (tmp_path / "secret.jpg").write_bytes((root / "good/img_00001.jpg").read_bytes())
    (root / "link/img_00006.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "changed_word/img_00005.jpg").rename(root / "changed_word/image_00005.jpg")
    path = root / "damaged/img_00005.jpg"
    data = path.read_bytes()
    path.write_bytes(data[:700] + bytes(40) + data[740:])
    (root / "empty_file/img_00001.jpg").write_bytes(b"")
    (root / "none").mkdir()
    (root / "none/flow_x_00001.jpg").write_bytes(b"flow")
    rows = [{"path": path.name} for path in sorted(root.iterdir())] + [{"path": "gone"}, {"path": "good/img_00001.jpg"}]
    (root / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ingest(IngestConfig(input=root / "m.jsonl", out=tmp_path / "out", frames_fps=25))
    assert ledger_of(tmp_path / "out") == {
        "good": ("ok", ""),
        "twin": ("duplicate", "exact"),
        "png": ("failed", "damaged"),
        "cut": ("failed", "damaged"),
        "sizes": ("failed", "damaged"),
        "gap": ("failed", "damaged"),
        "link": ("failed", "unreadable"),
        "changed_word": ("failed", "damaged"),
        "damaged": ("failed", "damaged"),
        "empty_file": ("failed", "damaged"),
        "none": ("failed", "empty"),
        "gone": ("failed", "missing"),
        "good/img_00001.jpg": ("failed", "not_video"),
    }
    assert verify(tmp_path / "out") == []


def test_a_list_says_how_many_frames_there_are(frames, tmp_path):
    frames(tmp_path / "in/a", 8)
    frames(tmp_path / "in/b", 8, tint=20)
    frames(tmp_path / "in/c", 8, tint=40)
    (tmp_path / "in/train_list_rawframes.txt").write_text("a 8 0\nb 5 1\nc 9 1\n")
    (tmp_path / "labels.txt").write_text("jump\nrun\n")
    config = IngestConfig(
        input=tmp_path / "in/train_list_rawframes.txt",
        out=tmp_path / "out",
        layout="list",
        label_map=tmp_path / "labels.txt",
        frames_fps=25,
    )
    ingest(config)
    assert ledger_of(tmp_path / "out") == {"a": ("ok", ""), "b": ("ok", ""), "c": ("failed", "damaged")}
    rows = Dataset(tmp_path / "out").table(["source", "frames", "labels", "split"]).to_pylist()
    assert rows == [
        {"source": "a", "frames": 8, "labels": ["jump"], "split": "train"},
        {"source": "b", "frames": 5, "labels": ["run"], "split": "train"},
    ]


def test_only_what_changed_is_read_again(tree, frames, tmp_path):
    config = IngestConfig(input=tree, out=tmp_path / "out", frames_fps=25)
    ingest(config)
    before = files_of(config.out)
    done = ingest(config)
    assert (done.read.worked, done.written.worked, done.unchanged) == (0, 0, 6)
    (tree / "jump/0/flow_x_00009.jpg").write_bytes(b"more flow")
    assert ingest(config).unchanged == 6
    assert files_of(config.out) == before
    os.utime(tree / "jump/0/img_00003.jpg", ns=(1, 1))
    assert ingest(replace(config, checksum=True)).unchanged == 6
    frames(tree / "jump/1", 9, tint=3)
    done = ingest(config)
    assert (done.read.worked, done.unchanged) == (2, 4)  # the touched one, and the one that grew
    done = ingest(replace(config, frames_fps=12))
    assert (done.read.worked, done.unchanged) == (6, 0)  # another rate is another video
    assert verify(config.out) == []


def test_bytes_depend_on_frames_and_config_alone(tree, tmp_path):
    config = IngestConfig(input=tree, out=tmp_path / "one", frames_fps=25, workers=1)
    ingest(config)
    shutil.copytree(tree, tmp_path / "copy")
    ingest(replace(config, input=tmp_path / "copy", out=tmp_path / "two", workers=2))
    one, two = files_of(tmp_path / "one"), files_of(tmp_path / "two")
    assert {name for name in one if one[name] != two[name]} == {"inputs.parquet"}  # where the files lay
    hashed = replace(config, frames_fps=None).hashed()
    assert config.hashed() == hashed | {"frames_fps": 25}


def test_a_mended_folder_is_taken_by_retry(tree, tmp_path):
    lost = (tree / "run/2/img_00003.jpg").read_bytes()
    (tree / "run/2/img_00003.jpg").unlink()
    ingest(IngestConfig(input=tree, out=tmp_path / "out", frames_fps=25))
    assert ledger_of(tmp_path / "out")["run/2"] == ("failed", "damaged")
    (tree / "run/2/img_00003.jpg").write_bytes(lost)
    retry(RetryConfig(dataset=tmp_path / "out"))
    assert ledger_of(tmp_path / "out")["run/2"] == ("ok", "")
    assert verify(tmp_path / "out") == []


def test_a_plan_tells_the_bytes(tree, tmp_path):
    told = forecast(PlanConfig(input=tree, frames_fps=25))
    done = ingest(IngestConfig(input=tree, out=tmp_path / "out", frames_fps=25))
    assert told.counts["ok"] == 6
    # 4 kB are counted for what is around a video
    assert told.totals.estimated_bytes == pytest.approx(done.manifest.totals["bytes"], rel=0.25)


def test_thousands_of_frames_and_the_limit_on_bytes(tmp_path, capsys):
    folder = tmp_path / "in/many"
    folder.mkdir(parents=True)
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "red").save(file, "JPEG")
    (folder / "00000.jpg").write_bytes(file.getvalue())
    for number in range(1, 4000):
        os.link(folder / "00000.jpg", folder / f"{number:05d}.jpg")
    config = IngestConfig(input=tmp_path / "in", out=tmp_path / "out", frames_fps=25)
    assert commands.ingest(config) == 0
    assert Dataset(config.out).table(["frames"]).to_pylist() == [{"frames": 4000}]
    assert "decode cost" in capsys.readouterr().out
    ingest(replace(config, out=tmp_path / "small", max_video_mb=1))
    assert ledger_of(tmp_path / "small") == {"many": ("failed", "limit")}
