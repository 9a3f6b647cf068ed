"""Quantisation: after training (`ptq`), in training (`qat`), and the export to integers."""

from qatlib.quantised_model.qat import QATConfig, export
from qatlib.quantised_model.quantisers import QuantConfig

__all__ = ["QATConfig", "QuantConfig", "export"]
