"""A video encoder and a text encoder in one space: an open_clip model, read frame by frame.

Shapes: B videos, V views, T frames, C H W a picture; M texts, W token positions; D the width of the joint space.
"""

import logging
from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..shards.errors import UsageError
from ..torchvision_ops import import_torchvision
from .config import Device, ModelConfig, Precision

OWN_MODELS = Path(__file__).with_name("models")
CONTEXT_STEP = 8  # text lengths are rounded up to this, so that few shapes occur


class VideoTextModel(nn.Module):
    """Two encoders; every embedding that they return has length 1 and is fp32 (fp64 for an fp64 model)."""

    def __init__(self, clip: nn.Module, tokenizer: Any, architecture: dict[str, Any], precision: Precision) -> None:
        super().__init__()
        self.clip: Any = clip
        self.architecture = architecture
        """What open_clip needs to build the same model: its `model_cfg`."""
        self._tokenizer = tokenizer
        self._precision = precision
        self._text: Any = getattr(clip, "text", clip)

    @classmethod
    def create(cls, config: ModelConfig, *, precision: Precision = "fp32") -> "VideoTextModel":
        """Build the encoders; random weights come from torch's global generator.

        Raises:
            UsageError: open_clip knows no such model or weights, or the file of weights does not fit the model.
        """
        import_torchvision()
        import open_clip  # takes seconds: a command that needs no model must not pay for it

        open_clip.add_model_config(OWN_MODELS)
        name = _register(open_clip, config.name)
        _check_weights(open_clip, name, config.pretrained)
        # open_clip warns of random weights at every creation; here they are what the config asks for.
        disabled = logging.root.manager.disable
        logging.disable(logging.WARNING)
        try:
            clip = open_clip.create_model(name, pretrained=config.pretrained)
        except RuntimeError as error:
            what = shorten(str(error), 300)
            raise UsageError(f"model.pretrained {config.pretrained!r} must fit the model {name!r}: {what}") from error
        finally:
            logging.disable(disabled)
        return cls(clip, open_clip.get_tokenizer(name), open_clip.get_model_config(name), precision)

    @property
    def image_size(self) -> int:
        """Height and width of a frame, pixels."""
        size = self.clip.visual.image_size
        return int(size[0] if isinstance(size, tuple | list) else size)

    @property
    def preprocessing(self) -> dict[str, Any]:
        """What open_clip says of the pictures that the model takes: mean, std, size and so on."""
        return dict(self.clip.visual.preprocess_cfg)

    @property
    def log_scale(self) -> nn.Parameter:
        """0-d; the logarithm of the factor from scores to logits."""
        scale: nn.Parameter = self.clip.logit_scale
        return scale

    def encode_video(self, frames_BVTCHW: Tensor) -> Tensor:
        """(B, V, T, 3, H, W) normalised frames → (B, V, T, D) embeddings, each frame on its own."""
        with self._autocast(frames_BVTCHW.device):
            embedding_ND = self.clip.encode_image(frames_BVTCHW.flatten(0, 2))
        return _unit(embedding_ND).reshape(*frames_BVTCHW.shape[:3], -1)

    def tokenize(self, texts: Sequence[str]) -> Tensor:
        """(M, W) int64 tokens; W is the longest text rounded up to a multiple of 8 where the tower allows the cut.

        A causal tower that is read at the end-of-text token never sees what follows it, so the cut changes nothing.
        Texts longer than the model's context lose their end.
        """
        tokens_MW: Tensor = self._tokenizer(list(texts))
        if not self._may_cut():
            return tokens_MW
        longest = int(tokens_MW.argmax(dim=1).max()) + 1  # end-of-text has the highest id
        return tokens_MW[:, : -(-longest // CONTEXT_STEP) * CONTEXT_STEP]

    def encode_text(self, tokens_MW: Tensor) -> Tensor:
        """(M, W) tokens out of `tokenize` → (M, D) embeddings."""
        with self._autocast(tokens_MW.device):
            embedding_MD = self._encode_cut(tokens_MW) if self._may_cut() else self.clip.encode_text(tokens_MW)
        return _unit(embedding_MD)

    def _encode_cut(self, tokens_MW: Tensor) -> Tensor:
        """open_clip's encode_text for a context of any length; its own takes the whole one only."""
        text, length = self._text, tokens_MW.shape[1]
        hidden_MWD = text.token_embedding(tokens_MW) + text.positional_embedding[:length]
        hidden_MWD = text.ln_final(text.transformer(hidden_MWD, attn_mask=text.attn_mask[:length, :length]))
        end_M = tokens_MW.argmax(dim=1)
        hidden_MD: Tensor = hidden_MWD[torch.arange(len(end_M), device=end_M.device), end_M]
        projection = text.text_projection
        if projection is None:
            return hidden_MD
        embedding_MD: Tensor = projection(hidden_MD) if isinstance(projection, nn.Module) else hidden_MD @ projection
        return embedding_MD

    def _may_cut(self) -> bool:
        text = self._text
        pool = getattr(self.clip, "text_pool_type", None) if text is self.clip else getattr(text, "pool_type", None)
        causal = getattr(text, "attn_mask", None) is not None
        return causal and pool == "argmax" and getattr(text, "cls_emb", None) is None

    def _autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=self._precision == "bf16")


def choose_device(device: Device) -> torch.device:
    """The device that a config asks for.

    Raises:
        UsageError: cuda on a machine or a build of torch without it.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device must be cpu or auto here, got 'cuda': torch finds no GPU")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def _unit(embedding_ND: Tensor) -> Tensor:
    wide = embedding_ND if embedding_ND.dtype == torch.float64 else embedding_ND.float()
    return functional.normalize(wide, dim=-1)


def _register(open_clip: Any, name: str) -> str:
    """The name under which open_clip knows the model, after a config file of the caller's own has been made known."""
    if name.endswith(".json"):
        if not Path(name).is_file():
            raise UsageError(f"model.name must be a file where it ends in .json, but there is no {name}")
        open_clip.add_model_config(Path(name))
        name = Path(name).stem
    if open_clip.get_model_config(name) is None:
        raise UsageError(f"model.name must be one of open_clip's models or a .json config of your own, got {name!r}")
    return name


def _check_weights(open_clip: Any, name: str, pretrained: str | None) -> None:
    tags = [] if name.startswith("local-dir:") else open_clip.list_pretrained_tags_by_model(name)
    if pretrained is not None and not Path(pretrained).is_file() and pretrained not in tags:
        known = f"a file or one of {', '.join(tags)}" if tags else f"a file ({name} has no published weights)"
        raise UsageError(f"model.pretrained must be {known}, got {pretrained!r}")
