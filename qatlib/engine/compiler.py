"""From an exported model to a program of the engine: what lies where, what is carried out when, and how many cycles it
takes.

Every operation becomes one kind of instruction: a product of codes with weights (or keys, values), whose result passes
a requantisation, perhaps a residual add, perhaps a table that makes an operand of the sum. What is no product is one
with an identity.
"""

from dataclasses import replace

import numpy as np

from qatlib.engine import attention, channels, residual
from qatlib.engine import schedule as s
from qatlib.engine.builder import Builder, limits
from qatlib.engine.memory import DoesNotFit, Unsupported


def compile(model, config):
    """IntegerModel -> Program. DoesNotFit names the memory that is short and by how much; Unsupported what the engine
    cannot do."""
    if len(parts(model)) > 1:
        raise Unsupported(f"{model.name}: the engine takes independent channels one at a time, see `parts`")
    tile, reason = max(t.shape[-2] for t in model.tensors.values()), None
    while True:  # fewer tokens at a time need less memory for what lies between two products
        try:
            return _program(Builder(model, config, tile))
        except DoesNotFit as error:
            reason = reason if reason and reason.short <= error.short else error
        if tile == 1:
            raise reason
        tile = -(-tile // 2)


def parts(model):
    """What the engine runs one after another: models of independent channels, or the whole."""
    return [model.channel(i) for i in range(len(model.channels))] if len(model.channels) > model.inputs else [model]


def _program(b):
    channels.arrange(b)
    for operation in b.model.operations:
        if operation.kind == "add_position":  # loaded for good, so first
            residual.load_position(b, operation)
    for operation in b.model.operations:
        if operation.path not in b.fused:
            b.fused.add(operation.path)
            OPERATIONS[operation.kind](b, operation)
            b.release(operation)
    b.emit("end", {}, "end", issues=1, after=s.DRAIN)
    b.instructions[-1] = replace(b.instructions[-1], cycles=b.instructions[-1].cycles + b.timeline.restart())
    b.instructions[0].fields["wait_input"] = 1
    [i for i in b.instructions if i.opcode == "quantise"][-1].fields["free_input"] = 1
    return b.program()


def _samples(b, name):
    """The operation, `quantise`, `placeholders` or `last_tokens` of the first, whose samples a tensor holds as they
    are; else None."""
    maker = b.producers[name]
    source = b.producers[maker.inputs[0]] if maker.kind == "last_tokens" else maker
    return maker if source.kind == "quantise" or maker.kind == "placeholders" else None


def _nothing(b, operation):
    """`_reshape` lays out the samples as tokens."""


def _placeholders(b, operation):
    if b.producers[operation.inputs[0]].kind != "quantise":
        raise Unsupported(f"placeholders {operation.path}: the engine takes them from the input samples alone")


def _reshape(b, operation):
    source, out = operation.inputs[0], b.tensor(operation.output)
    sampled = _samples(b, source)
    if sampled is not None:
        b.views[operation.output] = _lay_out(b, sampled, operation, *out.shape)
        return
    shape = b.model.tensors[source].shape
    x = b.view(source, zeros=out.shape == shape)
    if out.shape == shape:
        b.views[operation.output] = x
    elif out.shape[0] == 1:
        positions = (np.arange(x.tokens)[:, None] * x.stride * b.rows + x.positions).ravel()
        b.views[operation.output] = replace(x, tokens=1, positions=positions)
    else:
        raise Unsupported(
            f"reshape {operation.path}: the engine flattens tokens or leaves them, it makes no {out.shape} of {shape}"
        )


def _lay_out(b, sampled, operation, tokens, width):
    """Samples as tokens of `width` codes. -> View"""
    model, patch, zeros = b.model, width // b.model.inputs, 0
    if width % model.inputs:
        raise Unsupported(f"reshape {operation.path}: the engine makes no {width} codes of {model.inputs} channels")
    first = model.context - b.model.tensors[sampled.output].shape[0] if sampled.kind == "last_tokens" else 0
    if sampled.kind == "placeholders":  # the tokens after the samples are zeros, see `residual`
        if patch != 1:
            raise Unsupported(
                f"reshape {operation.path}: the engine takes placeholders one by one, not in patches of {patch}"
            )
        tokens, zeros = sampled.attributes["label"], tokens - sampled.attributes["label"]
        first = model.context - tokens
    return replace(channels.lay_out(b, operation, first, tokens, patch), zeros=zeros)


def _last_tokens(b, operation):
    if _samples(b, operation.output):
        return
    x, count = b.view(operation.inputs[0]), b.model.tensors[operation.output].shape[0]
    b.views[operation.output] = x.part(x.tokens - count, count)


def _linear(b, operation):
    users = b.consumers[operation.output]
    user = users[0]
    if any(u.kind in ("scores", "context") for u in users):
        if len(users) > 1:
            raise Unsupported(f"linear {operation.path}: the engine uses a query, key or value once")
        attention.operand(b, operation, user)
    elif len(users) == 1 and user.kind in ("add", "add_position"):
        if user.kind == "add" and not set(user.inputs) - {operation.output} & b.fused:
            residual.waiting(b, operation)
        else:
            residual.added(b, operation, user)
    elif len(users) == 1 and user.kind == "linear" and b.tile < b.model.tensors[operation.output].shape[0]:
        _pair(b, operation, user)
    else:
        out = b.tensor(operation.output)
        view = b.store(operation.output, out, *out.shape)
        _project(b, operation, b.view(operation.inputs[0]), view)
        b.views[operation.output] = view


def _project(b, operation, x, view):
    """A linear layer from codes to codes."""
    weight, places = b.model.weight(operation).astype(np.int64), b.places.get(operation.output)
    fields = b.weight_fields(weight, x.positions, places) | limits(b.tensor(operation.output), 1)
    fields |= b.parameter_fields(fields["groups"], *(b.array(operation, name) for name in ("m", "n", "bias")), places)
    b.product(operation.path, x, fields, b.code_target(view, fields["groups"]), macs=weight.size * x.tokens)


def _pair(b, wide, narrow):
    """Two layers in a row, some tokens at a time, so that what lies between takes less memory."""
    users = b.consumers[narrow.output]
    if len(users) != 1 or users[0].kind != "add":
        raise Unsupported(f"linear {narrow.path}: only where an add follows can the engine take it in parts")
    add, x, out = users[0], b.view(wide.inputs[0]), b.tensor(wide.output)
    between = b.store(wide.output, out, b.tile, out.shape[1])
    place = residual.make_place(b, next(n for n in add.inputs if n != narrow.output), add)
    for start in range(0, x.tokens, b.tile):
        part = replace(between, tokens=min(b.tile, x.tokens - start))
        _project(b, wide, x.part(start, part.tokens), part)
        residual.add_linear(b, narrow, add, part, place, start)
    b.views[wide.output] = between
    b.fused.add(narrow.path)
    residual.finish(b, add, place)
    b.release(narrow)


def _add(b, operation):
    residual.lone_add(b, operation)


def _requantise(b, operation):
    name = operation.inputs[0]
    if name not in b.views:
        return residual.requantise_stream(b, operation)
    tensor, out, x = b.tensor(name), b.tensor(operation.output), b.view(name)
    view = b.store(operation.output, out, *out.shape)
    fields = b.identity_fields(x, tensor.shape[1]) | limits(out, 1)
    bias = np.full(tensor.shape[1], -tensor.zero_point)
    fields |= b.parameter_fields(fields["groups"], b.array(operation, "m"), b.array(operation, "n"), bias)
    b.product(operation.path, x, fields, b.code_target(view, fields["groups"]))
    b.views[operation.output] = view


def _pool(b, operation):
    """Sum over tokens: the chunks of the sum walk over the tokens, each a row of channels with an identity."""
    name = operation.inputs[0]
    tensor, out, x = b.tensor(name), b.tensor(operation.output), channels.in_order(b, name)
    tokens, width = tensor.shape
    view = b.store(operation.output, out, 1, width)
    for row in range(-(-width // b.rows)):
        here = slice(row * b.rows, min(width, (row + 1) * b.rows))
        size = here.stop - here.start
        m, n = (a if len(a) == 1 else a[here] for a in (b.array(operation, "m"), b.array(operation, "n")))
        fields = b.weight_fields(np.eye(size, dtype=np.int64), np.arange(size)) | limits(out, 1)
        fields |= b.parameter_fields(fields["groups"], m, n, np.full(size, -tokens * tensor.zero_point))
        fields |= {"chunks": tokens, "x_chunk": x.stride, "w_chunk": 0}
        target = b.code_target(replace(view, base=view.base + row), fields["groups"])
        b.product(operation.path, replace(x, base=x.base + row, tokens=1), fields, target)
    b.views[operation.output] = view


def _scores(b, operation):
    def value_layer(linear):
        b.fused.add(linear.path)
        _linear(b, linear)
        b.release(linear)

    attention.attention(b, operation, value_layer)


OPERATIONS = {
    "quantise": _nothing,
    "placeholders": _placeholders,
    "reshape": _reshape,
    "last_tokens": _last_tokens,
    "linear": _linear,
    "add": _add,
    "add_position": _add,
    "requantise": _requantise,
    "pool": _pool,
    "scores": _scores,
    "output": channels.output,
}
