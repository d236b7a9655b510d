"""The deduplication benchmark: what it encodes, how it counts, and how it judges."""

from pathlib import Path

import av
import numpy as np
import pytest
from reelmill.benchmarks import dedup, dedup_synthetic, dedup_worlds
from reelmill.engine.media.look import look
from reelmill.shards.errors import UsageError

KINDS = {
    "source",
    "remux",
    "encode_strong",
    "encode_other",
    "scale_0.5",
    "scale_0.75",
    "fps_0.5",
    "fps_1.5",
    "trim_start",
    "trim_end",
    "trim_both",
    "letterbox",
}


def fingerprint(path: str) -> bytes:
    return bytes.fromhex(look(path, "decode", fingerprint=True)["fingerprint"])


@pytest.fixture(scope="module")
def prints(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], bytes]:
    """Of two clips of one class and their copies."""
    folder = tmp_path_factory.mktemp("copies")
    found = {}
    for number, source in enumerate(dedup_worlds.toyverbs(2, seed=5)):
        for kind, path in dedup_worlds.write_copies(source, folder):
            found[kind, number] = fingerprint(str(path))
    return found


def test_every_kind_of_copy_is_a_video(prints):
    assert {kind for kind, number in prints if number == 0} == KINDS | {"mirror", "reverse"}
    assert {kind for kind, number in prints if number == 1} == (KINDS - {"source"}) | {"class", "mirror", "reverse"}
    assert all(prints.values())


def test_copies_are_counted_by_kind(prints):
    record = dedup._score(prints)
    assert record["videos"] == len(prints) == 28
    assert set(record["kinds"]) == KINDS | {"class", "mirror", "reverse"}
    assert record["kinds"]["source"] == record["kinds"]["class"] == [1, 0, 1]
    assert record["kinds"]["remux"] == [2, 2, 2]
    assert record["precision"] == 1.0


def test_a_wrong_copy_and_a_kept_one_are_counted(prints):
    wrong = dict(prints)
    wrong["remux", 0] = b""
    wrong["mirror", 1] = prints["class", 1]
    wrong["encode_strong", 0] = prints["class", 1]
    record = dedup._score(wrong)
    assert record["kinds"]["remux"] == [2, 1, 1]
    assert record["kinds"]["mirror"][1:] == [1, 1]
    assert record["kinds"]["encode_strong"] == [2, 2, 1]
    assert record["precision"] < 1
    assert record["recall"] < 1


def test_clips_that_show_the_same_backwards_are_left_out(prints):
    record = dedup._score(prints | {("reverse_same", 0): prints["source", 0]})
    assert record["videos"] == 28
    assert record["left_out_as_the_same"] == 1


def test_what_is_the_same_mirrored_is_told():
    half = np.random.default_rng(0).integers(0, 256, (32, 16, 3), np.uint8)
    symmetric, lopsided = np.concatenate([half, half[:, ::-1]], axis=1), np.concatenate([half, half], axis=1)
    assert dedup_worlds._is_same([symmetric] * 6, [symmetric[:, ::-1]] * 6)
    assert not dedup_worlds._is_same([lopsided] * 6, [lopsided[:, ::-1]] * 6)


def test_sources_of_one_scene_are_told_apart():
    kinds = [source.kind for source in dedup_worlds.toyverbs(6, seed=1)]
    assert kinds == ["source", "class", "neighbour"] * 2
    looks = list(dedup_worlds.still_camera(3, seed=1, frames=4))
    assert [look.kind for look in looks] == ["source", "neighbour", "source"]
    assert [len(look.frames) for look in looks] == [4] * 3


def test_files_are_cut_into_stretches(media, tmp_path):
    long = media.video(tmp_path / "long.mp4", frames=90, fps=12)
    short = media.video(tmp_path / "short.mp4", frames=10, fps=12)
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    paths = [long, short, tmp_path / "broken.mp4"]
    assert [(s.kind, len(s.frames)) for s in dedup_worlds.spans(paths)] == [("source", 36), ("neighbour", 36)]
    assert [len(source.frames) for source in dedup_worlds.whole(paths)] == [90]


def test_a_remuxed_copy_has_the_same_packets(media, tmp_path):
    source = media.video(tmp_path / "a.mp4")
    copy = dedup_worlds._remux(source, tmp_path / "a.mkv")

    def packets(path: Path) -> int:
        with av.open(str(path)) as container:
            return sum(1 for packet in container.demux(video=0) if packet.size)

    assert packets(copy) == packets(source)


def test_synthetic_copies_are_found():
    record = dedup_synthetic.measure(400)
    assert record["precision"] == 1.0
    assert record["recall"] > 0.9
    assert record["bytes_per_print"] > 72 + 32 * 10


def test_growth_is_measured_between_sizes():
    records = [{"videos": n, "hash_comparisons": c} for n, c in ((10, 7), (100, 70), (1000, 7000))]
    assert dedup_synthetic.exponents(records) == [1.0, 2.0]
    assert dedup_synthetic.exponents(records[:1]) == []


def test_the_bars_judge_and_never_raise():
    synthetic = [
        {"videos": 100_000, "hash_comparisons": 10, "peak_rss_bytes": 9},
        {"videos": 1_000_000, "hash_comparisons": 1000, "peak_rss_bytes": 2_000_000_001},
    ]
    quality = [{"part": "textures", "precision": 0.99, "recall": 0.9499}]
    assert [(bar["bar"], bar["met"]) for bar in dedup._bars(synthetic, quality)] == [
        ("textures: precision >= 0.99", True),
        ("textures: recall >= 0.95", False),
        ("comparisons sub-quadratic", False),
        ("1000000 videos in 2 GB", False),
    ]
    assert dedup._bars([], []) == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sources": 2}, "sources must be >= 3, got 2"),
        ({"synthetic": (1000, 500)}, r"synthetic must be ascending numbers >= 100, got \(1000, 500\)"),
        ({"synthetic": (500, 500)}, r"synthetic must be ascending numbers >= 100, got \(500, 500\)"),
        ({"synthetic": (99,)}, r"synthetic must be ascending numbers >= 100, got \(99,\)"),
    ],
)
def test_wrong_options_are_told(options, message):
    with pytest.raises(UsageError, match=message):
        dedup.BenchDedupConfig(**options)


def test_a_folder_without_videos_is_told(tmp_path):
    with pytest.raises(UsageError, match=r"input must be a folder with videos, but .* holds none"):
        dedup._worlds(dedup.BenchDedupConfig(input=tmp_path))
