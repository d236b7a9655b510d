"""What can be wrong with one video."""

from ..shards.ledger import Reason


class MediaError(Exception):
    """A video cannot be used: `reason` is the ledger's, `detail` says what was found."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason: Reason = reason
        self.detail = detail
