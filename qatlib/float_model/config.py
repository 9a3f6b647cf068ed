"""Shapes of the float Transformers, and the sensor that they read."""

from dataclasses import dataclass, replace

import numpy as np

FAMILIES = ("patch", "point", "decoder", "linear", "skip")
RIVALS = ("nlinear", "dlinear", "sparsetsf", "fits", "cnn", "lstm")  # in float alone, see `rivals`


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a model. context, horizon, patch, label and reach are numbers of samples; `label` is the decoder's
    look-back; `rank` and `reach` are those of the linear map of `linear` and `skip`: the last `reach` samples, through
    `rank` numbers, to the horizon. head_rank: numbers between the encoder and a long horizon, 0 for one whole
    matrix. channels: of the sensor; `independent` ones share one network, which sees one at a time and forecasts each,
    `mixed` ones are seen at once, and those at the indices `targets` are forecast. labels: of a classifier, whose
    horizon is a score for each. anchors: for each channel whether its last sample is subtracted, else the training
    mean; as the family has it where there are none."""

    family: str = "patch"
    context: int = 336
    horizon: int = 24
    patch: int = 24
    d_model: int = 16
    heads: int = 1
    layers: int = 1
    label: int = 24
    dropout: float = 0.2
    rank: int = 0
    reach: int = 0
    head_rank: int = 0
    channels: int = 1
    mode: str = "independent"
    targets: tuple[int, ...] = (0,)
    labels: tuple[str, ...] = ()
    anchors: tuple[bool, ...] = ()

    def __post_init__(self):
        if self.family not in FAMILIES + RIVALS:
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
        if self.has_linear_map and not 1 <= self.reach <= self.context:
            raise ValueError(f"reach {self.reach} must lie within 1 and the context of {self.context} samples")
        most = min(self.reach * self.inputs, self.horizon * self.outputs)
        if self.has_linear_map and not 1 <= self.rank <= most:
            raise ValueError(f"rank {self.rank} must lie within 1 and {most}, what it reads or forecasts at most")
        if self.head_rank and (self.head_rank < 0 or self.family not in ("patch", "skip")):
            raise ValueError(f"head_rank {self.head_rank}: `patch` and `skip` alone have a head of low rank, from 1 on")
        if self.mode not in ("independent", "mixed") or self.channels < 1:
            raise ValueError(f"{self.channels} channels, {self.mode}: there must be some, independent or mixed")
        mixing = ("patch", "point", "cnn") if self.labels else ("patch", "linear", "skip")
        if self.mode == "mixed" and self.family not in mixing:
            raise ValueError(f"{self.family}: its channels must be independent; {', '.join(mixing)} alone mix them")
        if self.labels and (self.family not in mixing or len(self.labels) != self.horizon):
            raise ValueError(f"{self.family}: {', '.join(mixing)} classify, with a score for each label as horizon")
        if list(self.targets) != sorted(set(self.targets) & set(range(self.channels))) or not self.targets:
            raise ValueError(f"targets {self.targets} must be some of the {self.channels} channels, in their order")

    @property
    def inputs(self):
        """Channels that the network sees at once."""
        return self.channels if self.mode == "mixed" else 1

    @property
    def forecast(self):
        """Indices of the channels that are forecast."""
        return self.targets if self.mode == "mixed" else tuple(range(self.channels))

    @property
    def outputs(self):
        """Channels that it forecasts at once."""
        return len(self.targets) if self.mode == "mixed" else 1

    @property
    def has_linear_map(self):
        return self.family in ("linear", "skip")

    @property
    def tokens(self):
        return self.context // self.patch

    @property
    def task(self):
        return "classify" if self.labels else "forecast"

    @property
    def subtract_last(self):
        """For each channel: the published `point` model and the rivals see the samples as they are; the others see the
        change from the last one."""
        return self.anchors or (self.family not in ("point", *RIVALS) and not self.labels,) * self.channels

    @property
    def name(self):
        if self.family == "patch":
            name = f"patch-c{self.context}-d{self.d_model}"
        elif self.family == "point":
            name = f"point-w{self.context}-d{self.d_model}-h{self.horizon}"
        elif self.family == "decoder":
            name = f"decoder-c{self.context}-d{self.d_model}"
        elif self.family == "linear":
            return self._with_channels(f"linear-c{self.context}-r{self.rank}x{self.reach}")
        elif self.family in RIVALS:
            return self._with_channels(f"{self.family}-c{self.context}")
        else:
            name = f"skip-c{self.context}-d{self.d_model}-r{self.rank}x{self.reach}"
        name += f"-l{self.layers}" if self.layers > 1 else ""
        name += f"-k{self.head_rank}" if self.head_rank else ""
        return self._with_channels(name)

    def _with_channels(self, name):
        if self.channels == 1:
            return name
        return f"{name}-{self.channels}" + ("ch" if self.mode == "independent" else f"to{len(self.targets)}")


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


def linear_config(context=336, horizon=24, rank=4, reach=0, **shape):
    """A linear map of the last `reach` samples (0: of all) in two factors of that rank."""
    return ModelConfig("linear", context, horizon, context, dropout=0.0, rank=rank, reach=reach or context, **shape)


def skip_config(context=336, horizon=24, rank=8, reach=96, **shape):
    """The patch encoder, and a linear map of the last `reach` samples that is added to its forecast."""
    return replace(patch_config(context, horizon, **shape), family="skip", rank=rank, reach=reach)


def rival_config(family, context=336, horizon=24, **shape):
    """One of RIVALS."""
    return ModelConfig(family, context, horizon, context, dropout=0.0, **shape)


@dataclass(frozen=True)
class Sensor:
    """What a model knows of its sensor: units per count, and mean and standard deviation of the training rows in units;
    numbers, or float64 (channel,) of several channels, whose names are in `names`."""

    resolution: float
    mean: float
    std: float
    names: tuple[str, ...] = ("channel",)

    @property
    def unit(self):
        """One count in standard deviations."""
        return self.resolution / self.std

    @property
    def offset(self):
        """The training mean in counts: the anchor of models that do not subtract the last value."""
        return np.floor(self.mean / self.resolution + 0.5)

    def part(self, channels):
        """Of these channels."""
        if isinstance(self.resolution, float):
            return self
        facts = (np.asarray(getattr(self, name))[list(channels)] for name in ("resolution", "mean", "std"))
        return Sensor(*facts, tuple(self.names[i] for i in channels))
