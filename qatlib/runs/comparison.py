"""Statistics of the run table: what validation chose, and paired differences over seeds."""

import numpy as np
import pandas as pd
from scipy import stats

from qatlib.quantised_model.quantisers import QuantConfig

CONFIDENCE = 0.9
WIDTHS = ["weight_bits", "activation_bits"]


def final_error(table):
    """The error that counts: of the integers where there are any, else of the float model. Series of test MSE."""
    return table["mse_integer"].fillna(table["mse"])


def chosen(table, by, among):
    """Of each group `by` (columns), the rows of the one value of `among` (columns) with the lowest mean validation
    error over seeds."""
    means = table.groupby([*by, *among], dropna=False)["mse_validation"].mean()
    best = means.groupby(level=by, dropna=False).idxmin()
    index = table.set_index([*by, *among]).index
    return table[index.isin(list(best))]


def paired_change(table, reference, by):
    """Change of test error against the reference's run of the same model and seed, per group `by`.

    table, reference: run tables. -> frame: the group, model, mse (mean), mse_reference, change, low, high (in %, with
    the 90 % t interval of the mean; NaN for a single seed), seeds.
    """
    base = reference.set_index(["model", "seed"])
    base = final_error(base)
    keys = pd.MultiIndex.from_frame(table[["model", "seed"]])
    mse = final_error(table)
    pairs = table.assign(error=mse, base=base.reindex(keys).to_numpy())
    pairs["change"] = 100 * (pairs["error"] / pairs["base"] - 1)
    grouped = pairs.groupby(["model", *by], sort=False, dropna=False)
    frame = grouped.agg(
        mse=("error", "mean"),
        mse_reference=("base", "mean"),
        change=("change", "mean"),
        sd=("change", "std"),
        seeds=("change", "size"),
    )
    half = _half_width(frame["sd"], frame["seeds"])
    return frame.assign(low=frame["change"] - half, high=frame["change"] + half).drop(columns="sd").reset_index()


def interval(changes):
    """Mean of changes over seeds, and the ends of its 90 % t interval (NaN of a single one)."""
    mean, half = changes.mean(), _half_width(changes.std(), len(changes))
    return mean, mean - half, mean + half


def _half_width(deviation, seeds):
    return stats.t.ppf(0.5 + CONFIDENCE / 2, seeds - 1) * deviation / np.sqrt(seeds)


def width_label(row):
    """W4A4 and the like; empty for a float model or baseline."""
    return "" if np.isnan(row.weight_bits) else QuantConfig(int(row.weight_bits), int(row.activation_bits)).label


def with_labels(table):
    """The table with a `width` column."""
    return table.assign(width=[width_label(row) for row in table.itertuples()])


def means(table, by):
    """Mean over seeds of errors, size and time, per group."""
    columns = [
        "mse_validation",
        "mse",
        "mse_integer",
        "mae_integer",
        "size_bytes",
        "equal_outputs",
        "max_step_difference",
        "train_seconds",
    ]
    frame = table.groupby(by, sort=False, dropna=False).agg(seeds=("seed", "size"), **{c: (c, "mean") for c in columns})
    return frame.reset_index().dropna(axis=1, how="all")
