"""Cached runs: what is trained is trained once, here or on a cluster, and compared over seeds."""

from qatlib.runs.cached import Run, float_model, integer_model, quantised_model
from qatlib.runs.experiment import Experiment
from qatlib.runs.scale_out import collect

__all__ = ["Experiment", "Run", "collect", "float_model", "integer_model", "quantised_model"]
