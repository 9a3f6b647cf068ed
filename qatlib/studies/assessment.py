"""The frames of notebook 11: every method on every target."""

import time
from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from qatlib.engine import CONFIGS
from qatlib.float_model import train
from qatlib.mcu import compiled
from qatlib.mcu.host_program import HostProgram
from qatlib.runs import cached
from qatlib.runs.comparison import final_error
from qatlib.runs.families import FOUR, Families
from qatlib.studies import accelerator, cost, measured, microcontroller, published, recipes, search

VERDICT_COLUMNS = (
    "target, method, weight_bits, activation_bits, mse, mse_evidence, size_bytes, ram_bytes, latency_us, "
    "latency_evidence, energy_uj, energy_evidence"
).split(", ")
BRAM36_BYTES = 36 * 1024 // 8
EMULATED_WINDOWS, ROUNDS = 3, 200
ONNX = "float, onnxruntime"
LINEAR = "linear map"  # method, beside PTQ and QAT of the default model


def methods(experiment):
    """The default model by every method, from notebooks 04 and 08, and a linear map at 4 bits: of the full
    profile the one that notebook 12 finds. -> frame: method, weight_bits, activation_bits, mse (test, mean over the
    seeds), mse_validation, size_bytes, seeds, run (of the first seed)"""
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
    families = Families(experiment, whole=False, encoders=False)
    linear = families.chosen()
    found.append((LINEAR, 4, 4, linear.table, next(families.runs_of_width(linear.model, FOUR))))
    columns = ["mse_validation", "size_bytes"]
    rows = [
        (method, w, a, final_error(table).mean(), *table[columns].mean(), len(table), run)
        for method, w, a, table, run in found
    ]
    columns = ["method", "weight_bits", "activation_bits", "mse", "mse_validation", "size_bytes", "seeds", "run"]
    return pd.DataFrame(rows, columns=columns)


def _bits(run):
    return run.quantization.weight_bits, run.quantization.activation_bits


def everywhere(experiment, table):
    """Every method (table: of `methods`) on every target. -> the verdict (VERDICT_COLUMNS, and count: instructions,
    cycles or, on a laptop, microseconds), outputs on a target, of which equal to NumPy's.

    A laptop's times are measured here (onnxruntime's: by `make bench-peers`); instructions and cycles are simulated,
    and become times and energies by `cost`."""
    subjects = [_subject(experiment, row) for row in table.itertuples()]
    laptop, counted = _timed(subjects), _counted(subjects)
    named = table.assign(model=[s.model.name for s in subjects], width=[s.width for s in subjects])
    fits = pd.concat([laptop, counted]).dropna(subset="count")
    placed = named.merge(fits, on=["model", "width"])  # in the order of the methods, and of the targets within each
    rows = _floats(experiment) + _published() + [row for part in placed.itertuples() for row in _placed(part)]
    checked = counted.groupby("on", sort=False)[["outputs", "equal"]].sum().astype(int).reset_index()
    return pd.DataFrame(rows, columns=[*VERDICT_COLUMNS, "count"]), checked


def _subject(experiment, row):
    """The trained model of a method; its width tells PTQ from QAT, so that model, width and target are one row each."""
    subject = accelerator.trained_model(experiment, row.run)
    return replace(subject, width=f"{row.method} {subject.width}")


def _timed(subjects):
    """Each model on this computer, as `_counted`."""
    rows = [(s.model.name, s.width, "laptop", _one_by_one(s), HostProgram(s.model).workspace) for s in subjects]
    return pd.DataFrame(rows, columns=["model", "width", "on", "count", "ram_bytes"]).assign(by="measured")


