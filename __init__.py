"""reelmill: raw videos to WebDataset shards to fused kernels, for open-vocabulary action recognition."""

__version__ = "0.1.0"
