"""The frames behind figures and tables of notebook 08."""

import numpy as np
import pandas as pd

from qatlib import data, low_bits, runs, search, summary
from qatlib.engine import simulate

ENGINE_WINDOWS = 64


def worth(table, floats, by=("variant", "width")):
    """Change against the float models of the same seeds, per group: test error (%) with its 90 % interval, validation error (%), means."""
    by = list(by)
    table = with_error(table, floats).assign(model=floats["model"].iloc[0])  # models of another shape: against the same float models
    changes = summary.paired_change(table, floats, by)
    columns = [c for c in ("mse_validation", "error", "size_bytes", "cycles") if c in table]
    return changes.merge(table.groupby(by)[columns].mean(), left_on=by, right_index=True).drop(columns=["model", "mse_reference"])


def with_error(table, floats):
    """The table with the column error: validation error against the float model of the same seed (%)."""
    reference = table["seed"].map(floats.set_index("seed")["mse_validation"])
    return table.assign(error=100 * (table["mse_validation"] / reference - 1))


def ranking(frame):
    """Validation error of each variant against float (%), and its mean over the widths, best first."""
    error = frame.pivot(index="variant", columns="width", values="error")
    return error.assign(mean=error.mean(axis=1)).sort_values("mean").reset_index()


def elsewhere(experiment, by_width):
    """Changes by width here and, by the unchanged recipe, on the other data sets."""
    parts = [by_width.assign(dataset=experiment.dataset.name)]
    for name in low_bits.others(experiment):
        try:
            other = experiment.on(name)
            parts.append(worth(low_bits.uniform(other, low_bits.ABLATED), low_bits.floats(other)).assign(dataset=name))
        except (data.Unavailable, ValueError) as reason:
            print(f"left out, {name}: {reason}")
    return pd.concat(parts)


def trained_points(experiment, uniform, finalists, floats, choice):
    """Of what was trained by the whole recipe, validation error against float (%), bytes and engine cycles, the means over seeds."""
    firsts = {w: low_bits.run(experiment, low_bits.WIDTHS[w], experiment.seeds[0]) for w in uniform["width"].unique()}
    cycles = {width: search.cycles(run, experiment.dataset) for width, run in firsts.items()}
    named = ["chosen" if trial == choice else "" for trial in finalists["trial"]]
    table = pd.concat(
        [
            uniform.assign(series="uniform widths", label=uniform["width"], cycles=uniform["width"].map(cycles), trial=-1),
            finalists.assign(series="finalists", label=named),
        ]
    )
    by = ["series", "trial", "label"]
    return with_error(table, floats).groupby(by, sort=False)[["error", "size_bytes", "cycles"]].mean().reset_index()


def bits(finalists, space, choice):
    """Bits of every searched tensor: a row a finalist, the chosen one named."""
    label = [
        f"{row['size_bytes']:,} bytes, {row['cycles']:,.0f} cycles" + (", chosen" if row["trial"] == choice else "")
        for _, row in finalists.iterrows()
    ]
    frame = finalists[[name for name, choices in space.tensors().items() if len(choices) > 1]]
    return frame.set_axis(label, axis=0).rename_axis("model")


def on_engine(experiment, named):
    """{name: run} -> per model: windows through the simulated engine, how many equal NumPy's, cycles predicted and simulated
    (infinite where it does not fit)."""
    rows = []
    for name, run in named.items():
        model = runs.integer_model(run, experiment.dataset)
        counts = runs.splits(run.model, experiment.dataset)[2].counts[:ENGINE_WINDOWS]
        predicted = search.cycles(run, experiment.dataset)
        if np.isinf(predicted):
            rows.append((name, model.size_bytes, 0, 0, predicted, predicted))
            continue
        outputs, cycles = simulate(model, counts, search.ENGINE)
        equal = int((outputs == model.forward(counts)).all(axis=1).sum())
        rows.append((name, model.size_bytes, len(counts), equal, predicted, cycles.interval))
    return pd.DataFrame(rows, columns=["model", "size_bytes", "windows", "equal", "cycles_predicted", "cycles_simulated"])


def found(floats, uniform, chosen, ridge):
    """The closing table. chosen: {name: run table}; ridge: its row."""
    parts = [uniform.assign(what=uniform["width"]), *(table.assign(what=name) for name, table in chosen.items())]
    frame = worth(pd.concat(parts), floats, ["what"])[["what", "seeds", "mse", "change", "low", "high", "size_bytes"]]
    reference = floats["mse"].mean()
    first = {"what": "float", "seeds": len(floats), "mse": reference, "change": 0.0, "size_bytes": floats["size_bytes"].iloc[0]}
    last = {"what": "ridge", "seeds": 1, "change": 100 * (ridge["mse"] / reference - 1), **ridge[["mse", "size_bytes"]]}
    return pd.concat([pd.DataFrame([first]), frame, pd.DataFrame([last])], ignore_index=True)


def every_run(**tables):
    """All run tables in one, with the column `part`."""
    parts = [table.assign(part=name) for name, table in tables.items()]
    return pd.concat(parts).replace({pd.NA: np.nan})
