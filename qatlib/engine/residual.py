"""Residual adds: a linear layer, the add with batch norm or position after it, and the operand made of the sum, in one
instruction."""

from dataclasses import dataclass, replace

import numpy as np

from qatlib.engine.builder import IDENTITY, View, limits
from qatlib.engine.memory import Unsupported
from qatlib.integer_model.program import Operation, unpack


@dataclass(frozen=True)
class Place:
    """Where a sum goes. operand: the requantisation that makes an operand of it, None where it is one itself; view: its
    codes, None where nothing reads it as codes; base: first word in the residual memory, None where no later add or
    requantisation needs it."""

    operand: Operation | None
    view: View | None
    base: int | None


def load_position(b, operation):
    """Positions stay in the residual memory for good."""
    shape = b.model.tensors[operation.output].shape
    codes = unpack(b.model.arrays[f"{operation.path}.position"], operation.attributes["position_bits"], shape)
    groups = -(-shape[1] // b.cols)
    full = np.zeros((shape[0], groups * b.cols), np.uint8)
    full[:, : shape[1]] = codes & 255
    each = min(b.cols, 4)  # codes of a word that is loaded; of fewer than four, it has the same ones again
    full = np.tile(full.reshape(-1, each), 4 // each)
    name = _position(operation)
    b.residuals[name] = b.residual.take(name, shape[0] * groups)
    b.positions.append((b.residuals[name], full.view("<u4").reshape(shape[0] * groups, -1)))


def added(b, linear, add):
    """The linear layer with its add."""
    x, other = b.view(linear.inputs[0], zeros=True), _other(b, linear.output, add)
    place = make_place(b, other, add)
    add_linear(b, linear, add, x, place, 0)
    if x.zeros:
        add_linear(b, linear, add, replace(x, tokens=x.zeros, stride=0), place, x.tokens, zero=True)
    finish(b, add, place)


def add_linear(b, linear, add, x, place, start, *, zero=False):
    """Some tokens of it, from `start` on; zero: they are the real zero, and x does not matter."""
    weight, bias = b.model.weight(linear).astype(np.int64), b.array(linear, "bias")
    places = b.places.get(linear.output)
    macs = weight.size * x.tokens
    if zero:
        bias, macs = bias + b.model.tensors[linear.inputs[0]].zero_point * weight.sum(1), 0
        weight = np.zeros_like(weight)
    fields = b.weight_fields(weight, x.positions, places) | limits(b.tensor(linear.output), 1)
    fields |= b.parameter_fields(fields["groups"], b.array(linear, "m"), b.array(linear, "n"), bias, places)
    _sum(b, linear.output, add, x, fields, place, start, linear.path, macs)


def lone_add(b, operation):
    """An add or position that no linear layer leads to: an identity brings the codes of one tensor, the other is
    brought to the stream."""
    name = next((n for n in operation.inputs if n in b.views), None)
    if name is None:
        raise Unsupported(f"{operation.kind} {operation.path}: the engine needs one of {operation.inputs} as codes")
    other = _other(b, name, operation)
    if other not in b.residuals:
        _to_residual(b, other)
    tensor, x = b.tensor(name), b.view(name)
    place = make_place(b, other, operation)
    fields = b.identity_fields(x, tensor.shape[1]) | limits(tensor, 1)
    fields |= b.parameter_fields(fields["groups"], *IDENTITY, np.full(tensor.shape[1], -tensor.zero_point))
    _sum(b, name, operation, x, fields, place, 0, operation.path, 0)
    finish(b, operation, place)


def make_place(b, other, add):
    """The sum's consumers decide where it goes; the stream is updated in place where nothing else needs it."""
    users, tensor = b.consumers[add.output], b.tensor(add.output)
    tokens, channels = tensor.shape
    direct = [u for u in users if u.kind not in ("requantise", "add")]
    operand = None if direct else next((u for u in users if u.kind == "requantise"), None)
    view = base = None
    if operand is not None:
        view = b.store(operand.output, b.tensor(operand.output), tokens, channels)
    elif direct:
        view = b.store(add.output, tensor, tokens, channels)
    if any(u is not operand and u not in direct for u in users):
        if add.kind == "add" and b.left[other] == 1 and other in b.residuals:
            b.residual.rename(other, add.output)
            base = b.residuals[other]
        else:
            base = b.residual.take(add.output, tokens * -(-channels // b.cols))
        b.residuals[add.output] = base
    return Place(operand, view, base)


def finish(b, add, place):
    """Note what the instruction has carried out."""
    if add.path not in b.fused:
        b.fused.add(add.path)
        b.release(add)
    if place.operand is not None:
        b.views[place.operand.output] = place.view
        b.fused.add(place.operand.path)
        b.release(place.operand)
    elif place.view is not None:
        b.views[add.output] = place.view


def requantise_stream(b, operation):
    """An operand of a sum that is in the residual memory alone: a product of nothing, the stream in its place, and its
    table."""
    name = operation.inputs[0]
    if name not in b.residuals:
        raise Unsupported(f"requantise {operation.path}: the engine does not hold {name} where something reads it")
    tensor, out, base = b.tensor(name), b.tensor(operation.output), b.residuals[name]
    tokens, channels = tensor.shape
    view = b.views[operation.output] = b.store(operation.output, out, tokens, channels)
    fields = b.weight_fields(np.zeros((channels, 1), np.int64), np.arange(1)) | {"z1": 0, "low1": 0, "high1": 0}
    groups = fields["groups"]
    fields |= b.parameter_fields(groups, *IDENTITY, np.zeros(channels, np.int64))
    zero = np.zeros(channels, np.int64)
    index = base + np.arange(tokens)[:, None] * groups + np.arange(groups)
    stage2 = {
        "q_base": b.add_parameters(groups, zero, zero + 2, zero - 2 * tensor.zero_point, zero + 1), **limits(tensor, 2),
        "r_base": base, "r_token": groups, "r_unsigned": int(tensor.low >= 0), **b.operand_fields(tensor, operation),
    }  # fmt: skip
    nothing = View(view.base, 0, tokens, np.arange(1), -8, 7, 0, view.owner)
    b.product(operation.path, nothing, fields, b.code_target(view, groups), add=(stage2, index, None))


def _sum(b, name, add, x, fields, place, start, path, macs):
    """The instruction: the product that makes `name`, the add, the operand."""
    other, groups = _other(b, name, add), fields["groups"]
    if other not in b.residuals:
        raise Unsupported(f"add {add.path}: the engine has {other} as codes only, not in the residual stream")
    names = ("m1", "m2") if add.inputs[0] == name else ("m2", "m1")
    tensor, offset = b.tensor(add.output), start * groups
    index = np.arange(x.tokens)[:, None] * groups + np.arange(groups)
    stage2 = {
        "q_base": b.add_parameters(groups, *(b.array(add, n) for n in (*names, "c", "n")), b.places.get(add.output)),
        **limits(tensor, 2),
        "r_base": b.residuals[other] + offset, "r_token": groups,
        "r_unsigned": int(add.kind == "add" and b.tensor(other).low >= 0),
    }  # fmt: skip
    written = None
    if place.base is not None:
        written = place.base + offset + index
        stage2 |= {"s_write": 1, "s_base": place.base + offset, "s_token": groups}
    target = {"dest": "none"}
    if place.view is not None:
        target = b.code_target(place.view.part(start, x.tokens), groups)
        stage2 |= b.operand_fields(tensor, place.operand)
    b.product(path, x, fields, target, macs=macs, add=(stage2, stage2["r_base"] + index, written))


def waiting(b, linear):
    """A linear layer whose result waits in the residual memory for what is added to it."""
    weight, x, places = b.model.weight(linear).astype(np.int64), b.view(linear.inputs[0]), b.places.get(linear.output)
    fields = b.weight_fields(weight, x.positions, places)
    fields |= b.parameter_fields(fields["groups"], *(b.array(linear, name) for name in ("m", "n", "bias")), places)
    _into_residual(b, linear.path, linear.output, x, fields, weight.size * x.tokens)


def _to_residual(b, name):
    """Copy a tensor of codes to the residual memory."""
    tensor, x = b.tensor(name), b.view(name)
    fields = b.identity_fields(x, tensor.shape[1])
    zero = np.full(tensor.shape[1], -tensor.zero_point)
    fields |= b.parameter_fields(fields["groups"], *IDENTITY, zero)
    _into_residual(b, f"{name} (copy)", name, x, fields, 0)


def _into_residual(b, path, name, x, fields, macs):
    """A product whose codes, those of the tensor `name`, go to the residual memory as they are."""
    tensor, groups = b.tensor(name), fields["groups"]
    tokens, channels = tensor.shape
    base = b.residuals[name] = b.residual.take(name, tokens * groups)
    index = base + np.arange(tokens)[:, None] * groups + np.arange(groups)
    zero = np.zeros(channels, np.int64)
    stage2 = {
        "q_base": b.add_parameters(groups, zero + 2, zero, zero, zero + 1, b.places.get(name)), "z2": 0,
        "low2": tensor.low, "high2": tensor.high,
        "r_base": base, "r_token": groups, "s_write": 1, "s_base": base, "s_token": groups,
    }  # fmt: skip
    fields |= limits(tensor, 1)
    b.product(path, x, fields, {"dest": "none"}, macs=macs, add=(stage2, index, index))


def _position(operation):
    return f"{operation.path}.position"


def _other(b, name, add):
    """What is added to the tensor `name`."""
    if add.kind == "add_position":
        return _position(add)
    return add.inputs[1] if add.inputs[0] == name else add.inputs[0]
