"""Notebooks 13 and 14: what a decision takes; the rows of their table; what point adjustment does."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from qatlib.data import labelled_sets, watched
from qatlib.data.labelled import Labelled, Stretch
from qatlib.runs.detectors import MARGIN, f1
from qatlib.studies import classification, decisions, detection


def test_a_user_names_labels_and_series_have_none(tmp_path):
    with pytest.raises(ValueError, match="etth1 has no labels; TASK=classify takes a CSV"):
        labelled_sets.load("etth1", "OT")
    path = tmp_path / "pump.csv"
    path.write_text("date,a,state\n2021-01-01,1,on\n")
    with pytest.raises(ValueError, match=r"pump.csv: which column holds the labels\? Name it: TARGET=column"):
        labelled_sets.load(path)


def test_a_users_data_are_those_of_the_task_alone():
    experiment = SimpleNamespace(data="/home/ann/pump.csv", target="state", inputs="", clean=False)
    assert classification.own(experiment, "forecast").name == classification.own(experiment, "detect").name
    assert classification.own(experiment, "forecast").name == "occupancy, no light"
    with pytest.raises(FileNotFoundError):
        classification.own(experiment, "classify")
    assert detection.own(experiment, "classify").name == "jfk-weather, faults"


def test_point_adjustment_claims_the_whole_fault():
    truth = np.array([0, 1, 1, 1, 0, 1, 1, 0], bool)
    flags = np.array([1, 0, 0, 1, 0, 0, 0, 0], bool)
    assert detection.adjusted(flags, truth).tolist() == [1, 1, 1, 1, 0, 0, 0, 0]


@pytest.fixture(scope="module")
def study(tmp_path_factory, in_process):
    rng = np.random.default_rng(5)
    labels = np.repeat([0, 1] * 6, 30)
    values = (labels + rng.normal(0, 0.3, 360))[:, None]
    parts = {split: (Stretch(values, labels),) for split in ("train", "validation", "test")}
    data = Labelled("lamp", ("a",), ("off", "on"), parts, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qatlib.system.paths.BUILD", tmp_path_factory.mktemp("build"))
        patch.setitem(classification.classifiers.VALUES, "context", (20,))
        patch.setattr("qatlib.runs.classifiers._epochs", lambda model, data, steps: 8)
        yield classification.Study({"": data}, SimpleNamespace(full=False, seeds=(0,)), widths=((4, 4),))


def test_rows_of_the_table(study):
    rows = pd.concat(classification.tasks(SimpleNamespace(full=False), study, {})).reindex(columns=decisions.COLUMNS)
    assert set(rows["protocol"]) == {"test"} and set(rows["dataset"]) == {"lamp"}
    assert rows["f1"].between(0, 1).all() and (rows["source"] == "measured").all()
    by_method = rows.set_index("method")
    assert pd.isna(by_method.loc["majority", "model"]) and by_method.loc["majority", "size_bytes"] == 4
    integers = by_method.loc["qat-asymmetric"]
    assert (
        integers["equal_outputs"] == 1
        and integers["weight_bits"] == 4
        and integers["f1"] > by_method.loc["majority", "f1"]
    )


def test_confusion_counts_every_window_once(study):
    frame = classification.confusions(study, "test")
    data = study.sets[""]
    windows = data.windows("test", study.choice.context)
    assert frame["windows"].sum() == len(windows)
    right = frame[frame["label"] == frame["told"]]["windows"].sum() / len(windows)
    integers = study.table[study.table["method"] == "qat-asymmetric"].iloc[0]
    assert right == pytest.approx(integers["accuracy_test"])
    axes = classification.plot_confusions(frame)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["off", "on"]


def test_a_disagreement_ends_it(study, monkeypatch):
    data, model = study.sets[""], classification.cached.integer_model(study.first(), study.sets[""])
    counts = data.windows("test", model.context).counts
    expected = decisions.everywhere(model, counts, windows=2)
    assert all(isinstance(cycles, int) for cycles in expected.values())
    monkeypatch.setattr(decisions, "simulate", lambda model, counts, config: (model.forward(counts) + 1, None))
    with pytest.raises(AssertionError):
        decisions.everywhere(model, counts, windows=2)


def test_scores_over_time_are_drawn():
    rng = np.random.default_rng(0)
    faulty = np.arange(100) >= 90
    data = watched.Watched("pump", ("$a",), rng.normal(size=(100, 1)), np.array([0.001]), faulty, (40, 60, 100))
    scores = np.linspace(0, 20, 40)
    judged = SimpleNamespace(data=data, truth=faulty[60:], on_test=lambda smoothing: (scores, scores > 1))
    axes = detection.plot_scores(judged, 0)
    assert axes.get_ylabel() == "channels (standardised)"
    frame = detection.scores_frame(judged, 0)
    assert list(frame["row"]) == list(range(60, 100)) and frame["faulty"].sum() == 10
    choice = SimpleNamespace(smoothing=0)
    watching = SimpleNamespace(judged={("W4A4", 0): [judged]}, seeds=(0,), choice=choice, sets=[data])
    table = detection.Study.by_factor(watching)
    assert table.loc[MARGIN, "W4A4"] == f1(scores > 1, judged.truth)
    assert table.loc[2.0, "W4A4"] > table.loc[0.8, "W4A4"]  # of these rows the last ten are faulty
