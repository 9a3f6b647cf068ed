"""`python -m qatlib.make.shipped_models [part ..]`: trains the models that ship with the project (see `shipped`) and
writes them, their errors, their outputs, and test rows. Parts: `forecasts`, `decisions`; both where none is named."""

import sys

import numpy as np
import pandas as pd

from qatlib.data.series import to_counts
from qatlib.device import shipped
from qatlib.runs import cached, comparison
from qatlib.runs.experiment import Experiment
from qatlib.studies import classification, detection
from qatlib.system import measurements, paths

WINDOWS = 512
ROOM, FAULTS = "occupancy", "jfk-weather-faults"
COLUMNS = ["dataset", "name", *comparison.WIDTHS, "size_bytes", "mse_validation", "mse", "mse_integer", "equal_outputs"]


def main(parts):
    for part in parts or MAKERS:
        MAKERS[part]()
    write_outputs("etth1", "jfk-weather", ROOM, FAULTS)


def forecasts():
    etth1, weather = Experiment(data="etth1"), Experiment(data="jfk-weather")
    uniform = {n: r for n, r in weather.engine_runs().items() if r.model == weather.default_model and not r.exceptions}
    table = pd.concat([fill(etth1, etth1.engine_runs()), fill(weather, uniform)])
    write_recording(weather)  # of ETTh1 none: its licence does not allow parts
    measurements.MEASUREMENTS["models"].keep(table.to_csv(index=False), ("torch", "numpy"))
    print(table.to_string(index=False))


def decisions():
    """A classifier of occupancy and a detector of faults in the weather, W4A4, as notebooks 13 and 14 choose them."""
    experiment = Experiment("full")
    room = classification.Study({"": classification.own(experiment, "forecast")}, experiment)
    weather = detection.Study([detection.own(experiment, "forecast")], experiment)
    classifier = cached.integer_model(room.first(), room.sets[""])
    rows = [keep(ROOM, classifier, *_room(room, classifier)), keep(FAULTS, weather.detector(), *_faults(weather))]
    table = pd.DataFrame(rows, columns=["task", "dataset", "name", *comparison.WIDTHS, "size_bytes"])
    measurements.MEASUREMENTS["decisions"].keep(table.to_csv(index=False), ("torch", "numpy"))
    print(table.to_string(index=False))


def _room(study, model):
    """The rows of the last windows of the first test."""
    data = study.sets[""]
    rows = data.parts[study.tests[0]][-1][1 - WINDOWS - model.context :]
    return to_counts(rows.values, data.resolution), rows.labels


def _faults(study):
    judged = study.first()
    rows = WINDOWS + judged.model.context - 1
    return judged.data.counts[-rows:], judged.data.faulty[-rows:]


def keep(dataset, model, rows, labels):
    """Write a W4A4 model and its recording. -> its row"""
    target, name = shipped.folder(dataset), f"{model.name}-w4a4"
    target.mkdir(parents=True, exist_ok=True)
    for old in target.glob("*.safetensors"):
        old.unlink()
    model.save(target / f"{name}.safetensors")
    np.save(target / "recording.npy", rows.astype(np.int16))
    np.save(target / "labels.npy", labels.astype(np.int16))
    return model.task, dataset, name, 4, 4, model.size_bytes


def fill(experiment, named):
    """Write a model file for each of {name: run}, trained first where it is not yet. -> their table."""
    table = (
        experiment.table(named.values(), "models")
        .assign(name=list(named))
        .astype(dict.fromkeys(comparison.WIDTHS, object))
    )
    table.loc[[bool(run.exceptions) for run in named.values()], comparison.WIDTHS] = "mixed"
    target = shipped.folder(experiment.dataset.name)
    target.mkdir(parents=True, exist_ok=True)
    for name, run in named.items():
        cached.integer_model(run, experiment.dataset).save(target / f"{name}.safetensors")
    return table[COLUMNS]


def write_recording(experiment):
    """The rows of the last test windows of the default model, and of what followed."""
    counts, truth = experiment.last_counts(WINDOWS)
    rows = np.concatenate([counts[0], counts[1:, -1], truth[-1]])
    np.save(shipped.folder(experiment.dataset.name) / "recording.npy", rows)


def write_outputs(*datasets):
    """The digests of what the models forecast, by NumPy."""
    rows = [(dataset, name, shipped.load(dataset, name)) for dataset in datasets for name in shipped.names(dataset)]
    rows = [
        (dataset, name, shipped.digest(model.forward(shipped.reference_windows(dataset, model))))
        for dataset, name, model in rows
    ]
    pd.DataFrame(rows, columns=["dataset", "name", "sha256"]).to_csv(paths.MODELS / "outputs.csv", index=False)


MAKERS = {"forecasts": forecasts, "decisions": decisions}


if __name__ == "__main__":
    main(sys.argv[1:])
