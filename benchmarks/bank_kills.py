"""Builds of a bank that are killed at random moments and run again: the same bytes as one that was left alone."""

import contextlib
import math
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

from .. import console
from ..engine.bank.records.work import BankWork
from ..shards.errors import ReelmillError
from ..shards.files import sha256_of
from .bank_records import Written
from .processes import command_line, tree

KILL_WITHIN = (0.3, 1.0)  # of what a build takes
MOST_RUNS = 200


def build_command(written: Written, out: Path) -> list[str]:
    """The command that builds a bank of written records."""
    words = [sys.executable, "-m", "reelmill", "bank", "build", str(written.records), str(out)]
    return [*words, "--labels", str(written.labels)]


def kill_builds(folder: Path, *, kills: int, seed: int, records: int, build_seconds: float) -> dict[str, Any]:
    """SIGKILL a build or one of its workers at random moments until it ends all the same; then the next build.

    Args:
        folder: with records.jsonl, labels.txt, and `bank`, built of them without a kill.
        kills: in all.
        seed: of the moments.
        records: how many there are, for the record.
        build_seconds: that an undisturbed build takes.

    Returns:
        A line of results: kills, builds, and how many of those were different.
    """
    pauses = [share * build_seconds for share in KILL_WITHIN]
    draw = random.Random(seed)
    written = Written(folder / "records.jsonl", folder / "labels.txt", np.empty(0, np.uint8))
    want, done, runs, different = _hashes(folder / "bank"), 0, 0, 0
    with console.progress(kills, "kills", "kills") as shown:
        while done < kills:
            out = folder / f"killed-{runs}"
            for _ in range(MOST_RUNS):
                pause = draw.uniform(*pauses) if done < kills else math.inf
                killed, code = _killed(build_command(written, out), out.with_suffix(".log"), draw, pause)
                done += killed
                shown.update(killed)
                if code == 0 or ((out / "bank.json").exists() and BankWork(out).cleared):
                    break
            else:
                raise ReelmillError(f"a build must end: {out.with_suffix('.log').read_text()[-2000:]}")
            runs += 1
            different += _hashes(out) != want
    return {"part": "kills", "records": records, "kills": done, "builds": runs, "different": different}


def _killed(command: list[str], log: Path, draw: random.Random, pause: float) -> tuple[bool, int]:
    """Run a command, and kill it or a worker of it after a while; whether that came to pass, and its exit code."""
    with log.open("ab") as output, subprocess.Popen(command, stdout=output, stderr=output) as process:
        try:
            process.wait(None if pause == math.inf else pause)
            return False, process.returncode
        except subprocess.TimeoutExpired:
            workers = [pid for pid in tree(process.pid) if command_line(pid).startswith("ray::_")]
            with contextlib.suppress(ProcessLookupError):
                os.kill(draw.choice([process.pid, *workers]), signal.SIGKILL)
    return True, process.returncode


def _hashes(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): sha256_of(p) for p in sorted(folder.rglob("*")) if p.is_file()}
