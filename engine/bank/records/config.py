"""The options of `bank build` and `bank add`."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tyro

from ....shards.errors import UsageError
from ..names.options import NameOptions

Dedup = Literal["none", "exact", "near"]
Urls = Literal["keep", "remove", "filter"]


def _check(name: str, holds: bool, must: str, got: object) -> None:
    if not holds:
        raise UsageError(f"{name} must be {must}, got {got}")


@dataclass(frozen=True, kw_only=True)  # slots would not let a config inherit several
class CleanOptions:
    """What is done to a text, and which texts are kept; part of what a bank's bytes depend on."""

    markup: bool = True
    """Remove HTML tags and comments, and resolve entities (&amp;)."""
    urls: Urls = "remove"
    """Web addresses in a text: keep them, remove them, or filter the text out."""
    min_words: int = 1
    """Fewest words of a text, >= 1."""
    max_words: int = 1000
    """Most words of a text, >= min_words."""
    max_chars: int = 8000
    """Most characters of a text, in [1, 100000]; one of over four times as many is not even cleaned."""
    min_letters: float = 0.0
    """Smallest share of letters among the characters that are no space, in [0, 1]: keeps codes and prices out."""
    max_repeats: float = 1.0
    """Largest share that one word may have of a text of ten words and more, in (0, 1]: keeps lists of tags out."""
    languages: tuple[str, ...] = ()
    """Languages that are kept, as ISO 639-1 codes (en); every one where none is given. Needs py3langid
    (`pip install reelmill[language]`), and some 0.3 ms per text."""

    def __post_init__(self) -> None:
        _check("urls", self.urls in get_args(Urls), f"one of {', '.join(get_args(Urls))}", repr(self.urls))
        _check("min_words", self.min_words >= 1, ">= 1", self.min_words)
        _check("max_words", self.max_words >= self.min_words, f">= min_words ({self.min_words})", self.max_words)
        _check("max_chars", 1 <= self.max_chars <= 100_000, "in [1, 100000]", self.max_chars)
        _check("min_letters", 0 <= self.min_letters <= 1, "in [0, 1]", self.min_letters)
        _check("max_repeats", 0 < self.max_repeats <= 1, "in (0, 1]", self.max_repeats)
        for code in self.languages:
            _check("languages", len(code) == 2 and code.isascii() and code.islower(), "codes like en", repr(code))


@dataclass(frozen=True, kw_only=True)  # slots would not let a config inherit several
class DedupOptions:
    """Which texts of one action count as the same."""

    dedup: Dedup = "near"
    """exact drops a text that its action has already, near also one that differs in case, punctuation, the order of its
    words or a word or two."""
    near_threshold: float = 0.8
    """With dedup near: least Jaccard similarity of two texts' words (as multisets) that makes them the same, in
    [0.5, 1]. At 0.8 one word of nine or more may be another."""
    shingle_words: int = 1
    """With dedup near: this many words in a row are compared as one, in [1, 8]; from 2 on the order of words counts."""

    def __post_init__(self) -> None:
        _check("dedup", self.dedup in get_args(Dedup), f"one of {', '.join(get_args(Dedup))}", repr(self.dedup))
        _check("near_threshold", 0.5 <= self.near_threshold <= 1, "in [0.5, 1]", self.near_threshold)
        _check("shingle_words", 1 <= self.shingle_words <= 8, "in [1, 8]", self.shingle_words)


@dataclass(frozen=True, kw_only=True)  # slots would not let a config inherit several
class RunOptions:
    """Where the work is done; no byte depends on it."""

    workers: int = 0
    """Ray tasks at a time; 0 for one per CPU of the cluster."""
    address: str | None = None
    """An existing Ray cluster ("auto" or host:port); without one a local Ray is started, or none for a small input."""
    memory_mb: int = 0
    """What the tasks of a local Ray may take together, MB; 0 leaves it to Ray (most of the machine)."""
    task_seconds: float = 3600.0
    """After this long without an end a task is sent to another worker, with twice the time; > 0."""
    resume: bool = True
    """Go on with an unfinished job on the same input; --no-resume starts over."""

    def __post_init__(self) -> None:
        _check("task_seconds", self.task_seconds > 0, "> 0", self.task_seconds)
        for name in ("workers", "memory_mb"):
            _check(name, getattr(self, name) >= 0, ">= 0", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class RecordOptions(RunOptions):
    """How records are read."""

    action_column: str = "action"
    """Column (csv, tsv, parquet) or key (jsonl, json) with the name of the action."""
    text_column: str = "text"
    """Column or key with the description."""
    source_column: str = "source"
    """Column or key that says where the description comes from; without it the file's name does."""
    max_record_bytes: int = 1_000_000
    """Longest record that is read, bytes, in [1000, 100000000]; a longer one is a failed record."""
    max_names: int = 200_000
    """Most different spellings of actions; more are taken for a wrong column. > 0."""

    def __post_init__(self) -> None:
        RunOptions.__post_init__(self)
        names = (self.action_column, self.text_column, self.source_column)
        _check("action_column, text_column and source_column", all(names) and len(set(names)) == 3, "different", names)
        longest = self.max_record_bytes
        _check("max_record_bytes", 1000 <= longest <= 100_000_000, "in [1000, 100000000]", longest)
        _check("max_names", self.max_names > 0, "> 0", self.max_names)

    def columns(self) -> tuple[str, str, str]:
        """The columns of action, text and source."""
        return self.action_column, self.text_column, self.source_column


@dataclass(frozen=True, kw_only=True)
class BankBuildConfig(NameOptions, CleanOptions, DedupOptions, RecordOptions):
    """Build a description bank from records of (action, text, source)."""

    records: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RECORDS")]
    """csv, tsv, jsonl or parquet with columns `action`, `text` and optional `source`; WebDataset tars with such a .json
    per sample, or .txt and .cls; a folder of them, or a pattern (part-*.jsonl)."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUT")]
    """The bank folder to make: new, empty, or holding this same build unfinished."""
    labels: tuple[Path, ...] = ()
    """Label lists: the actions of the bank. Records of other actions are set aside in the bank's ledger. Without them
    the records define the actions."""
    overrides: Path | None = None
    """A reviewed merges.csv: its canonical names win over the rules."""
    part_mb: int = 16
    """Records per part of the bank, MB (10^6 bytes), > 0; a part is a range of action ids, merged by one task."""

    def __post_init__(self) -> None:
        for part in (CleanOptions, DedupOptions, RecordOptions):
            part.__post_init__(self)
        self.name_rules()
        _check("part_mb", self.part_mb > 0, "> 0", self.part_mb)


@dataclass(frozen=True, kw_only=True)
class BankAddConfig(RecordOptions):
    """Add records to a bank, by the rules that it was built with; the texts that it has stay."""

    bank: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="BANK")]
    """The bank folder."""
    records: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RECORDS")]
    """As for `bank build`."""


def clean_options(config: CleanOptions) -> dict[str, Any]:
    """The cleaning options of a config alone, as JSON values."""
    return asdict(CleanOptions(**{field.name: getattr(config, field.name) for field in fields(CleanOptions)}))


def dedup_options(config: DedupOptions) -> dict[str, Any]:
    """The same of deduplication."""
    return asdict(DedupOptions(**{field.name: getattr(config, field.name) for field in fields(DedupOptions)}))


def clean_from(record: Mapping[str, Any]) -> CleanOptions:
    """The inverse of `clean_options`."""
    return CleanOptions(**{**record, "languages": tuple(record["languages"])})
