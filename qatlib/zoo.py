"""The trained models that ship with the project, and test windows of the data that may: list and load, with numpy alone.

`overlays/models/<dataset>/<name>.safetensors`; names tell the model's shape and bits of weights and activations. `fill_zoo` makes them, and
`paper_figures/tables/models.csv` holds their errors.
"""

import numpy as np

from qatlib import paths
from qatlib.integer_model import IntegerModel


def folder(dataset):
    return paths.MODELS / dataset


def names(dataset):
    """Names of the models trained on a data set, sorted."""
    return sorted(path.stem for path in folder(dataset).glob("*.safetensors"))


def load(dataset, name):
    """The IntegerModel of that name. KeyError tells which there are."""
    if name not in names(dataset):
        raise KeyError(f"no model {name!r} trained on {dataset!r}; there are {', '.join(names(dataset)) or 'none'}")
    return IntegerModel.load(folder(dataset) / f"{name}.safetensors")


def windows(dataset):
    """Test windows in counts, each a sample after the one before: int16 (n, context), and what followed, int16 (n, horizon)."""
    return tuple(np.load(folder(dataset) / f"{name}.npy", allow_pickle=False) for name in ("windows", "truth"))
