"""An exported model as a C99 library without dependencies, allocation or floats, and what it costs on emulated microcontrollers."""

from qatlib.mcu.export import export_c

__all__ = ["export_c"]
