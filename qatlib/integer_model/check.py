"""The contract of an integer program: what NumPy, C and the engine may take for granted. A model that breaks it is not
made at all.

- Names are of letters, digits and underscores, a model's of hyphens and dots too, paths of such names with dots between
  them.
- An operation and its result share one name, its path, which no other operation has. Every result is read later, by
  operations after it.
- `quantise` comes first, `output` last, each once.
- Independent channels go through the program one by one and all are forecast; of mixed ones it takes all at once and
  forecasts those at `targets`. Multipliers of `quantise` and `output` are one for all, or one for each.
- A classifier's `output` multiplies by 1, and adds no anchor. A detector's has a weight for each channel.
- Arrays and attributes are exactly those of KINDS, of the one shape and dtype that the tensors ask for.
- A tensor holds codes of 2 to 8 bits in one byte, signed or unsigned, 0 among them. Weights, queries, keys and values
  leave out -128.
- Rows of channels have two dimensions; scores and probabilities have three.
- No accumulator reaches 2**24, no sum of an add 2**31, and nothing needs more room or time than LARGEST and LONGEST
  allow.
"""

import math
import re

from qatlib.integer_model import kernels
from qatlib.integer_model.kinds import KINDS, Step, kind_of
from qatlib.integer_model.program import LONGEST, require

LARGEST = 1 << 21  # codes of all tensors of a window together
MOST_CHANNELS = MOST_LABELS = 64
TASKS = ("forecast", "classify", "detect")
MOST_PRODUCTS = 1 << 28  # of a window
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}", re.ASCII)
PATH = re.compile(r"(?=.{1,100}$)[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)*", re.ASCII)
RANGES = {kernels.code_range(bits, unsigned=unsigned) for bits in range(2, 9) for unsigned in (False, True)} | {
    (-127, 127)
}


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
        products += _check_operation(model, operation) * (len(model.channels) // model.inputs)
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
    require(model.task in TASKS, f"task {model.task!r}: this qatlib knows {', '.join(TASKS)}")
    flags = model.task == "detect"
    limit = is_whole(model.threshold, 0, (1 << 53) - 1) if flags else model.threshold is None
    require(limit, f"threshold {model.threshold!r}: a detector has a whole number, the others have None")
    _check_channels(model)
    _check_labels(model)


def _check_labels(model):
    """A classifier's; its scores are codes as they are, of one row."""
    whole = model.mode == "mixed" or len(model.channels) == 1
    if model.task == "detect":
        every = model.targets == tuple(range(len(model.channels)))
        require(whole and every, "a detector sees all channels at once, and its targets are all of them")
    if model.task != "classify":
        return require(model.labels == (), f"a model to {model.task} has no labels")
    named = all(isinstance(label, str) and NAME.fullmatch(label) for label in model.labels)
    require(named, f"labels {model.labels!r} are not of 1 to 100 letters, digits, . _ -")
    several = 2 <= len(model.labels) == len(set(model.labels)) == model.horizon <= MOST_LABELS
    require(several, f"a classifier has a label for each of 2 to {MOST_LABELS} scores, and none twice")
    require(whole and model.targets == (0,), "a classifier sees all channels at once; its targets are (0,)")


def _check_channels(model):
    count = len(model.channels)
    require(1 <= count <= MOST_CHANNELS, f"it has {count} channels; 1 to {MOST_CHANNELS} are possible")
    for i, channel in enumerate(model.channels):
        named = isinstance(channel.name, str) and NAME.fullmatch(channel.name)
        require(named, f"channel {i}: its name {channel.name!r} is not of 1 to 100 letters, digits, . _ -")
        step, anchor = channel.resolution, channel.anchor
        # so that no forecast becomes 0 or infinite
        usable = isinstance(step, float) and 1e-300 <= step <= 1e300
        require(usable, f"channel {i}: resolution {step!r} must be a positive number of sensor units")
        fits = anchor is None or is_whole(anchor, kernels.COUNT_MIN, kernels.COUNT_MAX)
        require(fits, f"channel {i}: anchor {anchor!r} must be None or a 16-bit count")
    names = [channel.name for channel in model.channels]
    require(len(set(names)) == len(names), "two channels have one name")
    require(model.mode in ("independent", "mixed"), f"mode {model.mode!r} must be independent or mixed")
    known = all(is_whole(target, 0, count - 1) for target in model.targets)
    ordered = known and model.targets and list(model.targets) == sorted(set(model.targets))
    require(ordered, f"targets {model.targets} must be indices of channels, in their order")
    require(model.mode == "mixed" or len(model.targets) == count, "independent channels are all forecast")


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
    expected = {f"{o.path}.{name}" for o in model.operations for name in kind_of(model, o).arrays}
    surplus, missing = sorted(set(model.arrays) - expected), sorted(expected - set(model.arrays))
    require(not missing, f"the array {', '.join(missing[:3])} is missing")
    require(not surplus, f"nothing uses the array {', '.join(map(repr, surplus[:3]))}")


def _check_operation(model, operation):
    """-> its multiply-accumulates."""
    kind, title = kind_of(model, operation), _title(operation)
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
