"""A TrainConfig out of a TOML file or a run's config.json: every key and type is checked and named in the error."""

import difflib
import json
import tomllib
import types
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ...shards.errors import UsageError
from .run import TrainConfig

CONFIG = "config.json"
T = TypeVar("T")


def load_config(path: str | Path) -> TrainConfig:
    """Read a training config.

    Relative paths in it are relative to its folder. Where a list of names is wanted, a string names a file with one
    name per line.

    Raises:
        UsageError: no such file, not TOML, an unknown key, a wrong type or a value out of range.
    """
    path = Path(path)
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"config {path} must be a readable file: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"config {path} must be TOML: {error}") from error
    return from_table(TrainConfig, table, folder=path.parent.absolute(), where=str(path))


def load_run_config(run: Path) -> TrainConfig:
    """Read the config that a run wrote.

    Raises:
        UsageError: the folder is not a run.
    """
    path = run / CONFIG
    try:
        table = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{run} must be the folder of a run, with its config.json: {error}") from error
    return from_table(TrainConfig, table, folder=run.absolute(), where=str(path))


def dump_config(config: TrainConfig) -> str:
    """The config as JSON, with absolute paths, so that it can be read back from any folder."""
    return json.dumps(_table(config), indent=1, sort_keys=True) + "\n"


def from_table(cls: type[T], table: Mapping[str, Any], *, folder: Path, where: str, prefix: str = "") -> T:
    """Build a config dataclass out of parsed TOML or JSON.

    Args:
        cls: the dataclass.
        table: its keys and values; nested dataclasses are nested tables.
        folder: absolute; relative paths are resolved against it.
        where: name of the source, for errors.
        prefix: the keys that lead to this table, each followed by a dot.

    Raises:
        UsageError: an unknown or missing key, a wrong type, a value out of range.
    """
    hints = get_type_hints(cls)
    known = {item.name: item for item in fields(cls)}  # type: ignore[arg-type]
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {prefix + near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise UsageError(f"{where}: unknown key {prefix + key!r}; {hint}")
    values = {}
    for name, item in known.items():
        if name in table:
            value = _value(hints[name], table[name], folder=folder, where=where, key=prefix + name)
            values[name] = _place(item, value, folder)
        elif item.default is MISSING and item.default_factory is MISSING:
            raise UsageError(f"{where}: the key {prefix + name!r} must be given, but is missing")
    try:
        return cls(**values)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def _value(hint: Any, value: Any, *, folder: Path, where: str, key: str) -> Any:
    if isinstance(value, Mapping) and (kinds := _dataclasses(hint)):
        kind = _named(kinds, value, where, key)
        return from_table(kind, value, folder=folder, where=where, prefix=f"{key}.")
    if hint == tuple[str, ...] and isinstance(value, str):
        return _names(folder / value, where, key)
    ok, result = _match(hint, value)
    if not ok:
        raise UsageError(f"{where}: {key!r} must be {_describe(hint)}, got {value!r}")
    return result


def _dataclasses(hint: Any) -> list[type]:
    """The dataclasses that a value may be one of."""
    choices = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    return [choice for choice in choices if is_dataclass(choice) and isinstance(choice, type)]


def _named(kinds: Sequence[type], table: Mapping[str, Any], where: str, key: str) -> type:
    """The kind that the table's `name` stands for; the first where it has none."""
    names = {next(item.default for item in fields(kind) if item.name == "name"): kind for kind in kinds[1:] and kinds}
    if not names or "name" not in table:
        return kinds[0]
    if table["name"] not in names:
        known = ", ".join(repr(name) for name in names)
        raise UsageError(f"{where}: {key + '.name'!r} must be one of {known}, got {table['name']!r}")
    return names[table["name"]]


def _match(hint: Any, value: Any) -> tuple[bool, Any]:
    """Whether `value` is of type `hint`, and the value as that type."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return next((match for match in (_match(choice, value) for choice in arguments) if match[0]), (False, None))
    if origin is Literal:
        return value in arguments, value
    if origin is tuple and isinstance(value, list):
        choices = [arguments[0]] * len(value) if arguments[-1] is ... else arguments
        matches = [_match(choice, item) for choice, item in zip(choices, value, strict=False)]
        return len(choices) == len(value) and all(ok for ok, _ in matches), tuple(item for _, item in matches)
    if hint is Path:
        return isinstance(value, str), Path(value) if isinstance(value, str) else None
    if hint is float:
        ok = isinstance(value, int | float) and not isinstance(value, bool)
        return ok, float(value) if ok else None
    return type(value) is hint, value


def _describe(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_describe(choice) for choice in arguments if choice is not types.NoneType)
    if origin is Literal:
        return "one of " + ", ".join(repr(choice) for choice in arguments)
    if origin is tuple and arguments[-1] is ...:
        return "a list of strings or the name of a file with one per line"
    if origin is tuple:
        return f"a list of {len(arguments)} numbers"
    if is_dataclass(hint):
        return "a table"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a string", Path: "a path"}[hint]


def _names(path: Path, where: str, key: str) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{where}: {key!r} names the file {path}, which must be readable text: {error}") from error
    return tuple(line.strip() for line in lines if line.strip())


def _place(item: Field[Any], value: Any, folder: Path) -> Any:
    """Make a location absolute; names and URLs stay as they are."""
    rule = item.metadata.get("location")
    if rule is None or value is None or "://" in str(value):
        return value
    path = folder / value
    return value if rule == "if it is a file" and not path.is_file() else type(value)(path)


def _table(config: Any) -> dict[str, Any]:
    values = {item.name: _place(item, getattr(config, item.name), Path.cwd()) for item in fields(config)}
    return {name: _plain(value) for name, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    if is_dataclass(value):
        return _table(value)
    if isinstance(value, tuple):
        return list(value)
    return str(value) if isinstance(value, Path) else value
