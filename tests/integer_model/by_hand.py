"""Small programs written by hand, and programs changed a little."""

import math
from dataclasses import replace
from fractions import Fraction

import numpy as np

from qatlib.integer_model.model import IntegerModel
from qatlib.integer_model.program import Channel, Operation, Tensor, pack

SIGNED = (-128, 127, 0)  # lowest and highest code, and the zero point


def by_hand(weight, bias, *, codes=SIGNED, input_shift=16, out=SIGNED, out_shift=24, counts_shift=15, anchor=None):
    """A program of one linear layer: 2**15 / 2**shift multiplies at the input, after the layer and at the output."""
    weight, bias = np.array(weight), np.array(bias, np.int32)
    horizon, context = weight.shape

    def multiplier(path, shift):
        return {f"{path}.m": np.array([1 << 15], np.uint16), f"{path}.n": np.array([shift], np.uint8)}

    return IntegerModel(
        name="by-hand",
        context=context,
        horizon=horizon,
        channels=(Channel("channel", 0.5, anchor),),
        operations=(
            Operation("quantise", "source", (), "source"),
            Operation("reshape", "flat", ("source",), "flat"),
            Operation("linear", "head", ("flat",), "head", {"weight_bits": 8}),
            Operation("output", "output", ("head",), "output"),
        ),
        tensors={
            "source": Tensor((context, 1), *codes),
            "flat": Tensor((1, context), *codes),
            "head": Tensor((1, horizon), *out),
        },
        arrays={
            "head.weight": pack(weight, 8),
            "head.bias": bias,
            **multiplier("source", input_shift),
            **multiplier("head", out_shift),
            **multiplier("output", counts_shift),
        },
    )


def half_up(x):
    return math.floor(x + Fraction(1, 2))


def expected_by_hand(model, counts):
    """The program of `by_hand` in Python's integers."""
    weight, bias = model.weight(model.operations[2]).tolist(), model.arrays["head.bias"].tolist()
    shift = {path: int(model.arrays[f"{path}.n"][0]) for path in ("source", "head", "output")}
    source, head = model.tensors["source"], model.tensors["head"]

    def requantised(x, path, t):
        return max(t.low, min(t.high, t.zero_point + half_up(Fraction(x << 15, 1 << shift[path]))))

    rows = []
    for window in counts.tolist():
        anchor = window[-1] if model.channels[0].anchor is None else model.channels[0].anchor
        q = [requantised(c - anchor, "source", source) for c in window]
        codes = [
            requantised(sum(w * v for w, v in zip(row, q, strict=True)) + b, "head", head)
            for row, b in zip(weight, bias, strict=True)
        ]
        changes = [half_up(Fraction((code - head.zero_point) << 15, 1 << shift["output"])) for code in codes]
        rows.append([max(-32768, min(32767, change + anchor)) for change in changes])
    return rows


def changed(model, **arrays):
    """The model with other arrays; dots of their names as double underscores."""
    return replace(model, arrays=model.arrays | {name.replace("__", "."): array for name, array in arrays.items()})


def swapped(model, index, **changes):
    """The model with another operation at an index."""
    operations = list(model.operations)
    operations[index] = replace(operations[index], **changes)
    return replace(model, operations=tuple(operations))


def with_identity(model, name):
    """The model with a reshape after a tensor, to the same shape."""
    at = next(i for i, o in enumerate(model.operations) if o.output == name)
    identity = Operation("reshape", "identity", (name,), "identity")
    later = [
        replace(o, inputs=tuple("identity" if n == name else n for n in o.inputs)) for o in model.operations[at + 1 :]
    ]
    operations = (*model.operations[: at + 1], identity, *later)
    return replace(model, operations=operations, tensors=model.tensors | {"identity": model.tensors[name]})


def widened(tokens, width, outputs):
    """A program of one linear layer of zeros in two bits."""
    model, code = by_hand([[1, 2, 3, 4], [5, 6, 7, 8]], [0, 0]), (-128, 127, 0)
    shapes = {"source": (tokens * width, 1), "flat": (tokens, width), "head": (tokens, outputs)}
    zeros = {
        "head.weight": np.zeros((width * outputs * 2 + 7) // 8, np.uint8),
        "head.bias": np.zeros(outputs, np.int32),
    }
    head = replace(model.operations[2], attributes={"weight_bits": 2})
    return replace(
        model,
        context=tokens * width,
        operations=(*model.operations[:2], head, model.operations[3]),
        tensors={name: Tensor(shape, *code) for name, shape in shapes.items()},
        arrays=model.arrays | zeros,
    )
