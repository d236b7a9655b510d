"""What a packet's own bytes say of it: whether any other picture can be predicted from its picture.

H.264: clause 7.4.1 of ITU-T H.264 (nal_ref_idc); HEVC: table 7-1 of ITU-T H.265 (sub-layer non-reference pictures).
VP8 and VP9 hand probabilities from picture to picture, also through those that none is predicted from, so none of their
packets may be left out; AV1's could, but their headers are long and no stream met here gained from it.
"""

from collections.abc import Iterator, Sequence

H264_SLICE, H264_BESIDE = 1, (6, 9, 12)  # what stands beside a slice without changing how others decode
HEVC_LAST_NONREF, HEVC_BESIDE = 14, (35, 38, 39, 40)


def disposable(codec: str, extradata: bytes | None, packets: Sequence[bytes]) -> list[bool]:
    """For each packet whether leaving it out changes no other picture.

    What cannot be told is kept: other codecs, streams with start codes, packets that do not parse or carry parameter
    sets.

    Args:
        codec: FFmpeg's name.
        extradata: of the container's header; tells how lengths are written.
        packets: payloads in decode order, from one keyframe on.
    """
    if codec == "h264" and extradata and len(extradata) > 4 and extradata[0] == 1:
        return [_is_nonref_h264(packet, (extradata[4] & 3) + 1) for packet in packets]
    if codec == "hevc" and extradata and len(extradata) > 22 and extradata[0] == 1:
        layers = [_nonref_layer_hevc(packet, (extradata[21] & 3) + 1) for packet in packets]
        # Of a lower temporal layer only pictures of the same one are ruled out: higher layers may refer to it.
        top = max((layer for layer, _ in layers), default=0)
        return [nonref and layer == top for layer, nonref in layers]
    return [False] * len(packets)


def _units(packet: bytes, length_bytes: int) -> Iterator[tuple[int, int]]:
    """(first byte, second byte) of each NAL unit; (-1, -1) where the lengths do not fill the packet."""
    place, end = 0, len(packet)
    while place < end:
        start = place + length_bytes
        place = start + int.from_bytes(packet[place:start], "big")
        if start + 2 > place or place > end:
            yield -1, -1
            return
        yield packet[start], packet[start + 1]


def _is_nonref_h264(packet: bytes, length_bytes: int) -> bool:
    sliced = False
    for head, _ in _units(packet, length_bytes):
        kind = head & 31
        if head < 0 or (head >> 5) & 3 or (kind != H264_SLICE and kind not in H264_BESIDE):
            return False
        sliced = sliced or kind == H264_SLICE
    return sliced


def _nonref_layer_hevc(packet: bytes, length_bytes: int) -> tuple[int, bool]:
    """The highest temporal layer in a packet, and whether no picture of that layer refers to its own."""
    layer, nonref, sliced = 0, True, False
    for head, second in _units(packet, length_bytes):
        kind = (head >> 1) & 63
        layer = max(layer, (second & 7) - 1)
        is_slice = kind <= HEVC_LAST_NONREF and kind % 2 == 0
        if head < 0 or head & 1 or second >> 3 or not (is_slice or kind in HEVC_BESIDE):
            nonref = False
        sliced = sliced or is_slice
    return layer, nonref and sliced
