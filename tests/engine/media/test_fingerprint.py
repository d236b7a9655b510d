"""A fingerprint survives what copies go through, tells mirrored pictures apart, and stays small whatever comes."""

import hashlib
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from reelmill.engine.errors import MediaError
from reelmill.engine.media import sketch
from reelmill.engine.media.fingerprint import MAX_CELLS, VERSION, Fingerprinter
from reelmill.engine.media.look import look

GOLDEN = ["0200000000000000", "8b00804434471f3f", "0170688e21b6c738"]
GOLDEN_DIGEST = "ab19567455369139"

Picture = NDArray[np.uint8]


@cache
def fingerprint(path: str) -> bytes:
    return bytes.fromhex(look(path, "decode", fingerprint=True)["fingerprint"])


def plane(seed: int) -> Picture:
    """Random tiles of 12 pixels."""
    return np.random.default_rng(seed).integers(0, 256, (30, 60, 3), np.uint8).repeat(12, axis=0).repeat(12, axis=1)


def scene(seed: int, index: int, height: int = 90, width: int = 120) -> Picture:
    """A window that moves over a plane."""
    return plane(seed)[index : index + height, 2 * index : 2 * index + width]


def to_frame(picture: Picture) -> av.VideoFrame:
    return av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")


def of_pictures(pictures: list[Picture], fps: float = 8, start: float = 0.0) -> bytes:
    prints = Fingerprinter()
    for index, picture in enumerate(pictures):
        prints.add(to_frame(picture), start + index / fps)
    return prints.digest()


def words(print_: bytes) -> NDArray[np.uint64]:
    """The header and the hashes."""
    cells, rest = divmod(len(print_) - 72, 32)
    assert rest == 0
    return np.frombuffer(print_, "<u8")[: 1 + cells].astype(np.uint64)


def sketch_of(print_: bytes) -> sketch.Sketch:
    return sketch.read(np.frombuffer(print_, "<u8")[len(words(print_)) :])


def bits_apart(a: bytes, b: bytes) -> float:
    left, right = words(a), words(b)
    assert len(left) == len(right) > 1
    assert left[0] == right[0]
    return float(np.bitwise_count(left[1:] ^ right[1:]).mean())


def write(path: Path, pictures: list[Picture], *, fps: int = 8, crf: int = 18) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"crf": str(crf), "preset": "veryfast"})
        stream.height, stream.width, stream.pix_fmt = *pictures[0].shape[:2], "yuv420p"
        stream.time_base = Fraction(1, fps)
        for picture in pictures:
            container.mux(stream.encode(to_frame(picture)))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def pictures() -> list[Picture]:
    return [scene(1, index) for index in range(16)]


def test_a_word_for_the_header_and_one_for_every_eighth_of_a_second(pictures):
    found = words(of_pictures(pictures))
    assert found[0] == VERSION << 56
    assert len(found) == 1 + 16
    assert found[1:].all()


def test_the_bits_are_those_they_always_were():
    """Stored fingerprints of earlier generations are compared with new ones: a change needs a new VERSION."""
    found = words(of_pictures([scene(5, index) for index in (0, 9)]))
    assert [f"{int(word):016x}" for word in found] == GOLDEN
    pictures = [scene(5, index) for index in range(40)]  # so many that cells are joined
    assert hashlib.blake2b(of_pictures(pictures), digest_size=8).hexdigest() == GOLDEN_DIGEST


def test_only_differences_of_time_count(pictures):
    assert of_pictures(pictures, start=1000) == of_pictures(pictures)


def test_a_file_gives_what_its_frames_give(pictures, tmp_path):
    path = write(tmp_path / "a.mp4", pictures)
    prints = Fingerprinter()
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            assert frame.time is not None
            prints.add(frame, frame.time)
    assert prints.digest() == fingerprint(str(path))


