"""What a training run and an evaluation are asked to do: dataclasses that check themselves. No torch in here: a wrong
flag is answered before anything heavy is imported.
"""

from .ace import AceConfig
from .alt import AltConfig
from .ap_clip import ApClipConfig
from .check import Device, Precision
from .coco import CimConfig, CocoConfig
from .data import ClassesConfig, DataConfig
from .evaluation import EvalConfig, Given, ProtocolName
from .model import ModelConfig, RegionsConfig
from .optimizer import OptimizerConfig
from .run import NOT_PART_OF_A_RUN, MethodConfig, TrainConfig
from .storyboard import StoryboardConfig

__all__ = [
    "NOT_PART_OF_A_RUN",
    "AceConfig",
    "AltConfig",
    "ApClipConfig",
    "CimConfig",
    "ClassesConfig",
    "CocoConfig",
    "DataConfig",
    "Device",
    "EvalConfig",
    "Given",
    "MethodConfig",
    "ModelConfig",
    "OptimizerConfig",
    "Precision",
    "ProtocolName",
    "RegionsConfig",
    "StoryboardConfig",
    "TrainConfig",
]
