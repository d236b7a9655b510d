"""A loader whose clips are what a model takes."""

from dataclasses import replace

from ..engine import ClipLoader, LoaderConfig
from ..shards.errors import UsageError
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
        colour_jitter=data.colour_jitter,
        grey=data.grey,
        mean=tuple(pictures["mean"]),
        std=tuple(pictures["std"]),
        threads=data.threads,
        quarantine=config.out / "quarantine.jsonl",
    )
