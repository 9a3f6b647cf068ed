"""The accelerator: from an exported model to a program (`compile`), through the simulated hardware (`simulate`), to
area and speed."""

from qatlib.engine.compiler import compile, parts
from qatlib.engine.isa import CONFIGS, EngineConfig
from qatlib.engine.memory import DoesNotFit
from qatlib.engine.program import Program
from qatlib.engine.registers import EngineError
from qatlib.engine.simulation import Cycles, simulate

__all__ = ["CONFIGS", "Cycles", "DoesNotFit", "EngineConfig", "EngineError", "Program", "compile", "parts", "simulate"]
