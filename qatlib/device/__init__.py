"""What lives beside a model on a device: its guard, its versions, the models that ship with the project."""

from qatlib.device.guard import Guard
from qatlib.device.versions import Versions

__all__ = ["Guard", "Versions"]
