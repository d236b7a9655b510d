"""What the tests of fetching share: rows, and what comes of fetching them; the scratch folder is empty after each."""

from pathlib import Path

import pytest
from reelmill.engine.errors import MediaError
from reelmill.engine.fetch import local_copy
from reelmill.engine.sources import InputRow

BODY = bytes(range(256)) * 400


def row(
    path: str, byte_range: tuple[int, int] | None = None, uri: str | None = None, fault: str | None = None
) -> InputRow:
    return InputRow("id", path, uri or path, byte_range=byte_range, fault=fault)


def fetched(wanted: InputRow, scratch: Path, **options: object) -> bytes:
    with local_copy(wanted, scratch, **({"max_bytes": 10**6} | options)) as path:  # type: ignore[arg-type]
        data = path.read_bytes()
    if scratch.exists():
        assert list(scratch.iterdir()) == []
    return data


def failure(wanted: InputRow, scratch: Path, **options: object) -> tuple[str, str]:
    """Reason and detail."""
    with pytest.raises(MediaError) as found:
        fetched(wanted, scratch, **options)
    assert not scratch.exists() or list(scratch.iterdir()) == []
    return found.value.reason, found.value.detail
