"""CLIP's side of texts, on the CPU: how many tokens a text has, and what the text tower of an open_clip model makes
of it. Both import torch, and only when they are called.
"""

import importlib.util
import logging
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from textwrap import shorten
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ....shards.errors import UsageError

Embed = Callable[[Sequence[str]], NDArray[np.float64]]
"""Texts → (len(texts), D) fp64; any scale."""
_BATCH = 64


def count_tokens(text: str) -> int:
    """Tokens of CLIP's byte-pair encoding (the vocabulary in open_clip's wheel), without start and end."""
    return len(_tokenizer().encode(text))


@cache
def _tokenizer() -> Any:
    """open_clip's own tokenizer, its module taken alone: the whole package takes seconds to import."""
    package = importlib.util.find_spec("open_clip")
    assert package is not None, "open_clip is a dependency"
    assert package.origin is not None
    path = Path(package.origin).with_name("tokenizer.py")
    spec = importlib.util.spec_from_file_location("reelmill_clip_tokenizer", path)
    assert spec is not None, path
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.SimpleTokenizer()


def open_clip_texts(model: str, weights: Path) -> Embed:
    """The text tower of an open_clip model, in fp32, as a way to compare texts.

    Args:
        model: a name that open_clip knows.
        weights: a file of its weights; there is no default, as a tower with random weights compares nothing.

    Raises:
        UsageError: open_clip does not know the model, or the weights do not load.
    """
    import torch

    from ....torchvision_ops import import_torchvision

    import_torchvision()
    import open_clip

    if model not in open_clip.list_models():
        raise UsageError(f"text_model must be a model that open_clip knows, got {model!r}")
    if not weights.is_file():
        raise UsageError(f"weights must be a file of {model}'s weights, but there is none at {weights}")
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        tower = open_clip.create_model(model, pretrained=str(weights), weights_only=True).eval()
    except Exception as error:  # a file that holds anything can fail in any way
        what = shorten(str(error), 300) or type(error).__name__
        raise UsageError(f"weights {weights} must be those of {model}: {what}") from error
    finally:
        logging.disable(disabled)
    tokenize = open_clip.get_tokenizer(model)

    @torch.no_grad()
    def embed(texts: Sequence[str]) -> NDArray[np.float64]:
        batches = [list(texts[n : n + _BATCH]) for n in range(0, len(texts), _BATCH)]
        vectors = torch.cat([tower.encode_text(tokenize(batch)).float() for batch in batches])
        return np.asarray(vectors.double().numpy())

    return embed
