"""The primitives of the Transformers: what is swapped for a quantised twin, one for each operation in integers."""

import math

import torch
import torch.nn.functional as F
from torch import nn

# Primitives: all that a quantised model does differently. `role` says which width the result gets:
# edge, residual, operand (of a matrix product), product (of two activations: symmetric), unsigned (after ReLU).


class Source(nn.Module):
    """Counts minus anchor -> standardised values: (batch, context, channel), of a single channel (batch, context) ->
    (batch, sample, channel); of independent ones (batch * channel, sample, 1)."""

    role = "edge"

    def __init__(self, unit, mode="independent"):
        super().__init__()
        self.unit = torch.as_tensor(unit, dtype=torch.float64)  # a count in standard deviations; of several (channel,)
        self.mode = mode

    def forward(self, difference):
        return self.folded(difference * self.unit.to(difference.dtype))

    def folded(self, x):
        """(batch, context[, channel]) as the network takes it."""
        if x.ndim == 2:
            return x.unsqueeze(-1)
        return x.transpose(1, 2).flatten(0, 1).unsqueeze(-1) if self.mode == "independent" else x


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


class Add(nn.Module):
    """Sum of two tensors."""

    def __init__(self, channels, role):
        super().__init__()
        self.channels, self.role = channels, role

    def forward(self, x, y):
        return x + y


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
    """The decoder's input: the last `label` samples, then `horizon` real zeros. (batch, sample, 1) -> (batch, label +
    horizon, 1)."""

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
    """(batch, ..) -> (batch, horizon, target), of a single channel (batch, horizon), of a classifier (batch, label):
    the end of the network, before the anchor is added back."""

    def __init__(self, config):
        super().__init__()
        self.config = config

    def forward(self, x):
        return self.unfolded(x.flatten(1))

    def unfolded(self, x):
        """(batch of the network, horizon * its outputs) as forecasts."""
        if self.config.channels == 1 or self.config.task == "classify":
            return x
        if self.config.mode == "independent":
            return x.unflatten(0, (-1, self.config.channels)).transpose(1, 2)
        return x.unflatten(1, (self.config.horizon, -1))


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
