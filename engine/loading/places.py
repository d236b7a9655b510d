"""Which sample stands where in an epoch: shuffled and mixed in training, in dataset order in evaluation."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ...shards.errors import UsageError
from ...shards.order import EpochOrder, Mixture
from .config import LoaderConfig

Where = tuple[NDArray[np.int64], NDArray[np.int64]]
"""For each position, the place of a dataset and the number of a sample there."""


class Places:
    """The order of one loader.

    Args:
        shard_sizes: for each dataset, the samples of each shard.
        config: of the loader.

    Raises:
        UsageError: weights that do not fit the datasets.
    """

    def __init__(self, shard_sizes: Sequence[Sequence[int]], config: LoaderConfig) -> None:
        self._config = config
        self._shards = [size for sizes in shard_sizes for size in sizes]
        self._starts = np.concatenate([[0], np.cumsum([sum(sizes) for sizes in shard_sizes])])
        self._mixture: Mixture | None = None
        if config.weights is not None:
            try:
                self._mixture = Mixture(
                    shard_sizes, config.weights, seed=config.seed, window_shards=config.window_shards
                )
            except ValueError as error:
                raise UsageError(str(error)) from None
        self._epoch: tuple[int, EpochOrder] | None = None  # the one that was asked for last

    def __len__(self) -> int:
        """Samples of one epoch, over all ranks."""
        return int(self._starts[-1])

    @property
    def steps(self) -> int:
        """Of a whole epoch; training drops the tail, evaluation pads it."""
        full, tail = divmod(len(self), self._config.global_batch)
        return full + bool(tail and not self._config.training)

    def at(self, epoch: int, positions: NDArray[np.int64]) -> Where:
        """The samples at some positions of an epoch, whatever the others.

        Args:
            epoch: >= 0.
            positions: (B,) in [0, len).
        """
        if self._mixture is not None:
            return self._mixture.at(epoch, positions)
        numbers = self._of(epoch).at(positions) if self._config.training else positions
        sources = np.searchsorted(self._starts, numbers, side="right") - 1
        return sources, numbers - self._starts[sources]

    def of_rank(self, epoch: int, first: int, rank: int, world_size: int) -> tuple[Where, NDArray[np.bool_]]:
        """A rank's samples of one step: every `world_size`-th position of it.

        Args:
            epoch: >= 0.
            first: position of the step, a multiple of the global batch.
            rank: in [0, world_size).
            world_size: divides the global batch.

        Returns:
            The samples, and for each whether it counts: what pads the tail of an evaluation stands at its start too.
        """
        positions = np.arange(first + rank, first + self._config.global_batch, world_size)
        return self.at(epoch, positions % len(self)), positions < len(self)

    def _of(self, epoch: int) -> EpochOrder:
        """Datasets without weights are one: each sample comes once in an epoch."""
        known = self._epoch  # taken once: several threads ask, of an epoch each
        if known is None or known[0] != epoch:
            config = self._config
            order = EpochOrder(self._shards, seed=config.seed, epoch=epoch, window_shards=config.window_shards)
            known = self._epoch = epoch, order
        return known[1]
