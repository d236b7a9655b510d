"""What a training run and an evaluation are asked to do: dataclasses that check themselves. No torch in here: a wrong
flag is answered before anything heavy is imported.
"""

from .ap_clip import ApClipConfig
from .check import Device, Precision
from .data import ClassesConfig, DataConfig
from .evaluation import EvalConfig, Given, ProtocolName
from .model import ModelConfig
from .optimizer import OptimizerConfig
from .run import NOT_PART_OF_A_RUN, MethodConfig, TrainConfig

__all__ = [
    "NOT_PART_OF_A_RUN",
    "ApClipConfig",
    "ClassesConfig",
    "DataConfig",
    "Device",
    "EvalConfig",
    "Given",
    "MethodConfig",
    "ModelConfig",
    "OptimizerConfig",
    "Precision",
    "ProtocolName",
    "TrainConfig",
]
