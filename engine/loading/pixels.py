"""Windows of decoded frames resized. T frames, H and W pixels.

DALI's CPU resize takes 0.8 ms for a frame of 320x240 to 224x224, torch's integer kernel a seventh of that, to within
the rounding of a level: with cheap-to-decode shards the resize was most of a clip's cost.
"""

import numpy as np
import torch
from numpy.typing import NDArray


def resized(window_THWC: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Resize to size x size: triangle filter, as wide as the scale asks for (no aliasing), rounded to levels.

    Returns:
        (T, size, size, 3) uint8, contiguous.
    """
    if window_THWC.shape[1:3] == (size, size):
        return np.ascontiguousarray(window_THWC)
    window_TCHW = torch.from_numpy(window_THWC).permute(0, 3, 1, 2)
    clip_TCHW = torch.nn.functional.interpolate(window_TCHW, size=(size, size), mode="bilinear", antialias=True)
    return np.ascontiguousarray(clip_TCHW.permute(0, 2, 3, 1).numpy())
