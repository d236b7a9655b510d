"""Probing runs in a limited child process: it measures good videos and says what is wrong with the others."""

import os
import re
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest
from reelmill.benchmarks.damage.kinds import Draw
from reelmill.benchmarks.damage.media import encode
from reelmill.engine.errors import MediaError
from reelmill.engine.media import limits
from reelmill.engine.media import probe as probe_module
from reelmill.engine.media import sandbox as sandbox_module
from reelmill.engine.media.limits import believable_aspect, check_size
from reelmill.engine.media.sandbox import Sandbox
from reelmill.engine.media.walk import Walk
from reelmill.shards.table import packet_table


@pytest.fixture(scope="module")
def sandbox():
    sandbox = Sandbox(cpu_seconds=60, memory_mb=4096)
    yield sandbox
    sandbox.close()


def probe(sandbox: Sandbox, path: Path, validate: str = "decode", *, table: bool = False) -> dict:
    facts: dict = sandbox.call("look", path=str(path), validate=validate, table=table)
    return facts


def test_a_good_video_is_measured(sandbox, media, tmp_path):
    facts = probe(sandbox, media.video(tmp_path / "a.mp4", frames=30, fps=15))
    assert (facts["codec"], facts["width"], facts["height"], facts["frames"]) == ("h264", 96, 64, 30)
    assert (facts["fps"], facts["duration_seconds"], facts["pixel_aspect"]) == (15.0, 2.0, 1.0)
    assert facts["bytes"] == (tmp_path / "a.mp4").stat().st_size


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("validate", ["none", "packets", "decode"])
def test_rotation_is_the_clockwise_turn(sandbox, media, tmp_path, rotation, validate):
    path = media.video(tmp_path / "a.mp4", frames=4, rotation=rotation)
    assert probe(sandbox, path, validate)["rotation"] == rotation


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [(".mp4", "libx264"), (".mov", "mpeg4"), (".mkv", "libx265"), (".webm", "libvpx-vp9"), (".avi", "mjpeg")],
)
def test_packets_are_found_at_their_bytes(sandbox, media, tmp_path, suffix, codec):
    path = media.video(tmp_path / f"a{suffix}", codec=codec, frames=20)
    facts = probe(sandbox, path, table=True)
    packets = packet_table(facts["packets"]).to_pylist()
    assert facts["frames"] == 20
    assert sum(packet["pts"] is not None for packet in packets) == 20
    assert packets[0]["keyframe"]
    size = path.stat().st_size
    assert all(0 < packet["offset"] < packet["offset"] + packet["size"] <= size for packet in packets)


def test_the_stream_hash_outlives_a_remux_and_the_content_hash_does_not(sandbox, media, tmp_path):
    path = media.video(tmp_path / "a.mp4")
    before = probe(sandbox, path)
    sandbox.call("remux", path=str(path), out=str(tmp_path / "b.mkv"))
    after = probe(sandbox, tmp_path / "b.mkv")
    assert after["stream_hash"] == before["stream_hash"]
    assert after["sha256"] != before["sha256"]


def bad_files(folder: Path, media) -> dict[str, Path]:
    good = media.video(folder / "good.mkv", frames=60).read_bytes()
    damaged = bytearray(media.video(folder / "good.mp4", frames=60).read_bytes())
    for place in range(len(damaged) // 4, len(damaged) // 2, 7):  # the header comes last in these
        damaged[place] ^= 0xA5
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\n{folder / 'good.mp4'}\n"
    contents = {
        "text": b"not a video\n" * 50,
        "empty": b"",
        "playlist": playlist.encode(),
        "cut": good[: len(good) // 2],
        "damaged": bytes(damaged),
        "header": good[:100],
    }
    files = {}
    for name, content in contents.items():
        files[name] = folder / f"{name}.mp4"
        files[name].write_bytes(content)
    files["sound"] = media.audio(folder / "sound.mp4")
    files["missing"] = folder / "missing.mp4"
    files["folder"] = folder
    files["device"] = Path("/dev/zero")
    files["pipe"] = folder / "pipe.mp4"
    os.mkfifo(files["pipe"])
    return files


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("text", "not_video: no video container that FFmpeg knows"),
        ("empty", "empty: 0 bytes"),
        ("playlist", "not_video: "),  # FFmpeg would follow it to other files and hosts
        ("cut", r"damaged: cut short: the header promises 5\.\d+ s, the packets hold "),
        ("damaged", r"damaged: video packet \d+ does not decode"),
        ("header", "damaged: begins as Matroska and does not open: "),
        ("sound", "no_video_stream: holds audio only"),
        ("missing", "missing: no such file"),
        ("folder", "unreadable: must be a plain file, is a folder"),
        ("device", "unreadable: must be a plain file, is a character device"),
        ("pipe", "unreadable: must be a plain file, is a named pipe"),  # opening it would wait for ever
    ],
)
def test_a_bad_file_says_what_is_wrong(sandbox, media, tmp_path, name, message):
    with pytest.raises(MediaError, match=message):
        probe(sandbox, bad_files(tmp_path, media)[name])


