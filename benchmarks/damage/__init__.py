"""A corpus of damaged and odd videos, and what `reelmill ingest` must make of each."""
