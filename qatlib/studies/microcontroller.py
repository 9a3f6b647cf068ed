"""The frames behind figures and tables of notebook 09: forecasts in C, what they take, and what that costs."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns

from qatlib.mcu import compiled, emulate
from qatlib.runs import scale_out
from qatlib.studies import cost, measured, published
from qatlib.studies.accelerator import spread
from qatlib.studies.style import PALETTE, in_unit, label_rows, say_evidence, unit_ticks


def on_host(subjects):
    """Every test window through both ways of the C on this computer: model, width, way, outputs, equal."""
    rows = []
    for s in subjects:
        counts = np.ascontiguousarray(s.counts)
        expected = s.model.forward(counts)
        for way, packed in (("packed, as on a microcontroller", True), ("vector units", False)):
            equal = compiled(s.model, packed=packed).forward(counts) == expected
            rows.append((s.model.name, s.width, way, equal.size, int(equal.sum())))
    return pd.DataFrame(rows, columns=["model", "width", "way", "outputs", "equal"])


def emulated(subjects, windows):
    """So many test windows on each emulated microcontroller, on all cores: a row a model, width and target."""
    jobs = [(s, target, windows) for s in subjects for target in emulate.TARGETS]
    return pd.DataFrame(scale_out.each(_emulated, jobs))


def _emulated(job):
    s, target, windows = job
    counts = spread(s.counts, windows)
    outcome = emulate.Firmware(s.model, target).run(counts)
    macs, instructions = emulate.multiply_accumulates(s.model), outcome.instructions.mean()
    return {
        "model": s.model.name,
        "width": s.width,
        "target": target,
        "outputs": outcome.forecasts.size,
        "equal": int((outcome.forecasts == s.model.forward(counts)).sum()),
        "macs": macs,
        "instructions": instructions,
        "per_mac": instructions / macs,
        "flash_bytes": outcome.flash,
        "ram_bytes": outcome.ram,
        "evidence": "simulated",
    }


def beside_others(bits):
    """Instructions a multiply-accumulate of the default model's products by this project's kernels and by public ones,
    from the table that `make bench-kernels` keeps. bits: of the weights.

    A row a product, and one of all; columns (core, kernels). Of several public functions and ways to compile them it is
    the one that takes fewest. Where one call of this project's does several products, its row names them all, and that
    of all products counts what else the call does, as a softmax.
    """
    table = measured.table("kernels")
    part = table[table["bits"] == bits]
    best = part.loc[part.groupby(["core", "kernels", "layer"], sort=False)["instructions"].idxmin()]
    best = best.assign(layer=best["layer"].str.removeprefix("encoder.0."))
    whole = best.groupby(["core", "kernels"], sort=False)[["macs", "instructions"]].sum()
    frame = best.pivot(index="layer", columns=["core", "kernels"], values="per_mac")
    frame.loc["all products"] = whole["instructions"] / whole["macs"]
    order = [*dict.fromkeys(best["layer"]), "all products"]
    return frame.loc[order, list(whole.index)]


def latencies(table):
    """Milliseconds of a forecast, low, typical and high by `cost`, and what was published: a row a model, width and
    device."""
    rows = []
    for row in table[table["target"].isin(cost.DEVICES)].itertuples():
        device = cost.DEVICES[row.target]
        low, typical, high = (1e3 * s for s in device.seconds(row.instructions))
        rows.append(
            (row.model, row.width, device.name, low, typical, high, "estimated", f"{device.clock} MHz; {cost.CPI}")
        )
    theirs = published.LATENCIES[published.LATENCIES["device"] == cost.ESP32.name]
    rows += [
        (r.label, "W8A8", r.device, *[r.microseconds / 1e3] * 3, r.evidence, r.source) for r in theirs.itertuples()
    ]
    return pd.DataFrame(rows, columns=["model", "width", "device", "low", "typical", "high", "evidence", "source"])


def energy(table, program, model, width):
    """Energy of a request over the time between requests, ten a second to one an hour. table: of `emulated`; program:
    of the engine, which counts if it is one of the XC7S15.

    -> period (s), option, low, typical, high (mJ a request), without what takes longer than the period.
    """
    counts = table[(table["model"] == model) & (table["width"] == width)].set_index("target")["instructions"].to_dict()
    rows = []
    counts |= {"xc7s15": program.cycles} if program.config.name == "xc7s15" else {}
    for period in np.geomspace(0.1, 3600, 181):
        for option, values in cost.per_request(counts, period).items():
            rows.append((period, option, *values))
    return pd.DataFrame(rows, columns=["period", "option", "low", "typical", "high"])


def crossings(frame):
    """From which period on another option is the cheapest: of all, and of the FPGA's two: choice, from (s), option."""
    parts = []
    for choice, part in (("any", frame), ("FPGA", frame[frame["option"].isin((cost.IDLING, cost.SWITCHED))])):
        best = part.loc[part.groupby("period")["typical"].idxmin()]
        parts.append(best[best["option"] != best["option"].shift()].assign(choice=choice))
    return (
        pd.concat(parts)[["choice", "period", "option"]]
        .rename(columns={"period": "from_seconds"})
        .reset_index(drop=True)
    )


def cloud(periods=(60, 600, 3600)):
    """What asking a cloud takes, the radio alone: by radio and period (s) the bytes and J of a day, and the seconds
    until the answer."""
    rows = [
        (
            r.name,
            period,
            cost.bytes_a_day(period),
            r.message.typical * cost.DAY / period / 1e3,
            r.seconds.low,
            r.seconds.high,
            "estimated",
        )
        for r in cost.RADIOS
        for period in periods
    ]
    return pd.DataFrame(
        rows, columns=["radio", "period", "bytes_a_day", "joules_a_day", "seconds_low", "seconds_high", "evidence"]
    )


