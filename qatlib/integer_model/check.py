"""The contract of an integer program: what NumPy, C and the engine may take for granted. A model that breaks it is not
made at all.

- Names are of letters, digits and underscores, a model's of hyphens and dots too, paths of such names with dots between
them. - An operation and its result share one name, its path, which no other operation has. Every result is read later,
by operations after it. - `quantise` comes first, `output` last, each once. Its arrays and attributes are exactly those
of KINDS, of the one shape and dtype
  that the tensors ask for.
- A tensor holds codes of 2 to 8 bits in one byte, signed or unsigned, 0 among them. Weights, queries, keys and values
leave out -128. - Rows of channels have two dimensions; scores and probabilities have three. - No accumulator reaches
2**24, no sum of an add 2**31, and nothing needs more room or time than LARGEST and LONGEST allow.
"""

import math
import re
from dataclasses import dataclass, field

import numpy as np

from qatlib.integer_model import kernels

LONGEST = 1 << 16  # samples, tokens, channels
LARGEST = 1 << 21  # codes of all tensors of a window together
MOST_PRODUCTS = 1 << 28  # of a window
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", re.ASCII)
PATH = re.compile(r"(?=.{1,100}$)[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*", re.ASCII)
RANGES = {kernels.code_range(bits, unsigned=unsigned) for bits in range(2, 9) for unsigned in (False, True)} | {
    (-127, 127)
}


class ProgramError(ValueError):
    """A program that breaks the contract; the message names the operation or tensor and what is wrong with it."""


def require(condition, what):
    if not condition:
        raise ProgramError(what)


def is_whole(value, low, high):
    """Whether it is an int, and no bool, of low..high."""
    return type(value) is int and low <= value <= high


def check(model):
    """Raises ProgramError where an IntegerModel breaks the contract."""
    _check_facts(model)
    for name, tensor in model.tensors.items():
        _check_tensor(name, tensor)
    sizes = sum(math.prod(tensor.shape) for tensor in model.tensors.values())
    require(
        sizes <= LARGEST,
        f"its tensors hold {sizes} codes a window, more than {LARGEST}; no device of this project has such room",
    )
    _check_order(model)
    _check_arrays(model)
    products = 0
    for operation in model.operations:
        products += _check_operation(model, operation)
        require(
            products <= MOST_PRODUCTS, f"{_title(operation)}: more than {MOST_PRODUCTS} multiply-accumulates a window"
        )


def _title(operation):
    return f"{operation.kind} {operation.path}"


def _check_facts(model):
    require(
        isinstance(model.name, str) and NAME.fullmatch(model.name),
        f"name {model.name!r} is not of 1 to 100 letters, digits, . _ -",
    )
    for what in ("context", "horizon"):
        value = getattr(model, what)
        require(is_whole(value, 1, LONGEST), f"{what} {value!r} must be a number of samples, at most {LONGEST}")
    usable = (
        isinstance(model.resolution, float) and 1e-300 <= model.resolution <= 1e300
    )  # no forecast becomes 0 or infinite
    require(usable, f"resolution {model.resolution!r} must be a positive number of sensor units")
    fits = model.anchor is None or is_whole(model.anchor, kernels.COUNT_MIN, kernels.COUNT_MAX)
    require(fits, f"anchor {model.anchor!r} must be None or a 16-bit count")


def _check_tensor(name, tensor):
    require(
        isinstance(name, str) and PATH.fullmatch(name),
        f"tensor {name!r}: no name of letters, digits and _, with dots between",
    )
    shaped = (
        isinstance(tensor.shape, tuple)
        and 2 <= len(tensor.shape) <= 3
        and all(is_whole(n, 1, LONGEST) for n in tensor.shape)
    )
    whole = all(is_whole(v, -128, 255) for v in (tensor.low, tensor.zero_point, tensor.high))
    possible = whole and (tensor.low, tensor.high) in RANGES and tensor.low <= tensor.zero_point <= tensor.high
    require(shaped and possible, f"tensor {name}: impossible range or shape {tensor}")


def _check_order(model):
    """Names, and who reads what."""
    require(model.operations, "a program begins with `quantise` and ends with `output`; this one is empty")
    results, last, unread = set(), model.operations[-1], set()
    for operation in model.operations:
        require(
            PATH.fullmatch(operation.path),
            f"path {operation.path!r} is not of 1 to 100 letters, digits and _, with dots between",
        )
        require(operation.kind in KINDS, f"{operation.kind!r} {operation.path}: unknown operation")
        require(
            operation.output == operation.path,
            f"{_title(operation)}: its result must have its name, not {operation.output!r}",
        )
        require(operation.path not in results, f"{_title(operation)}: another operation has this name")
        computed = set(operation.inputs) <= results
        require(computed, f"{_title(operation)}: inputs {operation.inputs} are not computed before it")
        results.add(operation.path)
        unread = (unread | {operation.path}) - set(operation.inputs)
    ends = [o for o in model.operations if o.kind in ("quantise", "output")]
    bounded = [model.operations[0].kind, last.kind] == ["quantise", "output"] and len(ends) == 2
    require(bounded, "a program begins with `quantise` and ends with `output`, and has no other of either")
    require(last.path == "output", f"{_title(last)}: it must be named output")
    require(
        unread == {"output"}, f"nothing reads {', '.join(sorted(unread - {'output'}))}; leave it out of the program"
    )
    declared = set(model.tensors)
    require(
        declared == results - {"output"},
        f"tensors and results differ: {', '.join(sorted(declared ^ (results - {'output'})))}",
    )


