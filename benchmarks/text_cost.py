"""What encoding the prompts costs in a step: in every batch of every rank over whole contexts, and as reelmill does."""

from dataclasses import dataclass
from pathlib import Path

import torch

from .. import console
from ..shards.errors import UsageError
from .environment import RESULTS, append, capture

TIMES = 3
"""The forward pass, and twice as much for the backward pass."""


@dataclass(frozen=True, kw_only=True, slots=True)
class BenchTextConfig:
    """Count the FLOPs of the text encoder in one optimiser step; nothing is timed and no weights are needed."""

    model: str = "ViT-B-16"
    """Name of an open_clip model."""
    classes: int = 400
    """Classes, > 0: 400 as in Kinetics-400."""
    prompts: int = 36
    """Prompts of a class, > 0: 36 as in AP-CLIP."""
    words: int = 30
    """Words of a prompt, > 0: AP-CLIP's descriptions have at most 30 tokens, after a prefix."""
    ranks: int = 8
    """GPUs, > 0."""
    global_batch: int = 256
    """Videos of an optimiser step, > 0."""
    rank_batch: int = 4
    """Videos that a rank takes at a time, > 0: 4 as in ViFi-CLIP."""
    chunk: int = 2048
    """Texts that reelmill encodes at a time, > 0; more than one chunk makes it encode twice to save memory."""
    results: Path = RESULTS / "text.jsonl"
    """File to which a line is appended."""

    def __post_init__(self) -> None:
        for name in ("classes", "prompts", "words", "ranks", "global_batch", "rank_batch", "chunk"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be > 0, got {getattr(self, name)}")


def bench_text(config: BenchTextConfig) -> int:
    """`reelmill bench text`."""
    from ..train.config import ModelConfig
    from ..train.model import VideoTextModel
    from ..train.model.flop_counter import flop_counter

    model = VideoTextModel.create(ModelConfig(name=config.model))
    whole_1W = model.text.whole_context([_prompt(config.words)])
    cut_1W = model.text.tokenize([_prompt(config.words)])
    flops = []
    for tokens_1W in (whole_1W, cut_1W):
        with torch.no_grad(), flop_counter() as counter:
            model.text.encode(tokens_1W)
        flops.append(int(counter.get_total_flops()))
    texts = config.classes * config.prompts
    batches = -(-config.global_batch // (config.rank_batch * config.ranks))
    again = -(-texts // config.ranks) > config.chunk
    everywhere = flops[0] * texts * TIMES * config.ranks * batches
    once = flops[1] * texts * (TIMES + again)
    found = {
        "tokens": [whole_1W.shape[1], cut_1W.shape[1]],
        "tflop_per_step": [everywhere / 1e12, once / 1e12],
        "ratio": everywhere / once,
    }
    asked = {name: getattr(config, name) for name in config.__dataclass_fields__ if name != "results"}
    append(config.results, {"bench": "text", **asked, **found} | capture())
    console.table(
        f"text encoder of {config.model}, {texts} prompts, {config.ranks} ranks x {batches} batches of a step",
        [
            (f"in every batch, {whole_1W.shape[1]} tokens", f"{everywhere / 1e12:,.0f} TFLOP per step"),
            (f"once per step, {cut_1W.shape[1]} tokens", f"{once / 1e12:,.1f} TFLOP per step"),
            ("ratio", f"{everywhere / once:.0f}"),
            ("appended to", str(config.results)),
        ],
    )
    return 0


def _prompt(words: int) -> str:
    return "a " * words
