"""The tidy frames behind the figures of the accelerator: programs, simulated cycles, synthesis, and what others
published."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pandas as pd

from qatlib import engine
from qatlib.engine import schedule as constants
from qatlib.engine.rtl import Rtl
from qatlib.engine.synthesis import DEVICES
from qatlib.integer_model.model import IntegerModel
from qatlib.runs import cached
from qatlib.studies import published
from qatlib.studies.style import SIMULATED

ELSEWHERE = "published elsewhere"
RESOURCES = ["lut", "ff", "dsp", "bram36"]
LATENCY_COLUMNS = (
    "model, width, config, macs, predicted, cycles, interval, bound, microseconds, per_second, outputs, equal, "
    "evidence, source, note"
).split(", ")
OUT_DELAY = 2  # cycles from the end of a program until the bus has its first word of output


@dataclass(frozen=True, eq=False)
class TrainedModel:
    """A trained model, the widths it was trained at ("W4A4", "mixed"), and the test windows of its context: int16 (n,
    context)."""

    width: str
    model: IntegerModel
    counts: np.ndarray


def trained_models(experiment):
    """What the engine runs: in the full profile every model and width, in the quick one those of its grid. ->
    [TrainedModel, ..]"""
    named, grid = experiment.engine_runs(), set(experiment.qat())
    if not experiment.full:
        named = {name: run for name, run in named.items() if run in grid}
    experiment.table(named.values(), "models for the engine")
    found = [trained_model(experiment, run) for run in named.values()]
    if all(attempt(s.model, config)[0] is None for s in found for config in engine.CONFIGS.values()):
        found += [
            trained_model(experiment, run) for run in experiment.one_step() if run.quantization
        ]  # its shape is always the same
    return found


def trained_model(experiment, run):
    windows = cached.splits(run.model, experiment.dataset)[2]
    width = "mixed" if run.exceptions else run.quantization.label
    return TrainedModel(width, cached.integer_model(run, experiment.dataset), windows.counts)


def attempt(model, config):
    """-> (Program or None, the reason why it does not fit)."""
    try:
        return engine.compile(model, config), ""
    except engine.DoesNotFit as reason:
        return None, str(reason)


def example(found):
    """The first model with a program at 8 and 4 bit, and the smallest configuration with room for it. -> (config, 8
    bit, 4 bit)

    found: subjects. ValueError tells why there is none.
    """
    reason = "there is no model"
    for name in dict.fromkeys(s.model.name for s in found):
        eight, four = (next(s for s in found if (s.model.name, s.width) == (name, width)) for width in ("W8A8", "W4A4"))
        for config in engine.CONFIGS.values():
            tried = [attempt(s.model, config) for s in (eight, four)]
            if all(program for program, _ in tried):
                return config, eight, four
            reason = next(text for _, text in tried if text)
    raise ValueError(f"no configuration has room for any of the models: {reason}")


def operations(programs):
    """Cycles of each operation, those of its instructions added up. programs: {width: Program}.

    -> model, width, config, operation, issue, wait (cycles before an issue in which nothing is issued), bound, cycles,
    macs.
    """
    parts = []
    for width, program in programs.items():
        rows = pd.DataFrame(program.operations(), columns=["path", "opcode", "issue", "cycles", "macs", "bound"])
        rows["operation"] = [_label(*names) for names in zip(rows["path"], rows["opcode"], strict=True)]
        sums = rows.groupby("operation", sort=False)[["issue", "cycles", "macs", "bound"]].sum().reset_index()
        parts.append(
            sums.assign(
                wait=sums["cycles"] - sums["issue"], model=program.name, width=width, config=program.config.name
            )
        )
    return pd.concat(parts)[["model", "width", "config", "operation", "issue", "wait", "bound", "cycles", "macs"]]


def _label(path, opcode):
    """Short, and one for each operation that has instructions of its own."""
    short = path.replace("encoder.0.", "").replace("decoder.0.", "decoder.")
    return f"{short}, {opcode}" if opcode in ("quantise", "sum", "probability") else short


def schedule(program, cycles, width):
    """What overlaps: one window from the first word in to the last word out, the next ones beside it; the memory
    answers at once.

    cycles: of the simulation, whose latency places the program. -> model, width, config, lane, kind (bus, issue, in
    flight), window, start, end (cycles after the first word was accepted).
    """
    words_in, words_out = -(-program.inputs // 4), -(-program.outputs // 4)
    words_in += program.anchor is None  # the word of the last count comes twice, the first time ahead of all others
    begin = cycles.first - words_out - OUT_DELAY - program.cycles
    issues = [*_issues(program, 1, begin), *_issues(program, 2, begin + round(cycles.interval))]
    loads = [0, words_in, max(2 * words_in, begin + _freed(program))]  # there are two input buffers
    rows = [("bus in", "bus", window + 1, start, start + words_in) for window, start in enumerate(loads)]
    rows += [*issues, ("bus out", "bus", 1, cycles.first - words_out, cycles.first)]
    frame = pd.DataFrame(rows, columns=["lane", "kind", "window", "start", "end"])
    return frame.assign(model=program.name, width=width, config=program.config.name)


def _issues(program, window, begin):
    """Two rows an instruction: its issues, and its results on their way through the pipeline after the last of them."""
    for i in program.instructions[:-1]:  # the last one is the end
        begin += i.cycles
        lane = _label(i.path, i.opcode)
        yield lane, "issue", window, begin - i.issues, begin
        yield lane, "in flight", window, begin, begin + _latency(i.fields)


def _freed(program):
    """Cycles of the program after which the window's samples have been read."""
    ends = np.cumsum([i.cycles for i in program.instructions])
    return int(max(end for end, i in zip(ends, program.instructions, strict=True) if i.fields.get("free_input")))


