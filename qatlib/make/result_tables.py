"""The tables of paper_figures/README.md as Markdown, each from the committed CSV of the same numbers. Every number says
whether it was measured, simulated, estimated or published."""

import re

import numpy as np
import pandas as pd
from matplotlib.ticker import EngFormatter

from qatlib.engine.synthesis import DEVICES
from qatlib.runs import comparison
from qatlib.studies import published
from qatlib.studies.microcontroller import beside_others
from qatlib.system import paths

FOLDER = paths.FIGURES
DEFAULT, SMALLEST = "patch-c336-d16", "xc7s15"


def table(name, folder="tables"):
    return pd.read_csv(FOLDER / folder / f"{name}.csv")


# -- Texts


def markdown(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def quantity(value, unit):
    """1.423e-5, "s" -> "14.2 µs"; a dash where there is no number."""
    return "–" if pd.isna(value) else EngFormatter(unit, places=1)(value).replace(".0 ", " ")


def change(row):
    """In %, with its 90 % interval where there are several seeds."""
    interval = "" if pd.isna(row.low) else f" ({row.low:+.2f} to {row.high:+.2f})"
    return f"{row.change:+.2f} %{interval}".replace("-", "−")


def said(value, unit, evidence):
    """A number that says where it comes from; a dash where there is none."""
    return "–" if pd.isna(value) else f"{quantity(value, unit)}, {evidence}"


def width(row):
    bits = str(row.weight_bits), str(row.activation_bits)
    return "mixed" if "mixed" in bits else "W{:.0f}A{:.0f}".format(*map(float, bits))


# -- Errors


def errors():
    rows = [
        (row.label, f"{row.mse:.4f}", "measured")
        if row.source == "measured"
        else (row.label, f"{row.mse:g}", f"published: {row.source}")
        for row in table("02_float_baseline").itertuples()
    ]
    return markdown(["forecast by", "test MSE", "evidence"], rows)


def quantised():
    """PTQ (03) and QAT (04) against float, by model and width."""
    ptq = table("03_ptq_baselines")
    rows = pd.concat([ptq.assign(width=[width(row) for row in ptq.itertuples()]), table("04_qat_training")])
    rows = rows.sort_values(["model", "width"], ascending=False, kind="stable").itertuples()
    return markdown(
        ["model", "width", "method", "test MSE, measured", "against float"],
        [(row.model, row.width, row.method, f"{row.mse:.4f}", change(row)) for row in rows],
    )


def qat_runs():
    runs = table("accuracy")
    return runs[runs["method"].str.startswith("qat-")]


def agreement():
    """Test MSE of the published shape: in training, in integers."""
    points = qat_runs()
    points = comparison.with_labels(points[points["model"].str.startswith("point")])
    means = points.groupby(["model", "width"])[["mse", "mse_integer"]].mean()
    rows = [(model, bits, f"{row.mse:.4f}", f"{row.mse_integer:.4f}") for (model, bits), row in means.iterrows()]
    return markdown(["model", "width", "QAT evaluation, measured", "integers, measured"], rows)


def low_bits():
    rows = [
        (row.what, f"{row.mse:.4f}", "" if row.what == "float" else change(row), f"{row.size_bytes:,.0f}", row.seeds)
        for row in table("08_how_low_can_it_go").itertuples()
    ]
    return markdown(["what", "test MSE, measured", "against float", "bytes", "seeds"], rows)


def mixed():
    """The models with a width for every tensor against W4A4 of the same seeds."""
    runs = table("low_bits")
    four = runs[(runs["part"] == "uniform") & (runs["width"] == "W4A4") & (runs["dataset"] == "etth1")]
    pairs = comparison.paired_change(runs[runs["part"] == "mixed"], four, ["size_bytes"])
    rows = [(f"{row.size_bytes:,.0f}", change(row)) for row in pairs.itertuples()]
    return markdown(["bytes", "test MSE against W4A4, measured"], rows)


def by_width(frame, key):
    """Change against float by `key` (a column) and width."""
    cells = {(getattr(row, key), row.width): change(row) for row in frame.itertuples()}
    widths = list(dict.fromkeys(frame["width"]))
    rows = [(value, *(cells.get((value, bits), "–") for bits in widths)) for value in dict.fromkeys(frame[key])]
    return markdown([key, *widths], rows)


def recipes():
    return by_width(table("08_recipes", "."), "variant")


def datasets():
    return by_width(table("08_widths", "."), "dataset")


# -- Training, computers, microcontrollers


def peers():
    frame = table("peers").itertuples()
    rows = [(r._1, f"{r.samples_per_second:,.0f}", f"{r.in_first_steps:,.0f}", f"{r.mse:.5f}") for r in frame]
    return markdown(["trained by", "samples a second, measured", "in its first steps", "test MSE, measured"], rows)


def forecasters():
    frame = table("forecasters").itertuples()
    rows = [(r._1, f"{r.microseconds:.1f} µs", f"{r.qatlib_is_faster:.1f} ×") for r in frame]
    return markdown(["forecast by", "one window, measured", "time against qatlib's"], rows)


def firmware():
    frame = table("09_microcontroller")
    rows = [
        (row.width, row.target, f"{row.per_mac:.2f}", quantity(row.flash_bytes, "B"), quantity(row.ram_bytes, "B"))
        for row in frame[frame["model"] == DEFAULT].itertuples()
    ]
    return markdown(
        ["width", "core", "instructions a multiply-accumulate, simulated", "flash, simulated", "RAM, simulated"], rows
    )


def kernels():
    eight, four = (beside_others(bits).loc["all products"].map("{:.2f}".format) for bits in (8, 4))
    rows = [(*key, eight[key], four[key]) for key in eight.index]
    return markdown(
        ["core", "kernels", "instructions a multiply-accumulate, 8 bit, simulated", "4 bit, simulated"], rows
    )


def guard():
    frame = table("10_real_data")
    rows = [(row.fault, f"{row.strength:g}", f"{row.found:.1f} %") for row in frame[frame["strength"] > 0].itertuples()]
    return markdown(["fault", "strength", "windows found, measured"], rows)


def update():
    rows = [
        (
            row.event,
            row.version,
            f"{row.mse:.4f}",
            f"{100 * (row.mse / row.mse_version_1 - 1):+.0f} %".replace("-", "−"),
        )
        for row in table("10_update").itertuples()
    ]
    return markdown(["what happens", "version", "MSE, measured", "against version 1"], rows)


def verdict():
    rows = [
        (
            row.target,
            row.method if pd.isna(row.mse) or row.weight_bits == 32 else f"{row.method} {width(row)}",
            "–" if pd.isna(row.mse) else f"{row.mse:.4f}, {row.mse_evidence}",
            quantity(row.size_bytes, "B"),
            said(row.latency_us / 1e6, "s", row.latency_evidence),
            said(row.energy_uj / 1e6, "J", row.energy_evidence),
            said(row.joules_a_day, "J", "estimated"),
        )
        for row in table("11_verdict").itertuples()
    ]
    return markdown(["where", "model", "MSE", "stored", "latency", "energy of a forecast", "of a day"], rows)


def gates():
    rows = [
        (row.stage, row.gate, f"{row.bar} {row.unit}", "–" if pd.isna(row.found) else f"{row.found:,.4g}", row.state)
        for row in table("11_gates").itertuples()
    ]
    return markdown(["stage", "what", "bar", "found", "state"], rows)


# -- The engine


def engine_row(bits):
    """Of the default model on the smallest configuration."""
    rows = table("engine").set_index(["config", "model"])
    return rows.loc[SMALLEST, f"{DEFAULT}-{bits}"]


def cycles():
    frame = table("engine")
    cells = frame.set_index(["model", "config"])["cycles"]
    configs = list(dict.fromkeys(frame["config"]))
    rows = [(model, *(f"{cells[model, config]:,}" for config in configs)) for model in dict.fromkeys(frame["model"])]
    return markdown(["cycles of one window, simulated", *configs], rows)


def rivals():
    """The published shapes: cycles of the published designs and of this one."""
    ours, known = table("engine").set_index(["config", "model"])["cycles"], published.LATENCIES
    rows = []
    for row in known[known["model"] != ""].itertuples():
        theirs = f"{row.microseconds * published.CLOCK:,.0f}, {row.evidence}"
        rows.append((row.label, theirs, f"{ours[SMALLEST, f'{row.model}-{row.width.lower()}']:,}, simulated"))
    return markdown([f"cycles on {SMALLEST}", "published design", "this one"], rows)


def area():
    rows = []
    for config, part in table("engine").groupby("config", sort=False):
        used, chip = part.iloc[0], DEVICES[config]
        counts = [f"{used[name]:,.0f} of {getattr(chip, name):,.0f}" for name in ("lut", "ff", "dsp", "bram36")]
        clock = quantity(1e6 * used["fmax_ecp5_mhz"], "Hz")
        rows.append((config, chip.name, *counts, clock))
    estimated = (f"{name}, estimated" for name in ("LUT", "FF", "DSP", "BRAM36", "clock on an ECP5"))
    return markdown(["configuration", "chip", *estimated], rows)


def checks():
    columns = ["check", "config", "models", "windows", "mismatches", "wrong_cycles"]
    models = table("engine").groupby("config", sort=False)[["windows_checked", "mismatches"]].sum()
    count = table("engine")["model"].nunique()
    rows = [
        ("committed models", config, count, f"{row.windows_checked:,}", row.mismatches, "")
        for config, row in models.iterrows()
    ]
    return markdown(columns, [*rows, *table("engine_checks")[columns].itertuples(index=False)])


def families():
    rows = [
        (
            f"{row.dataset}, {row.horizon} ahead" + f", {row.channels} channels {row.mode}" * (row.channels > 1),
            row.what, f"{row.model} {row.width}", quantity(row.size_bytes, "B"),
            f"{row.mse:.4f}", change(row),
            "" if row.what == "float" else f"{row.change_from_float:+.1f} %".replace("-", "−"),
        )
        for row in table("12_other_sensors").itertuples()
    ]  # fmt: skip
    columns = ["data", "", "model", "stored", "test MSE, measured", "against the best linear map", "against its float"]
    return markdown(columns, rows)


def decisions():
    """F1 of what notebooks 13 and 14 found, mean over seeds and subjects. The baseline is the one that is best on the
    test, which none is chosen by."""
    rows = []
    for (task, dataset, protocol), part in decided().groupby(["task", "dataset", "protocol"], sort=False):
        f1 = part.groupby("kind", sort=False)["f1"].mean()
        baselines = [kind for kind in f1.index if kind != "float" and not WIDTH.fullmatch(kind)]
        best = max(baselines, key=f1.get)
        sizes = part.loc[part["kind"] == "W4A4", "size_bytes"]
        found = [f"{f1[kind]:.3f}" if kind in f1 else "–" for kind in DECIDED]
        stored = quantity(sizes.mean(), "B")
        rows.append((task, f"{dataset}, {protocol}", f"{f1[best]:.3f} ({best})", *found, stored))
    return markdown(["task", "data", "best baseline", *DECIDED, "W4A4 stored"], rows)


WIDTH = re.compile(r"W\dA\d")
DECIDED = ("float", "W8A8", "W4A4", "W2A4", "W2A2")


def decided():
    """tasks.csv without what is read off at another threshold; `kind`: the width of the network trained with it, or the
    baseline's name."""
    rows = table("tasks")
    rows = rows[rows["f1"].notna() & ~rows["method"].str.startswith("ptq")]
    small = rows["family"] == "cnn"
    widths = [width(row) if row.weight_bits == row.weight_bits else row.method for row in rows.itertuples()]
    return rows.assign(kind=np.where(small, "small convolutional network", widths))


def all_tables():
    """{name: Markdown}"""
    blocks = (errors, quantised, agreement, low_bits, mixed, recipes, datasets, families, decisions, peers, forecasters,
              kernels, firmware, guard, update, verdict, gates, cycles, rivals, area, checks)  # fmt: skip
    return {block.__name__: block() for block in blocks}
