"""The commands of training: options in, exit code out."""

from .config import EvalConfig, TrainConfig
from .config.file import load_config


def train_default(words: list[str]) -> TrainConfig | None:
    """Take the TOML file off the front of the arguments; its values are the defaults of the flags that follow.

    Without a file every value comes from flags.

    Raises:
        UsageError: the file cannot be read as a config.
    """
    return load_config(words.pop(0)) if words and not words[0].startswith("-") else None


def train(config: TrainConfig) -> int:
    """`reelmill train CONFIG`."""
    from .run import train as run  # torch and open_clip take seconds: a wrong flag is answered before

    run(config)
    return 0


def evaluate(config: EvalConfig) -> int:
    """`reelmill eval RUN`."""
    from .evaluation import evaluate as run

    run(config)
    return 0
