"""The float Transformers, what they have to beat, and the training loop."""

from qatlib.float_model.config import ModelConfig, Sensor, decoder_config, patch_config, point_config
from qatlib.float_model.train import TrainConfig, fit
from qatlib.float_model.transformer import Forecaster

__all__ = [
    "Forecaster",
    "ModelConfig",
    "Sensor",
    "TrainConfig",
    "decoder_config",
    "fit",
    "patch_config",
    "point_config",
]
