"""What one video may ask for at most. Real videos stay far below; files made to hurt do not."""

from fractions import Fraction

from ..errors import MediaError

MAX_PIXELS = 8192 * 4352
"""Pixels of one frame: the largest picture of H.264, HEVC, VP9 and AV1 at level 6.2, beyond 8K."""
MAX_SIDE = 16_384
"""Pixels along one side: the widest picture of AV1 at its highest level."""
MAX_PACKETS = 1 << 21
"""Packets or frames of one video: 9.7 hours at 60 frames per second."""
MAX_PIXEL_ASPECT = 8.0
"""A pixel that is said to be longer than this many times its other side is a wrong header: it is taken as square."""
MAX_REPEATS = 100
"""A constant frame rate may show one frame this often on average; more means a wrong clock."""
FREE_REPEATS = 1000
"""Repeated frames that no clock is blamed for."""
MAX_WRITTEN_BYTES = (8 << 30) - 1
"""Size of a file that a video is turned into: what a tar member can hold."""
MAX_REPLY_BYTES = 256 << 20
"""Length of an answer of the sandbox's child: the packet table of MAX_PACKETS is 170 MB long."""
FRAMES_IN_FLIGHT = 40
"""Pictures that a decoder, a filter and an encoder hold at once, at 3 bytes per pixel: H.264 keeps up to 17."""
PROCESS_BYTES = 350_000_000
"""Memory of a worker and its sandbox's child without any picture."""
COMMON_PIXELS = 1920 * 1088
"""Pictures up to this size are looked at without asking for more memory."""
MAX_FOLDER_FRAMES = 1 << 18
"""JPEGs of one folder: 2.4 hours at 30 frames per second."""
MAX_JPEG_BYTES = 256 << 20
"""Size of one of them."""
MAX_RATE_DENOMINATOR = 1001
"""Of a frame rate that is asked for: 29.97 is 2997/100."""
MAX_OPEN_FILES = 64
"""Files that the sandbox's child may hold open."""


def task_memory_bytes(pixels: int = COMMON_PIXELS) -> int:
    """What a task may take at most that works on pictures of that size."""
    return PROCESS_BYTES + FRAMES_IN_FLIGHT * 3 * pixels


def is_size(width: int, height: int) -> bool:
    """Whether pictures may be that large."""
    return 0 < width * height <= MAX_PIXELS and max(width, height) <= MAX_SIDE


def check_size(width: int, height: int) -> None:
    """A picture of that size may be decoded.

    Raises:
        MediaError: "limit", it is larger than MAX_PIXELS or MAX_SIDE.
    """
    if not is_size(width, height):
        most = f"{MAX_PIXELS} pixels and {MAX_SIDE} along one side"
        raise MediaError("limit", f"pictures must have at most {most}, got {width}x{height}")


def check_count(packets: int) -> None:
    """A video may have that many packets or frames.

    Raises:
        MediaError: "limit", there are more than MAX_PACKETS.
    """
    if packets > MAX_PACKETS:
        raise MediaError("limit", f"must have at most {MAX_PACKETS} packets and frames, has more")


def believable_aspect(value: Fraction | None) -> float:
    """Width / height of one pixel; 1 where it is unknown, or so far off that the header must be wrong."""
    aspect = float(value or 1)
    return aspect if 1 / MAX_PIXEL_ASPECT <= aspect <= MAX_PIXEL_ASPECT else 1.0
