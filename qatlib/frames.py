"""The tidy frames behind figures and closing tables, made from data, run tables and models."""

import numpy as np
import pandas as pd

from qatlib import baselines, models, qat, quant_layers, runs, summary, train
from qatlib.published import ERRORS
from qatlib.quantize import QuantConfig


def series(dataset):
    """Every row: time, value, split, and whether a gap lies before it."""
    ends = (*dataset.bounds, len(dataset.values))
    split = np.repeat(["train", "validation", "test", "unused"], np.diff((0, *ends)))
    gap = np.isin(np.arange(len(split)), dataset.gaps)
    return pd.DataFrame({"time": dataset.times, "value": dataset.values, "split": split, "gap": gap})


def autocorrelation(dataset, *, days=14):
    """Autocorrelation of the train rows by lag, of the values and of their change from one sample to the next; rows in gaps left out."""
    train_rows = slice(0, dataset.bounds[0])
    values = pd.Series(dataset.values[train_rows], dataset.times[train_rows]).asfreq(pd.Timedelta(dataset.step))
    lags = np.arange(0, min(len(values) // 4, int(np.timedelta64(days, "D") / dataset.step)) + 1)
    parts = []
    for name, x in (("value", values), ("change from sample to sample", values.diff())):
        parts.append(
            pd.DataFrame({"lag": lags * (dataset.step / np.timedelta64(1, "D")), "autocorrelation": _lagged(x, lags), "series": name})
        )
    return pd.concat(parts)


def _lagged(x, lags):
    x = (x - x.mean()).to_numpy()
    power = np.nanmean(x * x)
    return [np.nanmean(x[lag:] * x[: len(x) - lag]) / power for lag in lags]


def splits(dataset, context, horizon):
    """Per split: rows, windows, windows lost to gaps, first and last forecast time."""
    frame, ends = [], (0, *dataset.bounds)
    for i, split in enumerate(("train", "validation", "test")):
        windows = dataset.windows(split, context, horizon)
        first, last = dataset.times[windows.rows[0]], dataset.times[windows.rows[-1] + horizon - 1]
        frame.append((split, ends[i + 1] - ends[i], len(windows.counts), windows.lost, first, last))
    return pd.DataFrame(frame, columns=["split", "rows", "windows", "lost to gaps", "first forecast", "last forecast"])


def errors(table, *, published):
    """Run table of baselines and float models -> label, kind, mse, mae, a row a run; with the published errors if asked for."""
    is_ridge = table["method"] == "ridge"
    context = table["model"].str.extract(r"-[cw](\d+)-")[0]
    label = table["model"].where(table["method"] == "float", table["method"].replace({"seasonal": "seasonal naive"}))
    label = label.where(~is_ridge, "ridge, context " + context)
    frame = table.assign(label=label, kind=np.where(table["method"] == "float", "float", "baseline"), source="measured")
    frame = frame[["label", "kind", "seed", "n_params", "mse_validation", "mse", "mae", "source"]]
    return pd.concat([frame, ERRORS.assign(kind="published")]) if published else frame


def means(table, by):
    """Mean over seeds of errors, size and time, per group."""
    columns = ["mse_validation", "mse", "mse_integer", "mae_integer", "size_bytes", "equal_outputs", "max_step_difference", "train_seconds"]
    frame = table.groupby(by, sort=False, dropna=False).agg(seeds=("seed", "size"), **{c: (c, "mean") for c in columns})
    return frame.reset_index().dropna(axis=1, how="all")


def baseline_changes(table, model, float_table):
    """Baselines of a model's context against the mean float error of that model: method, mse, size_bytes, change (%)."""
    rows = table[table["method"].isin(("persistence", "seasonal", "ridge")) & (table["model"] == model)]
    reference = float_table.loc[float_table["model"] == model, "mse"].mean()
    return rows.assign(change=100 * (rows["mse"] / reference - 1))[["method", "mse", "size_bytes", "change"]]


def ptq_against_qat(ptq_table, qat_table, float_table):
    """Paired change against float by width, for the PTQ method and granularity that validation chose, and every QAT scheme."""
    best = summary.chosen(ptq_table, summary.WIDTHS, ["method", "granularity"]).assign(method="ptq, best by validation")
    both = summary.with_labels(pd.concat([best, qat_table]))
    frame = summary.paired_change(both, float_table, ["method", "width", *summary.WIDTHS]).rename(columns={"method": "series"})
    return frame.sort_values(summary.WIDTHS, ascending=False, kind="stable")


def sizes(accuracy, model):
    """Mean size and error of one model by width, for float, and the PTQ and the QAT that validation error chose."""
    rows = accuracy[(accuracy["model"] == model) & ~accuracy["method"].isin(("persistence", "seasonal", "ridge"))]
    ptq_rows, qat_rows = (rows[rows["method"].str.startswith(prefix)] for prefix in ("ptq-", "qat-"))
    parts = [
        rows[rows["method"] == "float"].assign(series="float"),
        summary.chosen(ptq_rows, summary.WIDTHS, ["method", "granularity"]).assign(series="ptq, best by validation"),
        summary.chosen(qat_rows, summary.WIDTHS, ["method"]).assign(series="qat, best by validation"),
    ]
    table = summary.with_labels(pd.concat(parts))
    table["mse"] = summary.final_error(table)
    by = ["series", "method", "granularity", "width", "size_bytes"]
    frame = table.groupby(by, sort=False, dropna=False).agg(seeds=("seed", "size"), mse=("mse", "mean"), mae=("mae", "mean"))
    return frame.reset_index().sort_values("size_bytes", ascending=False)


def tensor_costs(experiment):
    """Change of validation MSE (%) when one tensor alone has 4 bits, the rest 8: tensor, kind, seed, change."""
    cells = [(path, kind, run) for path, kind in tensors(experiment.default_model) for run in experiment.one_tensor_low(path, kind)]
    table = experiment.table([run for *_, run in cells], "one tensor at 4 bits")
    reference = experiment.table(experiment.all_eight()).set_index("seed")["mse_validation"]
    change = 100 * (table["mse_validation"] / table["seed"].map(reference) - 1)
    names = [path.replace("encoder.0.", "") for path, *_ in cells]
    return pd.DataFrame({"tensor": names, "kind": [kind for _, kind, _ in cells], "seed": table["seed"], "change": change})


def tensors(config):
    """(path, kind) of every tensor of a model that has a width of its own; kind: weights or activations."""
    twin = qat.quantize_model(models.Forecaster(config, models.Sensor(1.0, 0.0, 1.0)), QuantConfig(activation_bits=4))
    for path, module in twin.named_modules():
        if isinstance(module, quant_layers.QuantLinear):
            yield path, "weights"
        if isinstance(module, (quant_layers.Quantized, quant_layers.QuantSoftmax)):
            yield path, "activations"


def forecasts(experiment, integer_run):
    """The integer model's forecasts beside truth, float, ridge and persistence, for its window of median and of largest error."""
    dataset, windows = experiment.dataset, experiment.windows("test")
    integers = runs.integer_model(integer_run, experiment.dataset)
    model = runs.float_model(integer_run, experiment.dataset)
    inputs = runs.split_batches(integer_run.model, experiment.dataset)[2].inputs
    anchor = dataset.standardise(windows.counts[:, -1:] * dataset.resolution)
    lines = {
        "truth": windows.truth,
        "persistence": baselines.persistence(windows, dataset),
        "ridge": baselines.ridge(experiment.windows("train"), experiment.windows("validation"), windows, dataset),
        "float": train.forecast(model, inputs).numpy() + anchor,
        f"integers, {summary.width_label(integer_run.quantization)}": dataset.standardise(
            integers.forward(windows.counts) * dataset.resolution
        ),
    }
    error = np.square(list(lines.values())[-1] - windows.truth).mean(1)
    ranked = np.argsort(error)
    picks = {"typical": ranked[len(ranked) // 2], "worst": ranked[-1]}
    return pd.concat([_panel(name, i, error, windows, lines, dataset) for name, i in picks.items()])


def _panel(panel, i, error, windows, lines, dataset):
    title = f"{panel}: {str(dataset.times[windows.rows[i]])[:13]}, MSE {error[i]:.3f}"
    horizon, seen = windows.truth.shape[1], min(48, windows.counts.shape[1])
    history = windows.counts[i, -seen:] * dataset.resolution
    parts = []
    for name, values in lines.items():
        future = values[i] * dataset.std + dataset.mean
        steps, shown = np.arange(1, horizon + 1), future
        if name == "truth":
            steps, shown = np.arange(1 - seen, horizon + 1), np.concatenate([history, future])
        parts.append(pd.DataFrame({"panel": title, "step": steps, "series": name, "value": shown}))
    return pd.concat(parts)
