"""Attention: keys and values go to their own memory, where they take the place of weights; every head begins a row of
codes."""

from dataclasses import dataclass, replace

import numpy as np

from qatlib.engine import schedule as s
from qatlib.engine.builder import is_wide, limits, loops
from qatlib.engine.memory import DoesNotFit, Unsupported


@dataclass(frozen=True)
class Stored:
    """Keys or values in the key/value memory. stride: words from group to group; head: words from head to head."""

    base: int
    stride: int
    head: int
    tensor: object

    @property
    def wide(self):
        return int(is_wide(min(self.tensor.low, -1), self.tensor.high))  # signed, whatever their range


def padded(b, channels, heads):
    """-> (place of each channel, channels of a head with padding): heads begin at whole rows."""
    size = channels // heads
    pad = -(-size // b.rows) * b.rows
    return (np.arange(heads)[:, None] * pad + np.arange(size)).ravel(), pad


def operand(b, operation, user):
    """The linear layer that makes queries, keys or values."""
    out, x = b.tensor(operation.output), b.view(operation.inputs[0])
    tokens, channels = out.shape
    where, pad = padded(b, channels, user.attributes["heads"])
    weight = b.model.weight(operation).astype(np.int64)
    fields = b.weight_fields(weight, x.positions, where)
    groups = fields["groups"]
    fields |= b.parameter_fields(
        groups, b.array(operation, "m"), b.array(operation, "n"), b.array(operation, "bias"), where
    )
    token, group = np.arange(tokens)[:, None], np.arange(groups)
    if user.kind == "context":
        chunks = -(-tokens // b.rows)
        base = b.kv.take(operation.output, groups * chunks)
        target = {"dest": "values", "d_base": base, "d_token": chunks, "words": base + token // b.rows + group * chunks}
        b.values[operation.output] = Stored(base, chunks, pad // b.cols * chunks, out)
    elif user.inputs[1] == operation.output:
        chunks = groups // b.blocks
        base = b.kv.take(operation.output, -(-tokens // b.cols) * chunks)
        target = {
            "dest": "keys",
            "d_base": base,
            "d_token": chunks,
            "words": base + token // b.cols * chunks + group // b.blocks,
        }
        b.keys[operation.output] = Stored(base, chunks, pad // b.rows, out)
    else:
        view = replace(b.store(operation.output, out, tokens, groups * b.cols), positions=where)
        b.views[operation.output] = view
        target = b.code_target(view, groups)
    b.product(operation.path, x, fields | limits(out, 1), target, macs=weight.size * tokens)


def attention(b, scores, value_layer):
    """Scores, sums, probabilities and context, for some queries at a time. value_layer: carries out the linear layer of
    the values."""
    softmax = _only_user(b, scores, "softmax")
    context = _only_user(b, softmax, "context")
    for operation, name in ((scores, scores.inputs[0]), (scores, scores.inputs[1]), (context, context.inputs[1])):
        if b.producers[name].kind != "linear":
            raise Unsupported(
                f"{operation.kind} {operation.path}: the engine makes {name} by a linear layer, not by "
                f"{b.producers[name].kind}"
            )
    if context.inputs[1] not in b.values:
        value_layer(b.producers[context.inputs[1]])
    heads, queries, keys = b.model.tensors[scores.output].shape
    out = b.tensor(context.output)
    where, pad = padded(b, out.shape[1], heads)
    result = replace(b.store(context.output, out, queries, heads * pad), positions=where)
    tile = min(b.tile, queries, b.config.softmax_rows // heads)
    if tile == 0:
        raise DoesNotFit("softmax memory", heads, b.config.softmax_rows, "rows")
    table = b.store(softmax.output, b.tensor(softmax.output), heads * tile, -(-keys // b.rows) * b.rows)
    for start in range(0, queries, tile):
        count = min(tile, queries - start)
        parts = [(h, h * tile, replace(table.part(h * tile, count), tokens=count)) for h in range(heads)]
        for head, row, part in parts:
            _score(b, scores, head, row, part, start)
        for _, row, part in parts:
            _sum(b, softmax, row, part)
        for _, row, part in parts:
            _probability(b, softmax, row, part)
        for head, _, part in parts:
            _mix(b, context, head, part, result.part(start, count), pad)
    b.codes.free(table.owner)
    b.views[context.output] = result
    b.fused |= {softmax.path, context.path}
    b.release(softmax)
    b.release(context)


def _only_user(b, operation, kind):
    users = b.consumers[operation.output]
    if len(users) != 1 or users[0].kind != kind:
        raise Unsupported(f"{operation.kind} {operation.path}: the engine takes it to one {kind} alone")
    return users[0]


def _score(b, operation, head, row, part, start):
    """Scores of one head, queries `start` on, to the rows of `part`."""
    query, key = b.view(operation.inputs[0]), b.keys[operation.inputs[1]]
    x = query.part(start, part.tokens)
    x = replace(x, base=x.base + head * key.head)
    keys, channels = key.tensor.shape
    groups = -(-keys // b.cols)
    fields = {
        "w_base": key.base + head * key.head, "w_wide": key.wide, "w_group": key.stride, "w_chunk": 1,
        "groups": groups, "chunks": key.head,
        **b.parameter_fields(groups, b.array(operation, "m"), b.array(operation, "n")),
    }  # fmt: skip
    macs = part.tokens * keys * channels // operation.attributes["heads"]
    target = b.code_target(part, groups) | limits(b.tensor(operation.output), 1)
    b.product(
        operation.path, x, fields, target, opcode="attend", macs=macs, extra={"track_max": 1, "row": row, "count": keys}
    )


def _pass(b, opcode, operation, row, part, groups, dwell, fields, reads, writes, uses=()):
    """One look at every score of a part; `reads`, `writes`: functions of when each group is done."""
    done = loops(part.tokens, groups, dwell)
    look = done - dwell + 1
    rows = part.base + np.arange(part.tokens)[:, None] * part.stride + np.arange(groups) // b.blocks
    fields = {
        "tokens": part.tokens, "groups": groups, "chunks": dwell, "x_base": part.base, "x_token": part.stride,
        "row": row,
        "count": b.model.tensors[operation.output].shape[2],
        "lut": b.tables.add(b.array(operation, "table").reshape(1, 256)), **fields,
    }  # fmt: skip
    last = int(done[-1, -1])
    b.emit(
        opcode, fields, operation.path, issues=last + 1,
        reads=[s.Access("code", rows.ravel(), look.ravel()), reads(look[:, 0])],
        writes=[writes(done, rows)], uses=[("table read", s.SOFTMAX_READ, last + s.SOFTMAX_READ), *uses],
    )  # fmt: skip


def _sum(b, operation, row, part):
    groups = -(-b.model.tensors[operation.output].shape[2] // b.cols)
    index = row + np.arange(part.tokens)
    _pass(
        b, "sum", operation, row, part, groups,
        # so slowly that no divider gets a row before it has done with the last
        -(-s.DIVIDE // (groups * b.config.dividers)),
        {"numerator": int(b.array(operation, "numerator")[0])},
        lambda look: s.Access("max", index, look + s.MAX_READ),
        lambda done, rows: s.Access("reciprocal", index, done[:, -1] + s.RECIPROCAL_LATENCY),
    )  # fmt: skip


def _probability(b, operation, row, part):
    out, groups = b.tensor(operation.output), part.stride * b.blocks  # whole rows: beyond the last key they are zero
    index = row + np.arange(part.tokens)
    # the multiplier is the row's reciprocal; of the one given here, 1 or 2, bit 1 doubles the table's entry
    fields = b.parameter_fields(groups, np.array([1]), b.array(operation, "k")) | limits(out, 1)
    fields |= {"dest": "codes", "d_base": part.base, "d_token": part.stride}
    last = part.tokens * groups - 1
    _pass(
        b, "probability", operation, row, part, groups, 1, fields,
        lambda look: s.Access("reciprocal", index, look + s.RECIPROCAL_READ),
        lambda done, rows: s.Access("code", rows.ravel(), done.ravel() + s.CODE_LATENCY),
        [("code write", s.CODE_LATENCY, last + s.CODE_LATENCY)],
    )  # fmt: skip


def _mix(b, operation, head, part, result, pad):
    """Probabilities with values: one head's context."""
    value, out = b.values[operation.inputs[1]], b.tensor(operation.output)
    keys, channels = value.tensor.shape
    size = channels // operation.attributes["heads"]
    groups = -(-size // b.cols)
    fields = {
        "w_base": value.base + head * value.head, "w_wide": value.wide, "w_group": value.stride, "w_chunk": 1,
        "groups": groups, "chunks": value.stride,
        **b.parameter_fields(groups, b.array(operation, "m"), b.array(operation, "n")),
    }  # fmt: skip
    target = b.code_target(replace(result, base=result.base + head * pad // b.rows), groups) | limits(out, 1)
    b.product(operation.path, part, fields, target, opcode="attend", macs=part.tokens * keys * size)
