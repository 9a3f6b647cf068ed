"""Models that mix channels on the simulated engine: NumPy's counts in the predicted cycles, each channel with its own
anchor, however late its samples come."""

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest

from qatlib.engine import CONFIGS, DoesNotFit, compile, parts, simulate
from qatlib.engine.memory import Unsupported
from qatlib.engine.random_models import Shape, extreme_windows, random_model
from qatlib.engine.rtl import Rtl
from qatlib.engine.simulation import load, run
from qatlib.integer_model.program import Channel, pack
from tests import several_channels
from tests.engine.bench import CONFIG, models_that_fit
from tests.integer_model.by_hand import by_hand, changed

SHORT = Shape("patch", tokens=2, patch=3, horizon=1, d_model=5, factor=1)  # few issues between two anchors
SHAPES = {
    "one of two": replace(SHORT, tokens=3, patch=5, horizon=6, channels=2, targets=(1,)),
    "all of two, many rows": Shape("patch", 2, 18, 17, d_model=8, heads=2, channels=2, targets=(0, 1)),
    "some of seven": replace(SHORT, channels=7, targets=(1, 3, 6)),
    "all of seven, odd windows": replace(SHORT, tokens=1, patch=7, channels=7, targets=tuple(range(7))),
    "single samples": Shape("point", 9, 1, 4, d_model=8, heads=2, factor=1, channels=3, targets=(0, 2)),
}


@pytest.fixture(scope="module")
def rtl():
    return Rtl(CONFIG)


def agree(rtl, model, counts):
    forecast, cycles = simulate(model, counts, rtl.config, rtl=rtl)
    np.testing.assert_array_equal(forecast, model.forward(counts))
    assert cycles.interval == sum(compile(part, rtl.config).cycles for part in parts(model))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_mixed_models(rtl, shape):
    for model in models_that_fit(shape, 3):
        assert model.mode == "mixed" and model.targets == shape.targets
        agree(rtl, model, extreme_windows(model, 0, 12))


def test_a_larger_configuration_takes_them():
    """`make verify` has all."""
    rtl = Rtl(CONFIGS["pynq-z2"])
    for shape in (SHAPES["some of seven"], SHAPES["all of two, many rows"]):
        model = next(models_that_fit(shape, 1))
        agree(rtl, model, extreme_windows(model, 1, 6))


@pytest.mark.parametrize(("latency", "stall"), [(30, 0), (0, 200), (300, 100)])
def test_samples_that_come_late(latency, stall):
    """While the engine waits for them the next instruction is fetched: no distance may rest on the time that takes."""
    rtl = Rtl(CONFIG)
    rtl.memory(latency=latency, stall=stall)
    for name in ("some of seven", "all of seven, odd windows"):
        for model in models_that_fit(SHAPES[name], 3):
            counts = extreme_windows(model, 0, 6)
            load(rtl, compile(model, CONFIG))
            for i in range(6):  # the first window of a run is the one that is waited for
                forecast, _ = run(rtl, compile(model, CONFIG), counts[i : i + 2])
                np.testing.assert_array_equal(forecast, model.forward(counts[i : i + 2]))


@pytest.mark.parametrize("anchors", [(None, None), (None, -32768), (32767, None), (5, 5), (-1, 32767)])
def test_every_channel_has_its_own_anchor(rtl, anchors):
    """Forecasts of zeros: what comes out is what is added, which saturates nowhere."""
    model = zeros(anchors)
    counts = extreme_windows(model, 3, 6)
    forecast, _ = simulate(model, counts, CONFIG, rtl=rtl)
    for i, anchor in enumerate(anchors):
        expected = counts[:, -1:, i] if anchor is None else anchor
        assert (forecast[:, :, i] == expected).all()


def zeros(anchors, tokens=1):
    """Two channels, three samples each, two outputs a token for each; nothing is forecast but the anchors."""
    one, width = by_hand(np.zeros((4, 6 // tokens), int), np.zeros(4)), 6 // tokens
    shapes = {"source": (3, 2), "flat": (tokens, width), "head": (tokens, 4)}
    tensors = {name: replace(one.tensors[name], shape=shape) for name, shape in shapes.items()}
    channels = tuple(Channel(f"channel-{i}", 0.5, anchor) for i, anchor in enumerate(anchors))
    facts = dict(context=3, horizon=2 * tokens, mode="mixed", targets=(0, 1))
    return replace(one, channels=channels, tensors=tensors, **facts)


@pytest.mark.parametrize("mixed", [True, False], ids=["mixed", "independent"])
def test_random_models_of_several_channels(rtl, mixed):
    agreed, seed = 0, -1
    while agreed < 4:
        model = random_model(seed := seed + 1)
        if len(model.channels) > 1 and mixed == (model.mode == "mixed"):
            with suppress(DoesNotFit):
                agree(rtl, model, extreme_windows(model, seed, 6))
                agreed += 1


@pytest.mark.parametrize("model", several_channels.CLASSIFIERS.values(), ids=several_channels.CLASSIFIERS.keys())
def test_scores_of_labels(rtl, model):
    agree(rtl, model, several_channels.windows(model, 5, 8))


def test_buffers_hold_all_channels():
    model = random_model(0, Shape("patch", 2, 80, 1, d_model=5, factor=1, channels=7, targets=(0,)))
    with pytest.raises(DoesNotFit, match="the input buffer is short by 96 counts: 1120 needed, 1024 there"):
        compile(model, CONFIG)
    model = random_model(0, Shape("patch", 1, 4, 70, d_model=5, factor=1, channels=2, targets=(0, 1)))
    with pytest.raises(DoesNotFit, match="the output buffer is short by 12 counts: 140 needed, 128 there"):
        compile(model, CONFIG)


def test_what_cannot_be_taken_apart_is_refused():
    model = zeros((None, None))
    direct = replace(
        model,
        horizon=3,
        operations=(*model.operations[:2], replace(model.operations[3], inputs=("flat",))),
        tensors={name: tensor for name, tensor in model.tensors.items() if name != "head"},
        arrays={name: array for name, array in model.arrays.items() if not name.startswith("head")},
    )
    with pytest.raises(Unsupported, match="reshape flat: the engine forecasts several targets by a linear layer, or"):
        compile(direct, CONFIG)
    with pytest.raises(Unsupported, match="reshape flat: the engine makes no 3 codes of 2 channels"):
        compile(zeros((None, None), tokens=2), CONFIG)
    with pytest.raises(Unsupported, match="the engine takes independent channels one at a time"):
        compile(random_model(0, replace(SHORT, channels=2)), CONFIG)


def test_outputs_of_several_tokens(rtl):
    """Some of each target's from every token."""
    weight = np.random.default_rng(0).integers(-99, 100, (4, 2))
    model = changed(zeros((None, 7), tokens=3), head__weight=pack(weight, 8))
    counts = extreme_windows(model, 0, 6)
    assert len(np.unique(model.forward(counts))) > 20
    agree(rtl, model, counts)
