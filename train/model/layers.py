"""What small transformers over frames are made of.

Shapes: B sequences, Q queries, N what they look at, H heads, K the width of a head, D the whole width.
"""

from torch import Tensor, nn
from torch.nn import functional

from ...shards.errors import UsageError


class Attention(nn.Module):
    """Scaled dot-product attention of several heads, from one sequence to another or to itself."""

    def __init__(self, width: int, heads: int, *, silent: bool = False) -> None:
        """Args: `silent` makes it begin as zero: the sequence that it is added to stays as it is.

        Raises:
            UsageError: the heads do not divide the width.
        """
        super().__init__()
        check_heads(width, heads)
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = _silent(nn.Linear(width, width), silent)

    def forward(self, query_BQD: Tensor, source_BND: Tensor) -> Tensor:
        """(B, Q, D): what each query makes of the source."""
        q_BHQK = self.query(query_BQD).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k_BHNK, v_BHNK = self.key_value(source_BND).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        found_BHQK = functional.scaled_dot_product_attention(q_BHQK, k_BHNK, v_BHNK)
        out_BQD: Tensor = self.out(found_BHQK.transpose(1, 2).flatten(2))
        return out_BQD


class Mlp(nn.Sequential):
    """Two linear layers with GELU between them."""

    def __init__(self, width: int, hidden: int, *, silent: bool = False) -> None:
        """Args: `silent` makes it begin as zero."""
        super().__init__(nn.Linear(width, hidden), nn.GELU(), _silent(nn.Linear(hidden, width), silent))


def check_heads(width: int, heads: int) -> None:
    """Raise a UsageError unless the heads divide the width."""
    if width % heads:
        raise UsageError(f"method.heads must divide the {width} dimensions of the model's joint space, got {heads}")


def check_frames(frames: int, places: int) -> None:
    """Raise a UsageError where a view has more frames than there are places in time."""
    if frames > places:
        raise UsageError(f"method.max_frames must be at least the {frames} frames of a view, got {places}")


def _silent(layer: nn.Linear, silent: bool) -> nn.Linear:
    if silent:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    return layer
