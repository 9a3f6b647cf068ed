"""`python -m qatlib.make.results`: the numbers of README.md, and all of paper_figures/README.md, from committed tables.

In README.md, what stands between `<!-- name -->` and `<!-- end -->` is written anew. paper_figures/README.md is the
template results.md with every `$name` filled in. Both take their tables and numbers from `values`.
"""

import json
import re
import sys
from pathlib import Path
from string import Template

from qatlib.engine import serial_line
from qatlib.engine.synthesis import DEVICES
from qatlib.make import result_tables as tables
from qatlib.make.result_tables import DEFAULT, FOLDER, SMALLEST
from qatlib.studies import published
from qatlib.studies.cost import TARGETS
from qatlib.system import disk, paths

README, REPORT = paths.ROOT / "README.md", FOLDER / "README.md"
TEMPLATE = Path(__file__).with_name("results.md")
OTHER = """# A run of another kind

Tables are in `tables/`, `manifest.json` says what was run. The results of a full run on ETTh1 are in the repository.
"""
MARKED = re.compile(r"(<!-- (\w+) -->).*?(<!-- end -->)", re.DOTALL)


# -- README.md


def results():
    """At most eight rows, each number with its evidence."""
    rows = [*accuracy_rows(), *decision_rows(), *equality_rows(), *device_rows(), speed_row()]
    return f"\n{tables.markdown(['what', 'result', 'evidence'], rows)}\n"


def accuracy_rows():
    base = tables.table("02_float_baseline").set_index("label")["mse"]
    low = tables.table("08_how_low_can_it_go").set_index("what")
    rivals = [f"{base[label]:.4f}" for label in (DEFAULT, "ridge, context 336", "persistence")]
    found = "; ".join([*rivals, f"{base['Informer']:g}"])
    yield "Test MSE: float; ridge on the same window; persistence; Informer", found, "measured; Informer: published"
    sizes = {name: tables.quantity(low.loc[name, "size_bytes"], "B") for name in ("W4A4", "W2A2", "float")}
    found = "; ".join(f"{tables.change(low.loc[bits])}, {sizes[bits]}" for bits in ("W4A4", "W2A2"))
    yield "W4A4; W2A2 in integers against float: test MSE, bytes", f"{found}, of {sizes['float']}", "measured"


def decision_rows():
    rows = tables.decided()
    f1 = rows.groupby(["dataset", "protocol", "kind"])["f1"].mean()
    both, tests = ("W4A4", "float"), ("no-light-test1", "no-light-test2")
    room = "; ".join(" / ".join(f"{f1['occupancy', test, kind]:.2f}" for test in tests) for kind in both)
    known = ["majority", "ridge-statistics", "ridge-spectra", "small convolutional network"]
    best = " / ".join(f"{f1['occupancy', test][known].max():.2f}" for test in tests)
    what = (
        "Is an office occupied, without its light sensor: macro-F1 of W4A4; of float; of each test file's best baseline"
    )
    yield what, f"{room}; {best}", "measured"
    circuit = "; ".join(f"{f1['skab', 'leaderboard', kind]:.2f}" for kind in both)
    baselines = "; ".join(f"{f1['skab', 'leaderboard', name]:.2f}" for name in ("guard", "everything flagged"))
    what = (
        "Faulty rows of a water circuit (SKAB): F1 of W4A4; of float; of the guard; of flags everywhere; best published"
    )
    yield what, f"{circuit}; {baselines}; 0.78", "measured; published"


def skab():
    """F1, false alarms and missed rows of W4A4, and the missed ones where one in five sound rows is flagged."""
    rows = tables.table("tasks")
    rows = rows[(rows["dataset"] == "skab") & (rows["weight_bits"] == 4) & (rows["activation_bits"] == 4)]
    mean = rows.groupby("protocol")[["f1", "far", "mar"]].mean()
    own, far, mar = (mean.loc["leaderboard", name] for name in ("f1", "far", "mar"))
    missed = mean.loc["leaderboard-far20", "mar"]
    return (
        f"F1 {own:.2f} at {100 * far:.1f} % false alarms and {100 * mar:.1f} % missed; at 20 % false alarms, read off "
        f"the test curve, {100 * missed:.1f} % are missed (best published: 0.78, 13.6 %, 28.0 %)"
    )


def equality_rows():
    runs, engine = tables.qat_runs(), tables.table("engine")
    equal = f"{100 * runs['equal_outputs'].min():g} % in each of {len(runs)} runs"
    windows, wrong = engine["windows_checked"].sum(), engine["mismatches"].sum()
    what = "Equal: outputs, evaluation in training and integers; windows, integers in NumPy and the engine"
    yield what, f"{equal}; {windows - wrong:,} of {windows:,}", "measured; simulated"


def device_rows():
    targets, engine = tables.table("11_verdict").set_index("target"), tables.engine_row("w4a4")
    m4, fpga, chip = targets.loc[TARGETS["cortex-m4"]], targets.loc[TARGETS[SMALLEST]], DEVICES[SMALLEST]
    times = [tables.quantity(row.latency_us / 1e6, "s") for row in (m4, fpga)]
    found = f"{times[0]}; {tables.quantity(m4.energy_uj / 1e6, 'J')}; {tables.quantity(m4.size_bytes, 'B')}"
    evidence = f"{m4.latency_evidence}; {m4.energy_evidence}; simulated"
    yield f"W4A4 on an {m4.name}: time, energy, flash with code", found, evidence
    found = f"{times[1]} ({engine.cycles:,} cycles); {engine.lut:,.0f} of {chip.lut:,} LUT"
    what = f"W4A4 on the engine in an {chip.name} at {published.CLOCK} MHz: time, area"
    yield what, found, f"{fpga.latency_evidence}; estimated"