def _latency(fields):
    """Cycles from an instruction's last issue until its last result can be read."""
    if fields["opcode"] in ("sum", "output"):
        return {"sum": constants.RECIPROCAL_LATENCY, "output": constants.DRAIN}[fields["opcode"]]
    if fields.get("add"):
        return constants.OPERAND_LATENCY if fields["dest"] == "codes" else constants.SUM_LATENCY
    return max(constants.CODE_LATENCY, constants.MAX_LATENCY if fields.get("track_max") else 0)


def area(table):
    """Of the engine's measurement: config, device, resource, used, budget, percent."""
    used = table.groupby("config", sort=False)[RESOURCES].max()
    rows = [
        (config, DEVICES[config].name, resource, value, getattr(DEVICES[config], resource))
        for config, values in used.iterrows()
        for resource, value in values.dropna().items()
    ]
    frame = pd.DataFrame(rows, columns=["config", "device", "resource", "used", "budget"])
    return frame.assign(percent=100 * frame["used"] / frame["budget"])


def clocks(table):
    """{configuration: MHz after place and route on an ECP5}, of the engine's measurement, where there is one."""
    return table.groupby("config", sort=False)["fmax_ecp5_mhz"].max().dropna().to_dict()


def latencies(found, configs, *, windows=8):
    """Each subject on each configuration, by simulation: a row a pair, also where it does not fit (`note` says why).

    -> LATENCY_COLUMNS: predicted and interval: cycles from window to window, by the compiler and simulated; cycles: of
    one window alone; microseconds: of those, at published.CLOCK; per_second: forecasts at the interval; equal: outputs
    that are the IntegerModel's.
    """
    with ThreadPoolExecutor() as pool:  # an engine that is not built yet takes a C++ compiler some time
        engines = list(pool.map(Rtl, configs))
    rows = [_latency_row(s, rtl, windows) for rtl in engines for s in found]
    return pd.DataFrame(rows, columns=LATENCY_COLUMNS)


def _latency_row(s, rtl, windows):
    program, note = attempt(s.model, rtl.config)
    names = {"model": s.model.name, "width": s.width, "config": rtl.config.name, "note": note}
    if program is None:
        return names | {"evidence": "does not fit", "source": "compiler"}
    counts = spread(s.counts, windows)
    forecast, cycles = engine.simulate(program, counts, rtl.config, rtl=rtl)
    return names | {
        "macs": program.macs,
        "predicted": program.cycles,
        "cycles": cycles.first,
        "interval": cycles.interval,
        "bound": program.bound,
        "microseconds": cycles.first / published.CLOCK,
        "per_second": 1e6 * published.CLOCK / cycles.interval,
        "outputs": forecast.size,
        "equal": int((forecast == s.model.forward(counts)).sum()),
        "evidence": SIMULATED,
        "source": "Verilator, this notebook",
    }


def spread(counts, number):
    """So many windows, evenly over all of them; where there are fewer, some twice."""
    return counts[np.linspace(0, len(counts) - 1, number).astype(int)]


def beside_published(table):
    """Latencies, and at the end of a model those published of its shape, the others after all models: the same columns,
    and `label`."""
    ours = table.assign(label=table["width"])
    theirs = published.LATENCIES.rename(columns={"device": "config"})
    theirs["model"] = theirs["model"].where(theirs["model"].isin(set(ours["model"])), ELSEWHERE)
    order = [*dict.fromkeys(ours["model"]), ELSEWHERE]
    both = pd.concat([ours, theirs])
    return both.sort_values("model", key=lambda names: names.map(order.index), kind="stable").reset_index(drop=True)


def against_published(table):
    """Where shape, width and chip are those published: model, width, config, microseconds, published, times (faster),
    source."""
    theirs = published.LATENCIES[["model", "width", "device", "microseconds", "source"]].rename(
        columns={"microseconds": "published"}
    )
    ours = table[["model", "width", "config", "microseconds"]].assign(
        device=[DEVICES[name].name for name in table["config"]]
    )
    frame = ours.merge(theirs, on=["model", "width", "device"]).drop(columns="device")
    return frame.assign(times=frame["published"] / frame["microseconds"])
