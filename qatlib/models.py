"""The float Transformers, written once: the quantised model has the same layers with its primitives swapped (see `qat`).

Three families. `patch` (the default): encoder over patch tokens, all tokens flattened into one output layer. `point`: the published
shape (Ling & Schiele, arXiv 2408.16495), one token per sample, batch norm, mean pooling. `decoder`: the patch encoder with a generative
decoder after Informer (Zhou et al., arXiv 2012.07436), all steps in one pass.
Every model maps (batch, context) counts minus their anchor to (batch, horizon) standardised change from the anchor.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

FAMILIES = ("patch", "point", "decoder")


@dataclass(frozen=True)
class ModelConfig:
    """Shape of a model. context, horizon, patch and label are numbers of samples; `label` is the decoder's look-back."""

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
            raise ValueError(f"context {self.context} is no multiple of the patch of {self.patch} samples; choose one that divides it")
        if self.d_model % self.heads:
            raise ValueError(f"d_model {self.d_model} cannot be shared by {self.heads} heads; choose heads that divide it")
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
    """Encoder with generative decoder; the last `label` samples (24, or the whole context if that is shorter) lead the placeholders."""
    patch = next(p for p in range(min(24, context), 0, -1) if context % p == 0)
    return ModelConfig("decoder", context, horizon, patch, **{"label": min(24, context), "dropout": 0.0, **shape})


@dataclass(frozen=True)
class Sensor:
    """What a model knows of its sensor: units per count, and mean and standard deviation of the training rows in units."""

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


# Primitives: all that a quantised model does differently. `role` says which width the result gets:
# edge, residual, operand (of a matrix product), product (of two activations: symmetric), unsigned (after ReLU).


class Source(nn.Module):
    """Counts minus anchor -> standardised values: (batch, context) -> (batch, sample, 1)."""

    role = "edge"

    def __init__(self, unit):
        super().__init__()
        self.unit = unit  # one count in training standard deviations

    def forward(self, difference):
        return (difference * self.unit).unsqueeze(-1)


class Linear(nn.Linear):
    """Linear layer, with ReLU where the role is `unsigned`."""

    def __init__(self, d_in, d_out, role):
        super().__init__(d_in, d_out)
        self.role = role

    def forward(self, x):
        y = super().forward(x)
        return F.relu(y) if self.role == "unsigned" else y


class Operand(nn.Module):
    """Where a wider stream enters a matrix product; nothing happens in float."""

    role = "operand"

    def forward(self, x):
        return x


class AddPosition(nn.Module):
    """Adds a learned position to every token."""

    role = "residual"

    def __init__(self, tokens, d_model):
        super().__init__()
        self.position = nn.Parameter(torch.randn(tokens, d_model) * 0.02)

    def forward(self, x):
        return x + self.position


class AddNorm(nn.BatchNorm1d):
    """Residual add with batch norm over (batch, token), per channel."""

    role = "residual"

    def forward(self, x, y):
        total = x + y  # (batch, token, d_model)
        return super().forward(total.flatten(0, 1)).view_as(total)


class Scores(nn.Module):
    """Q K^T / sqrt(d_head): (batch, token, d_model) twice -> (batch, head, query, key)."""

    def __init__(self, heads):
        super().__init__()
        self.heads = heads

    def forward(self, query, key):
        query, key = split_heads(query, self.heads), split_heads(key, self.heads)
        return query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])


class Softmax(nn.Module):
    """Probabilities of each row of scores."""

    def forward(self, scores):
        return scores.softmax(-1)


class Context(nn.Module):
    """P V, heads side by side: (batch, head, query, key), (batch, key, d_model) -> (batch, query, d_model)."""

    role = "operand"

    def __init__(self, heads):
        super().__init__()
        self.heads = heads

    def forward(self, probabilities, value):
        return merge_heads(probabilities @ split_heads(value, self.heads))


class Pool(nn.Module):
    """Mean over all tokens: (batch, token, d_model) -> (batch, 1, d_model)."""

    role = "operand"

    def forward(self, x):
        return x.mean(1, keepdim=True)


class Reshape(nn.Module):
    """The same values as (batch, tokens, channels)."""

    def __init__(self, tokens, channels):
        super().__init__()
        self.shape = (tokens, channels)

    def forward(self, x):
        return x.reshape(len(x), *self.shape)


class Placeholders(nn.Module):
    """The decoder's input: the last `label` samples, then `horizon` real zeros. (batch, sample, 1) -> (batch, label + horizon, 1)."""

    def __init__(self, label, horizon):
        super().__init__()
        self.label, self.horizon = label, horizon

    def forward(self, samples):
        return F.pad(samples[:, -self.label :], (0, 0, 0, self.horizon))


class LastTokens(nn.Module):
    """The last `count` tokens."""

    def __init__(self, count):
        super().__init__()
        self.count = count

    def forward(self, x):
        return x[:, -self.count :]


class Output(nn.Module):
    """(batch, ..) -> (batch, horizon): the end of the network, before the anchor is added back."""

    def forward(self, x):
        return x.flatten(1)


