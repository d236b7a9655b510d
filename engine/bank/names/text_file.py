"""Small text and json files read whole, without trusting them."""

import json
from pathlib import Path
from typing import Any

from ....shards.errors import UsageError

MAX_BYTES = 16_000_000  # as Python objects some 30 times that; the lists and texts that are published have 0.3 MB


def check_file(path: Path, what: str, limit_bytes: int = MAX_BYTES) -> None:
    """A file that may be read: a regular one of at most `limit_bytes`.

    Raises:
        UsageError: it is not.
    """
    try:
        if not path.is_file():
            raise UsageError(f"{what} {path} must be a file, but there is none")
        size = path.stat().st_size
    except OSError as error:
        raise UsageError(f"{what} {path} must be a file: {error}") from error
    if size > limit_bytes:
        raise UsageError(f"{what} {path} must have at most {limit_bytes // 10**6} MB, got {size / 10**6:.1f} MB")


def read_text(path: Path, what: str) -> str:
    """A UTF-8 file, with or without a byte order mark.

    Args:
        path: of the file.
        what: what it is in the error: "labels".

    Raises:
        UsageError: there is no such file, it is too large or not UTF-8.
    """
    check_file(path, what)
    try:
        return path.read_bytes().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{what} {path} must be UTF-8 text: {error}") from error


def read_json(path: Path, what: str) -> Any:
    """A json file in which no object has the same key twice.

    Raises:
        UsageError: as `read_text`, or it is not such json.
    """
    try:
        return json.loads(read_text(path, what), object_pairs_hook=_object)
    except UsageError:
        raise
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{what} {path} does not read as json: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for i, key in enumerate(keys) if key in keys[:i])
        raise ValueError(f"an object must have every key once, got {twice[:80]!r} twice")
    return record
