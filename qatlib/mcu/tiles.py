"""A model in C for a known core: several products an instruction where a proof allows, attention as one operation."""

from dataclasses import dataclass

import numpy as np

from qatlib.integer_model.program import Operation
from qatlib.mcu.program import Program

FIELD = {2: 2, 3: 4, 4: 4, 5: 8, 6: 8, 7: 8, 8: 8}  # bits of a weight in flash, by its width
FARTHEST = 1 << 15  # results before they are clamped, zero point included: they fit 16 bits
MOST_UP = 7  # accumulators have 25 bits with their sign
OVERREAD = 32  # bytes behind a row that a tile reads: they meet weights of zero


@dataclass(frozen=True)
class Fit:
    """How a product goes. up: shift of its accumulators, so that its multipliers need none; columns: how many are
    summed with two outputs in a word, 0 for all."""

    up: int
    columns: int


class TiledProgram(Program):
    """What the cores share. A subclass says how far a result lies above the lowest bit of acc * m (`top`), and how many
    columns fit (`columns`)."""

    def __init__(self, model):
        self.model = model
        self.fits = {o.path: self._fit(o) for o in model.operations if o.kind in ("linear", "scores", "context")}
        super().__init__(model)
        self.workspace += OVERREAD

    def _operations(self):
        """Scores, softmax and context as one operation, so that only a few rows of scores are there at a time; where
        something else takes their results or one has no fit, they stay apart."""
        made = {o.output: o for o in self.model.operations}
        uses = [name for o in self.model.operations for name in o.inputs]
        found = []
        for o in self.model.operations:
            softmax = made[o.inputs[0]] if o.kind == "context" else None
            scores = made[softmax.inputs[0]] if softmax and softmax.kind == "softmax" else None
            if scores and scores.kind == "scores" and self.fits[scores.path] and self.fits[o.path]:
                if uses.count(scores.output) == uses.count(softmax.output) == 1:
                    found = [other for other in found if other not in (scores, softmax)]
                    parts = {"parts": (scores, softmax, o)}
                    o = Operation("attention", o.path, (*scores.inputs, o.inputs[1]), o.output, parts)
            found.append(o)
        return tuple(found)

    def _fit(self, operation):
        """The Fit of a product, or None: it must go the plain way."""
        n = self.model.arrays[f"{operation.path}.n"].astype(np.int64)
        up = max(0, self.top - 15 - int(n.min()))
        reach = getattr(self, f"_reach_of_{operation.kind}")(operation)
        whole = reach(None)
        if up > MOST_UP or n.max() + up > self.top or whole << up >= 1 << 31 or not self._near(operation, whole):
            return None
        columns = self.columns(lambda columns: reach(columns) << up, operation, up)
        return None if columns is None else Fit(up, columns)

    def _near(self, operation, reach):
        """Whether the results of values of that reach fit 16 bits before they are clamped."""
        m, n = (self.model.arrays[f"{operation.path}.{name}"].astype(float) for name in ("m", "n"))
        return (reach * m / 2**n).max() + abs(self.model.tensors[operation.output].zero_point) + 2 < FARTHEST

    def _reach(self, name):
        tensor = self.model.tensors[name]
        return max(abs(tensor.low), abs(tensor.high))

    def _reach_of_linear(self, operation):
        """-> a function of columns: the largest magnitude of the sum of so many of them, with the bias; None: all."""
        weight = np.abs(self.model.weight(operation).astype(np.int64)) * self._reach(operation.inputs[0])
        bias = np.abs(self.model.arrays[f"{operation.path}.bias"].astype(np.int64))

        def reach(columns):
            columns = columns or weight.shape[1]
            parts = np.pad(weight, ((0, 0), (0, -weight.shape[1] % columns))).reshape(len(weight), -1, columns)
            whole = columns >= weight.shape[1]
            return int((parts.sum(2).max(1) + bias * whole).max())

        return reach

    def _reach_of_scores(self, operation):
        width = self._shapes(operation)[2]
        one = self._reach(operation.inputs[0]) * self._reach(operation.inputs[1])
        return lambda columns: min(columns or width, width) * one

    def _reach_of_context(self, operation):
        """Probabilities of a row add up to one, but for their rounding."""
        softmax = next(o for o in self.model.operations if o.output == operation.inputs[0])
        keys, most = self.model.tensors[operation.inputs[0]].shape[-1], self._reach(operation.inputs[0])
        total = keys * most
        if softmax.kind == "softmax":
            numerator, k = (int(self.model.arrays[f"{softmax.path}.{name}"][0]) for name in ("numerator", "k"))
            total = min(total, (numerator >> k) + 1 + (keys + 1) // 2)
        value = self._reach(operation.inputs[1])
        return lambda columns: min((columns or keys) * most, total) * value

    def _attention(self, o):
        scores, softmax, context = o.attributes["parts"]
        heads, queries, keys = self.model.tensors[scores.output].shape
        width = self._shapes(scores)[2]
        products = self._product(scores), self._product(context)
        table = self._array(softmax, "table", "uint8_t")
        numerator, k = (int(self.model.arrays[f"{softmax.path}.{name}"][0]) for name in ("numerator", "k"))
        high = self.model.tensors[softmax.output].high
        places = [self._place(name) for name in o.inputs]
        at = f"(int32_t *)(void *)({self._scratch_place(o)})"
        sizes = heads, queries, keys, width
        softened = table, numerator, k, high
        self._call(
            "attention", *places, *sizes, products[0], self._range(scores), *softened, products[1], at, *self._result(o)
        )

    def _function(self, name, line):
        """A function of a tile, there once; -> its name."""
        if line not in self.constants:
            self.constants.append(line)
        return name

    def _outputs(self, operation):
        return self.model.tensors[operation.output].shape[-1]

    def _multipliers(self, operation, outputs=None):
        """m of each output, padded: a result is acc * m >> top."""
        outputs = outputs or self._outputs(operation)
        m, n = (self.model.arrays[f"{operation.path}.{name}"].astype(np.int64) for name in ("m", "n"))
        shifted = np.broadcast_to(m << (self.top - n - self.fits[operation.path].up), (outputs,))
        return np.pad(shifted, (0, -outputs % 16))


def fields(low, high, bits):
    """Codes (..., columns) of the low and of the high half -> uint32 (..., words): a column takes `bits` bits of each
    half, the first the lowest; a code is stored with 2^(bits-1) added."""
    each = 16 // bits
    halves = []
    for codes in (low, high):
        padded = np.pad(np.asarray(codes, np.int64), [(0, 0)] * (codes.ndim - 1) + [(0, -codes.shape[-1] % each)])
        biased = (padded + (1 << bits - 1)).reshape(*padded.shape[:-1], -1, each)
        halves.append((biased << (bits * np.arange(each))).sum(-1))
    return halves[0] | halves[1] << 16
