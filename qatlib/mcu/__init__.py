"""An exported model as a C99 library without dependencies, allocation or floats, also as WebAssembly, and what it costs
on emulated microcontrollers."""

from qatlib.mcu.export import export_c
from qatlib.mcu.host import compiled
from qatlib.mcu.wasm import export_wasm

__all__ = ["compiled", "export_c", "export_wasm"]
