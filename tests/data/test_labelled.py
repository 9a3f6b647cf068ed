"""Recordings with labels: splits in time, windows within them, faults of a user's column of labels."""

import numpy as np
import pytest

from qatlib.data import labelled, labelled_sets

MINUTES = np.datetime64("2021-01-01", "s") + np.arange(100) * np.timedelta64(60, "s")


@pytest.fixture
def written(tmp_path):
    """-> write(labels, ..): a CSV of 100 minutes with the columns a, b and state."""

    def write(labels):
        values = np.random.default_rng(1).normal(size=(2, 100))
        rows = [f"{t},{v:.3f},{w:.3f},{label}" for t, v, w, label in zip(MINUTES, *values, labels, strict=True)]
        path = tmp_path / "pump.csv"
        path.write_text("\n".join(["date,a,b,state", *rows]))
        return path

    return write


ALTERNATE = ["on" if i // 7 % 2 else "off" for i in range(100)]


def test_a_users_labels(written):
    data = labelled.of_csv(written(ALTERNATE), "state")
    assert (data.name, data.names, data.classes) == ("pump", ("a", "b"), ("off", "on"))
    assert {split: [len(s) for s in part] for split, part in data.parts.items()} == {
        "train": [60],
        "validation": [20],
        "test": [20],
    }
    windows = data.windows("test", 5)
    assert windows.counts.shape == (16, 5, 2) and windows.labels.tolist() == [int(s == "on") for s in ALTERNATE[84:]]
    values = np.concatenate([part[0].values for part in data.parts.values()])
    np.testing.assert_allclose(windows.counts[0] * data.resolution, values[80:85], atol=data.resolution.max())
    assert labelled.of_csv(written(ALTERNATE), "state", "b").names == ("b",)


def test_labels_may_be_numbers(written):
    assert labelled.of_csv(written([i // 9 % 3 for i in range(100)]), "state").classes == ("0", "1", "2")


@pytest.mark.parametrize(
    ("at", "label", "message"),
    [
        (70, "broken", r"line 72: the label 'broken' in column 'state' is in none of the first 60 rows"),
        (30, "", r"line 32: no label in column 'state'"),
        (30, "NaN", r"line 32: no label in column 'state'"),
    ],
)
def test_a_label_at_fault_is_named_by_line_and_column(written, at, label, message):
    labels = list(ALTERNATE)
    labels[at] = label
    with pytest.raises(ValueError, match=message):
        labelled.of_csv(written(labels), "state")


def test_one_label_alone_is_no_choice(written):
    with pytest.raises(ValueError, match=r"has 1 labels in its first 60 rows.*is it the column of labels"):
        labelled.of_csv(written(["on"] * 100), "state")
    with pytest.raises(ValueError, match="no column 'mode'"):
        labelled.of_csv(written(ALTERNATE), "mode")


def test_a_number_is_written_in_one_way(written):
    labels = ["1.0" if i == 50 else i // 9 % 2 for i in range(100)]
    with pytest.raises(ValueError, match=r"labels '1' and '1.0' in column 'state' are one number"):
        labelled.of_csv(written(labels), "state")


def test_labels_are_in_one_column(written):
    """A second one would be read as a channel, and tell the first."""
    path = written([f"{a},{int(a == 'on')}" for a in ALTERNATE])
    path.write_text(path.read_text().replace("state", "state,mode"))
    with pytest.raises(ValueError, match="TARGET='state,mode' names several columns; labels are in one"):
        labelled.of_csv(path, "state,mode")
    assert labelled.of_csv(path, "state", "a").names == ("a",)
    for target in ("all", "", None):
        with pytest.raises(ValueError, match="which column holds the labels"):
            labelled.of_csv(path, target)


def test_what_a_label_holds_reaches_no_terminal(written):
    assert (
        labelled.of_csv(written(["\x1b[2J" if a == "on" else a for a in ALTERNATE]), "state").classes[0] == r"\x1b[2J"
    )


def test_jitter_is_no_gap_and_no_window_crosses_one():
    steps = np.array([60] * 10 + [61, 59] * 5 + [150] + [60] * 9).cumsum()
    times = np.datetime64("2021-01-01", "s") + np.r_[0, steps] * np.timedelta64(1, "s")
    parts = labelled.stretches(times, np.zeros((31, 1)), np.zeros(31, int))
    assert [len(p) for p in parts] == [21, 10]


def test_occupancy():
    room, lit = labelled_sets.occupancy(), labelled_sets.occupancy(light=True)
    assert room.names == ("Temperature", "Humidity", "CO2", "HumidityRatio") and "Light" in lit.names
    rows = {split: sum(map(len, part)) for split, part in room.parts.items()}
    assert rows == {"train": 6514, "validation": 1629, "test1": 2665, "test2": 9752}
    assert len(room.parts["test2"]) == 1  # 59, 60 and 61 seconds
    assert room.fingerprint != lit.fingerprint


def test_no_runner_is_in_train_and_test(monkeypatch):
    def strikes(runner, file):
        return labelled.Stretch(np.full((200 + runner, 3), float(runner)), np.full(200 + runner, file[0] == "h", int))

    monkeypatch.setattr(labelled_sets, "_strikes", strikes)
    alone = labelled_sets.strikewatch(3)
    assert {k: [len(s) for s in v] for k, v in alone.parts.items()} == {
        "train": [140, 140],
        "validation": [20, 20],
        "test": [41, 41],
    }
    assert all((s.values == 3).all() for part in alone.parts.values() for s in part)
    for left in (1, 3, 12):
        out = labelled_sets.strikewatch(left, alone=False)
        assert list(out.parts) == ["train", "validation", "test"]
        assert {s.values[0, 0] for s in out.parts["train"]} == set(range(1, 13)) - {left}
        assert [s.values[0, 0] for s in out.parts["test"]] == [left, left]


def test_splits_are_in_order():
    part = (labelled.Stretch(np.zeros((9, 1)), np.zeros(9, int)),)
    with pytest.raises(ValueError, match="its splits are test, train, validation; train, validation, a test in order"):
        labelled.Labelled("pump", ("a",), ("off", "on"), {"test": part, "train": part, "validation": part}, {})


def test_a_channel_that_stands_still_is_refused(written):
    path = written(ALTERNATE)
    rows = path.read_text().splitlines()
    path.write_text("\n".join([rows[0], *(",".join([r.split(",")[0], "0", *r.split(",")[2:]]) for r in rows[1:])]))
    with pytest.raises(ValueError, match=r"column 'a' is constant \(0\) in its 60 train rows"):
        labelled.of_csv(path, "state")
    assert labelled.of_csv(path, "state", "b").names == ("b",)
