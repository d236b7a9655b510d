"""The options of `bank synonyms|prompts|subtexts|entities`."""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from ....shards.errors import UsageError
from .tpp import Sign

TokenParameter = Literal["max_tokens", "max_completion_tokens"]
Scorer = Literal["none", "hashed-words", "open-clip"]
FromFiles = Annotated[tuple[Path, ...], tyro.conf.arg(name="from")]
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def _check(name: str, fine: bool, want: str, got: Any) -> None:
    if not fine:
        raise UsageError(f"{name} must be {want}, got {got!r}")


@dataclass(frozen=True, kw_only=True, slots=True)
class GenerateConfig:
    """How a language model is asked, at any endpoint that speaks OpenAI's chat completions."""

    generate: bool = False
    """Ask a language model for what no file and not the starter bank knows."""
    endpoint: str | None = None
    """Base URL of the endpoint, as http://localhost:8000/v1; needed with --generate."""
    model: str | None = None
    """The model's name there; needed with --generate."""
    key_env: str | None = None
    """Name of the environment variable that holds the key; none is sent without. The key is never written anywhere."""
    concurrency: int = 8
    """Requests at a time, > 0."""
    tries: int = 6
    """Requests that are sent for one answer before it is given up, > 0; the wait between them doubles each time."""
    timeout_seconds: float = 120.0
    """For one whole answer, > 0."""
    max_wait_seconds: float = 300.0
    """Longest wait between two tries, > 0; an endpoint that asks for a longer one has failed."""
    temperature: float | None = None
    """Of sampling, >= 0; without it the endpoint's own."""
    answer_tokens: int = 1024
    """Longest answer, tokens, > 0."""
    token_parameter: TokenParameter = "max_tokens"
    """What the endpoint calls that limit."""
    max_requests: int | None = None
    """Requests that this run may send, tries included, >= 0; the rest is left out as `budget`."""
    max_tokens: int | None = None
    """Tokens that this run may use, questions and answers together, >= 0; requests under way may go a little over."""
    cache: Path | None = None
    """Folder of the answers: what is in it is not asked again. Default: .answers in the bank."""

    def __post_init__(self) -> None:
        for name in ("concurrency", "tries", "answer_tokens"):
            _check(name, getattr(self, name) > 0, "> 0", getattr(self, name))
        for name in ("timeout_seconds", "max_wait_seconds"):
            value = getattr(self, name)
            _check(name, value > 0 and math.isfinite(value), "> 0 and finite", value)
        for name in ("max_requests", "max_tokens", "temperature"):
            value = getattr(self, name)
            _check(name, value is None or value >= 0, ">= 0", value)
        key_env = self.key_env
        if key_env is not None and not _VARIABLE.fullmatch(key_env):  # it may be the key itself: do not show it
            raise UsageError("key_env must be the name of an environment variable (letters, digits, _), not a key")
        if self.generate:
            _check("endpoint", self.endpoint is not None, "given with --generate, as http://localhost:8000/v1", None)
            _check("model", bool(self.model), "given with --generate", self.model)
        if self.endpoint is not None:
            fine = self.endpoint.startswith(("http://", "https://")) and "@" not in self.endpoint
            _check("endpoint", fine, "a URL with http:// or https:// and without a password", self.endpoint)


@dataclass(frozen=True, kw_only=True, slots=True)
class _TextsConfig:
    """What the four commands share."""

    bank: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="BANK")]
    """A bank folder."""
    starter: bool = True
    """Take the hand-written starter bank's texts where --from has none."""
    llm: Annotated[GenerateConfig, tyro.conf.arg(name="")] = field(default_factory=GenerateConfig)


