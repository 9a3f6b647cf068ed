"""Watched recordings: their windows, the faults that are put in."""

from dataclasses import replace

import numpy as np
import pytest

from qatlib.data.watched import EVERY, SCALE, Watched


@pytest.fixture
def pump():
    """1,000 rows of two channels."""
    values = np.round(np.random.default_rng(3).normal([20, -3], [2, 0.5], (1000, 2)), 2)
    return Watched("pump", ("a", "b"), values, np.array([0.01, 0.01]), np.zeros(1000, bool), (500, 700, 1000))


def test_every_row_has_a_window_that_ends_with_it(pump):
    windows = pump.windows("test", 8, 8)
    assert windows.rows.tolist() == list(range(700, 1000))
    assert np.array_equal(windows.counts[0], pump.counts[693:701])
    np.testing.assert_allclose(windows.truth[0], pump.standardise(pump.values[693:701]))


def test_the_truth_may_come_after(pump):
    windows = replace(pump, ahead=True).windows("validation", 8, 1)
    assert windows.rows.tolist() == list(range(500, 700))
    assert np.array_equal(windows.counts[0], pump.counts[492:500])
    np.testing.assert_allclose(windows.truth[0], pump.standardise(pump.values[500:501]))


def test_training_sees_windows_far_out_too(pump):
    """The first half as they are; the second up to SCALE times as far from the mean, the truth likewise."""
    windows = pump.windows("train", 8, 8)
    n = 493
    assert len(windows.counts) == 2 * n and np.array_equal(windows.counts[0], pump.counts[:8])
    ratio = windows.truth[n:] / windows.truth[:n]
    np.testing.assert_allclose(ratio, ratio[:, :1, :1].repeat(8, 1).repeat(2, 2))
    assert 1 <= ratio.min() and ratio.max() <= SCALE
    found = (windows.counts[n:] * pump.resolution - pump.mean) / pump.std
    np.testing.assert_allclose(found, windows.truth[n:], atol=0.01)


def test_faults_lie_in_their_split_alone(pump):
    faulty = pump.with_faults("test", 0)
    changed = (faulty.counts != pump.counts).any(axis=1)
    assert changed.any() and not changed[:700].any() and faulty.faulty[changed].all()
    starts = np.flatnonzero(np.diff(faulty.faulty.astype(int)) == 1)
    assert len(starts) == 300 // EVERY
    assert (pump.with_faults("test", 0).values == faulty.values).all()
    assert (pump.with_faults("test", 1).values != faulty.values).any()
    assert pump.fingerprint != faulty.fingerprint


def test_what_does_not_fit_is_named(pump):
    with pytest.raises(ValueError, match="pump: no train window of 501 rows fits 500"):
        pump.windows("train", 501, 1)
    with pytest.raises(ValueError, match="unknown split 'all'"):
        pump.span("all")


def test_too_few_rows_for_a_fault_are_said():
    rows = np.arange(300.0)[:, None]
    short = Watched("pump", ("a",), rows, np.array([0.1]), np.zeros(300, bool), (180, 240, 300))
    with pytest.raises(ValueError, match="pump: 60 test rows are too few for a fault in every 120 of them"):
        short.with_faults("test", 0)
