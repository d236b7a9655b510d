"""The thresholds of perceptual deduplication."""

from dataclasses import dataclass

from ...shards.errors import UsageError

FAR = 16  # bits that two hashes count at most
FAR_GAP = 4  # times what is allowed: more does not count


@dataclass(frozen=True, kw_only=True, slots=True)
class DedupConfig:
    """When two videos count as near duplicates of each other."""

    max_distance: int = 8
    """Two videos are compared at all when some hash of one differs from some hash of the other in at most this many of
    its 64 bits, 0 to 31."""
    max_mean_distance: float = 9.0
    """Bits in which the hashes may differ on average over the cells that both videos show when laid over each other; a
    cell counts 16 bits at most, so that a few wrong ones are forgiven. In [0, 16)."""
    max_gap: float = 1.0
    """How far the pictures may be apart, root mean square over these cells; 1 stands for 1 grey level (of 256) where
    nothing moves, a cell counts 4 at most. In longer cells half and a quarter of it. In [0, 4)."""
    max_lost_motion: float = 0.15
    """Share of the cells with motion in one video in which the other may be still, in [0, 1]."""
    min_share: float = 0.6
    """Share of the shorter video's cells, and of those with motion, that the longer one must show too, in (0, 1]."""
    min_cells: int = 4
    """Cells that both must show, counted in the coarser cells of the two, >= 2: a video of fewer is never a
    duplicate."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_distance <= 31:
            raise UsageError(f"max_distance must lie in 0 to 31, got {self.max_distance}")
        if not 0 <= self.max_mean_distance < FAR:
            raise UsageError(f"max_mean_distance must lie in [0, {FAR}), got {self.max_mean_distance}")
        if not 0 <= self.max_gap < FAR_GAP:
            raise UsageError(f"max_gap must lie in [0, {FAR_GAP}), got {self.max_gap}")
        if not 0 <= self.max_lost_motion <= 1:
            raise UsageError(f"max_lost_motion must lie in [0, 1], got {self.max_lost_motion}")
        if not 0 < self.min_share <= 1:
            raise UsageError(f"min_share must lie in (0, 1], got {self.min_share}")
        if self.min_cells < 2:
            raise UsageError(f"min_cells must be >= 2, got {self.min_cells}")
