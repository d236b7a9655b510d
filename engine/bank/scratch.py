"""The scratch folder `.work/` of a job that makes something of a bank: what it is to do, and what its tasks noted.

A job that is run again after a kill goes on from the notes if it is the same to the letter; otherwise it starts over.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...shards.errors import UsageError
from ...shards.files import make_folder, write_atomic
from ..work import NAME as WORK_NAME
from ..work import Work

_PLAN = "plan.json"
Note = dict[str, Any]


class Scratch:
    """The folder, on a file system that every worker sees."""

    def __init__(self, out: Path) -> None:
        self.out = out.absolute()
        self.folder = self.out / WORK_NAME
        self._work = Work(out)
        self.lock = self._work.lock
        self.clear = self._work.clear

    def open(self, plan: Mapping[str, Any], *, resume: bool) -> None:
        """Make the folder for this plan, with the notes of a killed job that had the same.

        Args:
            plan: JSON values; `bank` says what the job is on.
            resume: start over without.

        Raises:
            UsageError: a job on another bank is unfinished here.
        """
        text, path = _text(plan), self.folder / _PLAN
        found = path.read_bytes() if resume and path.is_file() else None
        if found is not None and (bank := json.loads(found)["bank"]) != plan["bank"]:
            raise UsageError(
                f"{self.out} holds an unfinished job on {bank}; run that again, or start over: --no-resume"
            )
        if found != text:
            self.clear()
            make_folder(self.folder)
            write_atomic(path, text)

    def holds(self, plan: Mapping[str, Any]) -> bool:
        """Whether an unfinished job with this plan is here."""
        path = self.folder / _PLAN
        return path.is_file() and path.read_bytes() == _text(plan)

    def path(self, stage: str, number: int, suffix: str) -> Path:
        """A file that a task of a stage writes; its folder is made."""
        folder = self.folder / stage
        make_folder(folder)
        return folder / f"{number:08d}{suffix}"

    def note(self, stage: str, number: int) -> Note | None:
        """What a task noted at its end; None where it has not ended."""
        try:
            note: Note = json.loads((self.folder / stage / f"{number:08d}.json").read_bytes())
        except FileNotFoundError:
            return None
        return note

    def write_note(self, stage: str, number: int, note: Note) -> None:
        """Say that a task has ended, and what it did."""
        write_atomic(self.path(stage, number, ".json"), json.dumps(note, sort_keys=True).encode())


def _text(plan: Mapping[str, Any]) -> bytes:
    return json.dumps(plan, sort_keys=True).encode()


def check_out(out: Path, done: str, ours: set[str]) -> None:
    """Hold the folder that a job makes against what may be in it: nothing, or the job itself, unfinished.

    Args:
        out: the folder.
        done: the file that a finished job leaves.
        ours: names that an unfinished one may have.

    Raises:
        UsageError: there is something else in it.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"out must be a folder, but {out} is a file")
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if not names:
        return
    strangers = sorted(name for name in names - ours - {WORK_NAME, done} if not name.endswith(".part"))
    if strangers or WORK_NAME not in names:
        holds = strangers[0] if strangers else done if done in names else sorted(names)[0]
        raise UsageError(f"out must be a new or empty folder, but {out} holds {holds}")
