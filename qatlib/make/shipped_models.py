"""`python -m qatlib.make.shipped_models`: trains the models that ship with the project (see `shipped`) and writes them,
their errors, their outputs, and test windows."""

import numpy as np
import pandas as pd

from qatlib.device import shipped
from qatlib.runs import cached, comparison
from qatlib.runs.experiment import Experiment
from qatlib.system import measurements, paths

WINDOWS = 512
COLUMNS = ["dataset", "name", *comparison.WIDTHS, "size_bytes", "mse_validation", "mse", "mse_integer", "equal_outputs"]


def main():
    etth1, weather = Experiment(data="etth1"), Experiment(data="jfk-weather")
    uniform = {n: r for n, r in weather.engine_runs().items() if r.model == weather.default_model and not r.exceptions}
    table = pd.concat([fill(etth1, etth1.engine_runs()), fill(weather, uniform)])
    write_windows(weather)  # of ETTh1 none: its licence does not allow parts
    write_outputs("etth1", "jfk-weather")
    measurements.MEASUREMENTS["models"].keep(table.to_csv(index=False), ("torch", "numpy"))
    print(table.to_string(index=False))


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


def write_windows(experiment):
    """The last test windows of the default model, and what followed each."""
    counts, truth = experiment.last_counts(WINDOWS)
    np.save(shipped.folder(experiment.dataset.name) / "windows.npy", counts)
    np.save(shipped.folder(experiment.dataset.name) / "truth.npy", truth)


def write_outputs(*datasets):
    """The digests of what the models forecast, by NumPy."""
    rows = [(dataset, name, shipped.load(dataset, name)) for dataset in datasets for name in shipped.names(dataset)]
    rows = [
        (dataset, name, shipped.digest(model.forward(shipped.reference_windows(dataset, model))))
        for dataset, name, model in rows
    ]
    pd.DataFrame(rows, columns=["dataset", "name", "sha256"]).to_csv(paths.MODELS / "outputs.csv", index=False)


if __name__ == "__main__":
    main()