class Dropout(nn.Module):
    """Inverted dropout at p rounded to 1/256: one random byte an element, where torch's own spends far more on each."""

    def __init__(self, p):
        super().__init__()
        self.level = round(p * 256)

    def forward(self, x):
        if not self.training or not self.level:
            return x
        random = torch.empty((x.numel() + 7) // 8, dtype=torch.int64).random_(-(2**63), None)
        keep = random.view(torch.uint8)[: x.numel()].view(x.shape) >= self.level
        return x * (keep * (256 / (256 - self.level)))


def split_heads(x, heads):
    """(batch, token, d_model) -> (batch, head, token, d_head)."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge_heads(x):
    """(batch, head, token, d_head) -> (batch, token, d_model)."""
    return x.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Multi-head attention without mask, of x to itself or to a memory."""

    def __init__(self, config, *, cross=False):
        super().__init__()
        d = config.d_model
        self.operand = Operand()
        self.memory_operand = Operand() if cross else None
        self.query, self.key, self.value = (Linear(d, d, "product") for _ in range(3))
        self.scores, self.softmax, self.context = Scores(config.heads), Softmax(), Context(config.heads)
        self.dropout = Dropout(config.dropout)
        self.out = Linear(d, d, "residual")

    def forward(self, x, memory=None):
        x = self.operand(x)
        memory = x if memory is None else self.memory_operand(memory)
        probabilities = self.softmax(self.scores(self.query(x), self.key(memory)))
        return self.out(self.context(self.dropout(probabilities), self.value(memory)))


class FeedForward(nn.Module):
    """Two linear layers, four times as wide between them."""

    def __init__(self, config):
        super().__init__()
        self.operand = Operand()
        self.widen = Linear(config.d_model, 4 * config.d_model, "unsigned")
        self.dropout = Dropout(config.dropout)
        self.narrow = Linear(4 * config.d_model, config.d_model, "residual")

    def forward(self, x):
        return self.narrow(self.dropout(self.widen(self.operand(x))))


class Layer(nn.Module):
    """Self-attention, cross-attention where there is a memory, feed-forward; each with residual add and batch norm."""

    def __init__(self, config, *, cross=False):
        super().__init__()
        self.attention, self.norm_attention = Attention(config), AddNorm(config.d_model)
        self.cross = Attention(config, cross=True) if cross else None
        self.norm_cross = AddNorm(config.d_model) if cross else None
        self.feed_forward, self.norm_feed_forward = FeedForward(config), AddNorm(config.d_model)
        self.dropout = Dropout(config.dropout)

    def forward(self, x, memory=None):
        x = self.norm_attention(x, self.dropout(self.attention(x)))
        if self.cross is not None:
            x = self.norm_cross(x, self.dropout(self.cross(x, memory)))
        return self.norm_feed_forward(x, self.dropout(self.feed_forward(x)))


class Tokens(nn.Module):
    """Samples -> tokens of d_model with positions: (batch, sample, 1) -> (batch, token, d_model)."""

    def __init__(self, tokens, patch, config):
        super().__init__()
        self.patches = Reshape(tokens, patch)
        self.embed = Linear(patch, config.d_model, "residual")
        self.position = AddPosition(tokens, config.d_model)
        self.dropout = Dropout(config.dropout)

    def forward(self, samples):
        return self.dropout(self.position(self.embed(self.patches(samples))))


class Forecaster(nn.Module):
    """The whole network. forward: (batch, context) counts minus anchor -> (batch, horizon) standardised change from the anchor."""

    def __init__(self, config, sensor):
        super().__init__()
        self.config, self.sensor = config, sensor
        d, horizon = config.d_model, config.horizon
        self.source = Source(sensor.unit)
        self.tokens = Tokens(config.tokens, config.patch, config)
        self.encoder = nn.ModuleList(Layer(config) for _ in range(config.layers))
        if config.family == "decoder":
            length = config.label + horizon
            self.placeholders = Placeholders(config.label, horizon)
            self.decoder_tokens = Tokens(length, 1, config)
            self.decoder = nn.ModuleList(Layer(config, cross=True) for _ in range(config.layers))
            self.gather, width, out = LastTokens(horizon), d, 1
        elif config.family == "point":
            self.gather, width, out = Pool(), d, horizon
        else:
            self.gather, width, out = Reshape(1, config.tokens * d), config.tokens * d, horizon
        self.operand = Operand()
        self.dropout = Dropout(config.dropout)
        self.head = Linear(width, out, "edge")
        self.output = Output()

    def forward(self, difference):
        samples = self.source(difference)  # (batch, sample, 1)
        x = self.tokens(samples)  # (batch, token, d_model)
        for layer in self.encoder:
            x = layer(x)
        if self.config.family == "decoder":
            memory, x = x, self.decoder_tokens(self.placeholders(samples))
            for layer in self.decoder:
                x = layer(x, memory)
        if self.config.family != "point":
            x = self.operand(x)
        return self.output(self.head(self.dropout(self.gather(x))))