def _counted(subjects):
    """Each model on the emulated microcontrollers and the simulated engines: model, width, on (of cost.TARGETS),
    outputs, equal, count (of instructions or cycles; NaN: it does not fit), flash_bytes, ram_bytes, by (evidence)."""
    configs = [CONFIGS[name] for name in cost.TARGETS if name in CONFIGS]
    emulated = microcontroller.emulated(subjects, EMULATED_WINDOWS).assign(by="estimated")
    emulated = emulated[emulated["target"].isin(cost.TARGETS)]
    simulated = accelerator.latencies(subjects, configs).assign(by="simulated")
    simulated["ram_bytes"] = simulated["config"].map(_engine_ram())
    parts = (
        emulated.rename(columns={"target": "on", "instructions": "count"}),
        simulated.rename(columns={"config": "on", "cycles": "count"}),
    )
    return pd.concat(parts)


def _placed(part):
    """Rows of the verdict for a method on a target: one, or one for each way in which an FPGA waits."""
    found = {
        **_method(part),
        "target": cost.TARGETS[part.on],
        "mse": part.mse,
        "mse_evidence": "measured",
        "size_bytes": part.size_bytes if np.isnan(part.flash_bytes) else part.flash_bytes,
        "ram_bytes": part.ram_bytes,
        **_estimated(cost.DEVICES[part.on], part.count, part.by),
    }
    yield found
    if found["target"] == cost.IDLING:
        yield found | {"target": cost.SWITCHED} | _with_start(cost.FPGA, part.count)


def _method(row):
    return {"method": row.method, "weight_bits": row.weight_bits, "activation_bits": row.activation_bits}


def _estimated(device, count, evidence):
    return {
        "count": count,
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


def _on_laptop(microseconds):
    return {"target": cost.HERE} | _estimated(cost.LAPTOP, microseconds, "measured")


def _one_by_one(subject):
    """Median microseconds of one forecast by the compiled C."""
    fast, counts = compiled(subject.model), subject.counts
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
    for cloud, radio in cost.CLOUDS.items():
        sent = {"latency_us": 1e6 * radio.seconds.typical, "latency_evidence": "estimated"}
        sent |= {"energy_uj": 1e3 * radio.message.typical, "energy_evidence": "estimated"}
        rows.append({**about, **sent, "target": cloud, "method": "float, in the cloud"})
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
    theirs = published.LATENCIES[published.LATENCIES["device"] == cost.ESP32.name].iloc[0]
    energy = 1e3 * (cost.ESP32.active * (theirs["microseconds"] / 1e6)).typical
    about = {"target": cost.ESP32.name, "method": "PTQ, as published", "weight_bits": 8, "activation_bits": 8}
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
    four = four_bits(verdict).dropna(subset="count").set_index("target")["count"]
    counts = {key: four[name] for key, name in cost.TARGETS.items() if name in four.index}
    rows = [
        (option, *(mj * cost.DAY / period / 1e3 for mj in energy))
        for option, energy in cost.per_request(counts, period).items()
    ]
    return pd.DataFrame(rows, columns=["target", "joules_a_day_low", "joules_a_day", "joules_a_day_high"])


def four_bits(verdict):
    """The rows of the 4-bit QAT model."""
    return verdict[(verdict["method"] == "QAT") & (verdict["weight_bits"] == 4)]


def by_target(verdict, period):
    """One row a target: the 4-bit model where a model runs there, else what does; with `a_day`, and the period."""
    four, placed = four_bits(verdict), verdict[(verdict["target"] != "any") & (verdict["method"] != LINEAR)]
    others = placed[~placed["target"].isin(four["target"])].groupby("target", sort=False).tail(1)
    rows = pd.concat([four, others]).drop(columns="count")
    return rows.merge(a_day(verdict, period), on="target", how="left").assign(period=period)


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
        elif target in cost.CLOUDS:
            found.append(cost.Option(target, unit, engineering, upkeep, cost.bytes_a_day(period), joules[target]))
        else:
            sent = cost.bytes_a_day(cost.DAY / messages_a_day), messages_a_day * radio.message.typical / 1e3
            found.append(cost.Option(target, unit, engineering, upkeep, sent[0], joules[target] + sent[1]))
    return found
