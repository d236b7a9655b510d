"""Where a benchmark ran: every record carries it, so that numbers are compared only with their like."""

import datetime
import importlib.metadata
import json
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

RESULTS = Path(__file__).resolve().parent / "results"
"""Where benchmarks append their records, one JSON line each, unless told otherwise."""

DISTRIBUTIONS = {
    "torch": "torch",
    "triton": "triton",
    "dali": "nvidia-dali-cuda130",
    "pyarrow": "pyarrow",
    "ray": "ray",
    "av": "av",
    "webdataset": "webdataset",
    "open_clip": "open_clip_torch",
}


def capture() -> dict[str, Any]:
    """The machine, the versions of what reelmill is built on, its commit and the date.

    Returns:
        JSON values under "machine" (cpu, cores, memory_bytes, gpu), "python", "versions", "commit" and "date". The
        GPU, a version or the commit is None where there is none; "cores" are those that this process may use.
    """
    return {
        "machine": {
            "cpu": _cpu(),
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
            "gpu": _gpu(),
        },
        "python": platform.python_version(),
        "versions": {name: _version(distribution) for name, distribution in DISTRIBUTIONS.items()},
        "commit": commit(ROOT),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Add one record to a JSON lines file; its folder is made if need be."""
    line = json.dumps(record, allow_nan=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(line + "\n")


def commit(folder: Path) -> str | None:
    """The commit checked out in `folder`, with "-dirty" if files differ from it; None if it is no checkout."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    head = _git(folder, "rev-parse", "HEAD")
    # An installed copy may lie inside another project's checkout, whose commit says nothing about it.
    if top is None or head is None or Path(top).resolve() != folder.resolve():
        return None
    # The results that a benchmark has just appended are no change to what it measures.
    return f"{head}-dirty" if _git(folder, "status", "--porcelain", "--", ":!benchmarks/results") else head


def _git(folder: Path, *arguments: str) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    result = subprocess.run([git, "-C", str(folder), *arguments], capture_output=True, text=True)
    return result.stdout.strip() if result.returncode == 0 else None


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    for line in info.read_text().splitlines() if info.exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _gpu() -> str | None:
    import torch  # seconds, which importing this module must not cost

    return torch.cuda.get_device_name() if torch.cuda.is_available() else None


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