def _check_arrays(model):
    expected = {f"{o.path}.{name}" for o in model.operations for name in KINDS[o.kind].arrays}
    surplus, missing = sorted(set(model.arrays) - expected), sorted(expected - set(model.arrays))
    require(not missing, f"the array {', '.join(missing[:3])} is missing")
    require(not surplus, f"nothing uses the array {', '.join(map(repr, surplus[:3]))}")


def _check_operation(model, operation):
    """-> its multiply-accumulates."""
    kind, title = KINDS[operation.kind], _title(operation)
    require(len(operation.inputs) == kind.inputs, f"{title}: takes {kind.inputs} inputs, not {len(operation.inputs)}")
    named = isinstance(operation.attributes, dict) and operation.attributes.keys() == kind.attributes.keys()
    require(
        named, f"{title}: its attributes must be {', '.join(kind.attributes) or 'none'}, not {operation.attributes}"
    )
    for name, (low, high) in kind.attributes.items():
        value = operation.attributes[name]
        require(is_whole(value, low, high), f"{title}: {name} is {value!r}, no whole number of {low} to {high}")
    inputs = [model.tensors[name] for name in operation.inputs]
    output = model.tensors.get(operation.output)
    for tensor, rank in zip([*inputs, output][: len(inputs) + (output is not None)], kind.ranks):
        require(len(tensor.shape) == rank, f"{title}: the shape {tensor.shape} must have {rank} dimensions")
    step = Step(model, operation, title, inputs, output)
    return kind.check(step) or 0


@dataclass(frozen=True)
class Step:
    """An operation with its tensors, to be checked."""

    model: object
    operation: object
    title: str
    inputs: list
    output: object

    def require(self, condition, what):
        if not condition:
            raise ProgramError(f"{self.title}: {what}")

    def attribute(self, name):
        return self.operation.attributes[name]

    def array(self, name, dtype, length):
        """The array, int64, of one dimension and that length."""
        array = self.model.arrays[f"{self.operation.path}.{name}"]
        fits = isinstance(array, np.ndarray) and array.dtype == dtype and array.shape == (length,)
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        self.require(fits, f"{name} is {found}, not {np.dtype(dtype)} ({length},)")
        return array.astype(np.int64)

    def scale(self, channels=1):
        """m and n, one for all or one for each of the channels."""
        given = np.size(self.model.arrays[f"{self.operation.path}.m"])
        length = channels if given != 1 else 1
        m, n = self.array("m", np.uint16, length), self.array("n", np.uint8, length)
        self.require(
            (m >= 1 << 15).all() and ((n >= 1) & (n <= 40)).all(), "m needs its top bit set, and n lies in 1..40"
        )

    def bounded(self, reach):
        reach = int(np.max(reach))
        limit = kernels.ACCUMULATOR_LIMIT
        self.require(reach < limit, f"an accumulator can reach {reach}, the limit is 2**24; use fewer bits or inputs")


def _quantise(step):
    wanted = (step.model.context, 1)
    step.require(step.output.shape == wanted, f"its output is {step.output.shape}, not {wanted}")
    step.scale()


def _requantise(step):
    step.require(step.inputs[0].shape == step.output.shape, f"turns {step.inputs[0].shape} into {step.output.shape}")
    step.scale()


