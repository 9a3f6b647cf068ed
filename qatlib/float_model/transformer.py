"""The float Transformers, written once: the quantised model has the same layers with its primitives swapped (see
`qat`).

Five families. `patch` (the default): encoder over patch tokens, all tokens flattened into one output layer. `point`:
the published shape (Ling & Schiele, arXiv 2408.16495), one token per sample, batch norm, mean pooling. `decoder`: the
patch encoder with a generative decoder after Informer (Zhou et al., arXiv 2012.07436), all steps in one pass. `skip`:
`patch`, with a linear map of the last samples added to its forecast. `linear`: that map alone, see `linear`. Every
model maps (batch, context) counts minus their anchor to (batch, horizon) standardised change from the anchor.
"""

import torch
from torch import nn

from qatlib.float_model import linear, rivals
from qatlib.float_model.config import RIVALS
from qatlib.float_model.layers import (
    Add,
    AddNorm,
    AddPosition,
    Context,
    Dropout,
    LastTokens,
    Linear,
    Operand,
    Output,
    Placeholders,
    Pool,
    Reshape,
    Scores,
    Softmax,
    Source,
)


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
    """Samples -> tokens of d_model with positions: (batch, sample, channel) -> (batch, token, d_model)."""

    def __init__(self, tokens, patch, config):
        super().__init__()
        patch *= config.inputs
        self.patches = Reshape(tokens, patch)
        self.embed = Linear(patch, config.d_model, "residual")
        self.position = AddPosition(tokens, config.d_model)
        self.dropout = Dropout(config.dropout)

    def forward(self, samples):
        return self.dropout(self.position(self.embed(self.patches(samples))))


class Forecaster(nn.Module):
    """The whole network. forward: (batch, context[, channel]) counts minus anchor -> (batch, horizon[, target])
    standardised change from the anchor."""

    def __init__(self, config, sensor):
        super().__init__()
        self.config, self.sensor = config, sensor
        d, horizon = config.d_model, config.horizon * config.outputs
        self.source = Source(sensor.unit, config.mode)
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
        if config.head_rank:
            self.head_narrow, width = Linear(width, config.head_rank, "residual"), config.head_rank
        if config.family == "skip":
            self.linear, self.linear_out = linear.LowRank(config), Linear(config.rank, horizon, "residual")
            self.encoder_out, self.head = Linear(width, out, "residual"), Add(out, "edge")
        else:
            self.head = Linear(width, out, "edge")
        self.output = Output(config)

    def forward(self, difference):
        samples = self.source(difference)  # (batch, sample, channel that is seen at once)
        x = self.tokens(samples)  # (batch, token, d_model)
        for layer in self.encoder:
            x = layer(x)
        if self.config.family == "decoder":
            memory, x = x, self.decoder_tokens(self.placeholders(samples))
            for layer in self.decoder:
                x = layer(x, memory)
        if self.config.family != "point":
            x = self.operand(x)
        x = self.dropout(self.gather(x))  # (batch, 1, width), of the decoder (batch, horizon, d_model)
        if self.config.head_rank:
            x = self.head_narrow(x)
        if self.config.family == "skip":
            return self.output(self.head(self.encoder_out(x), self.linear_out(self.linear(samples))))
        return self.output(self.head(x))

    @torch.no_grad()
    def start(self, training, validation):
        """Let the linear map begin as the best one alone, and the encoder's part from zero; nothing without a map.
        training, validation: Batches."""
        if self.config.family == "skip":
            linear.start(self, self.linear_out, training, validation)
            self.encoder_out.weight.zero_()
            self.encoder_out.bias.zero_()


def network(config, sensor):
    """The float model of a configuration, untrained."""
    if config.family in RIVALS:
        return rivals.Rival(config, sensor)
    return (linear.LinearForecaster if config.family == "linear" else Forecaster)(config, sensor)
