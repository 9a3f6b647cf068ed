"""The frames behind figures and tables of notebook 09: forecasts in C, what they take, and what that costs."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pandas as pd

from qatlib import cost, published
from qatlib.frames_engine import spread
from qatlib.mcu import compiled, emulate

BARS = {"rv32imc": 6, "cortex-m4": 3}  # instructions a multiply-accumulate, at most


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
    with ProcessPoolExecutor(os.cpu_count(), mp_context=get_context("spawn")) as pool:
        return pd.DataFrame(pool.map(_emulated, jobs))


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


def latencies(table):
    """Milliseconds of a forecast, low, typical and high by `cost`, and what was published: a row a model, width and device."""
    rows = []
    for row in table.itertuples():
        device = cost.DEVICES[row.target]
        low, typical, high = (1e3 * s for s in device.seconds(row.instructions))
        rows.append((row.model, row.width, device.name, low, typical, high, "estimated", f"{device.clock} MHz; {cost.CPI}"))
    theirs = published.LATENCIES[published.LATENCIES["device"] == "ESP32"]
    rows += [(r.label, "W8A8", r.device, *[r.microseconds / 1e3] * 3, r.evidence, r.source) for r in theirs.itertuples()]
    return pd.DataFrame(rows, columns=["model", "width", "device", "low", "typical", "high", "evidence", "source"])


def energy(table, program, model, width):
    """Energy of a request over the time between requests, ten a second to one an hour. table: of `emulated`; program: of
    the engine, which counts if it is one of the XC7S15.

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
    for choice, part in (("any", frame), ("FPGA", frame[frame["option"].str.contains("XC7S15")])):
        best = part.loc[part.groupby("period")["typical"].idxmin()]
        parts.append(best[best["option"] != best["option"].shift()].assign(choice=choice))
    return pd.concat(parts)[["choice", "period", "option"]].rename(columns={"period": "from_seconds"}).reset_index(drop=True)


def cloud(periods=(60, 600, 3600)):
    """What asking a cloud takes, the radio alone: by radio and period (s) the bytes and J of a day, and the seconds until the answer."""
    rows = [
        (r.name, period, cost.bytes_a_day(period), r.message.typical * cost.DAY / period / 1e3, r.seconds.low, r.seconds.high, "estimated")
        for r in cost.RADIOS
        for period in periods
    ]
    return pd.DataFrame(rows, columns=["radio", "period", "bytes_a_day", "joules_a_day", "seconds_low", "seconds_high", "evidence"])


def sources():
    """Every published figure that `cost` stands on."""
    rows = [(d.name, *d.active, *d.idle, d.start.typical, d.source) for d in (*cost.DEVICES.values(), cost.ESP32, cost.LAPTOP)]
    rows += [(f"{r.name}, a message", *[None] * 6, r.message.typical, r.source) for r in cost.RADIOS]
    columns = [f"{what}_mw_{end}" for what in ("active", "idle") for end in ("low", "typical", "high")]
    return pd.DataFrame(rows, columns=["device", *columns, "mj_each_time", "source"])
