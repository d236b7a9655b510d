"""What the configs share: a check with one form of message, and marks of fields that name places."""

from typing import Any, Literal

from ...shards.errors import UsageError

Precision = Literal["fp32", "bf16"]
Device = Literal["auto", "cpu", "cuda"]

LOCATION = {"location": "always"}
"""Metadata of a field that names a file or folder: in a TOML file it is relative to that file's folder."""
LOCATION_OR_NAME = {"location": "if it is a file"}
"""Metadata of a field that may also hold a name: a path where there is such a file."""


def check(ok: bool, name: str, must: str, came: Any) -> None:
    """Raise a UsageError that names the field, what it must be and what came, unless `ok`."""
    if not ok:
        raise UsageError(f"{name} must be {must}, got {came!r}")
