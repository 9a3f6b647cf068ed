"""An exported model compiled for this computer: the fast way to forecast, and the same integers."""

import ctypes
import tempfile
from pathlib import Path

import numpy as np

from qatlib.integer_model import detection
from qatlib.mcu.export import export_c, program_of
from qatlib.system import toolchain

OPTIONS = ("-std=c99", "-O3")


def compiled(model, *, packed=False):
    """An IntegerModel as C for this computer, some 14 times as fast as NumPy. native.BuildError where there is no
    compiler.

    packed: the code of a microcontroller, to compare; else that of `host.c`, for vector units.
    """
    return CompiledModel(model, packed)


class CompiledModel:
    """What `compiled` gives: a shared library with the model's `forward`."""

    def __init__(self, model, packed):
        self.model = model
        kernels = "generic" if packed else "host"
        self._workspace = program_of(model, kernels).workspace
        with tempfile.TemporaryDirectory() as folder:
            source, _ = export_c(model, Path(folder), "model", kernels=kernels)
            library = toolchain.library(source, *OPTIONS)
        self._forecasts = library.model_forecasts
        self._forecasts.argtypes, self._forecasts.restype = (
            [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p],
            None,
        )
        if model.task == "classify":
            self._classify, pointer = library.model_classify, ctypes.c_void_p
            self._classify.argtypes, self._classify.restype = [pointer] * 3, ctypes.c_int
        if model.task == "detect":
            self._detect, pointer = library.model_detect, ctypes.c_void_p
            self._detect.argtypes, self._detect.restype = [pointer] * 4, ctypes.c_int

    def forward(self, counts):
        """int16 windows -> int16 forecasts: takes and gives what `IntegerModel.forward` does."""
        counts = np.ascontiguousarray(self.model.checked(counts))
        workspace = np.empty(self._workspace // 4 + 1, np.int32)
        forecasts = np.empty((len(counts), *self.model.forecast_shape), np.int16)
        self._forecasts(counts.ctypes.data, len(counts), forecasts.ctypes.data, workspace.ctypes.data)
        return forecasts

    def classify(self, counts):
        """As `IntegerModel.classify`."""
        self.model.need("classify")
        counts = np.ascontiguousarray(self.model.checked(counts))
        workspace = np.empty(self._workspace // 4 + 1, np.int32)
        scores = np.empty((len(counts), *self.model.forecast_shape), np.int16)
        pairs = zip(counts, scores, strict=True)
        labels = [self._classify(w.ctypes.data, s.ctypes.data, workspace.ctypes.data) for w, s in pairs]
        return np.array(labels, np.int64), scores

    def detect(self, rows):
        """As `IntegerModel.detect`."""
        self.model.need("detect")
        rows = np.ascontiguousarray(detection.checked(self.model, rows))
        workspace = np.empty(self._workspace // 4 + 1, np.int32)
        forecast, state = np.empty(self.model.forecast_shape, np.int16), np.array([-1])
        shift, found = self.model.operations[-1].attributes["smoothing"], []
        for first in range(len(rows) - detection.length(self.model) + 1):
            at = (a.ctypes.data for a in (rows[first:], state, forecast, workspace))
            flag = self._detect(*at)
            found.append((int(state[0]) >> shift, flag))
        scores, flags = np.array(found).T
        return scores, flags == 1
