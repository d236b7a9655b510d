"""Planning is pure: every input ends in exactly one place, in input order, whatever the facts."""

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from reelmill.engine.config import IngestConfig
from reelmill.engine.plan import Decision, decide, place, shards_of
from reelmill.engine.sources import InputRow
from reelmill.shards.ledger import LedgerRow

CONFIG = IngestConfig(input=Path("in"), out=Path("out"), shard_mb=1)
FACTS = {
    "container": "mov,mp4,m4a,3gp,3g2,mj2",
    "bytes": 300_000,
    "sha256": "a",
    "stream_hash": "s",
    "duration_seconds": 4.0,
    "fps": 25.0,
    "width": 640,
    "height": 360,
    "pixel_aspect": 1.0,
    "rotation": 0,
}


def plan(
    rows: list[InputRow], found: list[dict], config: IngestConfig = CONFIG, **options
) -> tuple[list[list], list[LedgerRow]]:
    """The samples of each shard, and the inputs that are not written."""
    decisions: list[Decision] = [decide(r, f, config, **options) for r, f in zip(rows, found, strict=True)]
    shards = [samples for _, samples in shards_of(place(decisions, config.shard_mb * 1_000_000, 0))]
    return shards, [decision.rejected for decision in decisions if decision.rejected is not None]


def row(name: str, **fields) -> InputRow:
    return InputRow(name, f"/v/{name}", name, **fields)


def facts(sha256: str, **fields) -> dict:
    return FACTS | {"sha256": sha256, "stream_hash": f"s{sha256}"} | fields


def test_shards_stay_under_their_size_in_input_order():
    rows = [row(f"{n}.mp4") for n in range(10)]
    shards, _ = plan(rows, [facts(str(n)) for n in range(10)])
    assert [sample.row.input_id for shard in shards for sample in shard] == [r.input_id for r in rows]
    assert [len(shard) for shard in shards] == [3, 3, 3, 1]


def test_shards_are_numbered_from_where_earlier_generations_end():
    decisions = [decide(row(f"{n}.mp4"), facts(str(n)), CONFIG) for n in range(5)]
    assert [numbers for _, numbers in place(decisions, 1_000_000, 7)] == [[7], [7], [7], [8], [8]]


def test_a_sample_larger_than_a_shard_has_its_own():
    sizes = [300_000, 9_000_000, 300_001]
    shards, _ = plan([row(f"{n}.mp4") for n in range(3)], [facts(str(b), bytes=b) for b in sizes])
    assert [len(shard) for shard in shards] == [1, 1, 1]


def test_a_duplicate_names_what_is_kept():
    decision = decide(row("b.mp4"), facts("x"), CONFIG, twin=("a.mp4", "exact"))
    twin = decision.rejected
    assert twin is not None
    assert (twin.input_id, twin.status, twin.reason, twin.detail) == ("b.mp4", "duplicate", "exact", "same as a.mp4")
    assert (twin.duplicate_of, twin.sha256, twin.source_bytes) == ("a.mp4", "x", 300_000)


def test_failed_unknown_and_late_inputs_are_rejected_with_a_reason():
    rows = [row("a.mp4"), row("b.mp4", labels=["fly"]), row("c.mp4", start_seconds=9.0)]
    found = [{"reason": "empty", "detail": "0 bytes"}, facts("b"), facts("c")]
    _, rejected = plan(rows, found, known_labels={"jump"})
    assert [(r.status, r.reason) for r in rejected] == [
        ("failed", "empty"),
        ("failed", "unknown_label"),
        ("filtered", "span"),
    ]
    assert rejected[1].detail == "the bank has no action 'fly'"


def test_what_is_not_mp4_mov_mkv_or_webm_is_remuxed():
    forms = {}
    for name, container in {
        "a.mp4": "mov,mp4,m4a,3gp,3g2,mj2",
        "a.mov": "mov,mp4,m4a,3gp,3g2,mj2",
        "a.webm": "matroska,webm",
        "a.avi": "avi",
        "a.ts": "mpegts",
    }.items():
        ((shard,), _) = plan([row(name)], [facts("x", container=container)])
        forms[name] = (shard[0].form, shard[0].ext)
    assert forms == {
        "a.mp4": ("copy", "mp4"),
        "a.mov": ("copy", "mov"),
        "a.webm": ("copy", "webm"),
        "a.avi": ("remux", "mkv"),
        "a.ts": ("remux", "mkv"),
    }


