"""`reelmill bank names`: what the rules make of label lists, before any bank is built."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from .... import console
from ....shards.errors import UsageError
from ....shards.files import write_atomic
from .actions import NameRules
from .counts import DistinctCount, distinct_counts, distinct_per_step
from .labels import read_labels
from .merges import Names, merges_csv, read_overrides
from .options import NameOptions

SHOWN_UNUSED = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class BankNamesConfig(NameOptions):
    """Say how many distinct actions label lists come to, rule by rule, and what is merged."""

    labels: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="LABELS...")]
    """Label lists: one name per line, a csv with id and name, or a json list with a word each."""
    overrides: Path | None = None
    """A reviewed table of merges: its canonical names win over the rules."""
    merges: Path | None = None
    """Write the table of merges to this csv: every spelling that changes or shares its action with another."""

    def __post_init__(self) -> None:
        if not self.labels:
            raise UsageError("labels must be at least one file, got none")


def bank_names(config: BankNamesConfig) -> int:
    """`reelmill bank names LABELS...`."""
    rules = config.name_rules()
    names = Names(rules, read_overrides(config.overrides) if config.overrides is not None else {})
    lists = [(path, read_labels(path)) for path in config.labels]
    spellings = {name for _, listed in lists for name in listed}
    actions = {names(name) for name in spellings}

    rows = [(str(path), str(len(listed))) for path, listed in lists]
    console.table("names", [*rows, ("all lists", str(sum(len(listed) for _, listed in lists)))])
    steps = [(rule, str(count)) for rule, count in distinct_per_step(spellings, rules)]
    if names.overrides:
        steps.append(("overrides", str(len(actions))))
    console.table(f"distinct after each rule ({config.rules})", steps)
    if rules.lower_case:  # words and lemmas are only found in small letters
        console.table("distinct actions by choice of rules (parentheses kept / dropped)", _grid(spellings, rules))
    rows = [("actions", str(len(actions))), ("merged away", str(len(spellings) - len(actions)))]
    unused = sorted(names.overrides.keys() - spellings)
    if unused:
        shown = ", ".join(console.printable(name) for name in unused[:SHOWN_UNUSED])
        rows.append(("overrides of other names", f"{len(unused)}: {shown}{', …' * (len(unused) > SHOWN_UNUSED)}"))
    if config.merges is not None:
        origins = ((names(name), name, str(path)) for path, listed in lists for name in listed)
        write_atomic(config.merges, merges_csv(origins, names))
        rows.append(("merges", str(config.merges)))
    console.table("actions", rows)
    return 0


def _grid(spellings: set[str], rules: NameRules) -> list[tuple[str, str]]:
    lines: dict[str, list[DistinctCount]] = {}
    for count in distinct_counts(spellings, rules):
        lines.setdefault(f"drop {count.drop_words}", []).append(count)
    return [
        (drop, "   ".join(f"{count.lemma} {count.kept}/{count.dropped}" for count in counts))
        for drop, counts in lines.items()
    ]
