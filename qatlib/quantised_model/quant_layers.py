"""Quantised twins of the primitives in `layers`: each carries out its part of the integer arithmetic, and writes it
down when asked.

Every twin is made by `from_float(module, config)`; `path` is its place in the model and the name of its operation in
the integer program. A `Codes` that carries a `Graph` makes each twin it passes record what it did. Training takes the
fast way of `fused` through the same program.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from qatlib.float_model import layers
from qatlib.integer_model import kernels
from qatlib.integer_model.program import Tensor, pack
from qatlib.quantised_model.graph import described, integers
from qatlib.quantised_model.quantisers import (
    ActivationQuantizer,
    Codes,
    WeightQuantizer,
    round_clamp,
    round_multiplier,
    split_addition,
    split_multiplier,
    straight_through,
)

SCORE_EXPONENTS = (3, 4, 5, 6)  # scores are 8-bit codes of 2**-exponent


def output_quantizer(role, config):
    """The quantiser of a primitive's result."""
    bits = {"edge": config.edge_bits, "residual": config.residual_bits}.get(role, config.activation_bits)
    scheme = "symmetric" if role == "product" else config.scheme
    return ActivationQuantizer(bits=bits, scheme=scheme, unsigned=role == "unsigned", narrow=role == "product")


class Quantized(nn.Module):
    """A primitive whose result is quantised."""

    path = ""

    def __init__(self, role, config):
        super().__init__()
        self.quantizer = output_quantizer(role, config)

    @classmethod
    def from_float(cls, module, config):
        return cls(module.role, config)

    def requantise(self, accumulator, accumulator_step):
        """Accumulator in steps of accumulator_step (per channel or scalar) -> Codes."""
        step = self.quantizer.step()
        return Codes(self.quantizer(accumulator * round_multiplier(accumulator_step / step)), step)

    def multiplier_arrays(self, accumulator_step):
        m, n = split_multiplier(accumulator_step / self.quantizer.step())
        return {"m": integers(m, np.uint16), "n": integers(n, np.uint8)}

    def record(self, kind, inputs, codes, arrays, **attributes):
        """-> the codes, what made them written down in the graph of the last input."""
        tensor = described(codes.values, self.quantizer)
        return inputs[-1].graph.record(kind, self.path, inputs, codes, tensor, arrays, **attributes)


class QuantSource(Quantized):
    @classmethod
    def from_float(cls, module, config):
        new = super().from_float(module, config)
        new.source, new.graph = module, None
        return new

    def forward(self, difference):
        unit = self.source.unit.to(difference.dtype)
        codes = self.requantise(difference, unit)
        codes = codes.with_values(self.source.folded(codes.values))
        if self.graph is None:
            return codes
        tensor = described(codes.values, self.quantizer)
        return self.graph.record("quantise", self.path, [], codes, tensor, self.multiplier_arrays(unit))


