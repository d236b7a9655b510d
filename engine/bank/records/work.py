"""The scratch folder `.work/` of a bank's job: its plan, and what its tasks have left for the next stage.

A killed job's successor takes over what the tasks that ended well have noted, if its plan (records, options, sizes and
times of the files) is the same to the letter; otherwise it starts over.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from ....shards.errors import UsageError
from ....shards.files import make_folder, write_atomic
from ...work import NAME as WORK_NAME
from ...work import Work
from ..names.actions import NameRules
from ..names.merges import Names
from .config import CleanOptions, DedupOptions, clean_from
from .inputs import InputFile

PLAN_NAME = "plan.json"
MB = 1_000_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What a job is to do; the tasks read it from disk."""

    records: str
    """Absolute, as it was given."""
    files: list[InputFile]
    columns: tuple[str, str, str]
    max_record_bytes: int
    max_names: int
    options: Mapping[str, Any]
    """Of the bank: as in `bank.json`."""
    known: list[str] | None
    """Canonical names of the label lists, sorted; None where the records define the actions."""
    parts: int
    generation: int

    @property
    def clean(self) -> CleanOptions:
        """How texts are cleaned."""
        return clean_from(self.options["clean"])

    @property
    def dedup(self) -> DedupOptions:
        """What counts as the same text."""
        return DedupOptions(**self.options["dedup"])

    @property
    def names(self) -> Names:
        """How names become actions."""
        return Names(NameRules(**self.options["names"]), self.options["overrides"])

    def text(self) -> bytes:
        """As it is kept."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    def content(self) -> dict[str, Any]:
        """As it is found again."""
        content: dict[str, Any] = json.loads(self.text())
        return content

    def digest(self) -> str:
        """Names the plan."""
        return hashlib.blake2b(self.text(), digest_size=16).hexdigest()


class BankWork:
    """The scratch folder of one job on a bank, on a file system that every worker sees."""

    def __init__(self, out: Path) -> None:
        self.out = out.absolute()
        self.folder = self.out / WORK_NAME
        self._work = Work(out)
        self.lock = self._work.lock

    def clear(self) -> None:
        """Forget everything; the plan goes last, so that what a kill leaves of the folder is still told to be ours."""
        if self.folder.is_dir():
            for path in self.folder.iterdir():
                if path.name != PLAN_NAME:
                    shutil.rmtree(path, ignore_errors=True)
        self._work.clear()

    @property
    def cleared(self) -> bool:
        """Whether there is nothing in the folder: a kill may leave that much."""
        return not self.folder.is_dir() or not any(self.folder.iterdir())

    def open(self, plan: Plan, *, resume: bool) -> bool:
        """Make the folder for this plan; whether a killed job's notes are in it.

        Raises:
            UsageError: it is another job's.
        """
        found = self.found() if resume else None
        if found is not None and found["records"] != plan.records:
            raise UsageError(
                f"{self.out} holds an unfinished job on {found['records']}; run that again, or start over: --no-resume"
            )
        known = found == plan.content()
        if not known:
            self.clear()
        for name in ("read", "parts"):
            make_folder(self.folder / name)
        if not known:
            write_atomic(self.folder / PLAN_NAME, plan.text())
        return known

    def found(self) -> dict[str, Any] | None:
        """The plan that a killed job left, as it stands there."""
        try:
            plan: dict[str, Any] = json.loads((self.folder / PLAN_NAME).read_bytes())
        except FileNotFoundError:
            return None
        return plan

    def plan(self, digest: str) -> Plan:
        """The plan, read once per process."""
        return _read_plan(self.folder / PLAN_NAME, digest)

    def rows(self, chunk: int) -> Path:
        """The rows that reading a chunk gave, by part."""
        return self.folder / "read" / f"{chunk:08d}.arrow"

    def aside(self, chunk: int) -> Path:
        """The records of a chunk that were not kept."""
        return self.folder / "read" / f"{chunk:08d}.ledger.arrow"

    def duplicates(self, part: int) -> Path:
        """The records that one part found to be duplicates."""
        return self.folder / "parts" / f"{part:08d}.ledger.arrow"

    def note(self, stage: str, number: int) -> dict[str, Any] | None:
        """What a task ("read" or "parts") noted at its end, None where it has not ended."""
        try:
            note: dict[str, Any] = json.loads(self._note(stage, number).read_bytes())
        except FileNotFoundError:
            return None
        return note

    def write_note(self, stage: str, number: int, note: Mapping[str, Any]) -> None:
        """Say that a task has ended, and what it did."""
        write_atomic(self._note(stage, number), json.dumps(note, sort_keys=True).encode())

    def _note(self, stage: str, number: int) -> Path:
        return self.folder / stage / f"{number:08d}.json"


@lru_cache(maxsize=2)
def _read_plan(path: Path, digest: str) -> Plan:
    content = json.loads(path.read_bytes())
    content |= {"files": [InputFile(**file) for file in content["files"]], "columns": tuple(content["columns"])}
    plan = Plan(**content)
    assert plan.digest() == digest, f"{path} is the plan of another job"
    return plan
