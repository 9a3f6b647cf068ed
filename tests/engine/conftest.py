"""Fixtures of the tests of the simulated engine."""

import pytest

from qatlib.engine.random_models import random_model
from tests.engine.bench import SMALL, Bench


@pytest.fixture(scope="module")
def small():
    return random_model(0, SMALL)


@pytest.fixture
def bench(small):
    return Bench(small)
