"""Names that break programs which split, quote, print or interpret them; the videos are good."""

from .kinds import OK, Kind, Outcome, contents
from .media import encode


def _kind(name: str, file: str | bytes, why: str, expect: Outcome | None = OK) -> Kind:
    return Kind(name=name, file=file, why=why, write=contents(encode), expect=expect)


KINDS = (
    _kind("name-spaces", "  two  spaces .mp4", "Spaces at the start, twice in the middle, and before the dot."),
    _kind("name-quotes", 'it\'s "quoted" `$(x)` & ; | > .mp4', "Everything that a shell would act on."),
    _kind("name-newline", "new\nline\r\n.mp4", "Line ends."),
    _kind("name-control", "\x1b[31mred\x1b[0m\x07\t.mp4", "A terminal's control codes."),
    _kind("name-dash", "-rf.mp4", "A leading dash, as an option has."),
    _kind("name-dot", ".hidden.mp4", "A leading dot: hidden, and a video."),
    _kind("name-only-extension", ".mp4", "Nothing before the dot: a hidden file without an extension, no input.", None),
    _kind("name-dots", "a.b.c.tar.mp4", "Several dots."),
    _kind("name-percent", "frame-%03d.mp4", "A number pattern, which image readers expand."),
    _kind("name-glob", "[a-z]*?{1,2}.mp4", "Wildcards."),
    _kind("name-protocol", "http:example.org,,start,0.mp4", "Looks like a protocol with options."),
    _kind("name-concat", "concat:bait.mp4|bait.mp4", "Looks like FFmpeg's concat protocol."),
    _kind("name-backslash", "a\\b\\u0041.mp4", "Backslashes."),
    _kind("name-unicode", "видео 動画 🎬.mp4", "Cyrillic, Japanese and an emoji."),
    _kind("name-composed", "caf\u00e9.mp4", "An accent in one code point."),
    _kind(
        "name-decomposed", "cafe\u0301.mp4", "The same word with the accent as a code point of its own: another file."
    ),
    _kind("name-right-to-left", "\u202e4pm.mp4", "A mark that turns the direction of writing."),
    _kind("name-long", "x" * 251 + ".mp4", "255 bytes, the longest name that a file system takes."),
    _kind("name-latin-1", b"caf\xe9.mp4", "No UTF-8: the ledger shows the byte escaped."),
)
