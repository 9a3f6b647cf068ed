"""The kinds of operations: what each has, and what its shapes, codes and arrays must be."""

import math
from dataclasses import dataclass, field

import numpy as np

from qatlib.integer_model import detection, kernels
from qatlib.integer_model.program import LONGEST, require


@dataclass(frozen=True)
class Step:
    """An operation with its tensors, to be checked."""

    model: object
    operation: object
    title: str
    inputs: list
    output: object

    def require(self, condition, what):
        require(condition, f"{self.title}: {what}")

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
    wanted = (step.model.context, step.model.inputs)
    step.require(step.output.shape == wanted, f"its output is {step.output.shape}, not {wanted}")
    step.scale(len(step.model.channels))


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
    # the constant when the input is the real zero
    folded = bias + step.inputs[0].zero_point * weight.sum(1, dtype=np.int64)
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
    shape, horizon, targets = step.inputs[0].shape, step.model.horizon, len(step.model.targets)
    wanted = horizon * (targets if step.model.mode == "mixed" else 1)
    step.require(math.prod(shape) == wanted, f"the output tensor has shape {shape}, {wanted} codes are forecast")
    step.scale(targets)
    if step.model.task == "classify":
        one = [step.array(name, dtype, 1).tolist() for name, dtype in (("m", np.uint16), ("n", np.uint8))]
        step.require(one == [[1 << 15], [15]], "scores are codes as they are: m is 2**15 and n is 15")
    if step.model.task == "detect":
        step.require((step.array("weight", np.uint16, targets) >= 1).all(), "the weight of an error is at least 1")
        within = step.attribute("ahead") or horizon <= step.model.context
        step.require(within, f"{horizon} rows cannot be those of a window of {step.model.context}")


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
DETECTOR = Kind(
    _output, arrays=("m", "n", "weight"), attributes={"ahead": (0, 1), "smoothing": (0, detection.MOST_SMOOTHING)}
)


def kind_of(model, operation):
    """What the operation must have; a detector's last one has more than a forecaster's."""
    return DETECTOR if operation.kind == "output" and model.task == "detect" else KINDS[operation.kind]
