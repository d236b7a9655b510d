"""`python -m reelmill.benchmarks.damage OUT`: writes the corpus, to try any tool on it."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ...shards.errors import UsageError
from .corpus import EXPECTED, all_kinds, write_corpus


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the corpus; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m reelmill.benchmarks.damage", description=main.__doc__)
    parser.add_argument("out", type=Path, metavar="OUT", help="a new or empty folder")
    parser.add_argument("--seed", type=int, default=0, help="of the pictures and of where bits flip")
    asked = parser.parse_args(arguments)
    try:
        write_corpus(asked.out, asked.seed)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {len(all_kinds())} kinds to {asked.out}; what must become of each: {asked.out / EXPECTED}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
