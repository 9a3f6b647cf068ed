"""A model in C for RV32IM: see rv32.c."""

import math
from dataclasses import replace

import numpy as np

from qatlib.mcu.tiles import FIELD, MOST_UP, TiledProgram, fields

HALF, UNROLLED = 1 << 15, 4  # the latter of rv32.c


class Rv32(TiledProgram):
    """Two outputs in a word."""

    sources, top = ("kernels", "rv32"), 33

    def __init__(self, model):
        super().__init__(_without_255(model))

    def columns(self, reach, operation, up):
        """Of a row that are summed in halves of words: 0 for all, or 2; None where not even they fit."""
        two = reach(2) if self.model.tensors[operation.inputs[0]].high < 128 else HALF
        if self._least(operation):
            two = 2 * 128 * self._reach(operation.inputs[1]) << up
        if operation.kind == "linear" and self.model.tensors[operation.inputs[0]].shape[0] == 1:
            two = 0  # a single row has a sum for every output
        return next((columns for columns, most in ((0, reach(None)), (2, two)) if most < HALF), None)

    def _least(self, operation):
        """The code of a probability of 0 where products with values are of two columns: with a sign, as two fit."""
        return -128 if operation.kind == "context" and self.model.tensors[operation.inputs[0]].high > 127 else 0

    @staticmethod
    def _words(fit, rows, outputs):
        """Of a tile: what takes the fewest instructions a column, 5 for each word and two more."""
        if rows == 1 or fit.columns:
            return 4
        return min((8, 4), key=lambda words: -(-outputs // (2 * words)) * (5 * words + 2))

    def _scratch(self, operation):
        if operation.kind == "attention":
            scores = operation.attributes["parts"][0]
            keys, width = self.model.tensors[scores.output].shape[2], self._shapes(scores)[2]
            by_16 = -(-keys // 16), -(-width // 16)
            return 32 * (by_16[0] * _padded(width) + by_16[1] * _padded(keys)) + 64 * (by_16[0] + by_16[1])
        fit = self.fits.get(operation.path)
        if operation.kind != "linear" or not fit:
            return super()._scratch(operation)
        (rows, depth), outputs = self.model.tensors[operation.inputs[0]].shape, self._outputs(operation)
        each = max(4, 16 // FIELD[operation.attributes["weight_bits"]])
        return 0 if rows == 1 else 4 * self._words(fit, rows, outputs) * -(-depth // each) * each

    def _linear(self, o):
        fit = self.fits[o.path]
        if not fit:
            return super()._linear(o)
        (rows, depth), outputs = self.model.tensors[o.inputs[0]].shape, self._outputs(o)
        bits = FIELD[o.attributes["weight_bits"]]
        words = 2 if rows == 1 and fit.columns and bits < 8 else self._words(fit, rows, outputs)
        tiles = -(-outputs // (2 * words))
        padding = 0, tiles * 2 * words - outputs
        weight = np.pad(self.model.weight(o), (padding, (0, 0))).reshape(tiles, words, 2, depth)
        by_bytes = rows == 1 and fit.columns and bits == 8
        if by_bytes:
            packed = np.pad(weight.reshape(tiles, 8, depth).swapaxes(1, 2), ((0, 0), (0, -depth % UNROLLED), (0, 0)))
        else:
            packed = fields(weight[:, :, 0], weight[:, :, 1], bits).swapaxes(1, 2)  # tile, fields, word
        bias = np.pad(self.model.arrays[f"{o.path}.bias"].astype(np.int64), padding) << fit.up
        start = self._start(bias.reshape(tiles, words, 2), fit, rows, depth)
        arrays = self._constant(o, "weight", packed, "int8_t" if by_bytes else "uint32_t"), bits, fit.up
        arrays += (
            self._constant(o, "start", start, "int32_t"),
            self._constant(o, "m", self._multipliers(o, outputs), "int32_t"),
        )
        x = self._place(o.inputs[0]), self._unsigned(o.inputs[0])
        if by_bytes:
            return self._call("row_of_bytes", arrays[0], *arrays[2:], *x, outputs, depth, *self._result(o))
        if rows == 1:
            name = "row_of_1" if fit.columns else "row_of_all"
            return self._call(name, *arrays, *x, outputs, depth, *self._result(o))
        at = f"(int32_t *)(void *)({self._scratch_place(o)})"
        tile = self._tiles(o.inputs[0], fit, words)
        self._call("linear_by_tiles", tile, words, *arrays, x[0], rows, outputs, depth, at, *self._result(o))

    def _tiles(self, name, fit, words, least=0):
        """The function for tiles of so many words, of values of that tensor, to which `least` is added."""
        is_unsigned, apart = self.model.tensors[name].high + least > 127, fit.columns > 0
        kind = f"tiles_{2 * words}{'_apart' if apart else ''}{'_unsigned' if is_unsigned else ''}"
        return self._function(kind, f"static APART void {kind} TILES({words}, {int(is_unsigned)}, {int(apart)})")

    @staticmethod
    def _start(bias, fit, rows, depth):
        """What the sums of a tile begin with (tile, word, half) -> eight for each tile: both halves of its words, and
        where they are taken apart, less the 2^15 that are added to every two columns, the high ones again. Of a single
        row four, or one for each output."""
        low, high = bias[..., 0], bias[..., 1]
        if fit.columns and rows == 1:
            return bias
        if fit.columns:
            low = low - HALF * (_padded(depth) // 2)
            return np.stack([_signed(low + (high << 16)), high], 1)
        words = _signed(low + (high << 16))
        return words if rows == 1 else np.pad(words, ((0, 0), (0, 8 - words.shape[1])))

    def _quantise(self, o):
        m, n = (int(self.model.arrays[f"{o.path}.{name}"][0]) for name in ("m", "n"))
        if not self.top - 15 <= n <= self.top or len(self.model.channels) > 1:
            return super()._quantise(o)
        values = self.model.context, m << (self.top - n)
        self._call("quantise_near", "counts", "anchor", *values, *self._result(o))

    def _requantise(self, o):
        tensor = self.model.tensors[o.inputs[0]]
        m, n = (int(self.model.arrays[f"{o.path}.{name}"][0]) for name in ("m", "n"))
        up = max(0, self.top - 15 - n)
        if n > self.top or up > MOST_UP or not self._near(o, tensor.reach):
            return super()._requantise(o)
        sizes = tensor.zero_point, math.prod(tensor.shape), up, m << (self.top - n - up)
        x = self._place(o.inputs[0]), self._unsigned(o.inputs[0])
        self._call("requantise_near", *x, *sizes, *self._result(o))

    def _product(self, o):
        fit, label = self.fits[o.path], f"{self.labels[o.path]}_product"
        outputs = self._outputs(o) // (o.attributes["heads"] if o.kind == "context" else 1)
        words, m = self._words(fit, 2, outputs), ", ".join(map(str, self._multipliers(o, 16).tolist()))
        least = self._least(o) if fit.columns else 0
        values = f"{self._tiles(o.inputs[0], fit, words, least)}, {words}, {int(fit.columns > 0)}, {fit.up}, {least}"
        self.constants.append(f"static const product {label} = {{{values}, {{{m}}}}};")
        return f"&{label}"


def _padded(n):
    return -(-n // UNROLLED) * UNROLLED


def _signed(words):
    """Modulo 2^32, as int32 has it."""
    return (words + (1 << 31)) % (1 << 32) - (1 << 31)


def _without_255(model):
    """The same model where codes up to 255 that only linear operations take are 128 less: bytes with a sign, whose
    products fit by two. Their biases take it back."""
    shifted = {name for name, tensor in model.tensors.items() if tensor.low == 0 and tensor.high > 127}
    for o in model.operations:
        if o.kind != "linear":
            shifted -= set(o.inputs)
        if o.kind not in ("linear", "add", "requantise"):
            shifted.discard(o.output)
    tensors = model.tensors | {
        name: replace(t, low=t.low - 128, high=t.high - 128, zero_point=t.zero_point - 128)
        for name, t in model.tensors.items()
        if name in shifted
    }
    biases = {
        f"{o.path}.bias": (model.arrays[f"{o.path}.bias"] + 128 * model.weight(o).sum(1, dtype=np.int64)).astype(
            np.int32
        )
        for o in model.operations
        if o.kind == "linear" and o.inputs[0] in shifted
    }
    return replace(model, tensors=tensors, arrays=model.arrays | biases)
