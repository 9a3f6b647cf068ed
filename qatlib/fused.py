"""The quantised layers' training step in few passes: autograd functions over `fused.cpp`, float32.

A layer in PyTorch's own operations reads and writes its activations some twenty times a step; here it does so once forward and once
backward. `quant_layers` takes this way for float32; in float64, where evaluation and export must be exact, it spells its arithmetic out.
A test holds values and gradients of the two to each other.
"""

import ctypes
from functools import lru_cache

import torch
from torch.autograd.function import once_differentiable

from qatlib import kernels, native, paths

OPTIONS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math")


TYPES = {"p": ctypes.c_void_p, "f": ctypes.c_float, "n": ctypes.c_long}
SIGNATURES = {
    "requantise": "ppnppffppnn",
    "requantise_back": "ppppnppffpppppnn",
    "weights": "pppnpfffppppnn",
    "weights_back": "ppppppnppffppppnn",
    "add": "ppppffppnnn",
    "add_back": "pppppffppppnnn",
    "softmax": "ppfffppnn",
    "softmax_back": "ppppppnn",
}


@lru_cache
def _library():
    library = native.library(paths.PACKAGE / "fused.cpp", *OPTIONS)
    for name, types in SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = [TYPES[t] for t in types], None
    return library


def _call(name, *arguments):
    """Tensors as addresses, None as null."""
    getattr(_library(), name)(*(a.data_ptr() if isinstance(a, torch.Tensor) else a for a in arguments))


def _shape(values, steps):
    """(rows, channels): the last axis where every channel has a step of its own, else all that belongs to one window."""
    channels = values.shape[-1] if steps.numel() > 1 else values[0].numel()
    return values.numel() // channels, channels


def _requantised(acc, acc_step, step, zero, low, high):
    """-> codes, and the multipliers used."""
    codes, (rows, channels) = torch.empty_like(acc), _shape(acc, acc_step)
    m = acc.new_empty(channels)
    _call("requantise", acc, acc_step, acc_step.numel(), step, zero, low, high, codes, m, rows, channels)
    return codes, m


def _requantised_back(g, acc, m, acc_step, step, zero, low, high):
    """-> gradients of acc, acc_step, step, zero, and of a bias."""
    rows, channels = _shape(acc, acc_step)
    g_acc, g_acc_step, g_step, g_bias = torch.empty_like(acc), torch.empty_like(acc_step), torch.empty_like(step), torch.empty_like(m)
    g_zero = None if zero is None else torch.empty_like(zero)
    _call(
        "requantise_back", g.contiguous(), acc, m, acc_step, acc_step.numel(), step, zero, low, high,
        g_acc, g_acc_step, g_step, g_zero, g_bias, rows, channels,
    )  # fmt: skip
    return g_acc, g_acc_step, g_step, g_zero, g_bias


class Requantise(torch.autograd.Function):
    """(acc (..), its step (channel or 1), the result's step, zero or None, low, high) -> codes."""

    @staticmethod
    def forward(ctx, acc, acc_step, step, zero, low, high):
        acc = acc.contiguous()
        codes, m = _requantised(acc, acc_step, step, zero, low, high)
        ctx.save_for_backward(acc, m, acc_step, step, zero)
        ctx.range = low, high
        return codes

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        return *_requantised_back(g, *ctx.saved_tensors, *ctx.range)[:4], None, None


def _whole_weights(weight, bias, log_step, x_step, room, low, high):
    """-> whole weights (out, in), whole biases, the accumulator's step and the weights' step, (out,) each."""
    codes = torch.empty_like(weight)
    bias_codes, acc_step, step = (torch.empty_like(bias) for _ in range(3))
    _call("weights", weight, bias, log_step, log_step.numel(), x_step, room, low, high, codes, bias_codes, acc_step, step, *weight.shape)
    return codes, bias_codes, acc_step, step


