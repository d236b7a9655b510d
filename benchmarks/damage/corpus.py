"""Writes the corpus: one folder per family, one file per kind, and what must become of each."""

import json
import os
from pathlib import Path
from typing import get_args

from ...engine.config import Preset, Validate
from ...shards.errors import UsageError
from . import altered, cuts, foreign, healthy, hostile, names, places, scripts, shapes, times, twins
from .kinds import Draw, Kind

FAMILIES: dict[str, tuple[Kind, ...]] = {
    "healthy": healthy.KINDS,
    "shapes": shapes.KINDS,
    "times": times.KINDS,
    "cuts": cuts.KINDS,
    "altered": altered.KINDS,
    "foreign": foreign.KINDS,
    "hostile": hostile.KINDS,
    "scripts": scripts.KINDS,
    "places": places.KINDS,
    "names": names.KINDS,
    "twins": twins.KINDS,
}
EXPECTED = "expected.jsonl"


def all_kinds() -> dict[str, Kind]:
    """Every kind by its path under the corpus's folder, as the ledger shows it: bytes that are no UTF-8 as \\xff."""
    return {
        f"{family}/{os.fsencode(kind.file).decode('utf-8', 'backslashreplace')}": kind
        for family, kinds in FAMILIES.items()
        for kind in kinds
    }


def write_corpus(out: Path, seed: int = 0) -> None:
    """Write every kind, and `expected.jsonl` with the outcome of each under every preset and `--validate`.

    Args:
        out: a folder; it must be new or empty.
        seed: of the pictures and of where bits flip. The same seed and library versions give the same bytes.

    Raises:
        UsageError: the folder holds something.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"out must be a new or empty folder, but {out} holds something")
    for family, kinds in FAMILIES.items():
        (out / family).mkdir(parents=True)
        for kind in kinds:
            kind.write(out / family / os.fsdecode(kind.file), Draw(kind.name, seed))
    lines = [json.dumps(_record(path, kind), ensure_ascii=False) for path, kind in all_kinds().items()]
    (out / EXPECTED).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _record(path: str, kind: Kind) -> dict[str, object]:
    outcomes = {
        f"{preset} {validate}": kind.outcome(preset, validate)
        for preset in get_args(Preset)
        for validate in get_args(Validate)
    }
    return {"path": path, "kind": kind.name, "why": kind.why} | {
        options: outcome and outcome._asdict() for options, outcome in outcomes.items()
    }
