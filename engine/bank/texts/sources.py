"""Which text stands for which action: names of files and of the starter bank against the actions of a bank."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from ....shards.bank import Action, Bank
from ....shards.bank.files import NAME
from ....shards.errors import UsageError
from ..names.actions import canonical_name
from .origin import Left, Origin
from .starter import SOURCE

T = TypeVar("T")


def open_actions(bank: Path) -> list[Action]:
    """The actions of a bank folder, sorted by id.

    Raises:
        UsageError: it is no bank folder (the bank that a dataset carries cannot be changed).
        DamageError: a file of it does not read.
    """
    if not (bank / NAME).is_file():
        raise UsageError(f"BANK must be a bank folder (with {NAME}, made by `reelmill bank build`), got {bank}")
    return sorted(Bank.open(bank).actions, key=lambda action: action.action_id)


def spellings(action: Action) -> tuple[str, ...]:
    """Every spelling of an action: its name, its canonical name, then its aliases."""
    return tuple(dict.fromkeys((action.name, action.canonical, *action.aliases)))


@dataclass(frozen=True, slots=True)
class Found(Generic[T]):
    """Texts with the actions that they are about."""

    by_action: dict[int, list[tuple[str, T]]]
    """action_id → (name, texts) of every name that is the action's; the best fitting first."""
    unknown: list[str]
    """Names that are no action of the bank."""
    source: str

    def left(self) -> list[Left]:
        """The unknown names as rows for the list of what was left out."""
        return [Left(name, "unknown_action", f"{self.source}: not an action of the bank") for name in self.unknown]


def match(actions: Sequence[Action], texts: Mapping[str, T], source: str) -> Found[T]:
    """Give texts to actions.

    A name is an action's where one of the action's spellings is the same under the `safe` rules, whatever the rules of
    the bank: those of ActionHub would give the texts of "push up" to "push". Failing that, where their letters are the
    same ("hand stand pushups", HandstandPushups). A name goes to one action alone, the first by id.
    """
    by_rules: dict[str, list[str]] = defaultdict(list)
    by_letters: dict[str, list[str]] = defaultdict(list)
    for name in texts:
        by_rules[canonical_name(name)].append(name)
        by_letters[_letters(name)].append(name)
    found: dict[int, list[tuple[str, T]]] = {}
    taken: set[str] = set()
    for keys, key_of in ((by_rules, canonical_name), (by_letters, _letters)):
        for action in actions:
            fitting = [name for spelling in spellings(action) for name in keys.get(key_of(spelling), ())]
            for name in dict.fromkeys(fitting):
                if name not in taken:
                    found.setdefault(action.action_id, []).append((name, texts[name]))
                    taken.add(name)
    return Found(found, [name for name in texts if name not in taken], source)


def _letters(name: str) -> str:
    return "".join(c for c in name.casefold() if c.isalnum()) or name


def first_of(sources: Iterable[Found[T]]) -> tuple[dict[int, tuple[T, Origin]], list[Left]]:
    """What the first source that knows an action says of it, and the names that are left out for another one.

    Returns:
        action_id → texts and origin; and what is in a file, but unknown or repeated.
    """
    found: dict[int, tuple[T, Origin]] = {}
    left: list[Left] = []
    for source in sources:
        for number, entries in source.by_action.items():
            if number not in found:
                found[number] = (entries[0][1], Origin(source.source))
                entries = entries[1:]
            if source.source != SOURCE:  # of the starter bank nobody needs to know what was not used
                why = f"{source.source}: the action has texts under another name, or of an earlier file"
                left += [Left(name, "duplicate", why) for name, _ in entries]
        if source.source != SOURCE:
            left += source.left()
    return found, left
