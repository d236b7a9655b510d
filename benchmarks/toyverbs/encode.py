"""Frames → H.264 mp4 files whose bytes depend on the frames and the encoder's version alone."""

import io
import struct
from fractions import Fraction

import av
import numpy as np
import numpy.typing as npt
from av.codec.context import Flags

FRAMES_PER_SECOND = 12
_OPTIONS = {"preset": "veryfast", "crf": "20", "threads": "1"}
_UNTURNED = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
_FULL_BOX_TO_MATRIX = 40  # bytes of a version 0 tkhd box between its type and its matrix


def encode(frames_THWC: npt.NDArray[np.uint8]) -> bytes:
    """Write an mp4: H.264, yuv420p, 12 frames per second.

    Args:
        frames_THWC: (T, H, W, 3) uint8 RGB, H and W even.
    """
    height, width = frames_THWC.shape[1:3]
    file = io.BytesIO()
    with av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=FRAMES_PER_SECOND, options=_OPTIONS)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.time_base = Fraction(1, FRAMES_PER_SECOND)
        stream.codec_context.flags |= Flags.bitexact
        for frame_HWC in frames_THWC:
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame_HWC), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def turn_upright(mp4: bytes) -> bytes:
    """Ask players to turn the picture by 90 degrees clockwise, as phones do: PyAV offers no way to write it.

    Args:
        mp4: as `encode` writes it: one track, not yet turned.
    """
    header = mp4.index(b"tkhd")
    place = header + 4 + _FULL_BOX_TO_MATRIX
    assert mp4[place : place + len(_UNTURNED)] == _UNTURNED
    height = struct.unpack_from(">I", mp4, place + len(_UNTURNED) + 4)[0]  # 16.16 fixed point, as the matrix
    turned = struct.pack(">9i", 0, 1 << 16, 0, -(1 << 16), 0, 0, height, 0, 1 << 30)
    return mp4[:place] + turned + mp4[place + len(turned) :]
