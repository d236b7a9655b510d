"""The methods, one file each, over what they share in method.py; `make_method` makes the one that a config names."""

from ...shards.bank import Bank
from ...shards.bank.relevance import read_relevance
from ...shards.bank.texts import read_definitions, read_entities, read_subtexts, read_synonyms, read_verb_objects
from ...shards.errors import UsageError
from ..config import AceConfig, AltConfig, ApClipConfig, CocoConfig, StoryboardConfig, TrainConfig
from ..model import VideoTextModel
from .ace import Ace
from .alt import Alt
from .ap_clip import ApClip
from .coco import Coco
from .coco_texts import CocoSources
from .method import IGNORED, ClassTexts, Method, Targets
from .storyboard import Storyboard

__all__ = ["IGNORED", "ClassTexts", "Method", "Targets", "make_method"]


def make_method(config: TrainConfig, model: VideoTextModel, *, frame_width: int | None = None) -> Method:
    """The method of a run over its encoders; weights of its own come from torch's global generator.

    Args:
        config: of the run.
        model: its encoders, as `ModelConfig` says.
        frame_width: of what stands for a frame, where that is features; None: of the encoders' space.

    Raises:
        UsageError: the bank is no bank, or has no table that the method reads, or the method wants other encoders.
    """
    frame_width = frame_width or model.width
    if frame_width != model.width and not isinstance(config.method, CocoConfig):
        raise UsageError(
            f"data.features must have the width {model.width} of the encoders' space for the method "
            f"{config.method.name}, got {frame_width}"
        )
    where, seed = config.bank or config.dataset, config.seed
    match config.method:
        case AceConfig() as options:
            return Ace(model, options, Bank.open(where), read_verb_objects(where), read_synonyms(where), seed=seed)
        case AltConfig() as options:
            options.check_inputs(config.model, config.data.features)
            return Alt(model, options, read_entities(where) if options.align == "entities" else ())
        case ApClipConfig() as options:
            return ApClip(model, options, Bank.open(where) if options.prompts_per_class else None, seed=seed)
        case CocoConfig() as options:
            return Coco(model, options, _coco_sources(where, options, seed), video_width=frame_width)
        case StoryboardConfig(branches="global") as options:
            return Storyboard(model, options, None, {})
        case StoryboardConfig() as options:
            return Storyboard(model, options, Bank.open(where), read_subtexts(where))


def _coco_sources(where: str, options: CocoConfig, seed: int) -> CocoSources:
    ranked = options.choose == "relevant" and options.describe_by != "definitions"
    return CocoSources(
        Bank.open(where),
        read_definitions(where) if options.describe_by != "captions" else {},
        read_relevance(where) if ranked else {},
        seed,
    )
