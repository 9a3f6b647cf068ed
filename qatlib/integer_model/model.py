"""The exported model: a list of integer operations and their arrays. Load, save, check, describe, run; numpy alone."""

import math
from dataclasses import asdict, dataclass

import numpy as np

from qatlib.integer_model import artifact, check, kernels
from qatlib.integer_model.program import Operation, ProgramError, Tensor, require, unpack
from qatlib.integer_model.units import in_units
from qatlib.system import disk

CHUNK = 256  # windows computed at a time; keeps what is in flight in the cache
IN_FLIGHT = 1 << 22  # codes of a chunk: fewer windows of large models


@dataclass(frozen=True)
class IntegerModel:
    """A forecaster in integers. `anchor` is the constant count that is subtracted, None where it is each window's last
    count.

    resolution: sensor units per count; context, horizon: samples.
    """

    name: str
    context: int
    horizon: int
    resolution: float
    anchor: int | None
    operations: tuple
    tensors: dict
    arrays: dict

    def __post_init__(self):
        check.check(self)

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
        document = {name: getattr(self, name) for name in ("name", "context", "horizon", "resolution", "anchor")}
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
        """Forecast in counts: int16 (windows, context) -> int16 (windows, horizon). `mcu.compiled` makes the same
        function in C."""
        counts = self.checked(counts)
        m, n = (int(self.arrays[f"output.{name}"][0]) for name in ("m", "n"))
        zero_point = self.tensors[self.operations[-1].inputs[0]].zero_point
        return kernels.output_counts(self.output_codes(counts), m, n, zero_point, self._anchor(counts))

    def output_codes(self, counts):
        """Codes of the output tensor, before the anchor is added back: int32 (windows, horizon)."""
        counts = self.checked(counts)
        chunk = min(CHUNK, max(1, IN_FLIGHT // max(math.prod(t.shape) for t in self.tensors.values())))
        parts = [self._run(counts[i : i + chunk]) for i in range(0, len(counts), chunk)]
        return np.concatenate(parts) if parts else np.empty((0, self.horizon), np.int32)

    def predict(self, values):
        """Forecast in sensor units: (windows, context) or (context,) -> float64 of the same dimensions. Raises
        ValueError out of range."""
        return in_units(values, self.resolution, self.horizon, self.forward)

    def describe(self):
        """The program as text: one line an operation, with result shape, bits and stored bytes."""
        lines = [
            (
                f"{self.name}: {self.context} counts of {self.resolution:g} -> {self.horizon} counts, "
                f"{self.size_bytes} bytes stored"
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
        """The counts as an array, if they are int16 (windows, context). TypeError, ValueError"""
        counts = np.asarray(counts)
        if counts.dtype != np.int16:
            raise TypeError(f"counts are {counts.dtype}, not int16; `predict` takes values in sensor units")
        if counts.ndim != 2 or counts.shape[1] != self.context:
            raise ValueError(f"counts have shape {counts.shape}; this model takes (windows, {self.context})")
        return counts

    def _anchor(self, counts):
        return counts[:, -1:].astype(np.int64) if self.anchor is None else self.anchor

    def _run(self, counts):
        last_use = {name: i for i, operation in enumerate(self.operations) for name in operation.inputs}
        tensors = {}
        for i, operation in enumerate(self.operations[:-1]):
            inputs = [tensors[name] for name in operation.inputs] or [counts.astype(np.int64) - self._anchor(counts)]
            tensors[operation.output] = getattr(self, "_" + operation.kind)(operation, *inputs)
            for name in set(operation.inputs):
                if last_use[name] == i:
                    del tensors[name]
        return tensors[self.operations[-1].inputs[0]].reshape(len(counts), self.horizon)

    def _array(self, operation, name):
        return self.arrays[f"{operation.path}.{name}"]

    def _requantised(self, operation, accumulator):
        m, n = self._array(operation, "m"), self._array(operation, "n")
        return kernels.requantise(accumulator, m, n, *self.tensors[operation.output].limits)

    def _quantise(self, operation, difference):
        return self._requantised(operation, difference[:, :, None])

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
        bits = operation.attributes["position_bits"]
        return self._add(operation, x, unpack(self._array(operation, "position"), bits, x.shape[1:]))

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
    facts = _fields(
        document, "the model", {"name", "context", "horizon", "resolution", "anchor", "operations", "tensors"}
    )
    operations, tensors = facts["operations"], facts["tensors"]
    listed = isinstance(operations, list) and isinstance(tensors, dict)
    require(listed, "operations must be a list, tensors an object with their names")
    return facts | {
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
