"""`make bench`: what the project promises beside what it does. Accuracy from the committed tables of a full run;
timings measured now."""

import json
import statistics
import subprocess
import time

import numpy as np
import pandas as pd
import torch

from qatlib import mcu
from qatlib.data import sets
from qatlib.device import shipped
from qatlib.engine import CONFIGS, compile, simulate
from qatlib.engine.rtl import build
from qatlib.engine.synthesis import DEVICES
from qatlib.float_model import train, transformer
from qatlib.float_model.config import Sensor, patch_config
from qatlib.quantised_model import fused, ptq
from qatlib.quantised_model.quantisers import QuantConfig
from qatlib.runs import comparison
from qatlib.studies import measured
from qatlib.system import paths, toolchain

DEFAULT = "patch-c336-d16"
COLUMNS = ["what", "at least", "aim", "got"]


def accuracy_rows(table):
    """Rows on ETTh1, mean over seeds, the scheme at each width chosen by validation error."""
    floats = table[(table["method"] == "float") & (table["model"] == DEFAULT)]
    qat = table[table["method"].str.startswith("qat-")]
    best = comparison.chosen(qat[qat["model"] == DEFAULT], comparison.WIDTHS, ["method"])
    changes = comparison.paired_change(comparison.with_labels(best), floats, ["method", "width"]).set_index("width")
    spread = "{:+.2f} % ({:+.2f} to {:+.2f}), {}".format
    rows = [("float default model, test MSE", "<= 0.0260", "0.0255", f"{floats['mse'].mean():.5f}")]
    for width, bar, aim in (("W8A8", "<= +0.5 %", "0"), ("W4A4", "<= +2 %", "0")):
        row = changes.loc[width]
        rows.append(
            (f"QAT {width} against float, integers", bar, aim, spread(row.change, row.low, row.high, row.method))
        )
    rows.append(
        (
            "QAT W2A4, integers, test MSE",
            "<= 0.0272",
            "0.0262",
            f"{changes.loc['W2A4'].mse:.5f}, {changes.loc['W2A4'].method}",
        )
    )
    rows.append(
        (
            "outputs equal, QAT evaluation and integers",
            "100 %",
            "",
            f"{100 * qat['equal_outputs'].min():g} % in each of {len(qat)} runs",
        )
    )
    for (model, bits), part in qat[qat["model"].str.startswith("point")].groupby(["model", "weight_bits"]):
        mse = part[["mse_integer", "mse"]].mean()
        rows.append(
            (
                f"{model}, {bits:.0f} bit, integers / fake-quantised",
                "equal",
                "",
                f"{mse.iloc[0]:.5f} / {mse.iloc[1]:.5f}",
            )
        )
    return rows


ENGINE_CYCLES = (  # configuration, model, at least, aim
    ("xc7s15", "point-w24-d16-h24-w4a4", 4000, 2000),
    ("xc7s15", "point-w24-d16-h24-w8a8", 8000, 4500),
    ("xc7s15", "point-w12-d32-h1-w4a4", 6000, 2000),
    ("xc7s15", "patch-c336-d16-w4a4", 4000, 1500),
    ("pynq-z2", "patch-c336-d16-w4a4", 800, 250),
)


def engine_rows(table):
    """Rows of the simulated engine, from the table that `make verify` wrote; latencies and area."""
    wrong, windows = int(table["mismatches"].sum()), int(table["windows_checked"].sum())
    rows = [
        ("engine = NumPy, windows of every model that fits", "all", "", f"{windows - wrong:,} of {windows:,} equal")
    ]
    cells = table.set_index(["config", "model"])
    for config, model, bar, aim in ENGINE_CYCLES:
        row = cells.loc[config, model]
        rows.append(
            (
                f"cycles, {model}, {config}",
                f"<= {bar:,}",
                f"{aim:,}",
                f"{row.cycles:,.0f} (then every {row.cycles_ii:,.0f})",
            )
        )
    programs = [compile(shipped.load("etth1", model), CONFIGS[config]) for config, model, *_ in ENGINE_CYCLES]
    worst = min(program.utilisation for program in programs)
    rows.append(("multiply-accumulates against peak, matrix phases, least of these", ">= 60 %", "85 %", f"{worst:.0%}"))
    small, chip = cells.loc["xc7s15"].iloc[0], DEVICES["xc7s15"]
    used = ", ".join(f"{small[name]:,g} of {getattr(chip, name):,g} {name}" for name in ("lut", "dsp", "bram36"))
    rows.append(("xc7s15 in Yosys", "fits", "80 %", used))
    rows.append(("clock of xc7s15 in an ECP5-25k", ">= 60 MHz", "90 MHz", f"{small.fmax_ecp5_mhz:.1f} MHz"))
    return rows


LOW_BITS = (  # row of notebook 08's closing table, at least, aim
    ("W4A4", "<= +0.6 %", "<= 0"),
    ("W3A3", "<= +1.5 %", "<= +0.5 %"),
    ("W2A4", "<= +2 %", "<= +1 %"),
    ("W2A2", "<= +5 %", "<= +3 %"),
    ("all 4 bit", "reported", "<= +4 %"),
    ("mixed, chosen", "W4A4's error, uniform 3 bit's bytes", "2 bit's bytes"),
    ("smallest below ridge", "<= 3,000 bytes", "2,000 bytes"),
    ("ridge", "", ""),
)


