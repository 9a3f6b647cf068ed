"""A model in C for a computer with vector units: `host.c` in place of what `kernels.c` does one by one."""

import numpy as np

from qatlib.mcu.program import Program

LANES = 16  # of host.c


class HostProgram(Program):
    """Weights in 32 bits a pair of columns, arrays as long as whole vectors."""

    sources = ("kernels", "host")

    def _scratch(self, operation):
        """Bytes that a product needs for one call: both its operands as pairs."""
        if operation.kind not in ("linear", "scores", "context"):
            return 0
        shapes, heads, depth = self._shapes(operation)
        columns = {"linear": 0, "scores": shapes[-1][0], "context": shapes[-1][1] // heads}[operation.kind]
        return 4 * (depth + 1 >> 1) * (shapes[0][-2] + _padded(columns))

    def _scratch_places(self, operation, columns):
        return super()._scratch_places(operation, columns)[:1]

    def _constant(self, operation, name, array, kind):
        array = np.ravel(array)
        if len(array) > 1 or name == "bias":  # read as vectors; a scale of one channel is read by itself
            array = np.pad(array, (0, _padded(len(array)) - len(array)))
        return super()._constant(operation, name, array, kind)

    def _weights(self, o):
        return [self._constant(o, "weight", _pairs(self.model.weight(o)), "int32_t")]


def _padded(n):
    return -(-n // LANES) * LANES


def _pairs(weight):
    """(outputs, columns) -> int32 (columns / 2, outputs padded): two columns in 16 bits each."""
    outputs, columns = weight.shape
    even = np.zeros((_padded(outputs), columns + columns % 2), np.int64)
    even[:outputs, :columns] = weight
    return ((even[:, ::2] & 0xFFFF) | (even[:, 1::2] & 0xFFFF) << 16).astype(np.uint32).view(np.int32).T
