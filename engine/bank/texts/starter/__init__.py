"""The starter bank: texts of everyday actions, written by hand for this project, that need neither file nor network."""

from functools import cache
from pathlib import Path

from ...names.actions import canonical_name
from ..files import ActionTexts, read_action_texts, read_entity_texts, read_trees

SOURCE = "starter"
FOLDER = Path(__file__).parent


@cache
def actions() -> dict[str, ActionTexts]:
    """Canonical name (safe rules) → its prompts and sub-texts."""
    found: dict[str, ActionTexts] = {}
    for path in sorted((FOLDER / "actions").glob("*.toml")):
        for name, texts in read_action_texts(path).items():
            canonical = canonical_name(name)
            assert canonical not in found, f"{path}: {name} stands twice"
            found[canonical] = texts
    return found


@cache
def trees() -> dict[str, dict[str, tuple[str, ...]]]:
    """Verb → its synonyms, each with its own."""
    return read_trees(FOLDER / "verbs.toml")


@cache
def entities() -> dict[str, tuple[str, tuple[str, ...]]]:
    """Name → kind and descriptions, one per sense."""
    return read_entity_texts(FOLDER / "entities.toml")