def low_bits_rows(table):
    """Rows of notebook 08, integers but for ridge: change against the float models of the same seeds, and bytes on the
    device."""
    cells, rows = table.set_index("what"), []
    for name, bar, aim in LOW_BITS:
        row = cells.loc[name]
        interval = f" ({row.low:+.2f} to {row.high:+.2f})" if row.seeds > 1 else ""
        rows.append(
            (
                f"{name}, against float",
                bar,
                aim,
                f"{row.change:+.2f} %{interval}, MSE {row.mse:.5f}, {row.size_bytes:,.0f} bytes",
            )
        )
    return rows


def simulation_seconds():
    """Seconds for the whole ETTh1 test set through the simulated engine, default 4-bit model on pynq-z2, its RTL
    already built."""
    model = shipped.load("etth1", "patch-c336-d16-w4a4")
    counts = sets.load("etth1").windows("test", model.context, model.horizon).counts
    build(CONFIGS["pynq-z2"])
    began = time.perf_counter()
    simulate(model, counts, CONFIGS["pynq-z2"])
    return time.perf_counter() - began


def step_seconds(*, rounds=60, batch=256):
    """Median seconds of one training step, default model in float and its 4-bit QAT twin in turns; one thread, no
    dropout in either."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config = patch_config(dropout=0.0)
    inputs = torch.randint(-2000, 2000, (batch, config.context)).float()
    targets = torch.randn(batch, config.horizon)
    model = transformer.network(config, Sensor(0.002, 17.0, 9.0))
    twin = ptq.quantise(model, QuantConfig(4, 4), inputs)
    recipe, times = train.TrainConfig(), ([], [])
    pairs = [(fused.Fused(m).train(), train.optimiser(m, recipe, steps=1000)[0]) for m in (model, twin)]
    for _ in range(rounds):
        for (network, optimiser), seconds in zip(pairs, times, strict=True):
            began = time.perf_counter()
            train.step(network, optimiser, inputs, targets)
            seconds.append(time.perf_counter() - began)
    return [statistics.median(seconds[10:]) for seconds in times]


def forecast_seconds(windows, *, rounds=100):
    """Median seconds of so many forecasts in integers, 8-bit default model: by compiled C, by NumPy."""
    model = shipped.load("jfk-weather", "patch-c336-d16-w8a8")
    counts = np.resize(shipped.windows("jfk-weather")[0], (windows, model.context))
    ways = (mcu.compiled(model), []), (model, [])
    for _ in range(rounds):
        for way, seconds in ways:
            began = time.perf_counter()
            way.forward(counts)
            seconds.append(time.perf_counter() - began)
    return [statistics.median(seconds[10:]) for _, seconds in ways]


def _timed(*command):
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=paths.ROOT, timeout=3600)
    return time.perf_counter() - began


def main():
    """Print the table; exit with a sentence where the committed results are not those of a full run on ETTh1."""
    manifest = json.loads((paths.FIGURES / "manifest.json").read_text())
    what = f"make figures PROFILE={manifest['profile']}, the last run of each notebook, with what was cached"
    bars = {"full": ("<= 30 min", "20 min"), "quick": ("<= 6 min", "4 min")}[manifest["profile"]]
    rows = [
        *trained_rows(manifest),
        *engine_rows(measured.table("engine")),
        ("ETTh1 test set through the simulated pynq-z2", "<= 60 s", "15 s", f"{simulation_seconds():.0f} s"),
        (what, *bars, f"{sum(manifest['seconds'].values()) / 60:.1f} min"),
        *speed_rows(),
    ]
    figures = ("make", "figures", *(f"{name.upper()}={value}" for name, value in manifest["parameters"].items()))
    _timed(*figures)
    rows.append(("second make figures, nothing changed", "<= 5 s", "1 s", f"{_timed(*figures):.1f} s"))
    rows.append(("make test", "<= 4 min", "2.5 min", f"{_timed('make', 'test') / 60:.1f} min"))
    print(pd.DataFrame(rows, columns=COLUMNS).to_string(index=False))


def trained_rows(manifest):
    """Of the committed tables, if they are those of a full run on ETTh1."""
    if (manifest["profile"], manifest["data"]) == ("full", "etth1"):
        low_bits = pd.read_csv(paths.TABLES / "08_how_low_can_it_go.csv")
        return [*accuracy_rows(pd.read_csv(paths.TABLES / "accuracy.csv")), *low_bits_rows(low_bits)]
    run = f"a {manifest['profile']} run on {manifest['data']}"
    print(f"paper_figures/ holds {run}: no accuracy rows (make figures, on ETTh1)")
    return []


def speed_rows():
    """Timings of now."""
    compilers = f"{toolchain.described()} / {toolchain.described('.c')}"
    yield "compiler and target of the timings below, C++ / C", "", "", compilers
    floats, qat = step_seconds()
    found = f"{qat / floats:.2f} x ({1000 * qat:.1f} / {1000 * floats:.1f} ms)"
    yield "one QAT step against one float step", "<= 1.2 x", "0.8 x", found
    floats, qat = step_seconds(batch=8)
    found = f"{1000 * qat:.1f} / {1000 * floats:.1f} ms"
    yield "the same with a batch of 8, where samples cost little", "", "", found
    c, numpy = forecast_seconds(256)
    found = f"{numpy / c:.0f} x ({1e6 * c / 256:.1f} / {1e6 * numpy / 256:.0f} us a window)"
    yield "256 forecasts in integers, C against NumPy", ">= 25 x", "50 x", found


if __name__ == "__main__":
    main()