def sources():
    """Every published figure that `cost` stands on."""
    rows = [
        (d.name, *d.active, *d.idle, d.start.typical, d.source)
        for d in (cost.RV32, cost.M4, cost.M33, cost.FPGA, cost.BOARD, cost.ESP32, cost.LAPTOP)
    ]
    rows += [(f"{r.name}, a message", *[None] * 6, r.message.typical, r.source) for r in cost.RADIOS]
    columns = [f"{what}_mw_{end}" for what in ("active", "idle") for end in ("low", "typical", "high")]
    return pd.DataFrame(rows, columns=["device", *columns, "mj_each_time", "source"])


CORES = {  # an M33 takes what an M4 does
    "cortex-m0plus": ("Cortex-M0+", PALETTE[4]),
    "rv32imc": ("RV32IMC", PALETTE[0]),
    "cortex-m4": ("Cortex-M4", PALETTE[1]),
}
DEVICE_COLOURS = {
    cost.RV32.name: PALETTE[0],
    cost.M4.name: PALETTE[1],
    cost.M33.name: PALETTE[6],
    cost.ESP32.name: "black",
}
OPTION_STYLES = {
    cost.RV32.name: (PALETTE[0], "-"),
    cost.M4.name: (PALETTE[1], "-"),
    cost.M33.name: (PALETTE[6], "-"),
    cost.IDLING: (PALETTE[2], "-"),
    cost.SWITCHED: (PALETTE[2], "--"),
    **{cloud: (PALETTE[3], style) for cloud, style in zip(cost.CLOUDS, ("-", "--"), strict=True)},
}


def plot_instructions(frame, axes=None):
    """Instructions a multiply-accumulate, flash and RAM. frame: `emulated`."""
    labels = list(dict.fromkeys(frame["model"] + " " + frame["width"]))
    if axes is None:
        axes = plt.subplots(1, 3, figsize=(11, 0.42 * len(labels) + 1.9), sharey=True)[1]
    others = beside_others(8).loc["all products"].drop("qatlib", level="kernels").groupby(level="core").min()
    height = 0.8 / len(CORES)
    columns = (
        ("per_mac", 1, "instructions a multiply-accumulate"),
        ("flash_bytes", 1e3, "flash (kB)"),
        ("ram_bytes", 1e3, "RAM (kB)"),
    )
    for ax, (column, unit, title) in zip(axes, columns, strict=True):
        for i, (target, (name, colour)) in enumerate(CORES.items()):
            part = frame[frame["target"] == target]
            y = [labels.index(label) + height * (i - 1) for label in part["model"] + " " + part["width"]]
            ax.barh(y, part[column] / unit, 0.95 * height, color=colour, label=name)
            if column == "per_mac":
                ax.axvline(others[target], color=colour, lw=1.2, dashes=(4, 2))
        label_rows(ax, labels)
        ax.set(xlabel=title)
    axes[0].figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    said = "emulated: instructions, no cycles; dashed: the best public kernels, 8 bit, their products alone"
    say_evidence(axes[0], said)
    return axes[0]


def plot_latency(frame, ax=None):
    """Milliseconds of a forecast. frame: `latencies`."""
    lines = [
        f"{r.model} {r.width}, {r.device}" if r.evidence == "estimated" else f"{r.model}, {r.device}"
        for r in frame.itertuples()
    ]
    ax = ax or plt.subplots(figsize=(9.5, 0.3 * len(lines) + 1.8))[1]
    for y, row in enumerate(frame.itertuples()):
        ax.barh(y, row.typical, 0.6, color=DEVICE_COLOURS[row.device])
        if row.high > row.low:
            ax.plot([row.low, row.high], [y, y], color="black", lw=1.4)
        ax.text(1.15 * row.high, y, f"{in_unit(row.typical / 1e3, 's')}, {row.evidence}", va="center", fontsize=9)
    label_rows(ax, lines)
    ax.set_xscale("log")
    ax.set_xlim(10 ** np.floor(np.log10(frame["low"].min())), 12 * frame["high"].max())
    ax.xaxis.set_major_formatter(unit_ticks("s", 1e-3))
    ax.set(xlabel="one forecast (log scale)")
    say_evidence(
        ax,
        "estimated: counted instructions at an assumed 1.4 cycles each, line: 1 to 2; black: published, another model",
    )
    return ax


def plot_energy(frame, ax=None):
    """Energy a request over the time between requests. frame: `energy`."""
    ax = ax or plt.subplots(figsize=(9.5, 5.6))[1]
    for option, (colour, style) in OPTION_STYLES.items():
        part = frame[frame["option"] == option]
        if part.empty:
            continue
        ax.plot(part["period"], part["typical"], style, color=colour, lw=2, label=option)
        ax.fill_between(part["period"], part["low"], part["high"], color=colour, alpha=0.15, lw=0)
    ax.set(
        xscale="log",
        yscale="log",
        xlabel="time between requests",
        ylabel="energy a request, waiting included (mJ, log scale)",
    )
    ax.set_xticks([0.1, 1, 10, 60, 600, 3600], ["0.1 s", "1 s", "10 s", "1 min", "10 min", "1 h"])
    ax.minorticks_off()
    ax.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=9)
    sns.despine(ax=ax)
    say_evidence(ax, "estimated from published powers; bands: their ranges")
    return ax
