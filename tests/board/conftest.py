"""A fresh engine of the smallest configuration, simulated, with trained models and their windows."""

import threading

import numpy as np
import pytest

from qatlib.board import open_engine
from qatlib.device import shipped

CONFIG, OTHER = "xc7s15", "pynq-z2"
PATIENCE = 60  # seconds for what should take none


@pytest.fixture(scope="session")
def patch_model():
    return shipped.load("jfk-weather", "patch-c336-d16-w4a4")


@pytest.fixture(scope="session")
def point_model():
    """Another shape: 12 counts in, 1 out, and a constant anchor."""
    return shipped.load("etth1", "point-w12-d32-h1-w4a4")


@pytest.fixture(scope="session")
def windows():
    return shipped.windows("jfk-weather")[0][:9]


@pytest.fixture
def engine(patch_model):
    """A fresh engine with a model, as after power-up."""
    engine = open_engine(config=CONFIG)
    engine.load(patch_model)
    return engine


@pytest.fixture
def right(engine, patch_model, windows):
    """Asserts that the next run is right."""
    return lambda: np.testing.assert_array_equal(engine.run(windows), patch_model.forward(windows))


@pytest.fixture
def buffers(engine, windows):
    """Input, filled with the windows, and output of the engine."""
    return engine._buffers.filled(engine.program, windows)


def in_threads(*functions):
    """What each returned or raised, on a thread of its own."""
    results = ["the thread did not end"] * len(functions)

    def one(i):
        try:
            results[i] = functions[i]()
        except BaseException as error:
            results[i] = error

    threads = [threading.Thread(target=one, args=(i,), name=f"worker {i}", daemon=True) for i in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    return results
