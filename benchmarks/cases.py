"""The shapes that kernels are timed on, as data."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LateInteractionCase:
    """Videos against the prompts of classes."""

    name: str
    videos: int
    frames: int
    lengths: tuple[int, ...]
    """Prompts of each class."""
    width: int
    masked: bool = False
    """A quarter of the frames are absent."""
    gpu_only: bool = False
    """Takes too long on a CPU."""

    @property
    def flops(self) -> int:
        """Of one forward: two for each element of each product."""
        return 2 * self.videos * self.frames * sum(self.lengths) * self.width


@dataclass(frozen=True, kw_only=True)
class TokenMergeCase:
    """The tokens of images, some of which merge."""

    name: str
    images: int
    tokens: int
    width: int
    r: int
    """How many merge away."""
    metric_width: int = 64
    residual: bool = False
    """A residual is added on the way."""
    gpu_only: bool = False
    """Takes too long on a CPU."""


@dataclass(frozen=True, kw_only=True)
class SynonymsCase:
    """Videos against classes of synonyms."""

    name: str
    videos: int
    lengths: tuple[int, ...]
    """Synonyms of each class."""
    width: int
    negative_synonyms: int = 0
    """Of the negative that each video has of its own; 0 for no negatives."""
    gpu_only: bool = False
    """Takes too long on a CPU."""


@dataclass(frozen=True, kw_only=True)
class EntityAlignmentCase:
    """The regions of frames against entities."""

    name: str
    regions: int
    entities: int
    width: int
    noise: bool = True
    """Gumbel noise is drawn."""
    learned: bool = False
    """The entities get a gradient too."""
    gpu_only: bool = False
    """Takes too long on a CPU."""


_MIXED = (36, 9, 24, 3, 17)

LATE_INTERACTION = (
    LateInteractionCase(name="tiny training", videos=64, frames=8, lengths=(6,) * 64, width=64),
    LateInteractionCase(name="ragged", videos=32, frames=8, lengths=_MIXED * 20, width=256),
    LateInteractionCase(name="masked views", videos=8, frames=96, lengths=(12,) * 101, width=512, masked=True),
    LateInteractionCase(name="400 classes of 16", videos=64, frames=8, lengths=(16,) * 400, width=512),
    LateInteractionCase(name="101 classes", videos=32, frames=8, lengths=(36,) * 101, width=512),
    LateInteractionCase(name="400 classes", videos=64, frames=8, lengths=(36,) * 400, width=512, gpu_only=True),
    LateInteractionCase(name="32 frames", videos=64, frames=32, lengths=(36,) * 400, width=512, gpu_only=True),
    LateInteractionCase(name="ragged 700", videos=64, frames=8, lengths=_MIXED * 140, width=768, gpu_only=True),
)

TOKEN_MERGE = (
    TokenMergeCase(name="ViT-B/16", images=64, tokens=197, width=768, r=8),
    TokenMergeCase(name="ViT-B/16, residual", images=64, tokens=197, width=768, r=8, residual=True),
    TokenMergeCase(name="ViT-L/14", images=16, tokens=257, width=1024, r=8, residual=True),
    TokenMergeCase(name="half of 1025", images=4, tokens=1025, width=768, r=512),
    TokenMergeCase(name="512 frames", images=512, tokens=197, width=768, r=8, residual=True, gpu_only=True),
)

SYNONYMS = (
    SynonymsCase(name="51 classes", videos=32, lengths=(11,) * 51, width=512, negative_synonyms=11),
    SynonymsCase(name="400 classes, 64 videos", videos=64, lengths=(9,) * 400, width=512, negative_synonyms=9),
    SynonymsCase(name="400 classes, 256 videos", videos=256, lengths=(9,) * 400, width=512, negative_synonyms=9),
    SynonymsCase(name="ragged", videos=64, lengths=_MIXED * 20, width=512, negative_synonyms=9),
    SynonymsCase(name="no negatives", videos=256, lengths=(9,) * 400, width=512),
    SynonymsCase(name="one name each", videos=64, lengths=(1,) * 400, width=512),
    SynonymsCase(
        name="1211 classes", videos=1024, lengths=(11,) * 1211, width=768, negative_synonyms=11, gpu_only=True
    ),
    SynonymsCase(
        name="1211 classes of 36", videos=1024, lengths=(36,) * 1211, width=512, negative_synonyms=36, gpu_only=True
    ),
    SynonymsCase(name="1211 classes, no negatives", videos=1024, lengths=(11,) * 1211, width=768, gpu_only=True),
)

ENTITY_ALIGNMENT = (
    EntityAlignmentCase(name="10,000 entities", regions=1024, entities=10_000, width=512),
    EntityAlignmentCase(name="10,000 entities, no noise", regions=1024, entities=10_000, width=512, noise=False),
    EntityAlignmentCase(name="1,000 entities", regions=1024, entities=1000, width=512),
    EntityAlignmentCase(name="2,000 learned", regions=512, entities=2000, width=512, learned=True),
    EntityAlignmentCase(name="20,000 entities", regions=218, entities=20_000, width=768),
    EntityAlignmentCase(name="256 frames", regions=27_904, entities=10_000, width=512, gpu_only=True),
    EntityAlignmentCase(name="256 frames, 20,000", regions=27_904, entities=20_000, width=768, gpu_only=True),
)
