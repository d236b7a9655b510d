"""Files that name other files and hosts: FFmpeg would follow them, and reelmill must not."""

import struct

from .kinds import NOT_VIDEO, OK, Draw, Kind, made
from .media import encode, encoded
from .surgery import box, patched


def _script(name: str, file: str, why: str, *lines: str) -> Kind:
    return made(name, file, why, lambda draw: "\n".join((*lines, "")).encode(), NOT_VIDEO)


def _outside_reference(draw: Draw) -> bytes:
    """The entry for the track's data names a file, and the boxes around it grow with it."""
    data = encode(draw)
    start, end = box(data, b"url ")
    entry = b"url " + bytes(4) + b"file:bait.mp4\0"
    grown = 4 + len(entry) - (end - start)
    for parent in (b"dref", b"dinf", b"minf", b"mdia", b"trak", b"moov"):
        first, last = box(data, parent)
        data = patched(data, first, struct.pack(">I", last - first + grown))
    return data[:start] + struct.pack(">I", 4 + len(entry)) + entry + data[end:]


_HLS = ("#EXTM3U", "#EXT-X-TARGETDURATION:9", "#EXTINF:9,")
_SDP = ("v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=x", "c=IN IP4 127.0.0.1", "t=0 0", "m=video 5004 RTP/AVP 96")
_DASH = (
    '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>',
    '<Representation id="0" bandwidth="1"><BaseURL>bait.mp4</BaseURL></Representation></AdaptationSet></Period></MPD>',
)

KINDS = (
    encoded("bait", "bait.mp4", "A good video that the scripts beside it name."),
    _script("playlist", "playlist.mp4", "An HLS playlist that names bait.mp4.", *_HLS, "bait.mp4", "#EXT-X-ENDLIST"),
    _script("playlist-remote", "remote.ts", "An HLS playlist that names a host.", *_HLS, "http://127.0.0.1:9/secret"),
    _script("concat", "concat.mp4", "An FFmpeg script that names bait.mp4.", "ffconcat version 1.0", "file bait.mp4"),
    _script("session", "session.mp4", "A session description that would listen on the network.", *_SDP),
    _script("dash", "dash.mp4", "A DASH manifest that names bait.mp4.", *_DASH),
    _script("avisynth", "avisynth.avi", "An AviSynth script that names bait.mp4.", 'FFmpegSource2("bait.mp4")'),
    made(
        "outside-reference",
        "outside.mp4",
        "The track says that its data lie in bait.mp4: the name is not followed, the file's own data are read.",
        _outside_reference,
        OK,
    ),
)
