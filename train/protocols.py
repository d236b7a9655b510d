"""What an evaluation asks: which classes compete with which, and which of them share a part of their name."""

from collections.abc import Sequence

from ..shards.errors import UsageError
from .config import ClassesConfig, Given, ProtocolName


def base_classes(config: ClassesConfig, dataset_classes: Sequence[str]) -> tuple[str, ...]:
    """The classes to train on, in the order of their indices: those named, else all that are not novel.

    Raises:
        UsageError: a named class is no label of the dataset, or none is left.
    """
    known = set(dataset_classes)
    for field, names in (("classes.base", config.base), ("classes.novel", config.novel)):
        if unknown := [name for name in names if name not in known]:
            raise UsageError(f"{field} must be labels of the dataset, but it has no {unknown[:5]}")
    base = config.base or tuple(name for name in dataset_classes if name not in set(config.novel))
    if not base:
        raise UsageError("classes.base must leave a class to train on, but every label of the dataset is novel")
    return base


def tasks(protocol: ProtocolName, base: tuple[str, ...], novel: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """The closed sets of classes to evaluate on, by name.

    base-novel is the protocol of ViFi-CLIP: base and novel classes, each among their own. closed-set is the classes
    that were trained on.

    Raises:
        UsageError: base-novel on a run without novel classes.
    """
    if protocol == "closed-set":
        return {"base": base}
    if not novel:
        raise UsageError("protocol base-novel needs a run with novel classes, but its classes.novel is empty")
    return {"base": base, "novel": novel}


def groups(classes: Sequence[str], given: Given) -> list[str]:
    """The word of each class name that is given: its first or its last; the whole name for "none"."""
    place = {"first-word": 0, "last-word": -1}
    return [name.split()[place[given]] if given in place else name for name in classes]
