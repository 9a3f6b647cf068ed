"""What must hold for an integer program before it may run: shapes, dtypes, ranges, and that no accumulator reaches 2**24."""

import numpy as np

from qatlib import kernels

LONGEST = 1 << 16  # samples


def check(model):
    """Raises ValueError, naming the operation and what is wrong with it."""
    if not all(type(n) is int and 1 <= n <= LONGEST for n in (model.context, model.horizon)):
        raise ValueError(f"context {model.context!r} and horizon {model.horizon!r} must be numbers of samples")
    if not (isinstance(model.resolution, float) and 0 < model.resolution < float("inf")):
        raise ValueError(f"resolution {model.resolution!r} must be a positive number of sensor units")
    if model.anchor is not None and not (type(model.anchor) is int and kernels.COUNT_MIN <= model.anchor <= kernels.COUNT_MAX):
        raise ValueError(f"anchor {model.anchor!r} must be None or a 16-bit count")
    known = set()
    for name, tensor in model.tensors.items():
        whole = all(type(v) is int for v in (tensor.low, tensor.zero_point, tensor.high, *tensor.shape))
        if not whole or not -128 <= tensor.low <= tensor.zero_point <= tensor.high <= 255 or not all(s > 0 for s in tensor.shape):
            raise ValueError(f"tensor {name}: impossible range or shape {tensor}")
    if not model.operations or model.operations[0].kind != "quantise" or model.operations[-1].kind != "output":
        raise ValueError("a program begins with `quantise` and ends with `output`")
    for operation in model.operations:
        try:
            _check_operation(model, operation, known)
        except (KeyError, IndexError, TypeError) as error:
            raise ValueError(f"{operation.kind} {operation.path}: {error!r} is missing or malformed") from error
        known.add(operation.output)
    last = model.tensors[model.operations[-1].inputs[0]]
    if np.prod(last.shape) != model.horizon:
        raise ValueError(f"the output tensor has shape {last.shape}, the horizon is {model.horizon}")


def _check_operation(model, operation, known):
    def require(condition, what):
        if not condition:
            raise ValueError(f"{operation.kind} {operation.path}: {what}")

    require(operation.kind in CHECKS, "unknown operation")
    require(set(operation.inputs) <= known, f"inputs {operation.inputs} are not computed before it")
    require(all(type(v) is int for v in operation.attributes.values()), f"attributes {operation.attributes} are not whole numbers")
    wanted = INPUTS.get(operation.kind, 1)
    require(len(operation.inputs) == wanted, f"takes {wanted} inputs, not {len(operation.inputs)}")
    last = operation is model.operations[-1]
    require((operation.kind == "output") == last, "`output` ends a program, and nothing else does")
    inputs = [model.tensors[name] for name in operation.inputs]
    output = None if operation.kind == "output" else model.tensors[operation.output]
    CHECKS[operation.kind](model, operation, inputs, output, require)


def _array(model, operation, name, dtype, shape, require):
    array = model.arrays[f"{operation.path}.{name}"]
    require(array.dtype == dtype and array.shape in shape, f"{name} is {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}")
    return array.astype(np.int64)


def _multipliers(model, operation, channels, require):
    m = _array(model, operation, "m", np.uint16, [(1,), (channels,)], require)
    n = _array(model, operation, "n", np.uint8, [(1,), (channels,)], require)
    require((m >= 1 << 15).all() and (n >= 1).all() and (n <= 40).all(), "m needs its top bit set, and n lies in 1..40")


def _bounded(reach, require):
    reach = int(np.max(reach))
    require(reach < kernels.ACCUMULATOR_LIMIT, f"an accumulator can reach {reach}, the limit is 2**24; use fewer bits or inputs")


def _quantise(model, operation, inputs, output, require):
    require(not inputs and output.shape == (model.context, 1), f"its output is {output.shape}, not ({model.context}, 1)")
    _multipliers(model, operation, 1, require)


def _requantise(model, operation, inputs, output, require):
    require(inputs[0].shape == output.shape, f"turns {inputs[0].shape} into {output.shape}")
    _multipliers(model, operation, 1, require)


