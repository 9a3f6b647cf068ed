"""The frames of notebook 11: every method on every target, what a device costs over its years, and the gates of a
plan."""

import time
from dataclasses import asdict

import numpy as np
import pandas as pd
import torch

from qatlib.engine import CONFIGS
from qatlib.float_model import train
from qatlib.mcu import compiled, emulate
from qatlib.mcu.export import Program
from qatlib.runs import cached
from qatlib.runs.comparison import final_error
from qatlib.studies import accelerator, cost, measured, microcontroller, published, recipes, search

COLUMNS = (
    "target, method, weight_bits, activation_bits, mse, mse_evidence, size_bytes, ram_bytes, latency_us, "
    "latency_evidence, energy_uj, "
    "energy_evidence"
).split(", ")
LAPTOP, CLOUD = "laptop (a server's x86-64 core)", "cloud over {}"
TARGETS = {"rv32imc": cost.RV32.name, "cortex-m4": cost.M4.name, "xc7s15": "XC7S15, waits idle", "pynq-z2": "PYNQ-Z2"}
SWITCHED = "XC7S15, switched off between"
BRAM36_BYTES = 36 * 1024 // 8
EMULATED_WINDOWS, ROUNDS = 3, 200
ONNX = "float, onnxruntime"


def methods(experiment):
    """The default model by every method, from notebooks 04 and 08. -> frame: method, weight_bits, activation_bits, mse
    (test, mean over the seeds), mse_validation, size_bytes, seeds, run (of the first seed)"""
    uniform = recipes.uniform(experiment)
    mixed = search.best_mixed(experiment, uniform)
    found = []
    for method, grid, kind, bits in (
        ("PTQ", experiment.ptq(), "ptq-mse", 8),
        ("PTQ", experiment.ptq(), "ptq-mse", 4),
        ("PTQ", experiment.ptq(), "ptq-mse", 2),
        ("QAT", experiment.qat(), "qat-asymmetric", 8),
    ):
        chosen = [r for r in grid if (r.model, r.method, *_bits(r)) == (experiment.default_model, kind, bits, bits)]
        chosen = [r for r in chosen if r.quantization.granularity == "channel"]
        found.append((method, bits, bits, experiment.table(chosen), chosen[0]))
    for width, config in recipes.WIDTHS.items():
        if width in ("W4A4", "W3A3", "W2A4", "W2A2"):
            run = recipes.run(experiment, config, experiment.seeds[0])
            found.append(("QAT", *_bits(run), uniform[uniform["width"] == width], run))
    found.append(("QAT, mixed widths", np.nan, np.nan, mixed.chosen, mixed.run(experiment)))
    rows = [
        (
            method,
            w,
            a,
            final_error(table).mean(),
            table["mse_validation"].mean(),
            table["size_bytes"].mean(),
            len(table),
            run,
        )
        for method, w, a, table, run in found
    ]
    columns = ["method", "weight_bits", "activation_bits", "mse", "mse_validation", "size_bytes", "seeds", "run"]
    return pd.DataFrame(rows, columns=columns)


def _bits(run):
    return run.quantization.weight_bits, run.quantization.activation_bits


