"""What is chosen to tell labels by, and what is run of it."""

import numpy as np
import pytest

from qatlib.data.labelled import Labelled, Stretch
from qatlib.runs import classifiers, scale_out
from qatlib.runs.classifiers import RIVAL, Choice


@pytest.fixture(scope="module")
def pump():
    """Two channels: one is fast or slow, which is the label; the other says nothing, at a level that wanders."""
    rng, parts = np.random.default_rng(4), {}
    for split in ("train", "validation", "test"):
        labels = np.repeat(rng.permutation(12) % 2, 60)
        wave = np.sin(np.cumsum(np.where(labels, 1.0, 0.2)))
        values = np.stack([wave, 3 * rng.normal(0, 1, 720).cumsum()], axis=1) + rng.normal(0, 0.1, (720, 2))
        parts[split] = (Stretch(values, labels),)
    return Labelled("pump", ("a", "b"), ("slow", "fast"), parts, {})


@pytest.fixture(scope="module")
def chosen(pump, tmp_path_factory, in_process):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qatlib.system.paths.BUILD", tmp_path_factory.mktemp("build"))
        patch.setitem(classifiers.VALUES, "context", (30, 720))
        patch.setitem(classifiers.RATES, 200, 3e-3)
        patch.setattr("qatlib.runs.classifiers._epochs", lambda model, data, steps: 4)
        choice, tried = classifiers.choose([pump], full=False)
        rival, others = classifiers.choose([pump], full=False, family=RIVAL)
        runs = classifiers.runs(choice, rival, pump, widths=((4, 4),), seeds=(0,))
        yield choice, tried, rival, others, scale_out.collect(runs, pump).assign(family=[r.model.family for r in runs])


def test_the_choice_is_the_best_on_validation(chosen):
    for choice, tried in (chosen[:2], chosen[2:4]):
        best = tried.loc[tried["loss_validation"].idxmin()]
        assert (best["family"], best["anchors"], best["steps"]) == (choice.family, choice.anchors, choice.steps)
    assert set(chosen[1]["family"]) == {"patch", "point"} and set(chosen[3]["family"]) == {RIVAL}


def test_a_longer_window_than_any_recording_is_no_choice(chosen, pump):
    losses = classifiers._losses([pump], [Choice("patch", context, 8, (False, False), 200) for context in (30, 1000)])
    short, long = losses.values()
    assert np.isfinite(short) and np.isinf(long)


def test_integers_tell_what_is_to_be_told(chosen):
    table = chosen[4].set_index("method")
    integers = table.loc[f"qat-{classifiers.SCHEME}"]
    assert integers["equal_outputs"] == 1
    assert integers["f1_test"] > 0.7 > table.loc["majority", "f1_test"]
    assert integers["f1_test"] > table.loc["ridge-statistics", "f1_test"]


def test_all_and_none_of_the_anchors_are_tried():
    anchors = {choice.anchors for choice in Choice("patch", 60, 8, (True, False, False), 200).others("anchors")}
    t, f = True, False
    assert anchors == {(f, f, f), (t, t, f), (t, f, t), (t, t, t)}
