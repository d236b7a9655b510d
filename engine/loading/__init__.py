"""From datasets to batches of clips, for training and evaluation."""
