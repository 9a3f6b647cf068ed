"""The float Transformers, what they have to beat, and the training loop."""

from qatlib.float_model.config import (
    ModelConfig,
    Sensor,
    decoder_config,
    linear_config,
    patch_config,
    point_config,
    skip_config,
)
from qatlib.float_model.train import TrainConfig, fit
from qatlib.float_model.transformer import Forecaster, network

__all__ = [
    "Forecaster",
    "ModelConfig",
    "Sensor",
    "TrainConfig",
    "decoder_config",
    "fit",
    "linear_config",
    "network",
    "patch_config",
    "point_config",
    "skip_config",
]
