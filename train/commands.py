"""The commands of training: options in, exit code out."""

import itertools
import typing
from typing import Annotated

import tyro

from ..shards.errors import UsageError
from .config import EvalConfig, MethodConfig, TrainConfig
from .config.file import load_config


def train_default(words: list[str]) -> TrainConfig | None:
    """Take the TOML file off the front of the arguments; its values are the defaults of the flags that follow.

    Without a file every value comes from flags, and `--method.name` says of which method they are.

    Raises:
        UsageError: the file cannot be read as a config, or there is no such method.
    """
    if words and not words[0].startswith("-"):
        return load_config(words.pop(0))
    name = _value(words, "--method.name")
    if name is None:
        return None
    kinds = {kind().name: kind for kind in typing.get_args(MethodConfig)}
    if name not in kinds:
        raise UsageError(f"--method.name must be one of {', '.join(kinds)}, got {name!r}")
    return TrainConfig(dataset=tyro.MISSING, out=tyro.MISSING, method=kinds[name]())


def _value(words: list[str], flag: str) -> str | None:
    for word, following in itertools.pairwise([*words, ""]):
        if word == flag or word.startswith(f"{flag}="):
            return following if word == flag else word.partition("=")[2]
    return None


def train(config: Annotated[TrainConfig, tyro.conf.AvoidSubcommands]) -> int:
    """`reelmill train CONFIG`."""
    from .run import train as run  # torch and open_clip take seconds: a wrong flag is answered before

    run(config)
    return 0


def evaluate(config: EvalConfig) -> int:
    """`reelmill eval RUN`."""
    from .evaluation import evaluate as run

    run(config)
    return 0
