"""The integer program, written down while a quantised model runs once."""

from dataclasses import dataclass, field

import numpy as np

from qatlib.integer_model.program import Operation, Tensor
from qatlib.quantised_model.quantisers import Codes


@dataclass
class Graph:
    """The integer program, written down while the quantised model runs once."""

    operations: list = field(default_factory=list)
    tensors: dict = field(default_factory=dict)
    arrays: dict = field(default_factory=dict)

    def record(self, kind, path, inputs, codes, tensor, arrays=None, **attributes):
        """Append one operation; -> the codes, named after it."""
        self.operations.append(Operation(kind, path, tuple(i.tensor for i in inputs), path, attributes))
        self.tensors[path] = tensor
        self.arrays.update({f"{path}.{name}": array for name, array in (arrays or {}).items()})
        return Codes(codes.values, codes.step, self, path)

    def zero_point(self, codes):
        return self.tensors[codes.tensor].zero_point


def described(values, quantizer):
    return Tensor(tuple(values.shape[1:]), quantizer.code_low, quantizer.code_high, quantizer.zero_point())


def integers(tensor, dtype):
    """Whole numbers of a float tensor as an array; at least one-dimensional, refused where they do not fit."""
    array = np.atleast_1d(tensor.detach().numpy())
    result = array.astype(dtype)
    if not np.array_equal(result, array):
        raise ValueError(f"{array[result != array][0]} does not fit {np.dtype(dtype).name}")
    return result
