"""Exported C by the thousands: compiled one by one, quickly rather than well, and not kept."""

import ctypes
import tempfile

import numpy as np

from qatlib.mcu.export import export_c, program_of
from qatlib.system import toolchain


def exported(model, counts, kernels="generic", optimised="-O0"):
    """Forecasts by a model's exported C: int16 windows, contiguous -> int16 forecasts."""
    with tempfile.TemporaryDirectory() as folder:
        source, _ = export_c(model, folder, "model", kernels=kernels)
        command = [*toolchain.compiler(".c"), "-std=c99", optimised, "-march=native", "-shared", "-fPIC"]
        toolchain.run([*command, str(source), "-o", f"{folder}/model.so"])
        library = ctypes.CDLL(f"{folder}/model.so")
    memory = np.zeros(program_of(model, kernels).workspace // 4 + 1, np.int32)
    forecasts = np.zeros((len(counts), *model.forecast_shape), np.int16)
    library.model_forecasts.argtypes = [ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p]
    library.model_forecasts.restype = None
    library.model_forecasts(counts.ctypes.data, len(counts), forecasts.ctypes.data, memory.ctypes.data)
    return forecasts
