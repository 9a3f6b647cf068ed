"""Quantisers: learned steps, straight-through estimators, and multipliers that are rounded as the integers will round
them.

Inside a quantised model every tensor is a `Codes`: whole numbers held in floating point, zero point already taken out,
and the step they are counted in. In float64 this arithmetic is exact, so evaluation gives the integers of `kernels.py`
without calling them. Steps are learned as LSQ does (Esser et al., arXiv 1902.08153), as logarithms: Adam does not see
LSQ's gradient scale, and a step moves by a fraction of itself.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from qatlib.integer_model import kernels

SCHEMES = ("symmetric", "asymmetric", "adaptive")
GRANULARITIES = ("channel", "tensor")


@dataclass(frozen=True)
class QuantConfig:
    """Bits of weights, activations (matrix operands), residual stream and edges (the model's input and output tensors),
    2 to 8 each.

    `scheme` is that of the activations; weights are always symmetric, one step per output channel or per tensor.
    """

    weight_bits: int = 8
    activation_bits: int = 8
    residual_bits: int = 8
    edge_bits: int = 8
    scheme: str = "symmetric"
    granularity: str = "channel"

    def __post_init__(self):
        for name in ("weight_bits", "activation_bits", "residual_bits", "edge_bits"):
            if not 2 <= getattr(self, name) <= 8:
                raise ValueError(f"{name} is {getattr(self, name)}; choose 2 to 8 bits")
        if self.scheme not in SCHEMES:
            raise ValueError(f"unknown scheme {self.scheme!r}; choose one of {', '.join(SCHEMES)}")
        if self.granularity not in GRANULARITIES:
            raise ValueError(f"unknown granularity {self.granularity!r}; choose one of {', '.join(GRANULARITIES)}")

    @property
    def label(self):
        """W4A4 and the like."""
        return f"W{self.weight_bits}A{self.activation_bits}"


@dataclass(frozen=True)
class Codes:
    """A quantised tensor: real value = values * step. `values` are codes minus the zero point; `tensor` names it in an
    export."""

    values: torch.Tensor
    step: torch.Tensor
    graph: Any = None  # records the integer program while a model is exported
    tensor: str = ""

    def with_values(self, values):
        return replace(self, values=values)


class _RoundClamp(torch.autograd.Function):
    """clamp(floor(v + 0.5), low, high); the gradient passes inside the range, and to the bound outside of it."""

    @staticmethod
    def forward(ctx, v, low, high):
        ctx.save_for_backward(v)
        ctx.range = float(low) - 0.5, float(high) + 0.5
        ctx.bounds_learned = isinstance(low, torch.Tensor)
        return (v + 0.5).floor_().clamp_(float(low), float(high))

    @staticmethod
    def backward(ctx, gradient):
        (v,) = ctx.saved_tensors
        passed = torch.ops.aten.hardtanh_backward(gradient, v, *ctx.range)
        # low and high move together (high = low + 2**b - 1): what does not pass inside belongs to the edge, given to
        # `low` once
        edge = gradient.sum() - passed.sum() if ctx.bounds_learned else None
        return passed, edge, None


def round_clamp(v, low, high):
    """Round half up and clamp, straight-through. `low` and `high`: numbers or 0-dimensional tensors."""
    return _RoundClamp.apply(v, low, high)


def straight_through(value, like):
    """`value` forward, the gradient of `like` backward."""
    return like + (value - like).detach()


def round_multiplier(multiplier):
    """Multiplier as m * 2**-n, m 16-bit unsigned with its top bit set and 1 <= n <= 40, straight-through."""
    m, n = split_multiplier(multiplier.detach())
    return straight_through(torch.ldexp(m, -n), multiplier)


def split_multiplier(multiplier):
    """(m, n) of the nearest m * 2**-n; multipliers outside 2**-25 .. 2**15 take the nearest end of what 1 <= n <= 40
    can hold."""
    multiplier = multiplier.clamp(2.0**-25, 65535.0 / 2)
    mantissa, exponent = torch.frexp(multiplier)
    m = torch.floor(mantissa * 65536 + 0.5)
    carried = m == 65536
    m = torch.where(carried, m / 2, m)
    return m, 16 - (exponent + carried)


def split_addition(a1, a2, shift):
    """(m1, m2, c, n) per channel of a1*q1 + a2*q2 + shift: m1, m2 within +-65535, |c| < 2**30, 1 <= n <= 30. `c`
    without the half."""
    largest = torch.maximum(a1.abs(), a2.abs())
    n = 16 - torch.frexp(largest)[1]
    n = torch.minimum(n, 29 - torch.frexp(shift.abs())[1]).clamp(1, 30)
    m1, m2 = (torch.floor(torch.ldexp(a, n) + 0.5).clamp(-65535, 65535) for a in (a1, a2))
    return m1, m2, torch.floor(torch.ldexp(shift, n) + 0.5).clamp(-(2**30) + 1, 2**30 - 1), n


class WeightQuantizer(nn.Module):
    """Symmetric quantiser of one weight matrix (out, in), a learned step per output channel or one for all.

    `step(floor)` keeps the step at or above the floor at which bias and accumulator stay below 2**24.
    """

    def __init__(self, channels, *, bits, granularity):
        super().__init__()
        self.bits = bits
        self.log_step = nn.Parameter(torch.zeros(channels if granularity == "channel" else 1, 1))
        self.use_bits(bits)

    def use_bits(self, bits):
        """Quantise to so many bits for now, over the same range: `log_step` stays that of the quantiser's own bits."""
        self.finer = bits - self.bits
        self.low, self.high = kernels.code_range(bits, narrow=kernels.is_narrow(bits))

    def step(self, floor=None):
        step = (self.log_step - math.log(2) * self.finer if self.finer else self.log_step).exp()
        return step if floor is None else torch.maximum(step, floor)

    def forward(self, weight, step):
        """-> whole numbers (out, in), low..high."""
        return round_clamp(weight / step, self.low, self.high)


class ActivationQuantizer(nn.Module):
    """Quantiser of one activation tensor: a learned step, and a learned zero point where the scheme is asymmetric.

    An asymmetric range is `low .. low + 2**bits - 1` around a zero that is always one of its codes. "Adaptive" keeps
    both schemes and takes the one with the lower running quantisation error; `freeze_choice()` ends that. Unsigned
    tensors (after ReLU) are always 0..2**b - 1.
    """

    def __init__(self, *, bits, scheme="symmetric", unsigned=False, narrow=False):
        super().__init__()
        self.bits, self.unsigned = bits, unsigned
        self.scheme = "symmetric" if unsigned else scheme
        self.code_low, self.code_high = kernels.code_range(
            bits, unsigned=unsigned, narrow=narrow and kernels.is_narrow(bits)
        )
        self.log_step = nn.Parameter(torch.zeros(()))
        if self.scheme != "symmetric":
            self.log_step_asymmetric = nn.Parameter(torch.zeros(()))
            self.zero = nn.Parameter(torch.tensor(float(1 << (bits - 1))))  # unsigned code of the real zero
        self.choosing, self._calls = self.scheme == "adaptive", 0
        if self.choosing:
            self.register_buffer("running_error", torch.zeros(2))  # symmetric, asymmetric

    def is_asymmetric(self):
        if self.scheme == "adaptive":
            return bool(self.running_error[1] < self.running_error[0])
        return self.scheme == "asymmetric"

    def current_log_step(self, asymmetric=None):
        asymmetric = self.is_asymmetric() if asymmetric is None else asymmetric
        return self.log_step_asymmetric if asymmetric else self.log_step

    def step(self, asymmetric=None):
        return self.current_log_step(asymmetric).exp()

    def bounds(self, asymmetric=None):
        """Lowest and highest value with the zero point taken out."""
        if not (self.is_asymmetric() if asymmetric is None else asymmetric):
            return self.code_low, self.code_high
        top = (1 << self.bits) - 1
        zero = straight_through(torch.floor(self.zero + 0.5).clamp(0, top), self.zero)
        return -zero, top - zero

    def range(self):
        """The learned zero, or None where the scheme in use has none, and the range of codes: what `bounds` is made
        from."""
        return self.zero if self.is_asymmetric() else None, self.code_low, self.code_high

    def zero_point(self):
        return self.code_low - int(self.bounds()[0])

    def forward(self, v):
        """v: real values in units of `step()` -> whole numbers."""
        codes = round_clamp(v, *self.bounds())
        if self.training and self.choosing:
            self._compare(v.detach() * self.step().detach())  # last: a change of scheme is for the next batch
        return codes

    @torch.no_grad()
    def _compare(self, x):
        self._calls += 1
        if self._calls % 8 == 1:  # the running error needs no more than a look at every eighth batch
            errors = torch.stack([self.error(x[:32], asymmetric=a) for a in (False, True)])
            self.running_error.lerp_(errors, 0.1)

    @torch.no_grad()
    def error(self, x, *, asymmetric):
        """Mean squared quantisation error of the real values x under one of the schemes."""
        step = self.step(asymmetric)
        return (round_clamp(x / step, *self.bounds(asymmetric)) * step - x).square().mean()

    def freeze_choice(self):
        self.choosing = False
