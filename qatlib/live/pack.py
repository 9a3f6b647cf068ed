"""What the live page knows of a shipped model: its module, its facts, its costs, all from committed files."""

import base64
import tempfile
from pathlib import Path

import pandas as pd

from qatlib.device import shipped
from qatlib.engine import serial_line
from qatlib.engine.synthesis import DEVICES
from qatlib.mcu import export_wasm
from qatlib.studies import cost
from qatlib.system import measurements, paths

ONE = {"channel": ("temperature", "°C")}  # what models of a single channel call theirs
WEATHER = {
    "dew_point_c": ("dew point", "°C"), "humidity_pct": ("humidity", "%"), "wind_speed_kmh": ("wind", "km/h"),
    "temperature_c": ("temperature", "°C"),
}  # fmt: skip
ROOM = {"Temperature": ("", "°C"), "Humidity": ("", "%"), "CO2": ("", "ppm"), "HumidityRatio": ("", "kg/kg")}
WALKED = (
    "It was trained on the oil temperature of an electricity transformer (ETTh1). That recording may not be passed on "
    "in parts: what is played is the weather's, and the proof is of random walks from a seed."
)
# data set: in a word, what is told of it, its channels, the time from row to row, the recording that is played
SETS = {
    "jfk-weather": (
        "Weather", "Air temperature at JFK airport, New York, 2013 (NOAA, CC0)", ONE, "hour", "jfk-weather",
    ),
    "etth1": ("ETTh1", WALKED, ONE, "hour", "jfk-weather"),
    "occupancy": (
        "Office",
        "An office in Belgium (UCI 357, Candanedo and Feldheim, CC BY 4.0): is somebody in? Its light sensor is left "
        "out", ROOM, "minute", "occupancy",
    ),
    "jfk-weather-faults": (
        "Weather with faults", "The weather at JFK airport, New York, 2013 (NOAA, CC0), with faults put in", WEATHER,
        "hour", "jfk-weather-faults",
    ),
}  # fmt: skip
CORES = {"rv32imc": cost.RV32, "cortex-m4": cost.M4, "cortex-m33": cost.M33}


def catalogue():
    """What there is to choose from: an entry a shipped model, forecasters of the data that may be shown first."""
    order = list(SETS)
    found = sorted(shipped.outputs(), key=lambda named: order.index(named[0]))
    return [_entry(dataset, name) for dataset, name in found]


def _entry(dataset, name):
    family, _, bits = name.rpartition("-")
    model = shipped.load(dataset, name)
    return {
        "key": f"{dataset}/{name}",
        "task": model.task,
        "family": f"{dataset}/{family}",
        "title": f"{SETS[dataset][0]}: {family.partition('-')[0]}, {model.context} → {model.horizon}",
        "bits": bits.upper() if bits != "mixed" else bits,
        "size": model.size_bytes,
    }


def recordings():
    """{data set: rows in counts, as base64 of little-endian int16, their labels, and a title}"""
    return {name: _recording(name) for name in SETS if (shipped.folder(name) / "recording.npy").is_file()}


def _recording(dataset):
    rows, labels = shipped.recording(dataset)
    coded = {"rows": _base64(rows.astype("<i2")), "labels": None if labels is None else _base64(labels.astype("<i2"))}
    return coded | {"title": SETS[dataset][1]}


def _base64(array):
    return base64.b64encode(array.tobytes()).decode()


def pack(dataset, name):
    """All that the page needs of a model, as JSON can hold it. toolchain.BuildError where ziglang is missing."""
    model = shipped.load(dataset, name)
    _, about, channels, step, recording = SETS[dataset]
    with tempfile.TemporaryDirectory() as folder:
        wasm, script = export_wasm(model, folder)
        code = {"wasm": wasm.read_bytes(), "script": script.read_bytes()}
    named = [(c, *channels[c.name]) for c in model.channels]
    ahead = model.operations[-1].attributes.get("ahead", 0)
    return {
        **{key: base64.b64encode(content).decode() for key, content in code.items()},
        "program": base64.b64encode(model.to_bytes()).decode(),
        "wasm_bytes": len(code["wasm"]),
        "task": model.task,
        "context": model.context,
        "horizon": model.horizon,
        "length": model.context + model.horizon * ahead,
        "channels": [
            {"name": c.name, "shown": text or c.name, "unit": unit, "resolution": c.resolution}
            for c, text, unit in named
        ],
        "labels": list(model.labels),
        "threshold": model.threshold,
        "step": step,
        "size_bytes": model.size_bytes,
        "error": _right(dataset, model) if model.task != "forecast" else _error(dataset, name),
        "about": about,
        "costs": [*_cycles(dataset, name), *_instructions(name)],
        "recording": recording,
        "walks": recording != dataset,
        "windows": len(shipped.reference_windows(dataset, model)),
        "sha256": shipped.outputs()[dataset, name],
    }


def _error(dataset, name):
    """Of a forecaster, as the committed table has it."""
    table = pd.read_csv(measurements.MEASUREMENTS["models"].path).set_index(["dataset", "name"])
    row = table.loc[(dataset, name)]
    return (
        f"test MSE {row.mse:.5f} by the quantised network in training's floats, {row.mse_integer:.5f} by these "
        "integers, in squared standard deviations"
    )


def _right(dataset, model):
    """How often a classifier or a detector is right on the recording that ships."""
    rows, labels = shipped.recording(dataset)
    if model.task == "classify":
        counts, truth = shipped.windows(dataset)
        return f"right in {100 * (model.classify(counts)[0] == truth).mean():.0f} % of the recording's windows"
    flags = model.detect(rows)[1]
    truth = labels[-len(flags) :] > 0
    found, false = 100 * flags[truth].mean(), 100 * flags[~truth].mean()
    return f"{found:.0f} % of the recording's faulty rows flagged, and {false:.0f} % of its sound ones"


def _cycles(dataset, name):
    """On the simulated engine: of this shape and these bits, whatever the data it was trained on."""
    engine = pd.read_csv(measurements.MEASUREMENTS["engine"].path)
    for row in engine[engine["model"] == name].itertuples():
        yield _cost(f"{DEVICES[row.config].name}, engine {row.config}", row.cycles, "cycles", "simulated")
    boards = pd.read_csv(measurements.MEASUREMENTS["open_boards"].path)
    own = (boards["data"] == dataset) & (boards["model"] == name) & boards["line_baud"].isna()
    own &= boards["board"].isin(serial_line.BOARDS)  # not a bitstream read back
    for row in boards[own].itertuples():
        yield _cost(f"{row.device}, board {row.board}", row.cycles, "cycles", "simulated")


def _instructions(name):
    """On microcontrollers, as notebook 09 counted them for this shape, trained on ETTh1."""
    path = paths.ROOT / "paper_figures" / "tables" / "09_microcontroller.csv"
    family, _, bits = name.rpartition("-")
    table = pd.read_csv(path)
    rows = table[(table["model"] == family) & (table["width"].str.lower() == bits)].set_index("target")
    for core, device in CORES.items():
        if core in rows.index:
            counted, each = rows.loc[core, "instructions"], device.cycles_per_instruction.typical
            what = f"cycles: {counted:,.0f} instructions, simulated, at {each:g}"
            yield _cost(device.name, round(counted * each), what, "estimated")


def _cost(chip, number, what, evidence):
    return {"chip": chip, "number": int(number), "what": what, "evidence": evidence}


def folder_of(key, folder):
    """Where a model's pack is kept, below a folder; the page asks for it there."""
    return Path(folder) / "models" / f"{key}.json"
