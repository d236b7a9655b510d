"""What `open_source` was asked for, as every reader of a dataset's own form gets it."""

import re
from dataclasses import dataclass
from pathlib import Path

from ...shards.errors import UsageError
from .index import VideoIndex

_SPLITS = {"training": "train", "validation": "val", "validate": "val", "valid": "val", "testing": "test"}
_SPLIT_IN_NAME = re.compile(r"(?<![a-z])(?:train|val|test)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Asked:
    """The input and the options that say how to read it; documented at `open_source`."""

    input: Path
    videos: VideoIndex
    label_map: dict[str, str] | None
    fold: int
    fps: float | None
    pattern: str | None
    whole_videos: bool
    frames: bool
    """Whether folders of numbered JPEGs are videos."""

    def lists(self, *patterns: str) -> list[Path]:
        """The list files: the input itself, or in a folder those that fit a pattern.

        Raises:
            UsageError: the folder holds none.
        """
        if self.input.is_file():
            return [self.input]
        found = [path for pattern in patterns for path in sorted(self.input.glob(pattern))]
        if not found:
            raise UsageError(f"input {self.input} must be a list or hold {' or '.join(patterns)}")
        return found


def split_name(name: str | None) -> str | None:
    """train, val or test for their other spellings (training, validate, …); any other name as it is."""
    return _SPLITS.get(name.lower(), name.lower()) if name else None


def split_of(path: Path) -> str | None:
    """The split that a list's file name tells (`trainlist01.txt`, `something-something-v2-validation.json`)."""
    found = {word.lower() for word in _SPLIT_IN_NAME.findall(path.stem)}
    return found.pop() if len(found) == 1 else None
