"""The figures of a run: one JSON object per row in metrics.jsonl, and the same curves for TensorBoard."""

import json
from pathlib import Path
from types import TracebackType
from typing import Any

from torch.utils.tensorboard import SummaryWriter

from ..shards.files import write_atomic
from . import distributed

NAME = "metrics.jsonl"


class RunLog:
    """Rows are appended and flushed, so that they can be followed while training; only the first rank writes."""

    def __init__(self, run: Path, *, after_step: int) -> None:
        """Go on after `after_step`: later rows, which a killed process wrote after its last checkpoint, are dropped."""
        self._writes = distributed.rank() == 0
        if not self._writes:
            return
        kept = [row for row in read_metrics(run) if row["step"] <= after_step]
        write_atomic(run / NAME, "".join(json.dumps(row) + "\n" for row in kept).encode())
        self._file = (run / NAME).open("a", encoding="utf-8")
        self._board: Any = SummaryWriter(run / "tensorboard", purge_step=after_step + 1)

    def __enter__(self) -> "RunLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._writes:
            self._file.close()
            self._board.close()

    def write(self, step: int, **figures: float) -> None:
        """One row: what is true after `step` optimiser steps."""
        if not self._writes:
            return
        self._file.write(json.dumps({"step": step, **figures}) + "\n")
        self._file.flush()
        for name, value in figures.items():
            self._board.add_scalar(name, value, step)


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The rows of a run so far; a last row that is still being written is left out."""
    path = run / NAME
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]
