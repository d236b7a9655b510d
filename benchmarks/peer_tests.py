"""The tests of late-interaction-kernels, unmodified, on reelmill's late interaction and on their dense reference."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import console
from ..shards.errors import ReelmillError, UsageError
from .environment import RESULTS, append, capture

FILES = ("test_forward.py", "test_edge_cases.py", "test_normalize.py", "test_kd_pairs_fast.py", "test_backward.py")
NEEDED = (
    "late_interaction_kernels/autograd.py",
    "late_interaction_kernels/reference.py",
    *(f"tests/{name}" for name in FILES),
)
LIMIT_SECONDS = 3600
"""Of one run of the tests: minutes on an idle CPU."""

Outcomes = Mapping[str, str]
"""By a test's id: passed, failed or skipped."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchPeerTestsConfig:
    """Run the peer's own tests; fails if reelmill passes fewer of them than the peer's dense reference does."""

    source: Path
    """Folder of the peer's unpacked source: `pip download --no-binary :all: --no-deps late-interaction-kernels`. Its
    code is run."""
    results: Path = RESULTS / "peer_tests.jsonl"
    """File to which a line is appended."""

    def __post_init__(self) -> None:
        missing = [name for name in NEEDED if not (self.source / name).is_file()]
        if missing:
            want = "the unpacked source of late-interaction-kernels"
            raise UsageError(f"source must be {want}, {self.source} has no {missing[0]}")


def bench_peer_tests(config: BenchPeerTestsConfig) -> int:
    """`reelmill bench peer-tests`."""
    if importlib.util.find_spec("pytest") is None:
        raise UsageError("bench peer-tests needs pytest: pip install pytest")
    found = {}
    with console.progress(2, "peer-tests", "runs") as bar:
        for answer in ("reelmill", "reference"):
            found[answer] = _outcomes(config.source.resolve(), answer)
            bar.update()
    tests = sorted(found["reference"])
    failed = {answer: [test for test in tests if found[answer].get(test) != "passed"] for answer in found}
    passed = {answer: Counter(outcomes.values())["passed"] for answer, outcomes in found.items()}
    record: dict[str, Any] = {"bench": "peer_tests", "peer": _version(config.source), "passed": passed}
    record |= {"files": {name: {answer: _counts(found[answer], name) for answer in found} for name in FILES}}
    append(config.results, record | {"not_passed": failed} | capture())
    rows = [(name, "; ".join(f"{answer} {_shown(found[answer], name)}" for answer in found)) for name in FILES]
    for test in failed["reelmill"]:
        rows.append((f"passes {'nowhere' if test in failed['reference'] else 'by the reference alone'}", test))
    total = f"reelmill passes {passed['reelmill']}, the reference {passed['reference']} of {len(tests)}"
    console.table(
        f"tests of late-interaction-kernels {record['peer'] or ''}".strip(),
        [*rows, ("in all", total), ("appended to", str(config.results))],
    )
    return 1 if passed["reelmill"] < passed["reference"] else 0


def _outcomes(source: Path, answer: str) -> Outcomes:
    """What becomes of the peer's tests when `answer` scores, in a process of their own that leaves its folder alone."""
    with tempfile.TemporaryDirectory(prefix="reelmill-bench-") as scratch:
        written = Path(scratch) / "outcomes.json"
        plugin = ["-p", "reelmill.benchmarks.peer_plugin", "--answer", answer, "--outcomes", str(written)]
        command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--tb=line", *plugin]
        path = os.pathsep.join(filter(None, (str(source), os.environ.get("PYTHONPATH"))))
        environment = os.environ | {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            run = subprocess.run(
                [*command, *(f"tests/{name}" for name in FILES)],
                cwd=source,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=LIMIT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            raise ReelmillError(f"the peer's tests must end within {LIMIT_SECONDS} s ({answer})") from None
        if run.returncode not in (0, 1):  # of pytest: all passed, some failed
            raise ReelmillError(f"the peer's tests must run, pytest ended with {run.returncode}: {run.stdout[-2000:]}")
        outcomes: Outcomes = json.loads(written.read_text())
    return outcomes


def _counts(outcomes: Outcomes, name: str) -> dict[str, int]:
    counts = Counter(outcome for test, outcome in outcomes.items() if test.startswith(f"tests/{name}::"))
    return {outcome: counts[outcome] for outcome in ("passed", "failed", "skipped")}


def _shown(outcomes: Outcomes, name: str) -> str:
    return ", ".join(f"{count} {outcome}" for outcome, count in _counts(outcomes, name).items())


def _version(source: Path) -> str | None:
    """Of the sdist; None in a checkout."""
    info = source / "PKG-INFO"
    lines = info.read_text().splitlines() if info.is_file() else []
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("Version:")), None)
