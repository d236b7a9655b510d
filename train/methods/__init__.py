"""The methods, one file each, over what they share in method.py; `make_method` makes the one that a config names."""

from ...shards.bank import Bank
from ..config import TrainConfig
from ..model import VideoTextModel
from .ap_clip import ApClip
from .method import IGNORED, ClassTexts, Method, Targets

__all__ = ["IGNORED", "ClassTexts", "Method", "Targets", "make_method"]


def make_method(config: TrainConfig, model: VideoTextModel) -> Method:
    """The method of a run over its encoders; weights of its own come from torch's global generator.

    Raises:
        UsageError: the bank is no bank.
    """
    method = config.method
    bank = Bank.open(config.bank or config.dataset) if method.prompts_per_class else None
    return ApClip(model, method, bank, seed=config.seed)
