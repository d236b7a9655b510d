"""A loader whose clips, or features in their place, are what a model takes."""

from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ..engine import Batch, ClipLoader, LoaderConfig
from ..shards.errors import UsageError
from ..shards.features import Features
from ..shards.store import Folder
from . import distributed
from .config import TrainConfig
from .model import VideoTextModel


def training_clips(config: TrainConfig, model: VideoTextModel, classes: tuple[str, ...]) -> ClipLoader:
    """Shuffled, augmented clips of `classes` out of the training split: this rank's share of each step."""
    form = _form(config, model, classes, config.data.train_split)
    ranks = distributed.world_size()
    if config.global_batch % (ranks * config.accumulate):
        raise UsageError(
            f"global_batch must be a multiple of the {ranks} ranks x {config.accumulate} accumulated batches, "
            f"got {config.global_batch}"
        )
    return ClipLoader(config.dataset, form, rank=distributed.rank(), world_size=ranks)


def evaluation_clips(
    config: TrainConfig, model: VideoTextModel, classes: tuple[str, ...], *, batch: int, clips: int = 1, crops: int = 1
) -> ClipLoader:
    """Every sample of `classes` in the evaluation split once over all ranks, in order, centred; `clips` × `crops` views
    each; `batch` videos per step over all ranks, rounded up to a multiple of them.
    """
    ranks = distributed.world_size()
    batch = -(-batch // ranks) * ranks
    form = _form(config, model, classes, config.data.eval_split)
    form = replace(form, training=False, global_batch=batch, clips=clips, crops=crops)
    return ClipLoader(config.dataset, form, rank=distributed.rank(), world_size=ranks)


def pictures(batch: Batch) -> Tensor:
    """What the image encoder is given: (B, V, T, 3, H, W) clips, or (B, V, T, D) features that were read for them."""
    return batch.clips_BVTCHW if batch.features is None else batch.features["frames"]


def frame_width(config: TrainConfig, model: VideoTextModel) -> int:
    """D: of what the method gets for a frame.

    Raises:
        UsageError: the dataset has no such feature set, or it has no tensor `frames` of one width.
    """
    name = config.data.features
    if name is None:
        return model.width
    spec = Features(Folder(Path(config.dataset)), name).set.tensors.get("frames")
    if spec is None or len(spec.shape) != 2 or spec.shape[1] is None:
        has = "none" if spec is None else str(spec)
        raise UsageError(f"data.features {name!r} must hold a tensor frames (T, D) of one width D, but has {has}")
    return spec.shape[1]


def _form(config: TrainConfig, model: VideoTextModel, classes: tuple[str, ...], split: str) -> LoaderConfig:
    data, pictures = config.data, model.preprocessing
    return LoaderConfig(
        global_batch=config.global_batch,
        frames=data.frames,
        size=model.image_size,
        seed=config.seed,
        split=split or None,
        classes=classes,
        min_crop_area=data.min_crop_area,
        flip=data.flip,
        multi_label=data.multi_label,
        features=data.features,
        video=data.features is None,
        colour_jitter=data.colour_jitter,
        grey=data.grey,
        mean=tuple(pictures["mean"]),
        std=tuple(pictures["std"]),
        threads=data.threads,
        quarantine=config.out / "quarantine.jsonl",
    )
