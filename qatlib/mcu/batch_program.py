"""A model in C for many windows on a computer: `batch.c`, which takes as many at a time as a vector has lanes."""

import math

import numpy as np

from qatlib.mcu.program import Program

LANES = 16  # of the widest vectors of batch.c
VECTOR = 4 * LANES  # bytes
OUTPUTS = 4  # of batch.c
LAST = -(1 << 31)  # an anchor that is the window's last count; batch.c: INT32_MIN


class BatchProgram(Program):
    """Tensors in vectors, two columns in each; what is read beside a last column is there, and counts for nothing."""

    sources = ("batch",)

    def __init__(self, model):
        super().__init__(model)
        self.workspace = VECTOR * (self.workspace + 1)  # room to begin at a multiple of a vector's size

    def _scratch(self, operation):
        return 0

    def _size(self, name):
        *rows, columns = self.model.tensors[name].shape
        return math.prod(rows) * _half(columns)

    def _renames(self, operation):
        """Pairs of columns are the same before and after where both have whole ones."""
        if not super()._renames(operation):
            return False
        return not any(self._shape(name)[1] % 2 for name in (*operation.inputs, operation.output))

    def functions(self, name):
        window, forecast = (math.prod(shape) for shape in (self.model.window_shape, self.model.forecast_shape))
        calls = self.calls
        if self.model.mode == "independent" and len(self.model.channels) > 1:
            loop = f"    for (int c = 0; c < {len(self.model.channels)}; c++) {{"
            calls = [loop, *(f"    {c}" for c in calls), "    }"]
        return [
            "static APART void some(const int16_t *counts, int windows, int16_t *forecast, lanes *workspace) {",
            *calls,
            "}",
            "",
            f"void {name}_forecasts(const int16_t *counts, int64_t windows, int16_t *forecasts, void *memory) {{",
            "    lanes *workspace = (lanes *)(void *)((char *)memory + (-(uintptr_t)memory & (sizeof(lanes) - 1)));",
            "    DOWN;",
            f"    for (; windows > 0; windows -= LANES, counts += LANES * {window}, forecasts += LANES * {forecast})",
            "        some(counts, windows < LANES ? (int)windows : LANES, forecasts, workspace);",
            "    AS_BEFORE;",
            "}",
            "",
            f"void {name}_forecast(const int16_t *counts, int16_t *forecast, void *memory) {{",
            f"    {name}_forecasts(counts, 1, forecast, memory);",
            "}",
            "",
        ]

    def _scale(self, operation, channels=1):
        """m / 2^n as floats, which hold it exactly; one for all is told for each."""
        m, n = (self.model.arrays[f"{operation.path}.{name}"].astype(np.int64) for name in ("m", "n"))
        scales = np.broadcast_to(np.ldexp(m.astype(float), -n), channels)
        return self._floats(operation, np.pad(scales, (0, -channels % OUTPUTS)))

    def _floats(self, operation, array):
        label = f"{self.labels[operation.path]}_m"
        values = ", ".join(f"{value.hex()}F" for value in array.tolist())
        self.constants.append(f"static const float {label}[{len(array)}] = {{{values}}};")
        return label

    def _padded(self, operation, name, kind, multiple):
        array = self.model.arrays[f"{operation.path}.{name}"]
        return self._constant(operation, name, np.pad(array, (0, -len(array) % multiple)), kind)

    def _shape(self, name):
        """Rows, columns, pairs of columns."""
        *rows, columns = self.model.tensors[name].shape
        return math.prod(rows), columns, _half(columns)

    def _quantise(self, o):
        model = self.model
        channels = len(model.channels)
        place, limits = self._result(o)
        scale, first = self._scale(o, channels), "c" if model.mode == "independent" and channels > 1 else 0
        anchors = self._anchors(o, range(channels))
        sizes = model.context, channels, first, model.inputs
        self._call("quantise", "counts", "windows", *sizes, anchors, scale, place, limits)

    def _anchors(self, operation, channels):
        """What is subtracted of these, or added to them."""
        fixed = [self.model.channels[c].anchor for c in channels]
        anchors = [LAST if anchor is None else anchor for anchor in fixed]
        if operation.kind == "output" and self.model.task == "classify":
            anchors = [0] * len(anchors)
        return self._constant(operation, "anchors", anchors, "int32_t")

    def _reshape(self, o):
        x, (rows, columns, _) = o.inputs[0], self._shape(o.output)
        self._call("reshape", self._place(x), self._shape(x)[1], rows, columns, self._place(o.output))

    def _requantise(self, o):
        x = o.inputs[0]
        count, zero = self._size(x), self.model.tensors[x].zero_point
        self._call("requantise", self._place(x), zero, count, self._scale(o), *self._result(o))

    def _linear(self, o):
        rows, outputs, wide = self._shape(o.output)
        deep = self._shape(o.inputs[0])[2]
        weight = self._constant(o, "weight", _blocks(self.model.weight(o)), "int32_t")
        constants = weight, self._padded(o, "bias", "int32_t", OUTPUTS), self._scale(o, outputs)
        self._call("linear", *constants, self._place(o.inputs[0]), rows, deep, wide, *self._result(o))

    def _add(self, o, function="add", y=None):
        rows, _, wide = self._shape(o.output)
        x, y = self._place(o.inputs[0]), y or self._place(o.inputs[1])
        factors = [self._padded(o, name, "int32_t", 2) for name in ("m1", "m2", "c")]
        factors.append(self._padded(o, "n", "uint8_t", 2))
        self._call(function, x, y, *factors, rows, wide, *self._result(o))

    def _add_position(self, o):
        codes = self.model.position(o)
        self._add(o, "add_position", self._constant(o, "position", _pairs(codes), "int32_t"))

    def _scores(self, o):
        heads, queries, keys = self.model.tensors[o.output].shape
        width = self.model.tensors[o.inputs[0]].shape[1] // heads
        places = [self._place(name) for name in o.inputs]
        self._call("scores", *places, heads, queries, keys, width, self._scale(o), *self._result(o))

    def _context(self, o):
        heads, queries, keys = self.model.tensors[o.inputs[0]].shape
        width = self.model.tensors[o.inputs[1]].shape[1] // heads
        places = [self._place(name) for name in o.inputs]
        self._call("context", *places, heads, queries, keys, width, self._scale(o), *self._result(o))

    def _pool(self, o):
        x = o.inputs[0]
        rows, _, wide = self._shape(x)
        zero = self.model.tensors[x].zero_point
        self._call("pool", self._place(x), zero, rows, wide, self._scale(o), *self._result(o))

    def _part(self, o, start, count):
        """As Program has it, in vectors: rows are whole pairs."""
        after, columns = self.model.tensors[o.output], self.model.tensors[o.output].shape[1]
        start, count = (n // columns * _half(columns) for n in (start, count))
        x = f"{self._place(o.inputs[0])} + {start}"
        self._call("part", x, count, self._size(o.output) - count, after.zero_point, self._place(o.output))

    def _output(self, o):
        x, model = o.inputs[0], self.model
        channels, targets = len(model.channels), len(model.targets)
        m, n = (
            self._constant(o, name, np.broadcast_to(model.arrays[f"{o.path}.{name}"], targets), kind)
            for name, kind in (("m", "int32_t"), ("n", "uint8_t"))
        )
        anchors = self._anchors(o, model.targets)
        channel = self._constant(o, "channel", model.targets, "int32_t")
        tables, to, side = [m, n, anchors, channel], "forecast", targets
        if model.mode == "independent" and targets > 1:
            tables, to, side = [f"{t} + c" for t in tables], "forecast + c", 1
        m, n, anchors, channel = tables
        last = f"counts + {(model.context - 1) * channels}", model.context * channels, channel, anchors
        columns, zero = self._shape(x)[1], model.tensors[x].zero_point
        self._call("output", self._place(x), columns, zero, model.horizon, side, m, n, *last, "windows", to, targets)


def _half(n):
    return -(-n // 2)


def _pairs(codes):
    """(rows, columns) -> int32 (rows, columns / 2): two columns in 16 bits each, an odd one beside a zero."""
    even = np.pad(codes, ((0, 0), (0, codes.shape[1] % 2))).astype(np.int64)
    return ((even[:, ::2] & 0xFFFF) | (even[:, 1::2] & 0xFFFF) << 16).astype(np.uint32).view(np.int32)


def _blocks(weight):
    """(outputs, columns) -> int32 (outputs / OUTPUTS, columns / 2, OUTPUTS)"""
    pairs = _pairs(np.pad(weight, ((0, -len(weight) % OUTPUTS), (0, 0))))
    return pairs.reshape(-1, OUTPUTS, pairs.shape[1]).swapaxes(1, 2)
