"""Planning is pure: every input ends in exactly one place, in input order, whatever the facts."""

from dataclasses import replace
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from reelmill.engine.config import IngestConfig
from reelmill.engine.plan import make_plan
from reelmill.engine.sources import InputRow

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


def row(name: str, **fields) -> InputRow:
    return InputRow(name, f"/v/{name}", name, **fields)


def facts(sha256: str, **fields) -> dict:
    return FACTS | {"sha256": sha256, "stream_hash": f"s{sha256}"} | fields


def test_shards_stay_under_their_size_in_input_order():
    rows = [row(f"{n}.mp4") for n in range(10)]
    plan = make_plan(rows, [facts(str(n)) for n in range(10)], CONFIG)
    assert [sample.row.input_id for shard in plan.shards for sample in shard] == [r.input_id for r in rows]
    assert [len(shard) for shard in plan.shards] == [3, 3, 3, 1]


def test_a_sample_larger_than_a_shard_has_its_own():
    sizes = [300_000, 9_000_000, 300_001]
    plan = make_plan([row(f"{n}.mp4") for n in range(3)], [facts(str(b), bytes=b) for b in sizes], CONFIG)
    assert [len(shard) for shard in plan.shards] == [1, 1, 1]


def test_the_first_of_equal_files_stays():
    rows = [row("a.mp4"), row("b.mp4"), row("c.mp4", start_seconds=1.0)]
    plan = make_plan(rows, [facts("x")] * 3, replace(CONFIG, preset="train-cpu"))
    assert [sample.row.input_id for shard in plan.shards for sample in shard] == ["a.mp4", "c.mp4"]  # another span
    (twin,) = plan.rejected
    assert (twin.input_id, twin.status, twin.reason, twin.detail) == ("b.mp4", "duplicate", "exact", "same as a.mp4")
    assert not make_plan(rows[:2], [facts("x")] * 2, replace(CONFIG, dedup="none")).rejected


def test_the_same_stream_in_another_container_is_a_duplicate_when_asked():
    rows, found = [row("a.mp4"), row("b.mp4")], [facts("x", stream_hash="s"), facts("y", stream_hash="s")]
    assert not make_plan(rows, found, CONFIG).rejected
    (twin,) = make_plan(rows, found, replace(CONFIG, dedup="stream")).rejected
    assert twin.reason == "stream"


def test_failed_unknown_and_late_inputs_are_rejected_with_a_reason():
    rows = [row("a.mp4"), row("b.mp4", labels=["fly"]), row("c.mp4", start_seconds=9.0)]
    found = [{"reason": "empty", "detail": "0 bytes"}, facts("b"), facts("c")]
    plan = make_plan(rows, found, CONFIG, known_labels={"jump"})
    assert [(r.status, r.reason) for r in plan.rejected] == [
        ("failed", "empty"),
        ("failed", "unknown_label"),
        ("filtered", "span"),
    ]
    assert plan.rejected[1].detail == "the bank has no action 'fly'"


def test_what_is_not_mp4_mov_mkv_or_webm_is_remuxed():
    forms = {}
    for name, container in {
        "a.mp4": "mov,mp4,m4a,3gp,3g2,mj2",
        "a.mov": "mov,mp4,m4a,3gp,3g2,mj2",
        "a.webm": "matroska,webm",
        "a.avi": "avi",
        "a.ts": "mpegts",
    }.items():
        (shard,) = make_plan([row(name)], [facts("x", container=container)], CONFIG).shards
        forms[name] = (shard[0].form, shard[0].ext)
    assert forms == {
        "a.mp4": ("copy", "mp4"),
        "a.mov": ("copy", "mov"),
        "a.webm": ("copy", "webm"),
        "a.avi": ("remux", "mkv"),
        "a.ts": ("remux", "mkv"),
    }


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.integers(1, 2_000_000)), min_size=1, max_size=30))
def test_every_input_ends_in_exactly_one_place(inputs):
    rows = [row(f"{n}.mp4") for n in range(len(inputs))]
    found = [{"reason": "empty", "detail": ""} if bad else facts(str(sha), bytes=size) for sha, bad, size in inputs]
    plan = make_plan(rows, found, CONFIG)
    written = [sample.row.input_id for shard in plan.shards for sample in shard]
    assert sorted(written + [r.input_id for r in plan.rejected]) == sorted(r.input_id for r in rows)
    assert all(shard for shard in plan.shards)