def _linear(step):
    (tokens, width), bits = step.inputs[0].shape, step.attribute("weight_bits")
    step.require(step.output.shape[0] == tokens, f"turns {step.inputs[0].shape} into {step.output.shape}")
    channels = step.output.shape[1]
    bias = step.array("bias", np.int32, channels)
    step.array("weight", np.uint8, (channels * width * bits + 7) // 8)
    step.scale(channels)
    weight = step.model.weight(step.operation)
    step.require(weight.min() >= -127, "8-bit weights leave out -128")
    folded = bias + step.inputs[0].zero_point * weight.sum(
        1, dtype=np.int64
    )  # the constant when the input is the real zero
    step.bounded(np.abs(weight).sum(1, dtype=np.int64) * step.inputs[0].reach + np.abs(folded))
    return tokens * width * channels


def _add(step):
    step.require(all(t.shape == step.output.shape for t in step.inputs), "shapes of inputs and output differ")
    channels = step.output.shape[1]
    m1, m2, c = (step.array(name, np.int32, channels) for name in ("m1", "m2", "c"))
    n = step.array("n", np.uint8, channels)
    step.require((np.abs([m1, m2]) <= 65535).all(), "m1, m2 within +-65535")
    step.require(((n >= 1) & (n <= 30)).all(), "n in 1..30")
    step.require((np.abs(c) + 255 * (np.abs(m1) + np.abs(m2)) < 1 << 31).all(), "the sum does not fit 32 bits")


def _add_two(step):
    step.require(len(set(step.operation.inputs)) == 2, "adds two different tensors")
    _add(step)


def _add_position(step):
    _add(step)
    step.array("position", np.uint8, (math.prod(step.output.shape) * step.attribute("position_bits") + 7) // 8)


def _product_operand(step, tensor):
    plain = tensor.zero_point == 0 and -127 <= tensor.low < 0
    step.require(plain, f"takes symmetric codes within +-127 and zero point 0, not {tensor}")


def _scores(step):
    (query, d), (key, d_key), heads = step.inputs[0].shape, step.inputs[1].shape, step.attribute("heads")
    step.require(
        d == d_key and d % heads == 0 and step.output.shape == (heads, query, key), f"shape {step.output.shape}"
    )
    step.require((step.output.low, step.output.high) == (-128, 127), "needs 8-bit scores")
    for tensor in step.inputs:
        _product_operand(step, tensor)
    step.scale()
    step.bounded(d // heads * step.inputs[0].reach * step.inputs[1].reach)
    return query * key * d


def _softmax(step):
    x = step.inputs[0]
    step.require(x.shape == step.output.shape and (x.low, x.high) == (-128, 127), "needs 8-bit scores of its own shape")
    step.require(step.output.low == step.output.zero_point == 0, "probabilities are unsigned")
    table, k = step.array("table", np.uint8, 256), step.array("k", np.uint8, 1)
    numerator = step.array("numerator", np.uint32, 1)
    step.require(table[0] == 255, "the table starts at 255")  # so no row adds up to nothing
    step.require(numerator[0] < 255 << 17 and 1 <= k[0] <= 24, "every reciprocal < 2**17, and k in 1..24")


def _context(step):
    (heads, query, key), (key_value, d) = step.inputs[0].shape, step.inputs[1].shape
    divided = heads == step.attribute("heads") and d % heads == 0
    step.require(
        divided and key == key_value and step.output.shape == (query, d), f"shapes {[t.shape for t in step.inputs]}"
    )
    step.require(step.inputs[0].low == step.inputs[0].zero_point == 0, "probabilities are unsigned, with zero point 0")
    _product_operand(step, step.inputs[1])
    step.scale()
    step.bounded(key * step.inputs[0].reach * step.inputs[1].reach)
    return query * key * d


def _pool(step):
    x = step.inputs[0]
    step.require(step.output.shape == (1, x.shape[1]), f"pools {x.shape} into {step.output.shape}")
    step.scale()
    step.bounded(x.shape[0] * x.reach)


def _moved(step):
    step.require(step.inputs[0].limits == step.output.limits, "moving codes must not change their range")


def _reshape(step):
    _moved(step)
    before, after = step.inputs[0].shape, step.output.shape
    step.require(math.prod(before) == math.prod(after), f"cannot reshape {before} to {after}")


def _placeholders(step):
    _moved(step)
    (samples, width), (tokens, channels), label = step.inputs[0].shape, step.output.shape, step.attribute("label")
    step.require(
        width == channels == 1 and label <= samples and label < tokens,
        f"label {label} of {samples} samples in {tokens}",
    )


def _last_tokens(step):
    _moved(step)
    before, after = step.inputs[0].shape, step.output.shape
    step.require(before[0] >= after[0] and before[1] == after[1], f"{before} has no {after} to take")


def _output(step):
    shape, horizon = step.inputs[0].shape, step.model.horizon
    step.require(math.prod(shape) == horizon, f"the output tensor has shape {shape}, the horizon is {horizon}")
    step.scale()


@dataclass(frozen=True)
class Kind:
    """What an operation of a kind has. check: of a Step, -> its multiply-accumulates or None; inputs: how many; ranks:
    dimensions of the inputs and of the result; attributes: {name: (lowest, highest)}."""

    check: object
    inputs: int = 1
    arrays: tuple = ("m", "n")
    attributes: dict = field(default_factory=dict)
    ranks: tuple = (2, 2, 2)


FACTORS = ("m1", "m2", "c", "n")
HEADS = {"heads": (1, LONGEST)}
KINDS = {
    "quantise": Kind(_quantise, inputs=0),
    "requantise": Kind(_requantise),
    "linear": Kind(_linear, arrays=("m", "n", "weight", "bias"), attributes={"weight_bits": (2, 8)}),
    "add": Kind(_add_two, inputs=2, arrays=FACTORS),
    "add_position": Kind(_add_position, arrays=(*FACTORS, "position"), attributes={"position_bits": (2, 8)}),
    "scores": Kind(_scores, inputs=2, attributes=HEADS, ranks=(2, 2, 3)),
    "softmax": Kind(_softmax, arrays=("table", "numerator", "k"), ranks=(3, 3)),
    "context": Kind(_context, inputs=2, attributes=HEADS, ranks=(3, 2, 2)),
    "pool": Kind(_pool),
    "reshape": Kind(_reshape, arrays=()),
    "placeholders": Kind(_placeholders, arrays=(), attributes={"label": (1, LONGEST)}),
    "last_tokens": Kind(_last_tokens, arrays=()),
    "output": Kind(_output),
}