def _linear(model, operation, inputs, output, require):
    (tokens, width), bits = inputs[0].shape, operation.attributes["weight_bits"]
    require(2 <= bits <= 8 and output.shape[0] == tokens, f"{bits}-bit weights, {inputs[0].shape} to {output.shape}")
    channels = output.shape[1]
    bias = _array(model, operation, "bias", np.int32, [(channels,)], require)
    _array(model, operation, "weight", np.uint8, [((channels * width * bits + 7) // 8,)], require)
    _multipliers(model, operation, channels, require)
    weight = model.weight(operation).astype(np.int64)
    folded = bias + inputs[0].zero_point * weight.sum(1)  # the accumulator's constant when the input is the real zero
    _bounded(np.abs(weight).sum(1) * inputs[0].reach + np.abs(folded), require)


def _add(model, operation, inputs, output, require):
    require(all(t.shape == output.shape for t in inputs), "shapes of inputs and output differ")
    channels = output.shape[1]
    m1, m2, c = (_array(model, operation, name, np.int32, [(channels,)], require) for name in ("m1", "m2", "c"))
    n = _array(model, operation, "n", np.uint8, [(channels,)], require)
    require((np.abs([m1, m2]) <= 65535).all() and (n >= 1).all() and (n <= 30).all(), "m1, m2 within +-65535 and n in 1..30")
    require((np.abs(c) + 255 * (np.abs(m1) + np.abs(m2)) < 1 << 31).all(), "the sum does not fit 32 bits")


def _add_position(model, operation, inputs, output, require):
    _add(model, operation, inputs, output, require)
    bits = operation.attributes["position_bits"]
    require(2 <= bits <= 8, f"{bits}-bit positions")
    _array(model, operation, "position", np.uint8, [((int(np.prod(output.shape)) * bits + 7) // 8,)], require)


def _scores(model, operation, inputs, output, require):
    (query, d), (key, d_key), heads = inputs[0].shape, inputs[1].shape, operation.attributes["heads"]
    require(d == d_key and heads >= 1 and d % heads == 0 and output.shape == (heads, query, key), f"shape {output.shape}")
    require(all(t.zero_point == 0 for t in inputs) and (output.low, output.high) == (-128, 127), "needs symmetric codes, 8-bit scores")
    _multipliers(model, operation, 1, require)
    _bounded(d // heads * inputs[0].reach * inputs[1].reach, require)


def _softmax(model, operation, inputs, output, require):
    require(inputs[0].shape == output.shape and (inputs[0].low, inputs[0].high) == (-128, 127), "needs 8-bit scores of its own shape")
    require(output.low == output.zero_point == 0, "probabilities are unsigned")
    table = _array(model, operation, "table", np.uint8, [(256,)], require)
    numerator = _array(model, operation, "numerator", np.uint32, [(1,)], require)
    k = _array(model, operation, "k", np.uint8, [(1,)], require)
    require(table[0] == 255 and numerator[0] < 255 << 17 and 1 <= k[0] <= 24, "table starts at 255, reciprocal < 2**17, k in 1..24")


def _context(model, operation, inputs, output, require):
    (heads, query, key), (key_value, d) = inputs[0].shape, inputs[1].shape
    require(key == key_value and heads == operation.attributes["heads"] and d % heads == 0 and output.shape == (query, d), "shapes")
    require(all(t.zero_point == 0 for t in inputs), "products of two activations need zero point 0")
    _multipliers(model, operation, 1, require)
    _bounded(key * inputs[0].reach * inputs[1].reach, require)


def _pool(model, operation, inputs, output, require):
    require(output.shape == (1, inputs[0].shape[1]), f"pools {inputs[0].shape} into {output.shape}")
    _multipliers(model, operation, 1, require)
    _bounded(inputs[0].shape[0] * 255, require)


def _rearranged(model, operation, inputs, output, require):
    require(inputs[0].limits == output.limits, "moving codes must not change their range")
    size, wanted = int(np.prod(inputs[0].shape)), int(np.prod(output.shape))
    if operation.kind == "reshape":
        require(size == wanted, f"cannot reshape {inputs[0].shape} to {output.shape}")
    elif operation.kind == "last_tokens":
        require(inputs[0].shape[0] >= output.shape[0] and inputs[0].shape[1:] == output.shape[1:], f"has no {output.shape} to take")
    else:
        label = operation.attributes["label"]
        require(1 <= label <= inputs[0].shape[0] and label < output.shape[0] and output.shape[1] == 1, f"label {label}")


def _output(model, operation, inputs, output, require):
    _multipliers(model, operation, 1, require)


INPUTS = {"quantise": 0, "add": 2, "scores": 2, "context": 2}
CHECKS = {
    "quantise": _quantise,
    "requantise": _requantise,
    "linear": _linear,
    "add": _add,
    "add_position": _add_position,
    "scores": _scores,
    "softmax": _softmax,
    "context": _context,
    "pool": _pool,
    "reshape": _rearranged,
    "placeholders": _rearranged,
    "last_tokens": _rearranged,
    "output": _output,
}
