"""A model in C for a core with Arm's DSP extension: see cortex_m4.c."""

import math

import numpy as np

from qatlib.mcu.tiles import FIELD, TiledProgram, fields

APART_BY, UNROLLED = 11, 8  # of cortex_m4.c


class CortexM4(TiledProgram):
    """Pairs of 16 bits; two outputs in each half where they fit."""

    sources, top = ("kernels", "cortex_m4"), 32
    element, bytes_each = "int16_t", 2

    def columns(self, reach, operation, up):
        """0: the sums of a whole row and two outputs fit; else 1: an output has its sum for itself."""
        if operation.kind == "scores" and self._shapes(operation)[2] % 2:
            return None  # rows would begin within words
        bits = self._bits(operation)
        within = reach(None) < 1 << (APART_BY - 1) and APART_BY + bits + up < 16
        return 0 if within and self._fits_word(operation) else 1

    def _bits(self, operation):
        """Of what is packed: weights, keys or values, with their sign."""
        if operation.kind == "linear":
            return operation.attributes["weight_bits"]
        tensor = self.model.tensors[operation.inputs[1]]
        return int(max(tensor.high, -tensor.low - 1)).bit_length() + 1

    def _fits_word(self, operation):
        return operation.kind != "linear" or self.model.tensors[operation.inputs[0]].shape[0] > 1

    def _each(self, o):
        return 1 if self.fits[o.path].columns else 2

    def _scratch(self, operation):
        if operation.kind == "attention":
            scores = operation.attributes["parts"][0]
            keys, width = self.model.tensors[scores.output].shape[2], self._shapes(scores)[2]
            return 4 * ((keys + 3) // 2 * _padded(width) + (width + 3) // 2 * _padded(keys)) + 4 * _padded(keys) + 4
        fit = self.fits.get(operation.path)
        if operation.kind != "linear" or not fit:
            return super()._scratch(operation)
        rows, depth = self.model.tensors[operation.inputs[0]].shape
        if rows == 1:
            return 0
        return 4 * _padded(depth) + 128 + 2 * rows * (depth + 1) * (depth % 2)

    def _run(self, each, name):
        """The function for tiles of so many outputs a word, whose results are that tensor."""
        tensor = self.model.tensors[name]
        kinds = {(-(1 << b - 1), (1 << b - 1) - 1): f"signed_{b}" for b in range(2, 9)}
        kinds |= {(0, (1 << b) - 1): f"unsigned_{b}" for b in range(2, 9)} | {(-127, 127): "narrow"}
        name = f"{('one', 'two')[each - 1]}_each_{kinds[tensor.low, tensor.high]}"
        inner, clamp = f"{('ONE', 'TWO')[each - 1]}_EACH", kinds[tensor.low, tensor.high].upper()
        return self._function(name, f"static APART void {name}(tile *t) {{ RUN({inner}({clamp})); }}")

    def _linear(self, o):
        fit = self.fits[o.path]
        if not fit:
            return super()._linear(o)
        (rows, depth), outputs = self.model.tensors[o.inputs[0]].shape, self._outputs(o)
        each, bits = self._each(o), FIELD[o.attributes["weight_bits"]]
        wide = 4 if rows == 1 else 2 * each
        tiles = -(-outputs // wide)
        weight = np.pad(self.model.weight(o), ((0, tiles * wide - outputs), (0, depth % 2)))
        if rows == 1 and bits == 8:
            weight = np.pad(weight, ((0, 0), (0, -weight.shape[1] % 4))).reshape(
                tiles, 2, 2, -1, 2
            )  # tile, b or a of two
            halves = weight[:, :, 0] + (weight[:, :, 1] << 8) & 0xFFFF
            words = (halves[..., 0] | halves[..., 1] << 16).swapaxes(1, 2)
        else:
            words = fields(weight[:, 0::2], weight[:, 1::2], bits).reshape(tiles, wide, -1).swapaxes(1, 2)
        bias = np.pad(self.model.arrays[f"{o.path}.bias"].astype(np.int64), (0, tiles * wide - outputs)) << fit.up
        if each == 2 and rows > 1:
            bias = bias[::2] + (bias[1::2] << APART_BY)
        arrays = self._constant(o, "weight", words, "uint32_t"), bits, fit.up
        arrays += (
            self._constant(o, "start", bias, "int32_t"),
            self._constant(o, "m", self._multipliers(o), "int32_t"),
        )
        x = self._place(o.inputs[0])
        if rows == 1 and bits == 8:
            return self._call("row_of_bytes", arrays[0], *arrays[2:], x, outputs, depth, *self._result(o))
        if rows == 1:
            return self._call("row_by_tiles", *arrays, x, outputs, depth, *self._result(o))
        at = f"(int32_t *)(void *)({self._scratch_place(o)})"
        self._call(
            "linear_by_tiles", self._run(each, o.output), each, *arrays, x, rows, outputs, depth, at, *self._result(o)
        )

    def _multiplier(self, o, reach):
        """m so that a result is v * m >> 32 for every v of that reach, and fits 16 bits; None where there is none."""
        m, n = (int(self.model.arrays[f"{o.path}.{name}"][0]) for name in ("m", "n"))
        return m << (32 - n) if 17 <= n <= 32 and self._near(o, reach) else None

    def _quantise(self, o):
        m = self._multiplier(o, (1 << 16) - 1)
        if m is None or len(self.model.channels) > 1:
            return super()._quantise(o)
        self._call("quantise_by_two", "counts", "anchor", self.model.context, m, *self._result(o))

    def _requantise(self, o):
        tensor = self.model.tensors[o.inputs[0]]
        m = self._multiplier(o, tensor.reach)
        if m is None:
            return super()._requantise(o)
        count = math.prod(tensor.shape)
        self._call("requantise_by_two", self._place(o.inputs[0]), tensor.zero_point, count, m, *self._result(o))

    def _product(self, o):
        fit, label, each = self.fits[o.path], f"{self.labels[o.path]}_product", self._each(o)
        values = f"{self._run(each, o.output)}, {each}, {fit.up}, {self._multipliers(o, 1)[0]}"
        self.constants.append(f"static const product {label} = {{{values}}};")
        return f"&{label}"


def _padded(n):
    return -(-n // UNROLLED) * UNROLLED
