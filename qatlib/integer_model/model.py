"""The exported model: a list of integer operations and their arrays. Load, save, check, describe, run; numpy alone."""

import math
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property

import numpy as np

from qatlib.integer_model import artifact, check, detection, kernels
from qatlib.integer_model.program import Channel, Operation, ProgramError, Tensor, require, unpack
from qatlib.integer_model.units import in_units
from qatlib.system import disk

CHUNK = 256  # windows computed at a time; keeps what is in flight in the cache
IN_FLIGHT = 1 << 22  # codes of a chunk: fewer windows of large models

CHANNEL = {field.name for field in fields(Channel)}
FACTS = ("name", "task", "context", "horizon", "mode", "targets", "labels", "threshold")  # plain values of the document


@dataclass(frozen=True)
class IntegerModel:
    """A forecaster in integers, of one channel or several. context, horizon: samples.

    mode: `independent`, where every channel goes through the program by itself, with input and output multipliers of
    its own, or `mixed`, where the program sees all channels at once. targets: indices of the channels that are
    forecast. Windows are int16 (windows, context, channel), forecasts int16 (windows, horizon, target); of a single
    channel, both without the last axis.

    task: `forecast`, or `classify`: then the horizon holds a score for each of the labels, which is a code without its
    zero point, and no anchor is added; windows of several channels are mixed; or `detect`: a forecast of all channels,
    at once, by which rows are judged, see `detection`; a score above the threshold is a flag.
    """

    name: str
    context: int
    horizon: int
    channels: tuple
    operations: tuple
    tensors: dict
    arrays: dict
    mode: str = "independent"
    targets: tuple = (0,)
    task: str = "forecast"
    labels: tuple = ()
    threshold: int | None = None

    def __post_init__(self):
        check.check(self)

    @property
    def resolution(self):
        """Sensor units per count: of a single channel a number, of several float64 (channel,)."""
        steps = [channel.resolution for channel in self.channels]
        return steps[0] if len(steps) == 1 else np.array(steps)

    @property
    def inputs(self):
        """Channels that one pass of the program sees."""
        return len(self.channels) if self.mode == "mixed" else 1

    def channel(self, i):
        """An independent model of several channels as that of one of them. ValueError for a mixed one."""
        if self.mode != "independent":
            raise ValueError(f"{self.name}: its channels are mixed, none goes alone")
        ends = {f"{o.path}.{a}" for o in (self.operations[0], self.operations[-1]) for a in ("m", "n")}
        own = {name: self.arrays[name][i : i + 1] for name in ends if len(self.arrays[name]) > 1}
        return replace(self, channels=(self.channels[i],), targets=(0,), arrays=self.arrays | own)

    @cached_property
    def _alone(self):
        """Of several independent channels a model each."""
        several = self.mode == "independent" and len(self.channels) > 1
        return tuple(map(self.channel, range(len(self.channels)))) if several else ()

    @classmethod
    def load(cls, path):
        """Read a file written by `save`. Raises artifact.ArtifactError for a damaged, foreign or newer file."""
        document, arrays = artifact.read(path)
        try:
            return cls(arrays=arrays, **_described(document))
        except ProgramError as error:
            raise artifact.ArtifactError(f"{path}: no valid program: {str(error)[:300]}") from None

    def to_bytes(self):
        """The content of the file that `save` writes."""
        document = {name: getattr(self, name) for name in FACTS}
        document["channels"] = [asdict(c) for c in self.channels]
        document["operations"] = [asdict(o) for o in self.operations]
        document["tensors"] = {name: asdict(t) for name, t in self.tensors.items()}
        return artifact.encode(document, self.arrays)

    def save(self, path):
        """Write one safetensors file."""
        disk.write(path, self.to_bytes())

    @property
    def size_bytes(self):
        """All that is stored on the device: packed weights and positions, biases, multipliers, tables."""
        return sum(a.nbytes for a in self.arrays.values())

    def forward(self, counts):
        """Forecast in counts: int16 windows -> int16 forecasts. `mcu.compiled` makes the same function in C."""
        counts = self.checked(counts)
        m, n = (self.arrays[f"output.{name}"].astype(np.int64) for name in ("m", "n"))
        zero_point = self.tensors[self.operations[-1].inputs[0]].zero_point
        anchor = self._anchors(counts)[:, :, list(self.targets)]  # (window, 1, target)
        anchor = np.zeros_like(anchor) if self.task == "classify" else anchor
        codes = self.output_codes(counts).reshape(len(counts), self.horizon, len(self.targets))
        return kernels.output_counts(codes, m, n, zero_point, anchor).reshape(len(counts), *self.forecast_shape)

    def output_codes(self, counts):
        """Codes of the output tensor, before the anchors are added back: int32, of the forecasts' shape."""
        counts = self.checked(counts)
        if len(self._alone) > 1:  # one after the other, so that they take no more memory than one does
            return np.stack([one.output_codes(counts[:, :, i]) for i, one in enumerate(self._alone)], axis=-1)
        chunk = min(CHUNK, max(1, IN_FLIGHT // max(math.prod(t.shape) for t in self.tensors.values())))
        parts = [self._run(counts[i : i + chunk]) for i in range(0, len(counts), chunk)]
        return np.concatenate([np.empty((0, *self.forecast_shape), np.int32), *parts])

    @property
    def window_shape(self):
        """Of one window's counts."""
        return (self.context,) if len(self.channels) == 1 else (self.context, len(self.channels))

    @property
    def forecast_shape(self):
        plain = len(self.channels) == 1 or self.task == "classify"
        return (self.horizon,) if plain else (self.horizon, len(self.targets))

    def predict(self, values):
        """In sensor units: windows, or one window -> float64 forecasts likewise; of a classifier (labels, scores).
        Raises ValueError out of range."""
        return in_units(values, self, self.forward)

    def classify(self, counts):
        """int16 windows -> (index of the label, int64 (windows,), scores, int16 (windows, labels)): of equal scores the
        first is the highest. ValueError for a model of another task."""
        self.need("classify")
        scores = self.forward(counts)
        return scores.argmax(axis=-1), scores

    def detect(self, rows):
        """int16 rows as they come -> scores and flags, see `detection.detect`. ValueError for a model of another
        task."""
        return detection.detect(self, rows, self.forward)

    def need(self, task):
        """ValueError for a model of another task."""
        if self.task != task:
            raise ValueError(f"{self.name} does not {task}: its task is {self.task}")

    def describe(self):
        """The program as text: one line an operation, with result shape, bits and stored bytes."""
        channels = " and ".join(f"{c.name} {c.resolution:g}" for c in self.channels)
        channels += f" ({self.mode})" if len(self.channels) > 1 else ""
        lines = [
            (
                f"{self.name}: {self.context} counts of {channels} -> "
                f"{', '.join(self.labels) or f'{self.horizon} counts'}, {self.size_bytes} bytes stored"
            )
        ]
        for operation in self.operations:
            tensor = self.tensors.get(operation.output)
            shape = f"{'x'.join(map(str, tensor.shape))} in {tensor.low}..{tensor.high}" if tensor else "counts"
            stored = sum(a.nbytes for name, a in self.arrays.items() if name.rpartition(".")[0] == operation.path)
            width = next((f", {v}-bit {k[:-5]}" for k, v in operation.attributes.items() if k.endswith("_bits")), "")
            lines.append(f"  {operation.kind:13}{operation.path:36}{shape:24}{stored:6} B{width}")
        return "\n".join(lines)

    def checked(self, counts):
        """The counts as an array, if they are int16 windows of this model. TypeError, ValueError"""
        counts = np.asarray(counts)
        if counts.dtype != np.int16:
            raise TypeError(f"counts are {counts.dtype}, not int16; `predict` takes values in sensor units")
        if counts.shape[1:] != self.window_shape or not counts.ndim:
            wanted = ", ".join(map(str, ("windows", *self.window_shape)))
            raise ValueError(f"counts have shape {counts.shape}; this model takes ({wanted})")
        return counts

    def _anchors(self, counts):
        """What is subtracted from each channel: int64 (window, 1, channel)."""
        anchors = counts.reshape(len(counts), self.context, len(self.channels))[:, -1:].astype(np.int64)
        for i, channel in enumerate(self.channels):
            if channel.anchor is not None:
                anchors[:, :, i] = channel.anchor
        return anchors

    def _run(self, counts):
        """-> codes of the last tensor, int32 (window, *forecast_shape)"""
        wide = counts.reshape(len(counts), self.context, len(self.channels)).astype(np.int64) - self._anchors(counts)
        return self._codes(wide).reshape(len(counts), *self.forecast_shape)

    def _codes(self, difference):
        """difference: int64 (window, context, channel), less the anchors. -> (window, horizon * targets)"""
        last_use = {name: i for i, operation in enumerate(self.operations) for name in operation.inputs}
        tensors = {}
        for i, operation in enumerate(self.operations[:-1]):
            inputs = [tensors[name] for name in operation.inputs] or [difference]
            tensors[operation.output] = getattr(self, "_" + operation.kind)(operation, *inputs)
            for name in set(operation.inputs):
                if last_use[name] == i:
                    del tensors[name]
        return tensors[self.operations[-1].inputs[0]].reshape(len(difference), -1)

    def _array(self, operation, name):
        return self.arrays[f"{operation.path}.{name}"]

    def _requantised(self, operation, accumulator):
        m, n = self._array(operation, "m"), self._array(operation, "n")
        return kernels.requantise(accumulator, m, n, *self.tensors[operation.output].limits)

    def _quantise(self, operation, difference):
        m, n = self._array(operation, "m"), self._array(operation, "n")
        return kernels.requantise(difference, m, n, *self.tensors[operation.output].limits)

    def _reshape(self, operation, x):
        return x.reshape(len(x), *self.tensors[operation.output].shape)

    def _linear(self, operation, x):
        return self._requantised(operation, kernels.linear(x, self.weight(operation), self._array(operation, "bias")))

    def weight(self, operation):
        """The unpacked weights (out, in) of a linear operation."""
        shape = len(self._array(operation, "bias")), self.tensors[operation.inputs[0]].shape[-1]
        return unpack(self._array(operation, "weight"), operation.attributes["weight_bits"], shape)

    def _requantise(self, operation, x):
        return self._requantised(operation, x - self.tensors[operation.inputs[0]].zero_point)

    def _add(self, operation, x, y):
        m1, m2, c, n = (self._array(operation, name) for name in ("m1", "m2", "c", "n"))
        return kernels.add(x, y, m1, m2, c, n, *self.tensors[operation.output].limits)

    def _add_position(self, operation, x):
        return self._add(operation, x, self.position(operation))

    def position(self, operation):
        """The unpacked positions (token, channel) of an add_position."""
        shape = self.tensors[operation.output].shape
        return unpack(self._array(operation, "position"), operation.attributes["position_bits"], shape)

    def _scores(self, operation, query, key):
        return self._requantised(operation, kernels.scores(query, key, operation.attributes["heads"]))

    def _softmax(self, operation, scores):
        numerator, k = int(self._array(operation, "numerator")[0]), int(self._array(operation, "k")[0])
        return kernels.softmax(
            scores, self._array(operation, "table"), numerator, k, self.tensors[operation.output].high
        )

    def _context(self, operation, probabilities, value):
        return self._requantised(operation, kernels.context(probabilities, value, operation.attributes["heads"]))

    def _pool(self, operation, x):
        return self._requantised(operation, kernels.pool(x, self.tensors[operation.inputs[0]].zero_point))

    def _placeholders(self, operation, samples):
        shape, label = self.tensors[operation.output].shape, operation.attributes["label"]
        zeros = np.full((len(samples), shape[0] - label, shape[1]), self.tensors[operation.output].zero_point, np.int32)
        return np.concatenate([samples[:, -label:], zeros], axis=1)

    def _last_tokens(self, operation, x):
        return x[:, -self.tensors[operation.output].shape[0] :]


def _described(document):
    """A file's document as arguments of IntegerModel; what the names and numbers are worth is for `check`."""
    facts = _fields(document, "the model", {*FACTS, "channels", "operations", "tensors"})
    operations, tensors = facts["operations"], facts["tensors"]
    listed = all(isinstance(facts[name], list) for name in ("channels", "targets", "labels", "operations"))
    listed = listed and isinstance(tensors, dict)
    require(listed, "channels, targets, labels and operations must be lists, tensors an object with their names")
    return facts | {
        "channels": tuple(Channel(**_fields(c, f"channel {i}", CHANNEL)) for i, c in enumerate(facts["channels"])),
        "targets": tuple(facts["targets"]),
        "labels": tuple(facts["labels"]),
        "operations": tuple(_operation(o, f"operation {i}") for i, o in enumerate(operations)),
        "tensors": {name: _tensor(t, f"tensor {name!r}") for name, t in tensors.items()},
    }


def _operation(entry, what):
    facts = _fields(entry, what, {"kind", "path", "inputs", "output", "attributes"})
    named = all(isinstance(facts[name], str) for name in ("kind", "path", "output"))
    read = isinstance(facts["inputs"], list) and all(isinstance(name, str) for name in facts["inputs"])
    require(named and read, f"{what}: kind, path, output and inputs must be names")
    return Operation(**facts | {"inputs": tuple(facts["inputs"])})


def _tensor(entry, what):
    facts = _fields(entry, what, {"shape", "low", "high", "zero_point"})
    require(isinstance(facts["shape"], list), f"{what}: its shape must be a list of numbers")
    return Tensor(**facts | {"shape": tuple(facts["shape"])})


def _fields(entry, what, names):
    given = entry.keys() if isinstance(entry, dict) else set()
    require(given == names, f"{what} must have {', '.join(sorted(names))}; wrong: {', '.join(sorted(given ^ names))}")
    return entry
