"""Shapes of the float Transformers, and the sensor that they read."""

import math
from dataclasses import dataclass

FAMILIES = ("patch", "point", "decoder")


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a model. context, horizon, patch and label are numbers of samples; `label` is the decoder's
    look-back."""

    family: str = "patch"
    context: int = 336
    horizon: int = 24
    patch: int = 24
    d_model: int = 16
    heads: int = 1
    layers: int = 1
    label: int = 24
    dropout: float = 0.2

    def __post_init__(self):
        if self.family not in FAMILIES:
            raise ValueError(f"unknown family {self.family!r}; choose one of {', '.join(FAMILIES)}")
        for name in ("context", "horizon", "patch", "d_model", "heads", "layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.context % self.patch:
            raise ValueError(
                f"context {self.context} is no multiple of the patch of {self.patch} samples; choose one that "
                f"divides it"
            )
        if self.d_model % self.heads:
            raise ValueError(
                f"d_model {self.d_model} cannot be shared by {self.heads} heads; choose heads that divide it"
            )
        if self.family == "decoder" and not 1 <= self.label <= self.context:
            raise ValueError(f"label {self.label} must lie within 1 and the context of {self.context} samples")

    @property
    def tokens(self):
        return self.context // self.patch

    @property
    def subtract_last(self):
        """The published `point` model sees the samples as they are; the others see the change from the last one."""
        return self.family != "point"

    @property
    def name(self):
        if self.family == "patch":
            name = f"patch-c{self.context}-d{self.d_model}"
        elif self.family == "point":
            name = f"point-w{self.context}-d{self.d_model}-h{self.horizon}"
        else:
            name = f"decoder-c{self.context}-d{self.d_model}"
        return name + (f"-l{self.layers}" if self.layers > 1 else "")


def patch_config(context=336, horizon=24, **shape):
    """The default model for any context: the longest patch of at most 24 samples that divides it."""
    patch = next(p for p in range(min(24, context), 0, -1) if context % p == 0)
    return ModelConfig("patch", context, horizon, patch, **shape)


def point_config(window=24, horizon=24, d_model=16, **shape):
    """The published shape: one token per sample, one head."""
    return ModelConfig("point", window, horizon, 1, d_model, **{"dropout": 0.0, **shape})


def decoder_config(context=336, horizon=24, **shape):
    """Encoder with generative decoder; the last `label` samples (24, or the whole context if that is shorter) lead the
    placeholders."""
    patch = next(p for p in range(min(24, context), 0, -1) if context % p == 0)
    return ModelConfig("decoder", context, horizon, patch, **{"label": min(24, context), "dropout": 0.0, **shape})


@dataclass(frozen=True)
class Sensor:
    """What a model knows of its sensor: units per count, and mean and standard deviation of the training rows in
    units."""

    resolution: float
    mean: float
    std: float

    @property
    def unit(self):
        """One count in standard deviations."""
        return self.resolution / self.std

    @property
    def offset(self):
        """The training mean in counts: the anchor of models that do not subtract the last value."""
        return math.floor(self.mean / self.resolution + 0.5)
