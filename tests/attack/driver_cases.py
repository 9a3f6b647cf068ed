"""What both attacks on the driver share: models with what NumPy makes of their windows, threads, limits."""

import threading
from contextlib import suppress

from qatlib.engine import DoesNotFit, compile, isa
from qatlib.engine.random_models import Shape, extreme_windows, random_model

CONFIG = "xc7s15"
SEED, STEP = 20_260_000, 10_000  # of random models; to the next one where one does not fit
PATIENCE = 60.0  # seconds for anything to end, whatever else this machine does
BATCH = 4  # windows, so that every run has batches
SHAPES = (
    Shape("patch", 6, 7, horizon=9, d_model=8, heads=2, factor=1),
    Shape("point", 13, 1, horizon=3, d_model=6, heads=2, factor=2),
    Shape("decoder", 4, 5, horizon=6, d_model=5, factor=1, label=3),
)


def fitting(seed, shape):
    """The first random model of these seeds that the engine holds."""
    for attempt in range(seed, seed + 1000 * STEP, STEP):
        model = random_model(attempt, shape)
        with suppress(DoesNotFit):
            compile(model, isa.CONFIGS[CONFIG])
            return model
    raise AssertionError(f"no model of {shape} fits")


class Case:
    """A model, windows, and what NumPy makes of them."""

    def __init__(self, seed, shape):
        self.model = fitting(seed, shape)
        self.counts = extreme_windows(self.model, 0, 10)
        self.expected = self.model.forward(self.counts)


def found_wrong(what, seed):
    print(f"WRONG, seed {seed}: {what}", flush=True)


def in_threads(function, tasks):
    """Results of function(*task), each on a thread of its own; one that does not end is a result too."""
    results = [[("ended", "the thread did not end")] for _ in tasks]

    def one(i):
        results[i] = function(*tasks[i])

    threads = [threading.Thread(target=one, args=(i,), name=f"sharer {i}", daemon=True) for i in range(len(tasks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    return results
