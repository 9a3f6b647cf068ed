"""Persistence, seasonal naive and ridge."""

import numpy as np
import pytest

from qatlib.data import sets
from qatlib.data.series import SPLITS, Dataset, Windows
from qatlib.float_model import baselines


def series(values, *, step="1h"):
    """A data set of these values at a regular step."""
    values = np.asarray(values, dtype=np.float64)
    rows, step = len(values), np.timedelta64(int(step[:-1]), step[-1])
    return Dataset(
        name="series",
        target="value",
        times=np.datetime64("2020-01-01", "s") + np.arange(rows) * step,
        values=values,
        bounds=(rows * 6 // 10, rows * 8 // 10, rows),
        mean=1.0,
        std=2.0,
        resolution=sets.choose_resolution(values),
        step=step,
        sha256="",
    )


@pytest.fixture
def ramp():
    return series(np.arange(200) * 0.5)


def test_errors():
    assert baselines.mse(np.array([[1.0, 3.0]]), np.zeros((1, 2))) == 5.0
    assert baselines.mae(np.array([[1.0, -3.0]]), np.zeros((1, 2))) == 2.0


def test_persistence_repeats_the_last_value(ramp):
    windows = ramp.windows("test", 12, 6)
    expected = ramp.standardise(ramp.values[windows.rows - 1])
    np.testing.assert_allclose(baselines.persistence(windows, ramp), np.repeat(expected[:, None], 6, axis=1))


@pytest.mark.parametrize(("period", "horizon"), [(24, 24), (24, 6), (6, 24), (5, 12)])
def test_seasonal_takes_the_last_period(ramp, period, horizon):
    windows = ramp.windows("test", 24, horizon)
    ago = windows.rows[:, None] - period + np.arange(horizon) % period
    np.testing.assert_allclose(baselines.seasonal(windows, ramp, period), ramp.standardise(ramp.values[ago]))


def test_seasonal_is_exact_on_a_daily_pattern():
    daily = series(np.tile(np.arange(24.0), 20))
    windows = daily.windows("test", 48, 24)
    np.testing.assert_allclose(baselines.seasonal(windows, daily), windows.truth, atol=1e-12)


@pytest.mark.parametrize("period", [0, 13])
def test_seasonal_period_must_lie_in_the_context(ramp, period):
    with pytest.raises(ValueError, match=f"period {period} must lie within 1 and the context of 12"):
        baselines.seasonal(ramp.windows("test", 12, 6), ramp, period)


@pytest.mark.parametrize(
    ("step", "context", "period"),
    [("1h", 96, 24), ("15m", 96, 96), ("15m", 95, 12), ("7m", 336, 12), ("1D", 96, 1), ("2D", 96, 12), ("7m", 8, 8)],
)
def test_daily_period(step, context, period):
    assert baselines.daily_period(series(np.arange(50), step=step), context, 12) == period


def test_ridge_finds_a_linear_law():
    """A sine obeys x[t+1] = 2 cos(w) x[t] - x[t-1]: ridge has to find it, and persistence to miss it."""
    dataset = series(100 + 10 * np.sin(np.arange(600) / 3))
    train, validation, test = (dataset.windows(split, 16, 8) for split in SPLITS)
    error = baselines.mse(baselines.ridge(train, validation, test, dataset), test.truth)
    assert error < 1e-4 * baselines.mse(baselines.persistence(test, dataset), test.truth)


def test_ridge_has_an_intercept(ramp):
    train, validation, test = (ramp.windows(split, 4, 3) for split in SPLITS)
    np.testing.assert_allclose(baselines.ridge(train, validation, test, ramp), test.truth, atol=1e-6)


def test_ridge_chooses_its_penalty_on_validation(ramp):
    """The truth of the test windows must not change the forecast."""
    train, validation, test = (ramp.windows(split, 12, 6) for split in SPLITS)
    blind = Windows(test.counts, np.zeros_like(test.truth), test.rows, 0)
    np.testing.assert_array_equal(
        baselines.ridge(train, validation, blind, ramp), baselines.ridge(train, validation, test, ramp)
    )


@pytest.mark.parametrize(("context", "ridge_mse", "ridge_mae"), [(96, 0.0264, 0.1234), (336, 0.0259, 0.1219)])
def test_known_errors_on_etth1(etth1, context, ridge_mse, ridge_mae):
    train, validation, test = (etth1.windows(split, context, 24) for split in SPLITS)
    forecasts = (
        (baselines.persistence(test, etth1), 0.0343, 0.1394),
        (baselines.seasonal(test, etth1), 0.0458, 0.1663),
        (baselines.ridge(train, validation, test, etth1), ridge_mse, ridge_mae),
    )
    for forecast, mse, mae in forecasts:
        assert round(baselines.mse(forecast, test.truth), 4) == mse
        assert round(baselines.mae(forecast, test.truth), 4) == mae
