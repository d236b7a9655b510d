"""Options of clips and forms: what goes together, what is recorded, and what is said of the rest."""

from pathlib import Path

import pytest
from reelmill.engine.config import IngestConfig, PlanConfig
from reelmill.shards.errors import UsageError


def config(**options):
    return IngestConfig(input=Path("in"), out=Path("out"), **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clip_seconds": 0.0}, "clip_seconds must be > 0, got 0.0"),
        ({"min_clip_seconds": -1.0}, "min_clip_seconds must be >= 0, got -1.0"),
        ({"max_clip_seconds": 0.0}, "max_clip_seconds must be > 0, got 0.0"),
        (
            {"clip_seconds": 2.0, "min_clip_seconds": 3.0},
            r"min_clip_seconds must be at most clip_seconds \(2.0\), got 3",
        ),
        (
            {"max_clip_seconds": 2.0, "min_clip_seconds": 3.0},
            r"min_clip_seconds must be at most max_clip_seconds \(2.0\), got 3.0",
        ),
        (
            {"clip_seconds": 2.0, "max_clip_seconds": 3.0},
            "max_clip_seconds must go without clip_seconds, got 3.0 and 2",
        ),
        ({"clip_seconds": 2.0, "scenes": True}, "scenes must go without clip_seconds, got 2.0; max_clip_seconds cuts"),
        ({"scenes": True, "validate": "packets"}, "scenes must go with validate decode, got packets"),
        ({"scenes": True, "scene_threshold": 1.0}, "scene_threshold must be > 1, got 1.0"),
        ({"scene_threshold": 2.0}, "scene_threshold must go with scenes, got 2.0 without"),
        ({"short_side": 128}, "short_side must go with a preset that encodes, got 128 with archive"),
        ({"preset": "train-gpu", "short_side": 33}, "short_side must be even and >= 16, got 33"),
        ({"fps": 10.0}, "fps must go with a preset that encodes, got 10.0 with archive"),
        ({"preset": "train-cpu", "fps": 0.0}, "fps must be > 0 and at most 240, got 0.0"),
        ({"preset": "train-cpu", "fps": float("nan")}, "fps must be > 0 and at most 240, got nan"),
        ({"preset": "train-cpu", "gop_frames": 4}, "gop_frames must go with preset train-gpu, got 4 with train-cpu"),
        ({"preset": "train-gpu", "gop_frames": 0}, "gop_frames must be > 0, got 0"),
        ({"encoder": "nvenc"}, "encoder must go with preset train-gpu, got nvenc with archive"),
    ],
)
def test_what_does_not_go_together_is_said(options, message):
    with pytest.raises(UsageError, match=message):
        config(**options)


def test_sound_is_kept_by_the_archive_alone_unless_asked():
    assert config().keeps_audio
    assert not config(preset="train-gpu").keeps_audio
    assert not config(audio="drop").keeps_audio
    assert config(preset="train-cpu", audio="keep").keeps_audio


def test_a_record_holds_what_applies():
    archive = config().hashed()
    absent = ("short_side", "fps", "gop_frames", "encoder", "reproducible", "scenes", "scene_threshold")
    assert not set(absent) & archive.keys()
    assert "max_clip_seconds" not in archive
    assert config(max_clip_seconds=3.0).hashed()["max_clip_seconds"] == 3.0
    assert config(scenes=True).hashed()["scene_threshold"] == config(scenes=True).probed()["scene_threshold"] == 3.0
    assert config(preset="train-cpu").form() == {"preset": "train-cpu", "audio": None, "short_side": 256, "fps": None}
    gpu = config(preset="train-gpu", encoder="nvenc", fps=10.0).form()
    assert (gpu["gop_frames"], gpu["encoder"], gpu["reproducible"], gpu["fps"]) == (8, "nvenc", False, 10.0)
    assert config(preset="train-gpu").form()["reproducible"] is True


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scenes": True, "scene_threshold": 2.0, "max_clip_seconds": 8.0, "min_clip_seconds": 1.0},
        {"preset": "train-gpu", "gop_frames": 4, "encoder": "nvenc", "fps": 12.5, "audio": "keep"},
        {"preset": "train-cpu", "short_side": 64, "clip_seconds": 3.0, "audio": "drop"},
    ],
)
def test_a_record_gives_the_options_back(options):
    made = config(**options)
    assert IngestConfig.from_record(made.hashed(), input=made.input, out=made.out) == made


def test_a_record_of_the_first_version_means_what_it_did():
    record = {
        "preset": "train-cpu",
        "shard_mb": 1,
        "dedup": "exact",
        "clip_seconds": None,
        "min_clip_seconds": 0.0,
        "validate": "decode",
        "short_side": 64,
        "fingerprint": False,
    }
    made = IngestConfig.from_record(record, input=Path("in"), out=Path("out"))
    assert made == config(preset="train-cpu", short_side=64, shard_mb=1)
    assert all(record.get(name) == value for name, value in made.form().items())


def test_a_dry_run_takes_the_same_options():
    assert PlanConfig(input=Path("in"), preset="train-gpu", scenes=True, fps=5.0).form()["fps"] == 5.0
    with pytest.raises(UsageError, match="scenes must go with validate decode"):
        PlanConfig(input=Path("in"), scenes=True, validate="none")
