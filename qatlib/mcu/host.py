"""An exported model compiled for this computer: the fast way to forecast, and the same integers."""

import ctypes
import tempfile
import threading
from functools import cached_property
from pathlib import Path

import numpy as np

from qatlib.integer_model import detection
from qatlib.mcu.export import export_c, program_of
from qatlib.system import toolchain

OPTIONS = ("-std=c99", "-O3")
MANY = 5  # windows from which on `batch.c` is faster than `host.c`
POINTER = ctypes.c_void_p


def compiled(model, *, packed=False):
    """An IntegerModel as C for this computer, some 30 times as fast as NumPy. native.BuildError where there is no
    compiler.

    packed: the code of a microcontroller, to compare; else that of `host.c` for few windows, of `batch.c` for many.
    """
    return CompiledModel(model, packed)


class Library(threading.local):
    """A model's shared library with its functions, and the memory that they work in: each thread has its own."""

    def __init__(self, model, kernels):
        with tempfile.TemporaryDirectory() as folder:
            source, _ = export_c(model, Path(folder), "model", kernels=kernels)
            self.functions = toolchain.library(source, *OPTIONS)
        self.forecasts = self._function("forecasts", [POINTER, ctypes.c_int64, POINTER, POINTER])
        if model.task != "forecast":
            self.decide = self._function(model.task, [POINTER] * (4 if model.task == "detect" else 3))
            self.decide.restype = ctypes.c_int
        self._held = np.empty(program_of(model, kernels).workspace // 4 + 1, np.int32)
        self.memory = self._held.ctypes.data
        shapes = model.window_shape, model.forecast_shape
        self._buffers = [np.empty((MANY - 1, *shape), np.int16) for shape in shapes]
        self._at = [buffer.ctypes.data for buffer in self._buffers]

    def few(self, counts):
        """Fewer than MANY windows, through buffers: an array's address takes longer than its copy."""
        windows, (place, forecasts) = len(counts), self._buffers
        place[:windows] = counts
        self.forecasts(self._at[0], windows, self._at[1], self.memory)
        return forecasts[:windows].copy()

    def _function(self, name, arguments):
        function = self.functions[f"model_{name}"]  # not by attribute: a function of its own, with its types
        function.argtypes, function.restype = arguments, None
        return function


class CompiledModel:
    """What `compiled` gives: shared libraries with the model's `forward`, each made when it is first needed."""

    def __init__(self, model, packed):
        self.model, self._kernels = model, "generic" if packed else "host"
        toolchain.compiler(".c")  # whether there is one is told at once

    @cached_property
    def _few(self):
        return Library(self.model, self._kernels)

    @cached_property
    def _many(self):
        return Library(self.model, "batch") if self._kernels == "host" else self._few

    def forward(self, counts):
        """int16 windows -> int16 forecasts: takes and gives what `IntegerModel.forward` does."""
        counts = self.model.checked(counts)
        if len(counts) < MANY:
            return self._few.few(counts)
        counts, library = np.ascontiguousarray(counts), self._many
        forecasts = np.empty((len(counts), *self.model.forecast_shape), np.int16)
        library.forecasts(counts.ctypes.data, len(counts), forecasts.ctypes.data, library.memory)
        return forecasts

    def classify(self, counts):
        """As `IntegerModel.classify`."""
        self.model.need("classify")
        counts, decide, memory = np.ascontiguousarray(self.model.checked(counts)), self._few.decide, self._few.memory
        scores = np.empty((len(counts), *self.model.forecast_shape), np.int16)
        labels = [decide(w.ctypes.data, s.ctypes.data, memory) for w, s in zip(counts, scores, strict=True)]
        return np.array(labels, np.int64), scores

    def detect(self, rows):
        """As `IntegerModel.detect`."""
        self.model.need("detect")
        rows = np.ascontiguousarray(detection.checked(self.model, rows))
        forecast, state, decide = np.empty(self.model.forecast_shape, np.int16), np.array([-1]), self._few.decide
        shift, found = self.model.operations[-1].attributes["smoothing"], []
        for first in range(len(rows) - detection.length(self.model) + 1):
            at = (a.ctypes.data for a in (rows[first:], state, forecast))
            flag = decide(*at, self._few.memory)
            found.append((int(state[0]) >> shift, flag))
        scores, flags = np.array(found).T
        return scores, flags == 1