def everywhere(experiment, table):
    """Every method (table: of `methods`) on every target. -> the verdict (COLUMNS), outputs on a target, of which equal
    to NumPy's.

    A laptop's times are measured here (onnxruntime's: by `make bench-peers`); instructions and cycles are simulated,
    and become times and energies by `cost`."""
    subjects = [accelerator.trained_model(experiment, run) for run in table["run"]]
    configs = [CONFIGS[name] for name in TARGETS if name in CONFIGS]
    emulated = microcontroller.emulated(subjects, EMULATED_WINDOWS)
    simulated = accelerator.latencies(subjects, configs)
    rams = _engine_ram()
    rows = _floats(experiment) + _published()
    for i, (row, subject) in enumerate(zip(table.itertuples(), subjects, strict=True)):
        about = {**_method(row), "mse": row.mse, "mse_evidence": "measured", "size_bytes": row.size_bytes}
        rows.append(
            {
                **about,
                **_on_laptop(_one_by_one(subject.model, subject.counts), Program(subject.model, host=True).workspace),
            }
        )
        for part in emulated.iloc[i * len(emulate.TARGETS) : (i + 1) * len(emulate.TARGETS)].itertuples():
            device = cost.DEVICES[part.target]
            found = {"target": TARGETS[part.target], "size_bytes": part.flash_bytes, "ram_bytes": part.ram_bytes}
            rows.append({**about, **found, **_estimated(device, part.instructions, "estimated")})
        for k, config in enumerate(configs):
            part = simulated.iloc[k * len(subjects) + i]
            if part["evidence"] == accelerator.SIMULATED:
                found = {"target": TARGETS[config.name], "ram_bytes": rams.get(config.name)}
                rows.append({**about, **found, **_estimated(cost.DEVICES[config.name], part["cycles"], "simulated")})
                if config.name == "xc7s15":
                    rows.append(rows[-1] | {"target": SWITCHED} | _with_start(cost.FPGA, part["cycles"]))
    checked = pd.concat([emulated.rename(columns={"target": "on"}), simulated.rename(columns={"config": "on"})])
    checked = checked.groupby("on", sort=False)[["outputs", "equal"]].sum().astype(int).reset_index()
    return pd.DataFrame(rows, columns=COLUMNS), checked


def _method(row):
    return {"method": row.method, "weight_bits": row.weight_bits, "activation_bits": row.activation_bits}


def _estimated(device, count, evidence):
    return {
        "latency_us": 1e6 * device.seconds(count).typical,
        "latency_evidence": evidence,
        "energy_uj": 1e3 * device.millijoules(count).typical,
        "energy_evidence": "estimated",
    }


def _with_start(device, cycles):
    """Every forecast waits until the device is configured."""
    return {
        "latency_us": 1e6 * (device.start_seconds + device.seconds(cycles)).typical,
        "latency_evidence": "estimated",
        "energy_uj": 1e3 * (device.start + device.millijoules(cycles)).typical,
    }


def _on_laptop(microseconds, workspace=None):
    return {"target": LAPTOP, "ram_bytes": workspace} | _estimated(cost.LAPTOP, microseconds, "measured")


def _one_by_one(model, counts):
    """Median microseconds of one forecast by the compiled C."""
    fast = compiled(model)
    return _microseconds(lambda i: fast.forward(counts[i : i + 1]), len(counts))


