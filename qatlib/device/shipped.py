"""The trained models that ship with the project, and test rows of the data that may: list and load, with numpy alone.

`overlays/models/<dataset>/<name>.safetensors`; names tell the model's shape and bits of weights and activations.
`recording.npy` beside them, int16 (rows,) or (rows, channel), is what they are shown with, and `labels.npy`, one for
each row, is what classifiers and detectors shall say.
`qatlib.make.shipped_models` makes them; `overlays/models/models.csv` and `decisions.csv` hold their errors, as measured
then, and `overlays/models/outputs.csv` what they forecast: what may differ on no machine.
"""

import csv
import hashlib

import numpy as np

from qatlib.integer_model import kernels
from qatlib.integer_model.model import IntegerModel
from qatlib.system import paths

WALKS = 512


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


def recording(dataset):
    """Test rows in counts, in the order of time, and the label of each; None where they have none."""
    rows, labels = folder(dataset) / "recording.npy", folder(dataset) / "labels.npy"
    return np.load(rows, allow_pickle=False), np.load(labels, allow_pickle=False) if labels.is_file() else None


def windows(dataset):
    """Test windows in counts, each a sample after the one before: int16 (n, context) or (n, context, channel), and the
    truth of each: what followed, int16 (n, horizon), or the label of its last row, (n,)."""
    model, (rows, labels) = load(dataset, names(dataset)[0]), recording(dataset)
    found = _sliding(rows, model.context)
    if labels is not None:
        return found, labels[model.context - 1 :]
    truth = _sliding(rows[model.context :], model.horizon)
    return found[: len(truth)], truth


def _sliding(rows, length):
    found = np.lib.stride_tricks.sliding_window_view(rows, length, axis=0)
    return np.ascontiguousarray(np.moveaxis(found, -1, 1))


def outputs():
    """{(dataset, name): SHA-256 of the model's forecasts of `reference_windows`}"""
    with (paths.MODELS / "outputs.csv").open(newline="") as file:
        return {(row["dataset"], row["name"]): row["sha256"] for row in csv.DictReader(file)}


def digest(forecasts):
    """SHA-256 of int16 (windows, horizon), as little-endian bytes."""
    return hashlib.sha256(np.ascontiguousarray(forecasts, "<i2").tobytes()).hexdigest()


def reference_windows(dataset, model):
    """Windows for a model: those that ship with its data set, or walks from a seed where none may; int16 (n, context),
    (n, context, channel)."""
    if (folder(dataset) / "recording.npy").is_file():
        return np.ascontiguousarray(windows(dataset)[0][:, -model.context :])
    rng = np.random.RandomState(0)  # the generator whose numbers NumPy never changes
    reach = 1 << np.arange(WALKS)[:, None] % 13
    steps = rng.randint(-(1 << 12), (1 << 12) + 1, (WALKS, model.context)) * reach >> 12
    steps[:, 0] = rng.randint(kernels.COUNT_MIN, kernels.COUNT_MAX + 1, WALKS)
    return steps.cumsum(axis=1).clip(kernels.COUNT_MIN, kernels.COUNT_MAX).astype(np.int16)
