"""The search for widths: what it may vary, where it begins, how it goes on after a kill, and what it chooses."""

import getpass
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pandas as pd
import pytest
from optuna.trial import TrialState

from qatlib.engine import DoesNotFit
from qatlib.float_model.config import FAMILIES
from qatlib.quantised_model.qat import QATConfig
from qatlib.runs import cached, experiment
from qatlib.runs.experiment import Experiment
from qatlib.studies import low_bits, recipes, search, storage
from qatlib.system import paths

FAST = QATConfig(epochs=1, batch=128, averaging=0.5)
TRIALS = 12


@pytest.fixture(scope="module")
def home(tmp_path_factory, in_process):
    """A build folder for this module, and recipes of one epoch."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paths, "BUILD", tmp_path_factory.mktemp("home"))
        patch.setattr(experiment, "RECIPES", dict.fromkeys(FAMILIES, (FAST, FAST)))
        patch.delenv(storage.VARIABLE, raising=False)
        yield paths.BUILD


@pytest.fixture(scope="module")
def small(home, sensor_csv):
    return Experiment("quick", str(sensor_csv), "value", context=48, horizon=6)


@pytest.fixture(scope="module")
def space(small):
    return search.mixed(small)


@pytest.fixture(scope="module")
def trials(small, space):
    return search.search(small, space, TRIALS)


@pytest.fixture
def anew(home):
    """The study is gone, its runs are kept."""
    shutil.rmtree(home / "studies", ignore_errors=True)


def test_every_width_of_a_trial_is_that_of_its_program(small, space):
    widths = {name: choices[i % len(choices)] for i, (name, choices) in enumerate(space.tensors().items())}
    program = cached.integer_model(search.run(small, space.shapes[0], widths, 0, FAST), small.dataset)
    operations = {o.path: o for o in program.operations}
    assert len(widths) == 17
    for (path, kind), bits in widths.items():
        if kind == "weights":
            assert operations[path].attributes["weight_bits"] == bits
        elif path in program.tensors:  # an operand of 8 bits is the stream itself
            spans = (2**bits - 1, 2**bits - 2) if bits == 8 else (2**bits - 1,)
            assert program.tensors[path].high - program.tensors[path].low in spans, path
        else:
            assert bits == 8 and path.endswith("operand")


def test_it_begins_with_uniform_widths_and_with_what_costs_little(space):
    head, embed = ("head", "weights"), ("tokens.embed", "weights")
    change = {2: 5.0, 3: 0.5, 4: 0.01}
    rows = [(*t, b, -1.0 if (t, b) == (head, 2) else change[b]) for t in space.tensors() for b in change]
    costs = pd.DataFrame(rows, columns=["path", "kind", "bits", "change"])
    starts = search.warm_starts(space, costs)
    assert all(start.keys() == space.tensors().keys() for start in starts)
    assert len({tuple(start.items()) for start in starts}) == len(starts)
    assert set(starts[0].values()) == {4}
    thresholds = [s for s in starts if s[head] == 2 and s[embed] in (3, 4)]
    assert {s[embed] for s in thresholds} == {3, 4}  # at 0.03 % and at 1 %


def test_trials(small, space, trials):
    assert trials["trial"].tolist() == list(range(TRIALS)) and trials[["error", "size_bytes", "cycles"]].notna().all(
        axis=None
    )
    assert trials["on_front"].any() and {*map(search.shown, space.tensors())} <= set(trials.columns)
    widths = {tensor: int(trials.loc[3, search.shown(tensor)]) for tensor in space.tensors()}
    run = search.run(small, space.shapes[0], widths, 0, search.RECIPE)
    assert trials.loc[3, "size_bytes"] == cached.integer_model(run, small.dataset).size_bytes
    assert trials.loc[3, "cycles"] == search.cycles(run, small.dataset)
    assert search.runs_of(small, space, 3)[0] == search.run(small, space.shapes[0], widths, 0, recipes.RECIPE)
    assert trials.loc[0, "size_bytes"] > trials.loc[3, "size_bytes"]  # 4 bits everywhere, and 2


def test_the_same_search_gives_the_same_trials(small, space, trials, anew):
    pd.testing.assert_frame_equal(search.search(small, space, TRIALS), trials)


def test_a_search_goes_on_where_it_was_killed(small, space, trials, anew):
    """Trials that a killed process had asked for are finished, each once; a half-asked one is given up and counts."""
    search.search(small, space, 8)
    study = search.study(small, space)
    left = search._ask(study, space, 2)
    study.ask()
    frame = search.search(small, space, TRIALS)
    every = search.study(small, space).trials
    assert len(every) == TRIALS and {t.state for t in every} == {TrialState.COMPLETE, TrialState.FAIL}
    assert frame["trial"].is_unique and set(left) < set(frame["trial"]) and len(frame) == TRIALS - 1
    assert sum(t.state == TrialState.FAIL for t in every) == 1
    assert search.search(small, space, TRIALS).equals(frame)


def test_what_does_not_fit_the_engine_has_no_cycles(small, space, trials, anew, monkeypatch):
    def compile(*arguments):
        raise DoesNotFit("memory", 2, 1, "words")

    monkeypatch.setattr(search, "compile", compile)
    frame = search.search(small, space, 9)
    assert len(frame) == 9 and (frame["cycles"] == float("inf")).all() and frame["on_front"].any()
    points = frame.assign(series="uniform widths", label="")
    assert low_bits.plot_front(frame, pd.concat([points, points.assign(series="finalists")]))


def frame(rows):
    return pd.DataFrame(rows, columns=["trial", "size_bytes", "error"])


def test_finalists_are_small_and_good_enough():
    trials = frame([(0, 100, 5.0), (1, 200, 1.5), (2, 300, 1.6), (3, 400, 0.3), (4, 500, 0.2), (5, 900, -1.0)])
    assert search.finalists(trials, error=1.0, largest=500)["trial"].tolist() == [
        1,
        3,
        4,
    ]  # 2 is larger than 1 and worse
    assert search.finalists(trials, error=9.0)["trial"].tolist() == [0, 1, 3, 4]  # FINALISTS of them
    assert search.finalists(trials, error=-9.0, largest=500)["trial"].tolist() == [4]


def test_chosen_is_the_smallest_that_is_good_enough():
    table = pd.DataFrame(
        {"trial": [7, 7, 8, 8, 9], "size_bytes": [100, 100, 200, 200, 300], "mse_validation": [2.0, 2.2, 1.0, 1.1, 0.9]}
    )
    assert search.chosen(table, 1.05) == 8 and search.chosen(table, 3) == 7 and search.chosen(table, 0.1) == 9


@pytest.fixture
def postgresql(tmp_path_factory):
    """The URL of a PostgreSQL server of this test's own."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found:
        pytest.skip("PostgreSQL is not installed (apt install postgresql)")
    folder = tmp_path_factory.mktemp("postgresql")
    as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # it refuses to run as root
    user = "postgres" if as_user else getpass.getuser()
    for parent in (folder, *folder.parents[:-2]) if as_user else ():
        parent.chmod(0o755)
    if as_user:
        shutil.chown(folder, "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    control = [
        *as_user,
        str(found[-1].with_name("pg_ctl")),
        "-D",
        str(folder / "data"),
        "-l",
        str(folder / "log"),
        "-w",
        "-t",
        "120",
    ]
    options = {"check": True, "capture_output": True, "timeout": 150, "cwd": folder}
    subprocess.run([*as_user, str(found[-1]), "-A", "trust", "-D", str(folder / "data")], **options)
    subprocess.run([*control, "-o", f"-p {port} -k {folder} -h 127.0.0.1", "start"], **options)
    yield f"postgresql://{user}@127.0.0.1:{port}/postgres"
    subprocess.run([*control, "-m", "immediate", "stop"], **options)


def test_a_study_in_postgresql(small, space, trials, postgresql, monkeypatch):
    """The same trials as in the journal file, and found again by the next process."""
    monkeypatch.setenv(storage.VARIABLE, postgresql)
    kept = search.search(small, space, TRIALS)
    pd.testing.assert_frame_equal(kept, trials)
    assert search.search(small, space, TRIALS).equals(kept) and len(search.study(small, space).trials) == TRIALS
