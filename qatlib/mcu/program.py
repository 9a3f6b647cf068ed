"""The calls and constants of a model in C: one call of `kernels.c` for every operation, its arrays as constants."""

import math

import numpy as np

from qatlib.integer_model.model import IntegerModel
from qatlib.mcu import workspace


class Program:
    """`calls`, `constants`: lines of C. `workspace`: bytes of memory that a forecast needs beside its stack.

    It is for any processor; `sources` are the files of its functions, of which later ones replace their namesakes.
    """

    sources = ("kernels",)
    element, bytes_each = "int8_t", 1  # what holds a value

    def __init__(self, model: IntegerModel):
        self.model, self.constants, self.calls, self.shifts = model, [], [], 0
        self.labels = {o.path: f"{o.kind}_{i}" for i, o in enumerate(model.operations)}
        self.operations = self._operations()
        self.places, self.workspace = workspace.arrange(self.operations, self._size, self._scratch, self._renames)
        for operation in self.operations:
            if not self._renames(operation):
                getattr(self, "_" + operation.kind)(operation)

    def functions(self, name):
        """Lines of the two functions that forecast, where the program has its own; else windows go one by one."""
        return []

    def _operations(self):
        return self.model.operations

    def _size(self, name):
        """Bytes of a tensor."""
        return self.bytes_each * math.prod(self.model.tensors[name].shape)

    def _renames(self, operation):
        return operation.kind == "reshape"

    def _scratch(self, operation):
        """Bytes that a product needs for one call: for two rows of weights unpacked, or a head's values transposed."""
        if operation.kind == "linear" and (operation.attributes["weight_bits"] < 8 or self.bytes_each > 1):
            return 2 * self._shapes(operation)[2] * self.bytes_each
        if operation.kind == "context":
            shapes, heads, _ = self._shapes(operation)
            return math.prod(shapes[1]) // heads * self.bytes_each
        return 0

    def _shapes(self, operation):
        """Of a product's inputs; its heads; columns that are multiplied for each of its results."""
        shapes = [self.model.tensors[name].shape for name in operation.inputs]
        heads = operation.attributes.get("heads", 1)
        return shapes, heads, shapes[0][-1] // (heads if operation.kind == "scores" else 1)

    def _scratch_place(self, operation):
        place = self.places.get((operation.path, "scratch"))
        return "0" if place is None else f"workspace + {place // self.bytes_each}"

    def _place(self, name):
        return f"workspace + {self.places[name] // self.bytes_each}"

    def _constant(self, operation, name, array, kind):
        """A constant array; -> its name in C."""
        label = f"{self.labels[operation.path]}_{name}"
        array = np.ravel(array)
        values = ", ".join(map(str, array.tolist()))
        self.constants.append(f"static const {kind} {label}[{len(array)}] = {{{values}}};")
        return label

    def _scale(self, operation):
        """As kernels.c has it: an accumulator has 25 bits with its sign, which leaves seven for shifting it up."""
        m, n = (self.model.arrays[f"{operation.path}.{name}"].astype(np.int64) for name in ("m", "n"))
        up = np.maximum(17 - n, 0)
        general = (up > 7) | (n > 32)
        shifts = np.where(general, -n, up)
        self.shifts = max(self.shifts, 2 if general.any() else int(shifts.any()))
        fields = [self._constant(operation, "m", np.where(general, m, m << np.maximum(32 - n - up, 0)), "int32_t")]
        fields += [self._constant(operation, "n", shifts, "int8_t") if shifts.any() else "0", len(m)]
        label = f"{self.labels[operation.path]}_scale"
        self.constants.append(f"static const scale {label} = {{{', '.join(map(str, fields))}}};")
        return f"&{label}"

    def _result(self, operation):
        """Its place and its range."""
        return self._place(operation.output), self._range(operation)

    def _range(self, operation):
        tensor = self.model.tensors[operation.output]
        return f"(range){{{tensor.zero_point}, {tensor.low}, {tensor.high}}}"

    def _unsigned(self, name):
        return int(self.model.tensors[name].low >= 0)

    def _call(self, function, *arguments):
        self.calls.append(f"    {function}({', '.join(str(a) for a in arguments)});")

    def _array(self, operation, name, kind):
        return self._constant(operation, name, self.model.arrays[f"{operation.path}.{name}"], kind)

    def _quantise(self, o):
        model, scale, (place, limits) = self.model, self._scale(o), self._result(o)
        if len(model.channels) == 1:
            return self._call("quantise", "counts", "anchor", model.context, scale, place, limits)
        count, several = len(model.channels), len(model.arrays[f"{o.path}.m"]) > 1
        for c in range(model.inputs):
            channel = "c" if model.mode == "independent" else c
            at = f"counts + {channel}", count, self.anchor(channel), model.context, scale, channel if several else 0
            self._call("quantise_channel", *at, f"{place} + {c}", model.inputs, limits)

    def anchor(self, channel):
        """What is subtracted of a channel, in C: its number, or "c", that of the loop over independent ones."""
        fixed = [c.anchor for c in self.model.channels]
        last = f"counts[{(self.model.context - 1) * len(fixed)} + {channel}]"
        if channel == "c":
            some = any(anchor is not None for anchor in fixed)
            return f"anchors[c] == INT32_MIN ? {last} : anchors[c]" if some else last
        return last if fixed[channel] is None else str(fixed[channel])

    def _requantise(self, o):
        x = o.inputs[0]
        tensor = self.model.tensors[x]
        arguments = self._unsigned(x), tensor.zero_point, math.prod(tensor.shape), self._scale(o)
        self._call("requantise", self._place(x), *arguments, *self._result(o))

    def _linear(self, o):
        (rows, depth), outputs = self.model.tensors[o.inputs[0]].shape, self.model.tensors[o.output].shape[1]
        weights = [*self._weights(o), self._array(o, "bias", "int32_t"), self._scale(o)]
        x = self._place(o.inputs[0]), self._unsigned(o.inputs[0])
        self._call("linear", *weights, *x, rows, outputs, depth, self._scratch_place(o), *self._result(o))

    def _weights(self, o):
        return [self._array(o, "weight", "uint8_t"), o.attributes["weight_bits"]]

    def _add(self, o, y=None):
        x = o.inputs[0]
        rows, channels = self.model.tensors[o.output].shape
        y = y or (self._place(o.inputs[1]), self._unsigned(o.inputs[1]))
        tensor = self.model.tensors[o.output]
        m1, m2, c, n = (self.model.arrays[f"{o.path}.{name}"].astype(np.int64) for name in ("m1", "m2", "c", "n"))
        with_zero = c + (tensor.zero_point << n)  # which a sum of 32 bits may have room for
        folded = (np.abs(with_zero) + 255 * (np.abs(m1) + np.abs(m2)) < 1 << 31).all()
        factors = [self._array(o, name, "int32_t") for name in ("m1", "m2")]
        factors += [self._constant(o, "c", with_zero if folded else c, "int32_t"), self._array(o, "n", "uint8_t")]
        limits = f"(range){{{0 if folded else tensor.zero_point}, {tensor.low}, {tensor.high}}}"
        self._call(
            "add", self._place(x), self._unsigned(x), *y, *factors, rows, channels, self._place(o.output), limits
        )

    def _add_position(self, o):
        """Positions of a byte are as they are; others are unpacked into the place of the result, which takes theirs one
        by one."""
        bits, count = o.attributes["position_bits"], math.prod(self.model.tensors[o.output].shape)
        if bits == 8 and self.bytes_each == 1:
            return self._add(o, (self._constant(o, "position", self.model.position(o), "int8_t"), 0))
        self._call("unpack", self._array(o, "position", "uint8_t"), bits, 0, count, self._place(o.output))
        self._add(o, (self._place(o.output), 0))

    def _scores(self, o):
        heads, queries, keys = self.model.tensors[o.output].shape
        width = self.model.tensors[o.inputs[0]].shape[1] // heads
        places = [self._place(name) for name in o.inputs]
        sizes = heads, queries, keys, width
        self._call("scores", *places, *sizes, self._scale(o), self._scratch_place(o), *self._result(o))

    def _softmax(self, o):
        heads, queries, keys = self.model.tensors[o.output].shape
        table = self._array(o, "table", "uint8_t")
        numerator, k = (int(self.model.arrays[f"{o.path}.{name}"][0]) for name in ("numerator", "k"))
        x, y, high = self._place(o.inputs[0]), self._place(o.output), self.model.tensors[o.output].high
        self._call("softmax", x, heads * queries, keys, table, numerator, k, y, high)

    def _context(self, o):
        heads, queries, keys = self.model.tensors[o.inputs[0]].shape
        width = self.model.tensors[o.inputs[1]].shape[1] // heads
        places = [self._place(name) for name in o.inputs]
        sizes = heads, queries, keys, width
        self._call("context", *places, *sizes, self._scale(o), self._scratch_place(o), *self._result(o))

    def _pool(self, o):
        x = o.inputs[0]
        tensor = self.model.tensors[x]
        arguments = self._unsigned(x), tensor.zero_point, *tensor.shape, self._scale(o)
        self._call("pool", self._place(x), *arguments, *self._result(o))

    def _part(self, o, start, count):
        after = self.model.tensors[o.output]
        x, zeros = f"{self._place(o.inputs[0])} + {start}", math.prod(after.shape) - count
        self._call("part", x, count, zeros, after.zero_point, self._place(o.output))

    def _placeholders(self, o):
        before, label = math.prod(self.model.tensors[o.inputs[0]].shape), o.attributes["label"]
        self._part(o, before - label, label)

    def _last_tokens(self, o):
        before, after = (math.prod(self.model.tensors[name].shape) for name in (o.inputs[0], o.output))
        self._part(o, before - after, after)

    def _output(self, o):
        x, model = o.inputs[0], self.model
        codes, zero = self._unsigned(x), model.tensors[x].zero_point
        m, n = (model.arrays[f"{o.path}.{name}"].tolist() for name in ("m", "n"))
        if len(model.channels) == 1 or model.task == "classify":
            anchor = 0 if model.task == "classify" else "anchor"
            return self._call("to_counts", self._place(x), codes, zero, m[0], n[0], anchor, model.horizon, "forecast")
        count = len(model.targets)
        if model.mode == "independent":
            scale = [m[0], n[0]]
            if len(m) > 1:
                scale = [f"{self._array(o, name, kind)}[c]" for name, kind in (("m", "int32_t"), ("n", "int8_t"))]
            to = self.anchor("c"), model.horizon, "forecast + c", count
            return self._call("to_counts_of_channel", self._place(x), 1, codes, zero, *scale, *to)
        for i, target in enumerate(model.targets):
            scale = m[i % len(m)], n[i % len(n)]
            to = self.anchor(target), model.horizon, f"forecast + {i}", count
            self._call("to_counts_of_channel", f"{self._place(x)} + {i}", count, codes, zero, *scale, *to)
