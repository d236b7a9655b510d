"""Every form is made by its function, with the options of the job that belong to it."""

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from reelmill.engine.config import IngestConfig
from reelmill.engine.form import make_form
from reelmill.engine.media.encoders import check_encoder
from reelmill.engine.media.sandbox import Sandbox
from reelmill.engine.plan import SamplePlan, decide
from reelmill.engine.sources import InputRow
from reelmill.shards.errors import ReelmillError, StorageError, UsageError

CONFIG = IngestConfig(input=Path("in"), out=Path("out"))
GPU: dict[str, Any] = {"preset": "train-gpu", "short_side": 32, "gop_frames": 4}


@pytest.fixture(scope="module")
def sandbox():
    made = Sandbox(cpu_seconds=60, memory_mb=4096)
    yield made
    made.close()


def planned(sandbox, path: Path, config: IngestConfig) -> list[SamplePlan]:
    facts = sandbox.call("look", path=str(path), validate=config.validate)
    decision = decide(InputRow(path.name, str(path), path.name), facts, config)
    assert decision.rejected is None
    return decision.samples


@pytest.mark.parametrize(
    ("options", "forms", "codec", "frames"),
    [
        ({"audio": "drop"}, ["remux"], "h264", [24]),
        ({"clip_seconds": 1.0}, ["span"] * 2, "h264", [12, 12]),
        ({"preset": "train-cpu", "short_side": 32, "clip_seconds": 1.5}, ["intra"] * 2, "mjpeg", [18, 6]),
        ({"preset": "train-cpu", "short_side": 32, "fps": 6.0}, ["intra"], "mjpeg", [12]),
        (GPU, ["h264"], "h264", [24]),
        (GPU | {"max_clip_seconds": 1.2, "fps": 24.0, "audio": "keep"}, ["h264"] * 2, "h264", [24, 24]),
    ],
)
def test_each_sample_becomes_its_form(media, sandbox, tmp_path, options, forms, codec, frames):
    config = replace(CONFIG, **options)
    source = media.video(tmp_path / "a.mp4", options={"g": "12", "bf": "0", "sc_threshold": "0"}, rotation=90)
    samples = planned(sandbox, source, config)
    assert [sample.form for sample in samples] == forms
    made = [make_form(sample, source, config, sandbox, tmp_path / "out")[0] for sample in samples]
    assert [facts["codec"] for facts in made] == [codec] * len(forms)
    assert [facts["frames"] for facts in made] == frames
    assert all(facts["rotation"] == (90 if config.preset == "archive" else 0) for facts in made)
    assert all(len(facts["packets"]["pts"]) == facts["frames"] for facts in made)
    if config.preset == "train-gpu":
        assert made[0]["packets"]["keyframe"][:9] == [number % 4 == 0 for number in range(9)]
        assert (made[0]["width"], made[0]["height"]) == (32, 48)


def test_a_span_says_where_it_truly_lies(media, sandbox, tmp_path):
    config = replace(CONFIG, clip_seconds=0.7, min_clip_seconds=0.7)
    source = media.video(tmp_path / "a.mp4", options={"g": "6", "bf": "0", "sc_threshold": "0"})
    _, second = planned(sandbox, source, config)
    facts, out = make_form(second, source, config, sandbox, tmp_path / "out")
    assert second.span == (0.7, 1.4)
    assert (facts["start_seconds"], facts["end_seconds"]) == (0.5, 1.416667)
    assert out == tmp_path / "out"


def test_a_disk_that_refuses_and_a_missing_encoder_end_the_job(media, sandbox, tmp_path):
    source = media.video(tmp_path / "a.mp4", frames=6)
    (sample,) = planned(sandbox, source, config := replace(CONFIG, **GPU))
    with pytest.raises(StorageError):
        make_form(sample, source, config, sandbox, tmp_path / "none" / "out")

    class Elsewhere(Sandbox):
        def call(self, name, **arguments):
            raise OSError(errno.ENODEV, "h264_nvenc finds no GPU with an encoder (No such device)")

    message = "encoder nvenc is not on every machine of the job: h264_nvenc finds no GPU with an encoder"
    with pytest.raises(ReelmillError, match=message):
        make_form(sample, source, replace(config, encoder="nvenc"), Elsewhere(60, 4096), tmp_path / "out")


def test_software_is_there():
    check_encoder(CONFIG)
    check_encoder(replace(CONFIG, **GPU))


@pytest.mark.skipif(Path("/proc/driver/nvidia/version").exists(), reason="needs a machine without an NVIDIA GPU")
def test_an_encoder_that_is_not_there_is_found_before_any_work():
    with pytest.raises(UsageError, match="encoder must be one that opens here, got nvenc: h264_nvenc finds no GPU"):
        check_encoder(replace(CONFIG, **GPU, encoder="nvenc"))
