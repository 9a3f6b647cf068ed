"""Reduced-rank ridge regression."""

import numpy as np
import pytest

from qatlib.float_model import baselines
from qatlib.float_model.linear import low_rank


@pytest.fixture
def parts():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(900, 20)) @ rng.normal(size=(20, 20))
    y = x @ rng.normal(size=(20, 2)) @ rng.normal(size=(2, 6)) + 0.3 * rng.normal(size=(900, 6)) + 1.5
    return (x[:600], y[:600]), (x[600:], y[600:])


def forecast(factors, x):
    narrow, widen, intercept = factors
    return x @ narrow.T @ widen.T + intercept


def error(parts, rank):
    return baselines.mse(forecast(low_rank(*parts, rank), parts[1][0]), parts[1][1])


def test_rank_two_is_enough_for_what_has_rank_two(parts):
    assert error(parts, 1) > 2 * error(parts, 2)
    assert error(parts, 2) < 1.02 * error(parts, 6)


def test_the_numbers_between_the_factors_are_uncorrelated_and_their_columns_of_one_length(parts):
    narrow, widen, _ = low_rank(*parts, 3)
    between = parts[0][0] @ narrow.T
    assert between[:, 0].var() == pytest.approx(1) and (np.diff(between.var(axis=0)) < 0).all()
    np.testing.assert_allclose(np.corrcoef(between[:, :2].T), np.eye(2), atol=1e-9)
    np.testing.assert_allclose(widen.T @ widen, np.eye(3) * (widen[:, 0] @ widen[:, 0]), atol=1e-9)


def test_full_rank_is_ridge(dataset):
    train, validation, test = (dataset.windows(split, 48, 6) for split in ("train", "validation", "test"))
    samples = [dataset.standardise(w.counts * dataset.resolution) for w in (train, validation, test)]
    parts = [(s - s[:, -1:], w.truth - s[:, -1:]) for s, w in zip(samples, (train, validation, test), strict=True)]
    found = samples[2][:, -1:] + forecast(low_rank(*parts[:2], 6), parts[2][0])
    np.testing.assert_allclose(found, baselines.ridge(train, validation, test, dataset), rtol=1e-6)


def test_a_target_that_never_moves():
    """Directions without variance stay finite."""
    x = np.random.default_rng(0).normal(size=(100, 5))
    factors = low_rank((x, np.zeros((100, 3))), (x, np.zeros((100, 3))), 2)
    assert all(np.isfinite(factor).all() for factor in factors)
    np.testing.assert_allclose(forecast(factors, x), 0, atol=1e-12)


def test_a_channel_that_is_there_twice_blows_nothing_up():
    """Fewer samples than forecasts, and half of them copies: most directions hold rounding errors alone."""
    rng = np.random.default_rng(1)
    half = rng.normal(size=(300, 7))
    x, y = np.concatenate([half, half], axis=1), half @ rng.normal(size=(7, 20))
    factors = low_rank((x[:200], y[:200]), (x[200:], y[200:]), 14)
    assert max(np.abs(factor).max() for factor in factors) < 1e3
    np.testing.assert_allclose(forecast(factors, x[200:]), y[200:], atol=0.05)
