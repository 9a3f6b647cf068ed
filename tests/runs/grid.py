"""A small grid of runs, and what it left in a build folder."""

from qatlib.float_model.config import ModelConfig
from qatlib.float_model.train import TrainConfig
from qatlib.quantised_model.qat import QATConfig
from qatlib.quantised_model.quantisers import QuantConfig
from qatlib.runs.cached import Run
from qatlib.system import disk

MODEL = ModelConfig("patch", context=24, horizon=4, patch=8, d_model=4, heads=2, dropout=0.0)
FLOAT = TrainConfig(epochs=1, batch=64, averaging=0.5)
QAT = QATConfig(epochs=1, batch=64, averaging=0.5)
GRID = [
    Run(MODEL, "qat-adaptive", 0, FLOAT, QuantConfig(4, 4, scheme="adaptive"), QAT),
    Run(MODEL, "persistence"),
    Run(MODEL, "float", 1, FLOAT),
    Run(MODEL, "ptq-minmax", 1, FLOAT, QuantConfig(8, 8, granularity="tensor")),
    Run(MODEL, "ridge"),
    Run(MODEL, "seasonal"),
    Run(MODEL, "float", 0, FLOAT),
    Run(MODEL, "qat-adaptive", 0, FLOAT, QuantConfig(4, 4, scheme="adaptive"), QAT),
]


def finished(build):
    """{key: bytes of its row}, of all that counts as finished."""
    return {path.parent.name: path.read_bytes() for path in (build / "runs").glob("[!.]*/row.json")}


def entries(build):
    """All that lies beside the lock: runs, and scratch if any were left."""
    return {path.name for path in (build / "runs").iterdir()} - {disk.LOCK}
