"""The two ends of a program, channel by channel: samples into codes, codes into forecasts, each with its channel's
anchor.

A mixed model's window lies in the input buffer channel after channel, its forecast in the output buffer target after
target.
"""

from dataclasses import replace

import numpy as np

from qatlib.engine import schedule as s
from qatlib.engine.builder import IDENTITY, limits, loops
from qatlib.engine.memory import DoesNotFit, Unsupported


def anchor(b, channel):
    """From here on this channel's anchor is subtracted and added back; None: zero. Nothing to do where it already is;
    of a single channel a register says what it is."""
    constant = 0 if channel is None else b.model.channels[channel].anchor
    wanted = (channel, None) if constant is None else (None, constant)
    if b.anchor == wanted or (len(b.model.channels) == 1 and channel is not None):
        return
    b.anchor, path = wanted, b.model.operations[0].path
    fields, made = {"tokens": 1, "groups": 1, "chunks": 1, "dest": "none"}, [_anchor_access(s.ANCHOR_LATENCY)]
    if constant is None:  # a difference from the anchor before, which is added to it again
        fields |= {"w_base": b.model.context * (channel + 1) - 1, **b.parameter_fields(1, *IDENTITY)}
        b.emit("quantise", fields, path, issues=1, reads=[_anchor_access(s.ANCHOR_READ)], writes=made)
    else:  # a product of nothing, which leaves the bias
        fields |= b.weight_fields(np.zeros((1, 1), np.int64), np.arange(1))
        fields |= b.parameter_fields(1, *IDENTITY, np.array([constant]))
        b.emit("matmul", fields, path, issues=1, writes=made)


def _anchor_access(time):
    return s.Access("anchor", np.zeros(1, int), np.array([time]))


def lay_out(b, operation, first, tokens, patch):
    """Quantise samples from number `first` on into tokens of `patch` samples; in a token, every channel begins a row of
    codes. -> View"""
    model, quantise, count = b.model, b.model.operations[0], b.model.inputs
    if model.context * count > 4 * b.config.input_words:
        raise DoesNotFit("input buffer", model.context * count, 4 * b.config.input_words, "counts")
    tensor, rows = b.tensor(quantise.output), -(-patch // b.rows)
    view = b.store(operation.output, tensor, tokens, count * rows * b.rows)
    # the first target last: its forecast then finds its anchor in place
    for channel in sorted(range(count), key=lambda c: c == model.targets[0]):
        anchor(b, channel)
        here = replace(view, base=view.base + channel * rows)
        _quantise(b, quantise, channel, model.context * channel + first, here, patch)
    positions = np.arange(patch)[:, None] + np.arange(count) * rows * b.rows  # channels are the minor index
    return replace(view, positions=positions.ravel())


def _quantise(b, operation, channel, first, view, patch):
    """Samples of one channel, the first one of them at `first` in the input buffer, to the tokens of a view."""
    tensor = b.tensor(operation.output)
    lanes = next(i for i in (2, 1, 0) if 1 << i <= b.cols and patch % (1 << i) == first % (1 << i) == 0)
    groups = patch >> lanes
    done = loops(view.tokens, groups)
    rows = view.base + np.arange(view.tokens)[:, None] * view.stride + (np.arange(groups) << lanes) // b.rows
    fields = {
        "tokens": view.tokens, "groups": groups, "chunks": 1, "w_base": first, "lanes": lanes, "dest": "codes",
        "d_base": view.base, "d_token": view.stride, **limits(tensor, 1),
        **b.parameter_fields(1, *(_own(b.array(operation, name), channel) for name in ("m", "n"))),
    }  # fmt: skip
    last = int(done[-1, -1])
    b.emit(
        "quantise", fields, operation.path, issues=last + 1, reads=[_anchor_access(s.ANCHOR_READ)],
        writes=[s.Access("code", rows.ravel(), done.ravel() + s.CODE_LATENCY)],
        uses=[("code write", s.CODE_LATENCY, last + s.CODE_LATENCY)],
    )  # fmt: skip


def _own(array, i):
    """Of an array that has one number for all, or one for each."""
    return array[i : i + 1] if len(array) > 1 else array


def arrange(b):
    """Say where the codes of several targets will lie: those of each from a row on, which its `output` can read."""
    targets, last = len(b.model.targets), b.producers[b.model.operations[-1].inputs[0]]
    if targets == 1:
        return
    parts = [b.producers[name] for name in last.inputs] if last.kind == "add" else [last]
    each, rest = divmod(b.tensor(last.output).shape[1], targets)
    pad = -(-each // b.rows) * b.rows
    for maker in {last.path: last, **{part.path: part for part in parts}}.values():
        if rest or len(b.consumers[maker.output]) > 1 or any(part.kind != "linear" for part in parts):
            raise Unsupported(
                f"{maker.kind} {maker.path}: the engine forecasts several targets by a linear layer, or a sum of two, "
                f"with outputs for each target that nothing else reads"
            )
        b.places[maker.output] = (np.arange(each)[:, None] + np.arange(targets) * pad).ravel()


def in_order(b, name, targets=1):
    """The view of codes that lie one after another from a row on, those of each target."""
    view = b.view(name)
    places = view.positions.reshape(-1, targets)
    if (places != np.arange(len(places))[:, None] + places[0]).any() or (places[0] % b.rows).any():
        raise Unsupported(f"tensor {name}: the engine does not hold its codes one after another, to be read so")
    return view


def output(b, operation):
    """Codes into forecasts, target after target."""
    model, name, targets = b.model, operation.inputs[0], len(b.model.targets)
    if model.horizon * targets > 4 * b.config.output_words:
        raise DoesNotFit("output buffer", model.horizon * targets, 4 * b.config.output_words, "counts")
    tensor, x = b.tensor(name), in_order(b, name, targets)
    tokens, each = tensor.shape[0], tensor.shape[1] // targets
    done = loops(tokens, each)
    for i, channel in enumerate(model.targets):
        anchor(b, None if model.task == "classify" else channel)
        base = x.base + int(x.positions[i]) // b.rows
        rows = base + np.arange(tokens)[:, None] * x.stride + np.arange(each) // b.rows
        fields = {
            "tokens": tokens, "groups": each, "chunks": 1, "x_base": base, "x_token": x.stride,
            "x_unsigned": int(x.unsigned), "z2": tensor.zero_point,
            **b.parameter_fields(1, *(_own(b.array(operation, name), i) for name in ("m", "n"))),
        }  # fmt: skip
        reads = [s.Access("code", rows.ravel(), done.ravel()), _anchor_access(s.ANCHOR_ADD)]
        b.emit("output", fields, operation.path, issues=tokens * each, reads=reads)