def test_the_real_clips(sandbox, real_videos):
    frames = {name: probe(sandbox, real_videos / name)["frames"] for name in ("bikes.mp4", "pancake.mkv", "rot90.mov")}
    assert frames == {"bikes.mp4": 250, "pancake.mkv": 310, "rot90.mov": 3}
    assert probe(sandbox, real_videos / "rot90.mov")["rotation"] == 90
    with pytest.raises(MediaError, match="damaged: video packet 30 does not decode"):
        probe(sandbox, real_videos / "corrupted.mp4")


@pytest.mark.parametrize(
    ("validate", "table", "seconds"),
    [("decode", False, 2.0), ("packets", False, 2.0), ("none", True, 2.0), ("none", False, 0.0)],
)
def test_a_length_that_the_header_does_not_say_is_that_of_the_packets(sandbox, tmp_path, validate, table, seconds):
    path = tmp_path / "a.webm"
    path.write_bytes(encode(Draw("live", 0), frames=24, codec="libvpx", container="webm", mux={"live": "1"}))
    assert probe(sandbox, path, validate, table=table)["duration_seconds"] == pytest.approx(seconds, abs=0.1)


def test_a_video_that_needs_too_much_cpu_is_given_up_and_the_next_one_is_not(media, tmp_path):
    long = media.video(tmp_path / "long.mp4", frames=400, width=1280, height=720, options={"preset": "ultrafast"})
    short = media.video(tmp_path / "short.mp4", frames=4)
    sandbox = Sandbox(cpu_seconds=1, memory_mb=4096)
    with pytest.raises(MediaError, match="limit: took more than 1 s of CPU time"):
        sandbox.call("to_intra", path=str(long), out=str(tmp_path / "o.mkv"), short_side=720)
    assert probe(sandbox, short)["frames"] == 4
    sandbox.close()


def test_a_child_that_dies_is_told_and_replaced(media, tmp_path):
    path = media.video(tmp_path / "a.mp4", frames=4)
    sandbox = Sandbox(cpu_seconds=60, memory_mb=4096)
    probe(sandbox, path)
    assert sandbox._child is not None
    sandbox._child.kill()
    sandbox._child.wait()
    assert probe(sandbox, path)["frames"] == 4
    sandbox.close()


def test_a_decoder_without_memory_is_told(media, tmp_path):
    path = media.video(tmp_path / "a.mp4", frames=4, width=4096, height=4096, options={"preset": "ultrafast"})
    sandbox = Sandbox(cpu_seconds=60, memory_mb=300)
    with pytest.raises(MediaError, match=r"(limit|crashed|damaged|not_video): "):
        probe(sandbox, path)
    sandbox.close()


def test_the_codec_has_its_own_name_and_not_the_decoders(sandbox, media, tmp_path):
    path = media.video(tmp_path / "a.mp4", codec="libsvtav1", frames=4)
    assert probe(sandbox, path)["codec"] == "av1"


def test_a_late_first_frame_is_not_a_missing_end(sandbox, tmp_path):
    path = tmp_path / "a.mkv"
    path.write_bytes(encode(Draw("late", 0), container="matroska", frames=24, pts=lambda index: index + 60))
    assert probe(sandbox, path)["frames"] == 24


