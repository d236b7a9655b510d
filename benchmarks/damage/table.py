"""The published table, made from the kinds: `python -m reelmill.benchmarks.damage.table > README.md`."""

from collections.abc import Iterator

from ...engine.media import limits
from . import flips
from .corpus import FAMILIES
from .kinds import Kind

ABOUT = {
    "healthy": "Good files of every container and codec, and good files that look unusual",
    "shapes": "Sizes, pixel formats, orientations",
    "times": "Clocks, and files with one frame or none",
    "cuts": "Files that end too early or lack a piece",
    "altered": "Right length, wrong bytes",
    "foreign": "No video at all",
    "hostile": "Made to hurt",
    "scripts": "Files that name other files and hosts",
    "places": "What is no plain file",
    "names": "Names that break programs",
    "twins": "The same video twice",
}

HEAD = """\
# Damaged and odd videos

`reelmill ingest` must end on any folder of files, with one ledger row for each, and must not let a broken video pass as
a whole one. These {count} kinds of files hold it to that. The tables are made from the data that the test uses: with
every preset and `--validate` the job ends without a crash, every file has exactly one row with this outcome, and
`reelmill verify` finds nothing.

```
python -m reelmill.benchmarks.damage OUT [--seed N]   # writes the files and OUT/expected.jsonl, to try any tool on them
reelmill ingest OUT DATASET --dedup stream
```

The corpus makes its own videos: nothing is downloaded, and a seed gives the same bytes again (with the same FFmpeg).
*Outcome* is what the ledger says with `--validate decode --preset archive --dedup stream`, *otherwise* the options that
change it. `packets` reads to the end and decodes nothing but the first frame, `none` reads the header and decodes
the first frame; with `train-*` every frame is decoded in any case, because it is written again.
"""

TAIL = """\
## What nobody can see

These files are not what they were, nothing in them says so, and they end as `ok`. Only a checksum from the time when
they were good can tell: compare it with the ledger's `sha256`.

{unseen}

How often does a decoder notice a single flipped bit in a frame? {each} files with one flip each, 24 frames of 64x48,
`--validate decode`, the FFmpeg of PyAV {version}; *same pictures* are flips that nothing was lost by. Measured by
`python -m reelmill.benchmarks.damage.flips`.

| codec | noticed | same pictures | other pictures, unnoticed |
|---|---|---|---|
{flips}

FFV1's checksums do notice; FFmpeg then fills the slice from the frame before and reports success.

## Limits

`engine/limits.py` says what one video may ask for at most: pictures of {pixels} pixels (level 6.2 of H.264, HEVC, VP9
and AV1, beyond 8K) and {side} along one side, {packets} packets or frames, pixels {aspect:g} times as long as wide, a
frame repeated {repeats} times on average at a constant rate, {written} bytes written. CPU time and memory per video are
options of the job (`--video-cpu-seconds`, `--video-memory-mb`). Decoding happens in a child process under these limits.
It contains crashes and hunger; it is no defence against a decoder that an attacker has taken over.
"""


def readme() -> str:
    """The whole of README.md."""
    kinds = [kind for family in FAMILIES.values() for kind in family]
    unseen = "\n".join(f"- `{kind.name}`: {kind.why}" for kind in kinds if kind.unseen)
    tail = TAIL.format(
        unseen=unseen,
        each=flips.EACH,
        version=flips.PYAV,
        flips="\n".join(_flips()),
        pixels=f"{limits.MAX_PIXELS:,}",
        side=f"{limits.MAX_SIDE:,}",
        packets=f"{limits.MAX_PACKETS:,}",
        aspect=limits.MAX_PIXEL_ASPECT,
        repeats=limits.MAX_REPEATS,
        written=f"{limits.MAX_WRITTEN_BYTES:,}",
    )
    sections = [HEAD.format(count=len(kinds)), *(_section(family) for family in FAMILIES), tail]
    return "\n".join(sections)


def _section(family: str) -> str:
    rows = "\n".join(_row(kind) for kind in FAMILIES[family])
    return (
        f"## {family}: {ABOUT[family]}\n\n| kind | file | outcome | otherwise | why |\n|---|---|---|---|---|\n{rows}\n"
    )


def _row(kind: Kind) -> str:
    outcome = "no input" if kind.expect is None else str(kind.expect)
    otherwise = ", ".join(f"{options}: {other}" for options, other in kind.unless.items())
    cells = (kind.name, _shown(kind.file), outcome, otherwise, kind.why)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _shown(file: str | bytes) -> str:
    """A name as a line of text, without what would steer a terminal or a page."""
    if len(file) > 80:
        return f"{file[:8]!s}… ({len(file)} bytes)"
    name = ascii(file) if isinstance(file, bytes) or not file.isprintable() or "`" in file else file
    return f"`` {name} ``"


def _flips() -> Iterator[str]:
    for codec, (noticed, same) in flips.MEASURED.items():
        shares = (noticed, same, flips.EACH - noticed - same)
        yield f"| {codec} | {' | '.join(f'{100 * share / flips.EACH:.0f} %' for share in shares)} |"


if __name__ == "__main__":
    print(readme(), end="")
