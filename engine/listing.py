"""The inputs of a job, written down in batches, and told apart from those of earlier generations."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..shards.bank import Bank
from .bank.names.merges import Names
from .config import IngestConfig
from .earlier import Earlier
from .sources import InputRow, Source, check_unique, open_source
from .work import Work

NOT_KNOWN = -1


def source_of(config: IngestConfig) -> Source:
    """The rows that a job was asked for.

    Raises:
        UsageError: nothing there, an unknown kind of file, or an option that the layout does not read.
    """
    return open_source(
        config.input,
        config.layout,
        videos=config.videos,
        split=config.split,
        label_map=config.label_map,
        fold=config.fold,
        fps=config.list_fps,
        pattern=config.pattern,
        whole_videos=config.whole_videos,
        frames_fps=config.frames_fps,
    )


@dataclass(slots=True)
class Listing:
    """The inputs of this job, as they were written down, beside those of earlier generations."""

    batches: int
    rows: int
    earlier: NDArray[np.int64]
    """For each row the ledger row of earlier generations with the same id, or NOT_KNOWN."""
    same: NDArray[np.bool_]
    """For each row whether it was given with the same words then."""
    labels: set[str]
    """Every label that is used."""


def list_inputs(rows: Iterable[InputRow], work: Work, config: IngestConfig, earlier: Earlier | None) -> Listing:
    """Write every input down, in batches.

    Raises:
        UsageError: what the source raises for a wrong row, or an id given twice.
    """
    places: list[int] = []
    same: list[bool] = []
    labels: set[str] = set()
    batches = 0
    for batch in work.list_inputs(rows):
        batches += 1
        found = earlier.find([row.input_id for row in batch]) if earlier is not None else [None] * len(batch)
        places += [NOT_KNOWN if place is None else place for place in found]
        same += [
            earlier is not None and place is not None and earlier.same(place, row)
            for place, row in zip(found, batch, strict=True)
        ]
        for row in batch:
            labels.update(row.labels)
    check_unique(work.ids, str(config.input))
    return Listing(batches, len(places), np.array(places, dtype=np.int64), np.array(same, dtype=np.bool_), labels)


def known_actions(labels: Iterable[str], folder: Path | None) -> dict[str, int] | None:
    """Every label of the input that a bank knows, as it is spelled or by its canonical name → its action id.

    Args:
        labels: of the input.
        folder: the bank, or a dataset that carries one; None where any label will do.
    """
    if folder is None:
        return None
    bank = Bank.open(folder)
    names_of = Names.of_bank(folder)
    names = {label: (label, names_of(label)) for label in labels}
    return {
        label: bank.find(known).action_id
        for label, spellings in names.items()
        if (known := next((name for name in spellings if name in bank), None)) is not None
    }