@dataclass(frozen=True, kw_only=True, slots=True)
class SynonymsConfig(_TextsConfig):
    """Take the labels of a bank apart and give every verb a tree of synonyms (ACE): verb_objects, synonyms."""

    from_files: FromFiles = ()
    """TOML or JSON of trees, {verb: {synonym: [its synonyms]}}; the first file that knows a verb counts."""
    verb_objects: Path | None = None
    """Your own splits where the rules are wrong: csv, tsv, jsonl or parquet with label, verb, object, template."""
    first: int = 11
    """Children of order 1, the verb itself among them, > 0; a verb with fewer synonyms keeps fewer."""
    second: int = 11
    """Children of order 2, likewise, > 0."""
    srt: Path | None = None
    """Write draws of the synonym robustness test to this JSON instead, from the synonyms that the bank has."""
    classes: Path | None = None
    """With --srt: the novel classes, a list of labels; a class id is the place in it, from 0."""
    seen_classes: Path | None = None
    """With --srt: the classes of training; verbs of their trees are no unseen synonyms."""
    runs: int = 10
    """With --srt: how many draws, > 0."""
    seed: int = 0
    """With --srt: names the draws; any int."""

    def __post_init__(self) -> None:
        for name in ("first", "second", "runs"):
            _check(name, getattr(self, name) > 0, "> 0", getattr(self, name))
        _check("classes", (self.srt is None) == (self.classes is None), "given exactly with --srt", self.classes)
        if self.seen_classes is not None:
            _check("srt", self.srt is not None, "given with --seen-classes", self.srt)


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptsConfig(_TextsConfig):
    """Give every action prompts for twelve attributes in three groups (AP-CLIP)."""

    from_files: FromFiles = ()
    """TOML or JSON of prompts, {action: {attribute: text or [text per LLM-prompt]}}; the first file that knows an
    action counts."""
    reject: Path | None = None
    """Texts that you reject, one per line; each one found is listed."""
    llm_prompts: int = 3
    """Wordings of the question that the language model is asked, 1 to 3; each gives twelve prompts."""
    tokens: int = 30
    """Longest prompt in CLIP's tokens, without the phrase that names the action, > 0; cut at the end of a sentence."""

    def __post_init__(self) -> None:
        _check("tokens", self.tokens > 0, "> 0", self.tokens)
        _check("llm_prompts", 1 <= self.llm_prompts <= 3, "1 to 3", self.llm_prompts)


@dataclass(frozen=True, kw_only=True, slots=True)
class SubtextsConfig(_TextsConfig):
    """Give every action its steps in order (Storyboard), the best set of its candidates."""

    from_files: FromFiles = ()
    """TOML or JSON of candidates, {action: {subtexts: [text]}}, or with --labels descriptors by class id (OST's); the
    first file that knows an action counts."""
    labels: tuple[Path, ...] = ()
    """The label lists that the files of descriptors in --from were written with, one for each."""
    count: int = 4
    """Sub-texts per action, > 0; all candidates where there are fewer."""
    candidates: int = 8
    """Candidates that the language model is asked for, > 0."""
    score: Scorer = "none"
    """How candidates are compared. none takes the first ones, unscored; hashed-words is an offline stand-in that sees
    only which words repeat; open-clip is the text tower of --text-model."""
    text_model: str = "ViT-B-16"
    """With open-clip: the model's name."""
    weights: Path | None = None
    """With open-clip: the file of its weights."""
    sign: Sign = "fixed"
    """Of the text prompt perplexity: fixed, or paper as the equation is printed (it prefers near-duplicates)."""

    def __post_init__(self) -> None:
        for name in ("count", "candidates"):
            _check(name, getattr(self, name) > 0, "> 0", getattr(self, name))
        fine = not self.labels or len(self.labels) == len(self.from_files)
        _check("labels", fine, f"one list for each of the {len(self.from_files)} files of --from", len(self.labels))
        fine = (self.weights is not None) == (self.score == "open-clip")
        _check("weights", fine, "given exactly with --score open-clip", self.weights)


@dataclass(frozen=True, kw_only=True, slots=True)
class EntitiesConfig(_TextsConfig):
    """List the things that the actions of a bank name, and body parts, with a description each (ALT)."""

    from_files: FromFiles = ()
    """TOML or JSON of entities, {kind: {name: description or [description per sense]}}; the first file counts."""
    body_parts: bool = True
    """Add the starter bank's body parts."""
    definitions: tuple[Path, ...] = ()
    """Definitions of actions to put into definitions.parquet, too: JSON lists of {word, defn}, as ElaborativeRehearsal
    has them."""