def speed_row():
    speed = tables.table("peers").set_index("trained by")["samples_per_second"]
    brevitas = next(name for name in speed.index if name.startswith("Brevitas"))
    found = "; ".join(f"{speed[name]:,.0f}" for name in ("qatlib", "float", brevitas))
    return f"Training samples a second, one thread: QAT here; float; {brevitas}", found, "measured"


# -- All together


def numbers():
    """What stands in sentences."""
    run = manifest()
    outputs, seconds = tables.table("09_microcontroller")[["outputs", "equal"]].sum(), run["seconds"]
    real, engine = tables.table("10_real_data"), tables.engine_row("w4a4")
    ptq = (
        tables.table("verdict").query("method == 'PTQ'").drop_duplicates("weight_bits").set_index("weight_bits")["mse"]
    )
    return {
        "minutes": f"{sum(seconds.values()) / 60:.0f} minutes",
        "minutes_08": f"{seconds['08_how_low_can_it_go'] / 60:.0f} minutes",
        "run": f"commit {run['commit'][:12]}, {run['cores']} cores, torch {run['versions']['torch']}",
        "seeds": len(run["seeds"]),
        "windows": f"{tables.table('01_data').set_index('split')['windows']['test']:,}",
        "emulated": f"{outputs['equal']:,} of {outputs['outputs']:,}",
        "false_alarms": f"{real[real['strength'] == 0]['found'].max():g} %",
        "clock": published.CLOCK,
        "interval": tables.quantity(engine.cycles_ii / published.CLOCK / 1e6, "s"),
        "at_ecp5": tables.quantity(engine.cycles / engine.fmax_ecp5_mhz / 1e6, "s"),
        "ptq_four": f"{ptq[4]:.4f}",
        "ptq_two": f"{ptq[2]:.4f}",
    }


def boards():
    """A sentence for each board: what its bitstream takes, and what the default model does on it."""
    frame = tables.table("open_boards")
    told, energies = [], tables.table("11_boards").set_index("board")
    bits = frame[~frame.board.isin(serial_line.BOARDS)]
    for name, rows in frame.drop(bits.index).groupby("board", sort=False):
        first, rates = rows.iloc[0], rows.dropna(subset="line_baud")
        speeds = [f"{r.forecasts_per_second:,.0f} a second at {r.line_baud / 1e6:g} Mbaud" for r in rates.itertuples()]
        energy = energies.loc[name]
        right = rows.windows_checked.sum() - rows.mismatches.sum()
        told.append(
            f"{name} ({first.device}): {first.lut:,} LUTs, {first.dsp} multipliers, {first.ram} block memories; routed "
            f"for {first.fmax_mhz:g} MHz, runs at {first.clock_mhz:g} MHz; the default 4-bit model in "
            f"{rates.cycles.iloc[0]:,} cycles, {tables.quantity(energy.latency_us / 1e6, 's')}, an estimated "
            f"{energy.energy_uj_typical:.1f} µJ ({energy.energy_uj_low:.1f} to {energy.energy_uj_high:.1f}), "
            f"{', '.join(speeds)}; {right:,} of {rows.windows_checked.sum():,} "
            f"windows of {rows.model.nunique()} models as NumPy has them."
        )
    for row in bits.itertuples():
        told.append(
            f"{row.board}: {row.windows_checked - row.mismatches} of {row.windows_checked} windows as NumPy has them."
        )
    return " ".join(told)


def values():
    """{name: text} of all that either README leaves open."""
    return {**tables.all_tables(), **numbers(), "results": results(), "skab": skab(), "boards": boards()}


def readme(text, known):
    """README.md's text with its marked parts written anew. KeyError names one that there is nothing for."""
    return MARKED.sub(lambda found: f"{found[1]}{known[found[2]]}{found[3]}", text)


def report(known):
    """The text of paper_figures/README.md."""
    return Template(TEMPLATE.read_text()).substitute(known)


def manifest():
    return json.loads((FOLDER / "manifest.json").read_text())


def is_of_the_paper(run):
    """Whether a manifest is that of a full run on ETTh1, nothing else chosen: what both READMEs tell of."""
    chosen = {"target", "inputs", "clean", "context", "horizon"} & run["parameters"].keys()
    return (run["profile"], run["data"]) == ("full", "etth1") and not chosen


def write_report():
    """paper_figures/README.md; of a run of another kind it says no more than that, and nothing of a user's file."""
    disk.write(REPORT, (report(values()) if is_of_the_paper(manifest()) else OTHER).encode())


def main():
    """Write both, if the figures are those of a full run on ETTh1; exit with a sentence where they are not."""
    run = manifest()
    if not is_of_the_paper(run):
        sys.exit(f"{FOLDER} holds a {run['profile']} run on {run['data']}; README.md tells of a full one on etth1")
    README.write_text(readme(README.read_text(), values()))
    write_report()


if __name__ == "__main__":
    main()
