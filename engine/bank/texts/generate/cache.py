"""Answers on disk, one file per request hash: what was answered once is never asked again.

A file appears whole or not at all, so a killed run leaves every answer that it got. What does not read, or no longer
fits its schema, counts as not there.
"""

import json
from pathlib import Path
from typing import Any

from .....shards.files import make_folder, write_atomic
from .request import Request, WrongAnswer

MAX_FILE_BYTES = 8 << 20


class Cache:
    """A folder of answers."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def open(self) -> None:
        """Make the folder; what a killed run left half written goes. The folder must be locked."""
        make_folder(self.folder)
        for part in self.folder.glob("??/.*.part"):
            part.unlink(missing_ok=True)

    def get(self, request: Request) -> Any:
        """The answer to a request; None where there is none that fits."""
        path = self._path(request)
        try:
            if path.stat().st_size > MAX_FILE_BYTES:
                return None
            record = json.loads(path.read_bytes())
            request.check(record["answer"])
        except (OSError, ValueError, RecursionError, KeyError, TypeError, WrongAnswer):
            return None
        return record["answer"]

    def put(self, request: Request, answer: Any, *, repaired: bool) -> None:
        """Keep an answer, with its question for the person who looks.

        Raises:
            StorageError: the disk refused.
        """
        record = {
            "about": request.about,
            "model": request.model,
            "parameters": dict(request.parameters),
            "messages": [dict(message) for message in request.messages],
            "answer": answer,
            "repaired": repaired,
        }
        path = self._path(request)
        make_folder(path.parent)
        write_atomic(path, json.dumps(record, sort_keys=True, ensure_ascii=True, indent=1).encode() + b"\n")

    def _path(self, request: Request) -> Path:
        return self.folder / request.hash[:2] / f"{request.hash}.json"