def _microseconds(forecast, windows):
    times = []
    for i in range(ROUNDS):
        began = time.perf_counter()
        forecast(i % windows)
        times.append(time.perf_counter() - began)
    return 1e6 * float(np.median(times[ROUNDS // 10 :]))


def _engine_ram():
    """Bytes of block memory by configuration, whatever model is loaded."""
    return (BRAM36_BYTES * measured.table("engine").groupby("config")["bram36"].max()).to_dict()


def _floats(experiment):
    """The float model on a laptop and in the cloud, and the baselines, which take next to nothing wherever they run."""
    table = recipes.floats(experiment)
    about = {
        "method": "float",
        "weight_bits": 32,
        "activation_bits": 32,
        "mse": table["mse"].mean(),
        "mse_evidence": "measured",
    }
    network = cached.float_model(experiment.float_run(experiment.seeds[0]), experiment.dataset)
    inputs = train.batches(
        experiment.windows("test"), network.sensor, subtract_last=experiment.default_model.subtract_last
    ).inputs
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        microseconds = _microseconds(lambda i: network(inputs[i : i + 1]), len(inputs))
    torch.set_num_threads(threads)
    size = {"size_bytes": table["size_bytes"].iloc[0]}
    rows = [{**about, **size, **_on_laptop(microseconds), "method": "float, PyTorch"}]
    rows += [{**about, **size, **timed} for timed in _onnxruntime(experiment)]
    for radio in cost.RADIOS:
        sent = {"latency_us": 1e6 * radio.seconds.typical, "latency_evidence": "estimated"}
        sent |= {"energy_uj": 1e3 * radio.message.typical, "energy_evidence": "estimated"}
        rows.append({**about, **sent, "target": CLOUD.format(radio.name), "method": "float, in the cloud"})
    baselines = experiment.table(experiment.baselines())
    here = baselines[baselines["model"] == experiment.default_model.name].drop_duplicates("method")
    rows += [
        {"target": "any", "method": r.method, "mse": r.mse, "mse_evidence": "measured", "size_bytes": r.size_bytes}
        for r in here.itertuples()
    ]
    return rows


def _onnxruntime(experiment):
    """One row, or none on other data and another shape than `make bench-peers` takes."""
    if not experiment.has_published_errors or experiment.context != 336:
        return []
    microseconds = measured.table("forecasters").set_index("forecast by")["microseconds"]
    return [_on_laptop(microseconds.filter(regex="onnxruntime.*float").iloc[0]) | {"method": ONNX}]


def note(verdict):
    """What the verdict's figure has to say of the time that was not measured with it."""
    return measured.note("forecasters") if (verdict["method"] == ONNX).any() else ""


def _published():
    """The Transformer on an ESP32 from which the paper starts, on data of its own: no error to compare."""
    theirs = published.LATENCIES[published.LATENCIES["device"] == "ESP32"].iloc[0]
    energy = 1e3 * (cost.ESP32.active * (theirs["microseconds"] / 1e6)).typical
    about = {"target": "ESP32", "method": "PTQ, as published", "weight_bits": 8, "activation_bits": 8}
    times = {
        "latency_us": theirs["microseconds"],
        "latency_evidence": "published",
        "energy_uj": energy,
        "energy_evidence": "estimated",
    }
    return [about | times]


def a_day(verdict, period):
    """Joules of a day in which the 4-bit model forecasts every `period` seconds, waiting included: target,
    joules_a_day, its range.

    Nothing for what cannot sleep, a laptop or a whole board, and for what takes longer than the period."""
    four = _four_bits(verdict).set_index("target")["latency_us"]
    counts = {}
    for key, name in TARGETS.items():
        if name in four.index:
            device = cost.DEVICES[key]
            counts[key] = four[name] * device.clock / (device.cycles_per_instruction or cost.Range(1, 1, 1)).typical
    rows = [
        (option, *(mj * cost.DAY / period / 1e3 for mj in energy))
        for option, energy in cost.per_request(counts, period).items()
    ]
    return pd.DataFrame(rows, columns=["target", "joules_a_day_low", "joules_a_day", "joules_a_day_high"])


def _four_bits(verdict):
    return verdict[(verdict["method"] == "QAT") & (verdict["weight_bits"] == 4)]


def by_target(verdict, period):
    """One row a target: the 4-bit model where a model runs there, else what does; with `a_day`, and the period."""
    four, placed = _four_bits(verdict), verdict[verdict["target"] != "any"]
    others = placed[~placed["target"].isin(four["target"])].groupby("target", sort=False).tail(1)
    return pd.concat([four, others]).merge(a_day(verdict, period), on="target", how="left").assign(period=period)


def options(verdict, prices, period, messages_a_day=1):
    """The ways to get a forecast every `period` seconds, as `cost.Option`. prices: {target: (unit, engineering, upkeep
    a year)}.

    Forecasts made on a device send a message now and then; the cloud is sent one for every forecast. Radio: the first
    of cost.RADIOS. ValueError for a target that is none."""
    joules, radio, found = a_day(verdict, period).set_index("target")["joules_a_day"], cost.RADIOS[0], []
    for target, (unit, engineering, upkeep) in prices.items():
        if target not in set(verdict["target"]):
            raise ValueError(f"no target {target!r}; choose from {', '.join(dict.fromkeys(verdict['target']))}")
        if target not in joules.index:
            print(
                f"left out, {target}: no model of this shape runs there, it cannot sleep, or it takes longer "
                f"than {period} s"
            )
        elif target.startswith("cloud"):
            found.append(cost.Option(target, unit, engineering, upkeep, cost.bytes_a_day(period), joules[target]))
        else:
            sent = cost.bytes_a_day(cost.DAY / messages_a_day), messages_a_day * radio.message.typical / 1e3
            found.append(cost.Option(target, unit, engineering, upkeep, sent[0], joules[target] + sent[1]))
    return found


def money(options, terms, period, devices=(1, 10, 100, 1_000, 10_000, 100_000)):
    """A row an option: engineering, what one device takes over the years (unit, upkeep, data, batteries), totals for so
    many, the terms."""
    return pd.DataFrame(
        {
            "option": o.name,
            "engineering": o.engineering,
            **terms.a_device(o),
            **{f"{n:,} devices": terms.total(o, n) for n in devices},
        }
        for o in options
    ).assign(**asdict(terms), period=period)


def break_even(options, terms):
    """From how many devices on one option takes no more money than another: option, against, devices (infinite: it
    never stays so)."""
    rows = [(a.name, b.name, terms.break_even(a, b)) for a in options for b in options if a is not b]
    return pd.DataFrame(rows, columns=["option", "against", "devices"])


GATES = {  # key: stage, what must hold, bar, unit
    "error_baseline": ("proof of concept", "test error of the 4-bit integers, against the best baseline", "< 0", "%"),
    "error_float": ("proof of concept", "the same, against the float model", "< 2", "%"),
    "equal": ("proof of concept", "outputs on simulated and emulated hardware that equal NumPy's", ">= 100", "%"),
    "flash": ("proof of concept", "flash of a Cortex-M4, code and parameters", "< 20", "kB"),
    "alarms": ("pilot", "sound windows that the guard distrusts", "< 1", "%"),
    "detection": ("pilot", "faulty windows that it finds, the worst kind of fault", ">= 95", "%"),
    "update": ("pilot", "devices updated and rolled back without a visit", ">= 100", "%"),
    "latency": ("pilot", "measured latency, against the estimate", "< 2", "times"),
    "energy": ("pilot", "measured energy of a forecast, against the estimate", "< 2", "times"),
    "field_error": ("pilot", "error of ten devices over eight weeks, against the best baseline", "< 0", "%"),
    "break_even": (
        "production",
        "devices from which on the microcontroller pays against the cloud",
        "< 10000",
        "devices",
    ),
    "delivered": ("production", "hours with a forecast, over three months", ">= 99", "%"),
    "visits": ("production", "visits to a device in a year", "< 0.2", "visits"),
}


def gates(verdict, checked, detection, crossings):
    """The plan: what must hold before the next stage begins, and what of it is known. -> key, stage, gate, bar, found,
    unit, state

    found: empty where only a board or the field can tell; state: passed, failed or open, as what rests on assumed
    prices stays. checked: of `everywhere`; detection: of `frames_real.detection`; crossings: of `break_even`."""
    error = verdict.set_index("method")["mse"]
    four, flash = (_four_bits(verdict).set_index("target")[column] for column in ("mse", "size_bytes"))
    sound = detection["strength"] == 0
    pays = crossings[(crossings["option"] == cost.M4.name) & crossings["against"].str.startswith("cloud")]["devices"]
    found = {
        "error_baseline": 100 * (four.iloc[0] / verdict[verdict["target"] == "any"]["mse"].min() - 1),
        "error_float": 100 * (four.iloc[0] / error["float, PyTorch"] - 1),
        "equal": 100 * checked["equal"].sum() / checked["outputs"].sum(),
        "flash": flash[cost.M4.name] / 1e3,
        "alarms": detection[sound]["distrusted"].max(),
        "detection": detection[~sound & (detection["strength"] == detection["bar"])]["found"].min(),
        "break_even": min(pays, default=None),
    }
    states = {
        key: "open" if found.get(key) is None or key == "break_even" else _state(bar, found[key])
        for key, (_, _, bar, _) in GATES.items()
    }
    rows = [
        (key, stage, gate, bar, found.get(key), unit, states[key]) for key, (stage, gate, bar, unit) in GATES.items()
    ]
    return pd.DataFrame(rows, columns=["key", "stage", "gate", "bar", "found", "unit", "state"])


def _state(bar, found):
    sign, limit = bar.split()
    return "passed" if (found >= float(limit) if sign == ">=" else found < float(limit)) else "failed"
