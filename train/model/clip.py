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

from ...shards.errors import UsageError
from ...torchvision_ops import import_torchvision
from ..config import Device, ModelConfig, Precision
from .regions import RegionReader
from .space_time import SpaceTime
from .states import TextStates, VideoStates, cat_states
from .text import TextTower, unit

OWN_MODELS = Path(__file__).with_name("configs")


class VideoTextModel(nn.Module):
    """Two encoders; every embedding that they return has length 1 and is fp32 (fp64 for an fp64 model)."""

    def __init__(self, clip: nn.Module, tokenizer: Any, architecture: dict[str, Any], precision: Precision) -> None:
        super().__init__()
        self.clip: Any = clip
        self.architecture = architecture
        """What open_clip needs to build the same model: its `model_cfg`."""
        self.text = TextTower(clip, tokenizer)
        self.space_time: SpaceTime | None = None
        """Attention over time, where the config asks for it."""
        self.regions: RegionReader | None = None
        """Finds the regions of frames, where the config asks for them."""
        self._precision = precision

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
        model = cls(clip, open_clip.get_tokenizer(name), open_clip.get_model_config(name), precision)
        if config.video == "space-time":
            model.space_time = SpaceTime(clip.visual, blocks=config.time_blocks, frames=config.max_frames)
        if config.video == "regions":
            model.regions = RegionReader(clip.visual, config)
        return model

    @property
    def width(self) -> int:
        """D: of the joint space."""
        return int(self.architecture["embed_dim"])

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

    def learn(self, config: ModelConfig) -> None:
        """Freeze what the config leaves out."""
        text = self.text.parameters()
        kept = {"all": text, "projection": self.text.last(), "none": []}[config.text_learns]
        for weight in text:
            weight.requires_grad_(any(weight is other for other in kept))
        visual = self.clip.visual
        if config.video_learns != "all":
            visual.requires_grad_(False)
        if config.video_learns == "last":
            _check_blocks(visual, config.last_blocks)
            for part in (*visual.transformer.resblocks[-config.last_blocks :], visual.ln_post):
                part.requires_grad_(True)
            if visual.proj is not None:
                visual.proj.requires_grad_(True)

    def prepare(self, config: ModelConfig) -> None:
        """Recompute or compile the blocks, as the config asks; the weights and their names stay."""
        if config.recompute:
            self.clip.set_grad_checkpointing(True)
        if config.compile:
            for tower in (self.clip.visual, getattr(self.clip, "text", self.clip)):
                for block in getattr(getattr(tower, "transformer", None), "resblocks", ()):
                    block.compile()

    def encode_video(self, frames: Tensor) -> VideoStates:
        """(B, V, T, 3, H, W) normalised frames → the embeddings of each: on its own, or with attention over time.

        (B, V, T, D) are features of frames that were computed elsewhere, and pass as they are.
        """
        if frames.dim() == 4:
            return VideoStates(frames.to(torch.promote_types(frames.dtype, torch.float32)))
        frames_BVTCHW = frames
        if self.regions is not None:
            return self._with_regions(self.regions, frames_BVTCHW)
        with self.autocast():
            if self.space_time is None:
                embeddings = self.clip.encode_image(frames_BVTCHW.flatten(0, 2))
            else:
                embeddings = self.space_time(self.clip.visual, frames_BVTCHW.flatten(0, 1))
        return VideoStates(unit(embeddings).reshape(*frames_BVTCHW.shape[:3], -1))

    def _with_regions(self, reader: RegionReader, frames_BVTCHW: Tensor) -> VideoStates:
        with self.autocast():
            found = reader(frames_BVTCHW.flatten(0, 2))
        parts = (unit(found.frames_FD), unit(found.regions_FND), found.region_of_FP)
        return VideoStates(*(part.reshape(*frames_BVTCHW.shape[:3], *part.shape[1:]) for part in parts))

    def encode_texts(self, texts: Sequence[str], *, words: bool = False, chunk: int = 2048) -> TextStates:
        """M texts → their embeddings, `chunk` at a time; training takes `TextTable`, which shares them among ranks."""
        tokens_MW = self.text.tokenize(texts).to(self.log_scale.device)
        with self.autocast():
            parts = [self.text.encode(part_NW, words=words) for part_NW in torch.split(tokens_MW, chunk)]
        return parts[0] if len(parts) == 1 else cat_states(parts)

    def autocast(self) -> torch.autocast:
        """The arithmetic that the run asks for."""
        return torch.autocast(self.log_scale.device.type, dtype=torch.bfloat16, enabled=self._precision == "bf16")


def choose_device(device: Device) -> torch.device:
    """The device that a config asks for.

    Raises:
        UsageError: cuda on a machine or a build of torch without it.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise UsageError("device must be cpu or auto here, got 'cuda': torch finds no GPU")
    return torch.device("cuda" if device != "cpu" and torch.cuda.is_available() else "cpu")


def _check_blocks(visual: Any, last: int) -> None:
    blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)
    if blocks is None:
        raise UsageError("model.video_learns must be all or none for an image encoder that is no vision transformer")
    if last > len(blocks):
        raise UsageError(f"model.last_blocks must be at most the {len(blocks)} blocks of the image encoder, got {last}")


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
