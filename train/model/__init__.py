"""The encoders: an open_clip model read frame by frame and text by text."""

from .clip import OWN_MODELS, VideoTextModel, choose_device
from .states import TextStates, VideoStates, video_seeds

__all__ = ["OWN_MODELS", "TextStates", "VideoStates", "VideoTextModel", "choose_device", "video_seeds"]
