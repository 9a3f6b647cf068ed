"""Many windows at a time on this computer: every number of them, on vectors of every width."""

import numpy as np
import pytest

from qatlib.device import shipped
from qatlib.engine.random_models import random_model
from qatlib.mcu import batch_program, compiled
from tests import several_channels

LANES = batch_program.LANES
COUNTS = (1, 2, 5, LANES // 2 - 1, LANES // 2, LANES - 1, LANES, LANES + 1, 3 * LANES + 5)


def models():
    yield from (random_model(seed) for seed in range(40, 46))
    yield from several_channels.MODELS.values()
    yield from (shipped.load("etth1", f"{family}-d16-w4a4") for family in ("patch-c336", "decoder-c336"))


@pytest.mark.parametrize("model", list(models()), ids=lambda model: model.name)
def test_every_number_of_windows(model):
    counts = several_channels.windows(model, 1, max(COUNTS))
    expected, fast = model.forward(counts), compiled(model)
    for n in COUNTS:
        np.testing.assert_array_equal(fast.forward(counts[:n]), expected[:n])


@pytest.mark.parametrize("target", ["x86-64", "x86-64-v3"])
def test_vectors_of_other_widths(monkeypatch, target):
    """Where this processor has them."""
    if target not in targets():
        pytest.skip("another processor")
    monkeypatch.setenv("QATLIB_MARCH", target)
    for seed in (3, 11):
        model = random_model(seed)
        counts = several_channels.windows(model, seed, LANES + 3)
        np.testing.assert_array_equal(compiled(model).forward(counts), model.forward(counts))


def targets():
    from tests.attack import sanitizers

    return sanitizers.targets(short=False)
