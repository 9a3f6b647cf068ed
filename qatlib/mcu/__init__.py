"""An exported model as a C99 library without dependencies, allocation or floats, and what it costs on emulated
microcontrollers."""

from qatlib.mcu.export import export_c
from qatlib.mcu.host import compiled

__all__ = ["compiled", "export_c"]