def test_fixed_clips_cover_the_video_and_have_keys_of_their_own():
    config = replace(CONFIG, preset="train-cpu", clip_seconds=1.5, min_clip_seconds=0.5)
    (decision,) = [decide(row("a.mp4"), facts("x"), config)]  # 4 s
    assert [sample.span for sample in decision.samples] == [(0.0, 1.5), (1.5, 3.0), (3.0, 4.0)]
    assert len({sample.key for sample in decision.samples}) == 3
    longer = replace(config, min_clip_seconds=1.2)
    assert [s.span for s in decide(row("a.mp4"), facts("x"), longer).samples] == [(0.0, 1.5), (1.5, 3.0)]
    _, (rejected,) = plan([row("a.mp4")], [facts("x")], replace(config, clip_seconds=9.0, min_clip_seconds=9.0))
    assert (rejected.status, rejected.reason) == ("filtered", "span")
    assert rejected.detail == "4.000 s hold no clip of at least 9.0 s"
    listed = decide(row("a.mp4", start_seconds=1.0, end_seconds=3.0), facts("x"), config).samples
    assert [sample.span for sample in listed] == [(1.0, 2.5), (2.5, 3.0)]


def test_a_clip_of_the_archive_is_the_part_that_shows_it():
    whole = decide(row("a.mp4"), facts("x"), CONFIG).samples[0]
    cut = decide(row("a.mp4"), facts("x"), replace(CONFIG, clip_seconds=1.0)).samples
    assert [(sample.form, sample.ext) for sample in cut] == [("span", "mkv")] * 4
    assert all(whole.estimated_bytes / 4 < sample.estimated_bytes <= whole.estimated_bytes for sample in cut)
    listed = decide(row("a.mp4", start_seconds=1.0, end_seconds=3.0), facts("x"), CONFIG).samples
    assert [(sample.form, sample.span) for sample in listed] == [("span", (1.0, 3.0))]


def test_a_clip_that_is_all_of_its_video_keeps_its_bytes():
    for fields in ({"end_seconds": 9.0}, {"start_seconds": 0.0, "end_seconds": 4.0}):
        (sample,) = decide(row("a.mp4", **fields), facts("x"), CONFIG).samples
        assert (sample.form, sample.ext) == ("copy", "mp4")
    (scene,) = decide(row("a.mp4"), facts("x", scene_cuts=[]), replace(CONFIG, scenes=True)).samples
    assert (scene.form, scene.span) == ("copy", (0.0, 4.0))


def test_scenes_become_clips():
    found = facts("x", scene_cuts=[1.5, 2.0])
    samples = decide(row("a.mp4"), found, replace(CONFIG, scenes=True, min_clip_seconds=1.0)).samples
    assert [sample.span for sample in samples] == [(0.0, 1.5), (2.0, 4.0)]


def test_an_archive_without_sound_is_remuxed():
    forms = [decide(row(n), facts("x"), replace(CONFIG, audio="drop")).samples[0] for n in ("a.mp4", "b.mkv")]
    assert [(sample.form, sample.ext) for sample in forms] == [("remux", "mkv")] * 2


def test_the_estimate_follows_the_form():
    def estimate(**options):
        config = replace(CONFIG, **({"preset": "train-gpu"} | options))
        (sample,) = decide(row("a.mp4"), facts("x"), config).samples
        assert (sample.form, sample.ext) == (("h264", "mp4") if config.preset == "train-gpu" else ("intra", "mkv"))
        return sample.estimated_bytes

    pixels = 100 * 256 * 454  # 4 s at 25 frames per second
    assert 0.024 * pixels < estimate() < 0.033 * pixels
    assert 0.15 * pixels < estimate(preset="train-cpu") < 0.19 * pixels
    assert 0.046 * pixels < estimate(fps=25 / 2.8) * 2.8 < 0.061 * pixels
    assert estimate() < estimate(fps=50.0) < 1.6 * estimate()  # repeated frames cost little
    assert 1.4 < estimate(short_side=128) / (estimate() / 4) < 1.8
    assert estimate(gop_frames=32) < estimate() < estimate(gop_frames=4) < estimate(gop_frames=1)
    assert estimate(audio="keep") == estimate() + 64_000


def test_a_length_that_cannot_be_is_a_failed_input():
    _, (rejected,) = plan([row("a.mp4")], [facts("x", duration_seconds=9e9)], replace(CONFIG, clip_seconds=1.0))
    assert (rejected.status, rejected.reason) == ("failed", "limit")
    assert rejected.detail == "9000000000 s would be more than 1048576 clips of 1.0 s"


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 2_000_000)), min_size=1, max_size=30))
def test_every_input_ends_in_exactly_one_place(inputs):
    rows = [row(f"{n}.mp4") for n in range(len(inputs))]
    found = [{"reason": "empty", "detail": ""} if bad else facts("x", bytes=size) for bad, size in inputs]
    shards, rejected = plan(rows, found)
    written = [sample.row.input_id for shard in shards for sample in shard]
    assert sorted(written + [r.input_id for r in rejected]) == sorted(r.input_id for r in rows)
    assert all(shards)