class QuantLinear(Quantized):
    @classmethod
    def from_float(cls, module, config):
        new = super().from_float(module, config)
        new.weight, new.bias = module.weight, module.bias
        new.weight_quantizer = WeightQuantizer(
            len(module.weight), bits=config.weight_bits, granularity=config.granularity
        )
        return new

    def integer_weight(self, x_step):
        """-> whole weights (out, in), whole biases (out,) and the accumulator's step (out,), for an input in steps of
        x_step."""
        quantizer = self.weight_quantizer
        floor = self.bias.detach().abs().unsqueeze(1) / (x_step.detach() * self.room)
        step = quantizer.step(floor)  # (out, 1)
        accumulator_step = (x_step * step).squeeze(1).expand(len(self.weight))
        bias = self.bias / accumulator_step
        return quantizer(self.weight, step), straight_through(torch.floor(bias + 0.5), bias), accumulator_step

    @property
    def room(self):
        """What the products leave of the accumulator for the bias; no activation has more than 8 bits."""
        worst = self.weight.shape[1] * 255 * self.weight_quantizer.high
        # too wide to be safe by its widths alone: export checks the weights themselves
        return kernels.ACCUMULATOR_LIMIT - min(worst, kernels.ACCUMULATOR_LIMIT // 2) - 1

    def forward(self, x):
        weight, bias, accumulator_step = self.integer_weight(x.step)
        codes = self.requantise(F.linear(x.values, weight, bias), accumulator_step)
        if x.graph is None:
            return codes
        bits = self.weight_quantizer.bits
        arrays = {
            "weight": pack(integers(weight, np.int32), bits),
            "bias": integers(bias - x.graph.zero_point(x) * weight.sum(1), np.int32),
            **self.multiplier_arrays(accumulator_step),
        }
        return self.record("linear", [x], codes, arrays, weight_bits=bits)


class QuantOperand(Quantized):
    """Narrows a wider stream to the width of a matrix operand; a stream of that width passes."""

    @classmethod
    def from_float(cls, module, config):
        wider = config.residual_bits > config.activation_bits
        return super().from_float(module, config) if wider else nn.Identity()

    def forward(self, x):
        codes = self.requantise(x.values, x.step)
        if x.graph is None:
            return codes
        return self.record("requantise", [x], codes, self.multiplier_arrays(x.step))


class QuantAdd(Quantized):
    """gain * (x + y) + offset per channel, straight into the output's codes: no quantiser between add and norm."""

    def added(self, x, y):
        step = self.quantizer.step()
        gain, offset = self.affine()
        exact = (gain * x.step / step, gain * y.step / step, offset / step)
        m1, m2, c, n = split_addition(*(e.detach() for e in exact))
        a1, a2, shift = (straight_through(torch.ldexp(i, -n), e) for i, e in zip((m1, m2, c), exact, strict=True))
        codes = Codes(self.quantizer(x.values * a1 + shift + y.values * a2), step)
        if x.graph is None:
            return codes
        zeros = m1 * x.graph.zero_point(x) + (m2 * x.graph.zero_point(y) if y.tensor else 0)
        arrays = {"m1": m1, "m2": m2, "c": c - zeros + torch.ldexp(torch.ones_like(c), n - 1)}
        arrays = {name: integers(array, np.int32) for name, array in arrays.items()} | {"n": integers(n, np.uint8)}
        return self.recorded(x, y, codes, arrays)


class QuantAddNorm(QuantAdd):
    """Residual add with the batch norm folded into gain and offset."""

    @classmethod
    def from_float(cls, module, config):
        new = super().from_float(module, config)
        gain = (module.weight / (module.running_var + module.eps).sqrt()).detach()
        new.gain, new.offset = nn.Parameter(gain), nn.Parameter(module.bias.detach() - module.running_mean * gain)
        return new

    def affine(self):
        return self.gain, self.offset

    def forward(self, x, y):
        return self.added(x, y)

    def recorded(self, x, y, codes, arrays):
        return self.record("add", [x, y], codes, arrays)


class QuantAddTwo(QuantAddNorm):
    """The sum of two tensors; its gain and offset start from 1 and 0."""

    @classmethod
    def from_float(cls, module, config):
        new = cls(module.role, config)
        new.gain, new.offset = nn.Parameter(torch.ones(module.channels)), nn.Parameter(torch.zeros(module.channels))
        return new


class QuantAddPosition(QuantAdd):
    """Adds positions kept as codes of the residual width, one step per channel."""

    @classmethod
    def from_float(cls, module, config):
        new = super().from_float(module, config)
        new.position = module.position
        new.weight_quantizer = WeightQuantizer(
            module.position.shape[1], bits=config.residual_bits, granularity=config.granularity
        )
        return new

    def affine(self):
        channels = self.position.shape[1]
        return self.position.new_ones(channels), self.position.new_zeros(channels)

    def forward(self, x):
        step = self.weight_quantizer.step()  # (channel, 1)
        position = self.weight_quantizer(self.position.T, step).T  # (token, channel)
        return self.added(x, Codes(position, step.squeeze(1)))

    def recorded(self, x, position, codes, arrays):
        bits = self.weight_quantizer.bits
        arrays["position"] = pack(integers(position.values, np.int32), bits)
        return self.record("add_position", [x], codes, arrays, position_bits=bits)


class QuantScores(nn.Module):
    """Scores as 8-bit codes of a power of two, 1 / sqrt(d_head) in the multiplier."""

    path = ""

    @classmethod
    def from_float(cls, module, config):
        new = cls()
        new.heads = module.heads
        new.register_buffer("exponent", torch.tensor(4))
        return new

    def forward(self, query, key):
        q, k = (layers.split_heads(x.values, self.heads) for x in (query, key))
        step = query.step.new_tensor(2.0 ** -int(self.exponent))
        product_step = query.step * key.step / math.sqrt(q.shape[-1])
        products = q @ k.transpose(-1, -2)
        codes = Codes(round_clamp(products * round_multiplier(product_step / step), -128, 127), step)
        if query.graph is None:
            return codes
        m, n = split_multiplier(product_step / step)
        arrays = {"m": integers(m, np.uint16), "n": integers(n, np.uint8)}
        tensor = Tensor(tuple(codes.values.shape[1:]), -128, 127, 0)
        return query.graph.record("scores", self.path, [query, key], codes, tensor, arrays, heads=self.heads)


def softmax(scores, score_step, step, numerator, k, high):
    """`kernels.softmax`, with entries that are computed (a test holds them to the table) and the gradient of the real
    softmax."""
    below = (scores - scores.amax(-1, keepdim=True).detach()) * score_step
    t = torch.floor(below.detach().exp() * 255 + 0.5)
    t = t * (1 + below - below.detach())  # an exponential is its own derivative
    total = t.sum(-1, keepdim=True)
    codes = torch.floor(t * torch.floor(numerator / total) * 2.0**-k + 0.5)
    return straight_through(codes.clamp(max=high), torch.where(codes > high, float(high), t / total / step))


class QuantSoftmax(nn.Module):
    """Table softmax; the step of the probabilities is learned."""

    path = ""

    @classmethod
    def from_float(cls, module, config):
        new = cls()
        new.quantizer = ActivationQuantizer(bits=config.activation_bits, unsigned=True)
        return new

    def forward(self, scores):
        step = self.quantizer.step()
        numerator, k = kernels.softmax_constants(float(step.detach()))
        values = softmax(scores.values, scores.step, step, numerator, k, self.quantizer.code_high)
        codes = Codes(values, step)
        if scores.graph is None:
            return codes
        table = kernels.softmax_table(-int(torch.log2(scores.step)))
        arrays = {"table": table, "numerator": np.array([numerator], np.uint32), "k": np.array([k], np.uint8)}
        return scores.graph.record("softmax", self.path, [scores], codes, described(values, self.quantizer), arrays)


class QuantContext(Quantized):
    @classmethod
    def from_float(cls, module, config):
        new = super().from_float(module, config)
        new.heads = module.heads
        return new

    def forward(self, probabilities, value):
        mixed = layers.merge_heads(probabilities.values @ layers.split_heads(value.values, self.heads))
        product_step = probabilities.step * value.step
        codes = self.requantise(mixed, product_step)
        if value.graph is None:
            return codes
        arrays = self.multiplier_arrays(product_step)
        return self.record("context", [probabilities, value], codes, arrays, heads=self.heads)


class QuantPool(Quantized):
    def forward(self, x):
        mean_step = x.step / x.values.shape[1]
        codes = self.requantise(x.values.sum(1, keepdim=True), mean_step)
        if x.graph is None:
            return codes
        return self.record("pool", [x], codes, self.multiplier_arrays(mean_step))