@pytest.mark.parametrize("fps", [4, 12, 24, 30])
def test_another_frame_rate_changes_little(pictures, fps):
    retimed = [pictures[int((index + 0.5) / fps * 8)] for index in range(2 * fps)]
    assert bits_apart(of_pictures(retimed, fps), of_pictures(pictures)) < 3


def test_recompression_and_scaling_change_little(pictures, tmp_path):
    small = [
        to_frame(p).reformat(width=64, height=46, interpolation="BICUBIC").to_ndarray().astype(np.uint8)
        for p in pictures
    ]
    source = fingerprint(str(write(tmp_path / "a.mp4", pictures)))
    assert bits_apart(fingerprint(str(write(tmp_path / "b.mp4", pictures, crf=36))), source) < 3
    assert bits_apart(fingerprint(str(write(tmp_path / "c.mp4", small))), source) < 3


def test_brightness_and_contrast_change_little(pictures):
    dim = [(picture // 2 + 40).astype(np.uint8) for picture in pictures]
    assert bits_apart(of_pictures(dim), of_pictures(pictures)) < 1


@pytest.mark.parametrize("border", [((12, 12), (0, 0), (0, 0)), ((0, 0), (20, 20), (0, 0))])
def test_black_borders_are_cut_away(pictures, border):
    framed = [np.pad(picture, border) for picture in pictures]
    assert bits_apart(of_pictures(framed), of_pictures(pictures)) < 4


def test_a_dark_side_is_not_a_border(pictures):
    lopsided = [np.pad(picture, ((30, 0), (0, 0), (0, 0))) for picture in pictures]
    assert bits_apart(of_pictures(lopsided), of_pictures(pictures)) > 15


@pytest.mark.parametrize("axis", [0, 1])
def test_mirrored_pictures_are_others(pictures, axis):
    assert bits_apart(of_pictures([np.flip(p, axis) for p in pictures]), of_pictures(pictures)) > 15


def test_other_pictures_are_others(pictures):
    assert bits_apart(of_pictures([scene(2, index) for index in range(16)]), of_pictures(pictures)) > 20


@pytest.mark.parametrize("rotation", [90, 180, 270])
def test_a_stored_rotation_is_applied(media, tmp_path, rotation):
    path = media.video(tmp_path / "turned.mp4", rotation=rotation)
    with av.open(str(path)) as container:
        stored = [frame.to_ndarray(format="rgb24").astype(np.uint8) for frame in container.decode(video=0)]
    upright = [np.rot90(picture, -rotation // 90) for picture in stored]
    assert bits_apart(fingerprint(str(path)), of_pictures(upright, fps=12)) < 1


@pytest.mark.parametrize("picture", [np.zeros((48, 64, 3)), np.full((48, 64, 3), 255)])
def test_a_flat_video_has_an_empty_fingerprint(picture):
    assert of_pictures([picture.astype(np.uint8)] * 10) == b""


def test_a_mere_gradient_tells_nothing():
    ramp = np.linspace(0, 255, 64).astype(np.uint8)[None, :, None].repeat(48, axis=0).repeat(3, axis=2)
    assert of_pictures([ramp] * 10) == b""


def test_flat_pictures_are_marked_and_keep_their_place(pictures):
    black = np.zeros_like(pictures[0])
    found = words(of_pictures([black] * 3 + pictures))[1:]
    assert not found[:3].any()
    assert np.array_equal(found[3:], words(of_pictures(pictures))[1:])


def test_nothing_in_nothing_out():
    assert Fingerprinter().digest() == b""


def test_one_frame_is_enough(pictures):
    assert len(words(of_pictures(pictures[:1]))) == 2


def test_a_long_video_has_longer_cells_and_a_cut_of_it_keeps_their_pictures():
    places = np.cumsum(np.random.default_rng(0).integers(0, 3, 120)).tolist()  # stop and go
    pictures = [scene(3, place) for place in places]
    whole, cut = words(of_pictures(pictures)), words(of_pictures(pictures[29:]))
    assert whole[0] & 255 == cut[0] & 255 == 2
    assert MAX_CELLS // 2 < len(cut) - 1 < len(whole) - 1 <= MAX_CELLS
    kept = np.isin(cut[1:], whole[1:])
    assert kept.mean() > 0.6


def test_times_of_any_size_end_soon(pictures):
    prints = Fingerprinter()
    for seconds in (float("nan"), 0.0, 1e3, 5.0, 1e15, float("inf"), 2e15):
        prints.add(to_frame(pictures[0]), seconds)
    found = words(prints.digest())
    assert len(found) <= 1 + MAX_CELLS
    assert len(set(found[1:].tolist())) == 1


def test_a_file_that_is_no_video_is_told(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"not a video\n" * 50)
    with pytest.raises(MediaError, match="not_video: "):
        fingerprint(str(tmp_path / "a.mp4"))


def test_a_real_clip_of_ten_seconds(real_videos):
    found = words(fingerprint(str(real_videos / "bikes.mp4")))
    assert found[0] & 255 == 2
    assert len(found) == 1 + 20


def gaps(a: bytes, b: bytes) -> NDArray[np.floating]:
    """Grey levels between the pictures of two fingerprints, root mean square, of each cell."""
    left, right = sketch_of(a), sketch_of(b)
    gap = np.maximum(np.maximum(left.low_NX - right.high_NX, right.low_NX - left.high_NX), 0).astype(float)
    found: NDArray[np.floating] = np.sqrt((gap**2).mean(axis=1))
    return found


def still(places: list[tuple[int, int]]) -> list[Picture]:
    """A still backdrop and a small bright thing at these places."""
    pictures = [scene(7, 0).copy() for _ in places]
    for picture, (row, column) in zip(pictures, places, strict=True):
        picture[row : row + 12, column : column + 12] = 255 - picture[row : row + 12, column : column + 12]
    return pictures


def test_the_sketch_tells_where_a_small_thing_is():
    walk = [(20, 8 * step) for step in range(12)]
    elsewhere = [(60, 8 * step) for step in range(12)]
    a, b = of_pictures(still(walk)), of_pictures(still(elsewhere))
    assert gaps(a, of_pictures(still(walk))).max() == 0
    assert gaps(a, b).min() > 1.5


def test_the_sketch_remembers_motion_in_grey_levels(pictures):
    places = [(20, 8)] * 6 + [(60, 80)] * 6
    motion = sketch_of(of_pictures(still(places))).motion_N.tolist()
    assert motion[0] == sketch.UNKNOWN
    assert motion[1:6] == [0] * 5
    assert motion[6] > 20
    assert motion[7:] == [0] * 5


def test_motion_of_a_moment_outlives_the_thinning_to_still_pictures():
    places = [(20, 8)] * 100 + [(60, 80)] + [(20, 8)] * 99
    found = of_pictures(still(places))
    motion = sketch_of(found).motion_N
    assert words(found)[0] & 255 == 3
    assert motion[1:].max() > 20
    assert (motion[1:] > 0).sum() <= 2


@pytest.mark.parametrize("bar", [12, 13, 15, 17])
def test_a_border_that_ends_inside_a_row_is_cut_there(pictures, bar):
    framed = [np.pad(picture, ((bar, bar), (0, 0), (0, 0))) for picture in pictures]
    assert gaps(of_pictures(framed), of_pictures(pictures)).mean() < 4


def test_a_dark_scene_has_no_border():
    """How far a bright thing comes in the night must not decide what is cut away."""
    night = [np.full((90, 120, 3), 22, np.uint8) for _ in range(16)]
    for index, picture in enumerate(night):
        picture[::9] += 8
        picture[30:60, 6 * index : 6 * index + 30] = 230
    whole, cut = of_pictures(night), of_pictures(night[:8])
    assert np.array_equal(words(cut)[1:], words(whole)[1 : 1 + 8])


def test_a_fingerprint_is_small():
    assert len(of_pictures([scene(3, index % 200) for index in range(400)])) <= 72 + 32 * MAX_CELLS == 1096
