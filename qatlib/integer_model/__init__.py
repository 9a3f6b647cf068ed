"""The arithmetic in whole numbers, and the exported model that is a program of it. Needs NumPy alone."""

from qatlib.integer_model.artifact import ArtifactError
from qatlib.integer_model.model import IntegerModel
from qatlib.integer_model.program import Operation, ProgramError, Tensor
from qatlib.integer_model.units import in_units

__all__ = ["ArtifactError", "IntegerModel", "Operation", "ProgramError", "Tensor", "in_units"]
