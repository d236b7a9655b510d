"""Controls: good files of every container and codec, and good files that look unusual."""

import io
from collections.abc import Mapping
from typing import Any

import av

from .kinds import OK, TRANSCODE, Draw, Outcome, made
from .media import encode, encoded, picture, rewrap
from .surgery import after, moov_first, patched

FRAGMENTS = {"movflags": "frag_keyframe+empty_moov+default_base_moof"}


NOT_REMUXED: Mapping[str, Outcome] = {"archive": TRANSCODE}


def _edit_list(draw: Draw) -> bytes:
    """The edit list starts half a second into the track: those frames are decoded and not shown."""
    data = encode(draw, options={"bf": "0"})
    time_scale = int.from_bytes(data[after(data, b"mdhd", 12) :][:4], "big")
    return patched(data, after(data, b"elst", 12), (time_scale // 2).to_bytes(4, "big"))


def _cover_art(draw: Draw) -> bytes:
    """An mp4 with a still picture as its first stream, as music players write it."""
    file = io.BytesIO()
    with (
        av.open(io.BytesIO(encode(draw)), "r") as source,
        av.open(file, "w", format="mp4", options={"fflags": "+bitexact"}) as sink,
    ):
        cover: Any = sink.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        copy: Any = sink.add_stream_from_template(source.streams.video[0])
        sink.mux(cover.encode(av.VideoFrame.from_ndarray(picture(draw, 0, 32, 32), format="rgb24")))
        sink.mux(cover.encode(None))
        for packet in source.demux(source.streams.video[0]):
            if packet.size:
                packet.stream = copy
                sink.mux(packet)
    return file.getvalue()


KINDS = (
    encoded("mp4-h264", "h264.mp4", "The commonest form."),
    encoded("mp4-hevc", "hevc.mp4", "HEVC in mp4.", codec="libx265"),
    encoded("mp4-av1", "av1.mp4", "AV1 in mp4.", codec="libsvtav1"),
    encoded(
        "webm-vp8",
        "vp8.webm",
        "VP8 in webm, which does not say how many frames it holds.",
        codec="libvpx",
        container="webm",
    ),
    encoded(
        "webm-vp9",
        "vp9.webm",
        "VP9 in webm, with frames that are decoded and not shown.",
        codec="libvpx-vp9",
        container="webm",
        options={"auto-alt-ref": "1", "lag-in-frames": "12", "deadline": "good"},
    ),
    encoded("avi-mpeg4", "mpeg4.avi", "MPEG-4 in AVI.", codec="mpeg4", container="avi"),
    encoded(
        "mpg-mpeg2",
        "mpeg2.mpg",
        "MPEG-2 in a program stream, which has no index.",
        codec="mpeg2video",
        container="vob",
        rate=25,
    ),
    encoded(
        "ts-h264", "h264.ts", "H.264 in a transport stream, which has neither index nor length.", container="mpegts"
    ),
    encoded(
        "mkv-mjpeg",
        "mjpeg.mkv",
        "Motion JPEG: the form that train-cpu writes.",
        codec="mjpeg",
        container="matroska",
        pix_fmt="yuvj420p",
    ),
    encoded("flv-h264", "h264.flv", "H.264 in Flash video.", container="flv"),
    encoded(
        "wmv",
        "wmv2.wmv",
        "Windows Media in ASF: the archive would remux it, and FFmpeg's Matroska does not take the codec.",
        OK,
        NOT_REMUXED,
        codec="wmv2",
        container="asf",
    ),
    encoded("mxf-mpeg2", "mpeg2.mxf", "MPEG-2 in MXF.", codec="mpeg2video", container="mxf", rate=25),
    encoded(
        "mov-prores",
        "prores.mov",
        "ProRes, 10 bits, 4:2:2, in QuickTime.",
        codec="prores_ks",
        container="mov",
        pix_fmt="yuv422p10le",
    ),
    encoded("mkv-ffv1", "ffv1.mkv", "A lossless codec.", codec="ffv1", container="matroska"),
    encoded("3gp-h263", "h263.3gp", "H.263 as old phones wrote it.", codec="h263", container="3gp", size=(176, 144)),
    encoded(
        "gif-as-mp4",
        "animation.mp4",
        "An animated GIF under a video's name holds moving pictures all the same; Matroska does not take them.",
        OK,
        NOT_REMUXED,
        codec="gif",
        container="gif",
        pix_fmt="rgb8",
    ),
    encoded("webm-as-mp4", "webm.mp4", "A wrong extension: the content decides.", codec="libvpx", container="webm"),
    encoded("upper-case", "UPPER.MP4", "An extension in capitals is a video's too."),
    encoded(
        "b-frames",
        "b-frames.mp4",
        "Frames are stored in another order than they are shown.",
        options={"bf": "3", "b-pyramid": "normal", "b-adapt": "0"},
    ),
    encoded(
        "open-gop",
        "open-gop.mp4",
        "Frames before a keyframe lean on it.",
        options={"g": "8", "bf": "3", "b-adapt": "0", "open-gop": "1"},
    ),
    encoded(
        "long-gop",
        "long-gop.mp4",
        "A single keyframe for 300 frames.",
        options={"g": "1000", "sc_threshold": "0"},
        frames=300,
    ),
    encoded("intra-only", "intra.mp4", "Every frame is a keyframe.", options={"g": "1"}),
    encoded(
        "fragmented",
        "fragmented.mp4",
        "Fragments, each with its own index; the header lists no frame.",
        mux=FRAGMENTS,
        options={"g": "6"},
    ),
    made(
        "moov-first",
        "moov-first.mp4",
        "The header lies before the pictures.",
        lambda draw: moov_first(encode(draw)),
        OK,
    ),
    made(
        "edit-list",
        "edit-list.mp4",
        "An edit list hides the first half second: those frames count neither as shown nor as lost.",
        _edit_list,
        OK,
    ),
    made(
        "cover-art",
        "cover.mp4",
        "The first video stream is a still cover: the moving pictures are taken.",
        _cover_art,
        OK,
    ),
    made(
        "raw-h264",
        "raw.mpg",
        "A bare H.264 stream without a container and so without times, which Matroska asks for.",
        lambda draw: rewrap([encode(draw)], "h264"),
        OK,
        NOT_REMUXED,
    ),
    encoded("with-sound", "with-sound.mp4", "Sound beside the pictures.", audio_seconds=2.0),
    encoded(
        "long-sound",
        "long-sound.mp4",
        "The sound goes on for three seconds after the last picture: nothing is missing.",
        audio_seconds=5.0,
    ),
)
