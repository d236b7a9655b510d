"""Features of a dataset's samples: named tensors by key, in tars beside the shards.

    features/<name>/features.json    what they are, what made them, tensors, tars and their hashes, and its own hash
    features/<name>/index.parquet    a row per sample, sorted by key: key, tar, offset, size, crc32
    features/<name>/000000.tar       <key>.safetensors of the samples in the dataset's shard 000000

Tensors called `frames` (T, D) and `regions` (T, N, D) go along the video: their first axis is time. A set appears whole
or not at all: it is written into a folder under another name, which is renamed last.
"""

from .reader import Features
from .schema import PER_FRAME, FeatureSet, TensorSpec
from .tensors import Stored
from .writer import FeatureWriter

__all__ = ["PER_FRAME", "FeatureSet", "FeatureWriter", "Features", "Stored", "TensorSpec"]
