"""The `reelmill` command: gathers the subcommands; each takes a config dataclass whose fields are its flags."""

import contextlib
import importlib
import io
import os
import re
import signal
import sys
import typing
from collections.abc import Callable, Sequence
from typing import Any

import tyro

from . import __version__
from .shards.errors import ReelmillError, UsageError

# command → module and function, imported only when called; `reelmill --help` starts in a fraction of a second
COMMANDS = {
    "demo": ("reelmill.demo", "demo"),
    "ingest": ("reelmill.engine.commands", "ingest"),
    "retry": ("reelmill.engine.commands", "retry"),
    "adopt": ("reelmill.engine.commands", "adopt"),
    "compact": ("reelmill.engine.commands", "compact"),
    "features": ("reelmill.engine.commands", "features"),
    "plan": ("reelmill.engine.commands", "plan"),
    "verify": ("reelmill.engine.commands", "verify"),
    "bank build": ("reelmill.engine.bank.records.commands", "bank_build"),
    "bank add": ("reelmill.engine.bank.records.commands", "bank_add"),
    "bank names": ("reelmill.engine.bank.names.command", "bank_names"),
    "bank select": ("reelmill.engine.bank.selection.commands", "bank_select"),
    "bank stats": ("reelmill.engine.bank.stats.commands", "bank_stats"),
    "bank shard": ("reelmill.engine.bank.commands", "bank_shard"),
    "bank synonyms": ("reelmill.engine.bank.texts.commands", "bank_synonyms"),
    "bank prompts": ("reelmill.engine.bank.texts.commands", "bank_prompts"),
    "bank subtexts": ("reelmill.engine.bank.texts.commands", "bank_subtexts"),
    "bank entities": ("reelmill.engine.bank.texts.commands", "bank_entities"),
    "train": ("reelmill.train.commands", "train"),
    "eval": ("reelmill.train.commands", "evaluate"),
    "bench kernels": ("reelmill.benchmarks.kernels", "bench_kernels"),
    "bench ingest": ("reelmill.benchmarks.ingest", "bench_ingest"),
    "bench load": ("reelmill.benchmarks.load", "bench_load"),
    "bench plan": ("reelmill.benchmarks.plan", "bench_plan"),
    "bench memory": ("reelmill.benchmarks.memory", "bench_memory"),
    "bench chaos": ("reelmill.benchmarks.chaos", "bench_chaos"),
    "bench dedup": ("reelmill.benchmarks.dedup", "bench_dedup"),
    "bench bank": ("reelmill.benchmarks.bank", "bench_bank"),
    "bench text": ("reelmill.benchmarks.text_cost", "bench_text"),
    "bench peer-tests": ("reelmill.benchmarks.peer_tests", "bench_peer_tests"),
    "doctor": ("reelmill.engine.commands", "doctor"),
}
HELP = """usage: reelmill COMMAND [arguments]    (each command has its own --help)

  demo                    renders a corpus, ingests it, builds its bank, trains, evaluates, writes a report page
  ingest INPUT OUT        raw videos into a dataset of WebDataset tars
  retry DATASET           tries the failed inputs of a dataset again
  adopt TARS OUT          existing WebDataset tars as a dataset, without a copy
  compact DATASET         folds the generations of a dataset into one
  features DATASET FILES  features computed elsewhere, beside the shards of a dataset
  plan INPUT              what an ingest would write; a dry run
  verify DATASET          checks every byte of a dataset
  bank build RECORDS OUT  records of (action, text, source) into a description bank
  bank add BANK RECORDS   more records into a bank; its texts stay
  bank select BANK OUT    the descriptions that have most to do with their action, into a new bank
  bank stats BANK         counts a bank; plots as PNG and in a page
  bank shard BANK OUT     a bank as WebDataset tars by action block
  bank names LABELS...    what the name rules make of label lists; writes the table of merges
  bank synonyms|prompts|subtexts|entities BANK   texts from files, the starter bank or a language model
  train CONFIG            trains a run from a TOML file; its fields are also flags
  eval RUN                evaluates a run under a protocol
  bench WHAT              kernels, peer-tests, ingest, memory, plan, chaos, dedup, load, bank, text; appends to
                          benchmarks/results/
  doctor                  what this machine has, what is missing and how to get it
  version                 prints the version
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0 success, 1 a failed job, 2 wrong usage."""
    # Before torch is imported: OpenMP threads that wait by spinning starve the threads that decode, and on a machine
    # with as many busy threads as cores a training step takes several times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    words = list(sys.argv[1:] if arguments is None else arguments)
    command = next((name for name in (" ".join(words[:2]), *words[:1]) if name in COMMANDS), None)
    if not words or (command is None and words[-1] in ("help", "-h", "--help")):
        print(HELP, end="")
        return 0
    if words[0] in ("version", "--version"):
        print(f"reelmill {__version__}")
        return 0
    with contextlib.suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # a scheduler's stop ends a job as Ctrl-C does
    try:
        return _run(command, words)
    except ReelmillError as error:
        print(f"reelmill: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print("reelmill: interrupted; run the same command again to go on", file=sys.stderr)
        return 1


def _run(name: str | None, words: list[str]) -> int:
    if name is None:
        raise UsageError(f"command must be one of {', '.join(COMMANDS)}; got {' '.join(words[:2])!r}")
    module, function = COMMANDS[name]
    command: Callable[..., int] = getattr(importlib.import_module(module), function)
    default = getattr(importlib.import_module(module), f"{function}_default", None)
    rest = words[len(name.split()) :]
    return command(parse(_config_type(command), rest, f"reelmill {name}", default(rest) if default else None))


def _config_type(command: Callable[..., int]) -> Any:
    return typing.get_type_hints(command, include_extras=True)["config"]


def parse(config_type: Any, words: Sequence[str], prog: str, default: Any = None) -> Any:
    """Flags into a config dataclass.

    Raises:
        UsageError: wrong flags, in one line.
    """
    said = io.StringIO()
    options = {} if default is None else {"default": default}
    try:
        with contextlib.redirect_stderr(said):
            return tyro.cli(config_type, args=list(words), prog=prog, **options)
    except SystemExit as stop:
        if stop.code == 0:
            raise
        raise UsageError(f"{_one_line(said.getvalue())} (see {prog} --help)") from None


def _one_line(box: str) -> str:
    """The message inside tyro's box (drawn in ASCII on a plain terminal): what stands between its title and a rule."""
    lines = [text for line in box.splitlines() if (text := line.strip("│╭╮╰╯ "))]
    parts: list[list[str]] = [[]]
    for line in lines[1:]:
        if line.startswith(("────", "----")):
            parts.append([])
        else:
            parts[-1].append(line)
    message, *hints = [" ".join(part) for part in parts if part] or [" ".join(box.split())]
    meant = re.search(r"Perhaps you meant: (--[\w.-]+)", " ".join(hints))
    message = re.sub(r"^Error parsing (?!--)\w+: ", "", message).rstrip(".")
    return f"{message} (did you mean {meant[1]}?)" if meant else message


if __name__ == "__main__":
    sys.exit(main())
