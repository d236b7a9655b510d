"""Descriptions beside the clips: of every sample's action, drawn anew in every epoch."""

from pathlib import Path

from ...shards.bank import Bank
from ...shards.order import stream_key


class Texts:
    """Draws descriptions of actions from a bank.

    Args:
        bank: a bank's folder, or a dataset that carries one.
        count: descriptions of each sample.
        seed: of the loader.

    Raises:
        UsageError: there is no bank.
        DamageError: it does not read.
    """

    def __init__(self, bank: Path, count: int, seed: int) -> None:
        self._bank, self._count, self._seed = Bank.open(bank), count, seed
        self._known = {action.action_id for action in self._bank.actions}

    def draw(self, action_id: int, epoch: int, key: str) -> list[str]:
        """Different descriptions of an action, a pure function of seed, epoch and key.

        Returns:
            `count` of them, or all where there are fewer; none of an action that the bank does not know.
        """
        if action_id not in self._known:
            return []
        high, low = stream_key("texts", self._seed, epoch, key)
        return self._bank.draw(action_id, self._count, seed=high << 32 | low)
