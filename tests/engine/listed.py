"""What the tests of datasets' own lists share: lists, and videos without a byte."""

from pathlib import Path


def fill(folder: Path, *names: str) -> Path:
    """Empty files under a folder."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def text(path: Path, content: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path