class Linear(torch.autograd.Function):
    """(x (.., in), weight, bias, the weights' log step, x's step, the result's step, zero or None, room, weight range, range) -> codes."""

    @staticmethod
    def forward(ctx, x, weight, bias, log_step, x_step, step, zero, room, weight_low, weight_high, low, high):
        whole, bias_codes, acc_step, weight_step = _whole_weights(weight, bias, log_step, x_step, room, weight_low, weight_high)
        acc = torch.addmm(bias_codes, x.flatten(0, -2), whole.T)
        codes, m = _requantised(acc, acc_step, step, zero, low, high)
        ctx.save_for_backward(x, weight, bias, log_step, x_step, whole, acc_step, weight_step, acc, m, step, zero)
        ctx.range, ctx.weight_range = (low, high), (weight_low, weight_high)
        return codes.view(*x.shape[:-1], len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, weight, bias, log_step, x_step, whole, acc_step, weight_step, acc, m, step, zero = ctx.saved_tensors
        g_acc, g_acc_step, g_step, g_zero, g_bias_codes = _requantised_back(g.flatten(0, -2), acc, m, acc_step, step, zero, *ctx.range)
        g_codes = g_acc.T @ x.flatten(0, -2)
        g_x = (g_acc @ whole).view_as(x) if ctx.needs_input_grad[0] else None
        g_weight, g_bias, g_log_step, g_x_step = (torch.empty_like(t) for t in (weight, bias, log_step, x_step))
        _call(
            "weights_back", g_codes, g_bias_codes, g_acc_step, weight, bias, log_step, log_step.numel(), x_step, weight_step,
            *ctx.weight_range, g_weight, g_bias, g_log_step, g_x_step, *weight.shape,
        )  # fmt: skip
        return g_x, g_weight, g_bias, g_log_step, g_x_step, g_step, g_zero, None, None, None, None, None


class Add(torch.autograd.Function):
    """(x (.., channel), y (the same, or repeating), exact factors and shift (3, channel), zero or None, low, high) -> codes."""

    @staticmethod
    def forward(ctx, x, y, exact, zero, low, high):
        x, y = x.contiguous(), y.contiguous()
        codes, factors = torch.empty_like(x), torch.empty_like(exact)
        channels = x.shape[-1]
        ctx.shape = x.numel() // channels, y.numel() // channels, channels
        ctx.range = low, high
        _call("add", x, y, exact, zero, low, high, codes, factors, *ctx.shape)
        ctx.save_for_backward(x, y, factors, zero)
        return codes

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, y, factors, zero = ctx.saved_tensors
        g_x, g_y, g_exact = (torch.empty_like(t) for t in (x, y, factors))
        g_zero = None if zero is None else torch.empty_like(zero)
        _call("add_back", g.contiguous(), x, y, factors, zero, *ctx.range, g_x, g_y, g_exact, g_zero, *ctx.shape)
        return g_x, g_y, g_exact, g_zero, None, None


@lru_cache
def _table(exponent):
    return torch.from_numpy(kernels.softmax_table(exponent))


class Softmax(torch.autograd.Function):
    """(scores (.., key), their step, the probabilities' step, numerator, k, high) -> codes."""

    @staticmethod
    def forward(ctx, scores, score_step, step, numerator, k, high):
        scores = scores.contiguous()
        codes, p = torch.empty_like(scores), torch.empty_like(scores)
        rows, keys = scores.numel() // scores.shape[-1], scores.shape[-1]
        table = _table(-int(torch.log2(score_step)))
        _call("softmax", scores, table, numerator, 2.0**-k, high, codes, p, rows, keys)
        ctx.save_for_backward(p, score_step, step)
        return codes

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        p, score_step, step = ctx.saved_tensors
        g_scores, g_step = torch.empty_like(p), torch.empty_like(step)
        _call("softmax_back", g.contiguous(), p, score_step, step, g_scores, g_step, p.numel() // p.shape[-1], p.shape[-1])
        return g_scores, None, g_step, None, None, None