@pytest.mark.parametrize(
    ("width", "height", "holds"),
    [(7680, 4320, True), (8192, 4352, True), (8193, 4352, False), (16384, 16, True), (16385, 1, False)],
)
def test_pictures_beyond_any_codec_level_are_not_decoded(width, height, holds):
    if holds:
        check_size(width, height)
    else:
        most = "pictures must have at most 35651584 pixels and 16384 along one side"
        with pytest.raises(MediaError, match=f"limit: {most}, got {width}x{height}"):
            check_size(width, height)


@pytest.mark.parametrize("validate", ["none", "packets", "decode"])
def test_the_header_is_checked_before_anything_is_decoded(media, tmp_path, monkeypatch, validate):
    path = media.video(tmp_path / "a.mp4", frames=4)
    monkeypatch.setattr(limits, "MAX_PIXELS", 96 * 64 - 1)
    monkeypatch.setattr(Walk, "run", pytest.fail)
    with pytest.raises(MediaError, match="limit: pictures must have at most 6143 pixels"):
        probe_module.probe(str(path), validate)


@pytest.mark.parametrize(("validate", "table"), [("packets", False), ("decode", False), ("none", True)])
def test_packets_are_counted_and_there_is_an_end(media, tmp_path, monkeypatch, validate, table):
    path = media.video(tmp_path / "a.mp4", frames=9)
    monkeypatch.setattr(limits, "MAX_PACKETS", 8)
    with pytest.raises(MediaError, match="limit: must have at most 8 packets and frames, has more"):
        probe_module.probe(str(path), validate, table=table)


@pytest.mark.parametrize(
    ("written", "believed"),
    [(None, 1.0), (Fraction(0), 1.0), (Fraction(64, 51), 64 / 51), (Fraction(8), 8.0), (Fraction(65535), 1.0)],
)
def test_an_impossible_pixel_aspect_is_not_believed(written, believed):
    assert believable_aspect(written) == believed


def test_a_module_in_the_working_folder_is_not_imported(media, tmp_path, monkeypatch):
    path = media.video(tmp_path / "a.mp4", frames=4)
    (tmp_path / "av.py").write_text("raise SystemExit('imported from the working folder')")
    monkeypatch.chdir(tmp_path)
    sandbox = Sandbox(cpu_seconds=60, memory_mb=4096)
    assert probe(sandbox, path)["frames"] == 4
    sandbox.close()


def sandbox_that_runs(monkeypatch, code: str) -> Sandbox:
    """A sandbox whose child was taken over and runs `code` on the first request."""
    popen = subprocess.Popen

    def start(command, **options):
        return popen([sys.executable, "-c", f"import os, sys, time; sys.stdin.readline(); {code}"], **options)

    monkeypatch.setattr(subprocess, "Popen", start)
    return Sandbox(cpu_seconds=60, memory_mb=4096)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("print('nonsense')", "crashed: the decoder's process answered nonsense"),
        ("print('[]')", "crashed: the decoder's process answered nonsense"),
        ("os.write(1, b'x' * 5000); time.sleep(60)", "limit: what is found must fit 4096 bytes"),
        ("os.write(1, b'{'); os.kill(os.getpid(), 11)", "crashed: the decoder ended its process: SIGSEGV"),
        ("os.write(1, b'{'); os.close(1); os.close(2); time.sleep(60)", "crashed: the decoder's process stopped"),
        ("os.write(1, b'{'); time.sleep(60)", "limit: took more than 60 s of CPU time"),
    ],
)
def test_whatever_the_child_does_the_parent_goes_on(monkeypatch, code, message):
    monkeypatch.setattr(sandbox_module, "MAX_REPLY_BYTES", 4096)
    monkeypatch.setattr(sandbox_module, "WALL_PER_CPU_SECOND", 0)
    monkeypatch.setattr(sandbox_module, "WALL_GRACE_SECONDS", 0.5)
    sandbox = sandbox_that_runs(monkeypatch, code)
    with pytest.raises(MediaError, match=re.escape(message)):
        sandbox.call("look")
    sandbox.close()
