"""Frames of the accelerator: the shipped models through compiler and simulation, and hand-made tables."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from qatlib import engine
from qatlib.device import shipped
from qatlib.engine import CONFIGS, Cycles, compile, schedule
from qatlib.engine.rtl import build
from qatlib.runs.experiment import Experiment
from qatlib.studies import accelerator, measured, published
from qatlib.studies.accelerator import TrainedModel
from qatlib.system import paths
from qatlib.system.measurements import Measurement
from qatlib.system.toolchain import BuildError

SMALL, LARGE = CONFIGS["xc7s15"], CONFIGS["kv260"]


def committed(name, width):
    model = shipped.load("etth1", f"{name}-{width.lower()}")
    counts = np.random.default_rng(0).integers(0, 4000, (20, model.context)).astype(np.int16)
    return TrainedModel(width, model, counts)


@pytest.fixture(scope="module")
def default():
    """The default model at 8 and 4 bit."""
    return [committed("patch-c336-d16", width) for width in ("W8A8", "W4A4")]


@pytest.fixture(scope="module", params=["patch-c336-d16", "point-w96-d16-h24", "decoder-c336-d16", "point-w12-d32-h1"])
def program(request):
    return engine.compile(committed(request.param, "W8A8").model, SMALL)


def lone(program):
    """Cycles of a simulation in which the program begins ten cycles after the first word."""
    return Cycles(10 + program.cycles + accelerator.OUT_DELAY + -(-program.outputs // 4), program.cycles, 0)


def test_operations_add_up_to_the_program(program):
    frame = accelerator.operations({"W8A8": program})
    assert frame["operation"].is_unique  # also where a memory holds some tokens at a time only
    assert (frame["issue"] + frame["wait"]).sum() == frame["cycles"].sum() == program.cycles
    assert frame["macs"].sum() == program.macs and np.ceil(frame["bound"].sum()) == program.bound
    assert (frame["wait"] >= 0).all() and (frame["bound"] <= frame["issue"]).all()


def test_the_schedule_ends_with_the_last_word(program):
    cycles = lone(program)
    frame = accelerator.schedule(program, cycles, "W8A8").set_index("lane")
    assert frame.loc["bus out", "end"] == cycles.first
    assert frame.loc["bus out", "end"] - frame.loc["bus out", "start"] == -(-program.outputs // 4)
    assert frame.loc[frame["kind"] != "bus", "start"].min() == 10


def test_instructions_issue_one_after_the_other_and_their_results_overlap(program):
    frame = accelerator.schedule(program, lone(program), "W8A8")
    issue, flight = (frame[(frame["kind"] == kind) & (frame["window"] == 1)] for kind in ("issue", "in flight"))
    assert (issue["start"].to_numpy()[1:] >= issue["end"].to_numpy()[:-1]).all()
    assert (flight["start"].to_numpy() == issue["end"].to_numpy()).all()
    assert (issue["start"].to_numpy()[1:] < flight["end"].to_numpy()[:-1]).any()
    assert issue["end"].sub(issue["start"]).sum() == sum(i.issues for i in program.instructions[:-1])


def test_two_windows_at_most_wait_in_the_input_buffers(program):
    frame = accelerator.schedule(program, lone(program), "W8A8")
    loads = frame[frame["lane"] == "bus in"]
    assert (loads["start"].to_numpy()[1:] >= loads["end"].to_numpy()[:-1]).all()
    reading = frame[(frame["kind"] == "issue") & (frame["window"] == 1) & frame["lane"].str.contains("quantise")]
    assert loads["start"].max() >= reading["end"].max()


def test_example_is_the_first_model_on_the_smallest_chip_with_room(default, monkeypatch):
    config, eight, four = accelerator.example(default)
    assert (config.name, eight.width, four.width) == ("xc7s15", "W8A8", "W4A4")
    point = [committed("point-w24-d16-h24", width) for width in ("W8A8", "W4A4")]
    attempt = accelerator.attempt
    monkeypatch.setattr(
        accelerator, "attempt", lambda m, c: (None, "too long") if m.context == 336 or c == SMALL else attempt(m, c)
    )
    config, eight, four = accelerator.example([*default, *point])
    assert config.name == "pynq-z2" and {eight.model.name, four.model.name} == {"point-w24-d16-h24"}
    with pytest.raises(ValueError, match="no configuration has room for any of the models: too long"):
        accelerator.example(default)


def test_what_does_not_fit_is_told(default):
    tiny = engine.EngineConfig("tiny", weight_depth=8)
    program, reason = accelerator.attempt(default[0].model, tiny)
    assert program is None and "weight memory" in reason


@pytest.fixture
def runs_found(sensor_csv, tmp_path, monkeypatch):
    """(profile, whether models fit) -> the experiment, and the runs that `subjects` takes; nothing is trained."""
    monkeypatch.setattr(paths, "BUILD", tmp_path)
    monkeypatch.setattr(Experiment, "table", lambda self, grid, name: None)
    monkeypatch.setattr(accelerator, "trained_model", lambda experiment, run: SimpleNamespace(model=run))

    def find(profile, fits=True):
        monkeypatch.setattr(accelerator, "attempt", lambda model, config: (model, "") if fits else (None, "too long"))
        trial = Experiment(profile, str(sensor_csv), "value", context=48, horizon=6)
        return trial, [s.model for s in accelerator.trained_models(trial)]

    return find


def test_the_quick_profile_trains_nothing_beyond_its_grid(runs_found):
    trial, found = runs_found("quick")
    assert found and set(found) < set(trial.qat())
    assert {r.model.name for r in found} == {"patch-c48-d16", "point-w24-d16-h6"}
    trial, found = runs_found("full")
    assert found == list(trial.engine_runs().values())


def test_one_model_always_fits(runs_found):
    _, found = runs_found("quick", fits=False)
    assert [r.model.name for r in found[-2:]] == ["point-w12-d32-h1"] * 2 and all(r.quantization for r in found)


@pytest.fixture(scope="module")
def latencies(default):
    """On the smallest chip, simulated; with a model that does not fit."""
    try:
        build(SMALL)
    except BuildError as reason:
        pytest.skip(str(reason))
    broken = TrainedModel("W4A4", SimpleNamespace(name="broken"), default[0].counts)
    with pytest.MonkeyPatch.context() as patch:
        attempt = accelerator.attempt
        patch.setattr(accelerator, "attempt", lambda m, c: (None, "too long") if m.name == "broken" else attempt(m, c))
        return accelerator.latencies([*default, broken], [SMALL], windows=3)


def test_latencies_are_simulated_and_equal(latencies, default):
    fits = latencies[latencies["model"] != "broken"]
    assert (fits["equal"] == fits["outputs"]).all() and (fits["outputs"] == 3 * default[0].model.horizon).all()
    assert (fits["cycles"] > fits["bound"]).all() and (fits["microseconds"] == fits["cycles"] / 100).all()
    assert (fits["interval"] - fits["predicted"]).abs().max() <= 1
    assert set(fits["evidence"]) == {"simulated RTL"}


def test_the_program_begins_when_it_has_been_fetched(latencies, default):
    """So what the schedule places by the simulated latency has nothing left over."""
    row, words_out = latencies.iloc[1], default[1].model.horizon // 4
    assert 0 < row["cycles"] - words_out - accelerator.OUT_DELAY - row["predicted"] <= schedule.FETCH


def test_a_model_that_does_not_fit_keeps_its_row(latencies):
    row = latencies.iloc[-1]
    assert (row["evidence"], row["note"]) == ("does not fit", "too long") and np.isnan(row["microseconds"])
    assert list(latencies) == accelerator.LATENCY_COLUMNS


def test_equality_is_counted_not_assumed(default, monkeypatch):
    monkeypatch.setattr(accelerator, "Rtl", lambda config: SimpleNamespace(config=config))
    wrong = default[1].model.forward(accelerator.spread(default[1].counts, 2)) + np.array([[1], [0]], np.int16)
    monkeypatch.setattr(engine, "simulate", lambda program, counts, config, rtl: (wrong, Cycles(20, 10.0, 30)))
    row = accelerator.latencies([default[1]], [SMALL], windows=2).iloc[0]
    assert (row["equal"], row["outputs"]) == (24, 48)


def test_windows_are_spread_over_all():
    counts = np.arange(100)[:, None]
    assert accelerator.spread(counts, 5).ravel().tolist() == [0, 24, 49, 74, 99]
    assert accelerator.spread(counts[:1], 3).ravel().tolist() == [0, 0, 0]  # an interval needs two windows


SIMULATED = pd.DataFrame(
    [
        ("patch-c336-d16", "W4A4", "xc7s15", 20.0),
        ("point-w24-d16-h24", "W8A8", "xc7s15", 100.0),
        ("point-w24-d16-h24", "W8A8", "kv260", 10.0),
    ],
    columns=["model", "width", "config", "microseconds"],
).assign(evidence="simulated RTL", source="Verilator")


def test_published_latencies_stand_behind_the_model_of_their_shape():
    frame = accelerator.beside_published(SIMULATED)
    assert len(frame) == len(SIMULATED) + len(published.LATENCIES)
    assert list(dict.fromkeys(frame["model"])) == ["patch-c336-d16", "point-w24-d16-h24", "published elsewhere"]
    shape = frame[frame["model"] == "point-w24-d16-h24"]
    assert list(shape["evidence"]) == ["simulated RTL"] * 2 + ["published code, simulated"] * 2
    assert frame["source"].str.len().min() > 5


def test_only_the_same_shape_width_and_chip_are_compared():
    frame = accelerator.against_published(SIMULATED)
    assert frame[["model", "width", "config"]].to_numpy().tolist() == [["point-w24-d16-h24", "W8A8", "xc7s15"]]
    assert frame["times"].iloc[0] == pytest.approx(13.1139)
    assert accelerator.against_published(SIMULATED.iloc[:1]).empty


SYNTHESIS = pd.DataFrame(
    [
        ("xc7s15", 7000, 4000, 15, 9.5, 60.0),
        ("xc7s15", 7000, 4000, 15, 9.5, 60.0),
        ("kv260", 58_560, 100, 1248, 144, np.nan),
    ],
    columns=["config", "lut", "ff", "dsp", "bram36", "fmax_ecp5_mhz"],
)


def test_area_in_percent_of_the_chip():
    frame = accelerator.area(SYNTHESIS).set_index(["config", "resource"])
    assert frame.loc[("xc7s15", "lut"), ["used", "budget", "percent"]].tolist() == [7000, 8000, 87.5]
    assert frame.loc[("xc7s15", "bram36"), "percent"] == 95 and frame.loc[("kv260", "dsp"), "percent"] == 100
    assert frame.loc[("kv260", "lut"), "percent"] == 50 and set(frame["device"]) == {"XC7S15", "XCK26"}


def test_a_clock_only_where_there_is_one():
    assert accelerator.clocks(SYNTHESIS) == {"xc7s15": 60.0}


def test_the_measured_engine_is_the_one_that_the_compiler_knows():
    """The table is of this RTL and these models by its stamp; by its cycles it is of this compiler."""
    for row in measured.table("engine").itertuples():
        program = compile(shipped.load("etth1", row.model), CONFIGS[row.config])
        assert (program.macs, program.cycles, program.bound) == (row.macs, row.cycles_ii, row.cycles_bound), row


def test_an_earlier_state_is_said(monkeypatch, capsys):
    monkeypatch.setattr(Measurement, "changed", lambda self: [])
    assert len(measured.table("engine")) and not capsys.readouterr().out and measured.note("engine") == ""
    monkeypatch.setattr(Measurement, "changed", lambda self: ["the RTL"])
    assert len(measured.table("engine"))
    assert capsys.readouterr().out == (
        "engine: measured of an earlier state of the RTL; to measure anew: make verify\n"
    )
