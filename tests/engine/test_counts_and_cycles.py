"""The simulated hardware is NumPy, count for count and cycle for cycle. One configuration."""

from dataclasses import replace

import numpy as np
import pytest

from qatlib.device import shipped
from qatlib.engine import compile, simulate
from qatlib.engine.random_models import Shape, extreme_windows, random_model
from qatlib.engine.rtl import Rtl
from qatlib.quantised_model import qat
from qatlib.quantised_model.quantisers import QuantConfig
from tests.engine.bench import CONFIG, models_that_fit
from tests.integer_model.by_hand import by_hand, expected_by_hand, with_identity


@pytest.fixture(scope="module")
def rtl():
    return Rtl(CONFIG)


def agree(rtl, model, counts, *, paced=True):
    """Every count is NumPy's; and the interval is the predicted one, to the cycle. paced: the bus keeps up with the
    program."""
    program = compile(model, CONFIG)
    forecast, cycles = simulate(program, counts, CONFIG, rtl=rtl)
    np.testing.assert_array_equal(forecast, model.forward(counts))
    if paced and len(counts) > 1:
        assert cycles.interval == program.cycles
    return program, cycles


def test_placeholders_that_are_rearranged_twice(rtl):
    """An identity between placeholders and their layer: the tokens that are not stored are still there."""
    for model in models_that_fit(
        Shape("decoder", tokens=4, patch=4, horizon=6, d_model=8, heads=2, factor=1, label=5), 2
    ):
        for name in ("placeholders", "decoder_tokens.patches"):
            agree(rtl, with_identity(model, name), extreme_windows(model, 0, 6))


@pytest.mark.parametrize("name", shipped.names("etth1"))
def test_shipped_models(rtl, name):
    """Every family at 8, 4, 2 and mixed bits, on real windows and on extreme ones."""
    model = shipped.load("etth1", name)
    real = shipped.windows("jfk-weather")[0][:6, -model.context :]
    agree(rtl, model, np.concatenate([real, extreme_windows(model, 0, 6)]))


@pytest.mark.parametrize("shape", [
    Shape("patch", tokens=5, patch=6, horizon=7, d_model=6, heads=3, layers=2, factor=2),
    Shape("patch", tokens=5, patch=7, horizon=7, d_model=5, layers=3, factor=2),
    Shape("patch", tokens=1, patch=25, horizon=1, d_model=5),
    Shape("patch", tokens=40, patch=3, horizon=3, d_model=8, heads=2, factor=1),
    Shape("point", tokens=9, patch=1, horizon=4, d_model=8, heads=4, factor=2),
    Shape("point", tokens=9, patch=1, horizon=9, d_model=8, heads=2, layers=2, factor=2),
    Shape("point", tokens=100, patch=1, horizon=6, d_model=5, factor=1),
    Shape("decoder", tokens=4, patch=4, horizon=6, d_model=8, heads=2, factor=1, label=5),
    Shape("decoder", tokens=4, patch=4, horizon=6, d_model=5, layers=2, factor=1, label=5),
    Shape("decoder", tokens=2, patch=50, horizon=27, d_model=6, factor=1, label=40),
], ids=lambda s: f"{s.family}-{s.tokens}x{s.patch}-d{s.d_model}-h{s.heads}-l{s.layers}")  # fmt: skip
def test_layers_heads_and_long_windows(rtl, shape):
    for model in models_that_fit(shape, 3):
        agree(rtl, model, extreme_windows(model, 0, 12))


@pytest.mark.parametrize("widths", [(8, 8), (4, 4), (2, 3)])
@pytest.mark.parametrize("reach", [16, 19, 20])
@pytest.mark.parametrize("family", ["linear", "skip"])
def test_linear_maps_of_the_last_samples(rtl, float_model, quantised, extreme_counts, family, reach, widths):
    """Alone, and beside an encoder, whose forecast waits for theirs; the first sample begins a word, or none."""
    twin = quantised(float_model(family, reach=reach), QuantConfig(*widths, scheme="asymmetric"))
    agree(rtl, qat.export(twin), extreme_counts(twin.config.context, real=4))


@pytest.mark.parametrize("depth", [512, 192, 128, 96])
def test_some_tokens_at_a_time(rtl, depth):
    """A program for less code memory runs as well, in more instructions."""
    model = random_model(0, Shape("point", tokens=40, patch=1, horizon=4, d_model=8))
    program, counts = compile(model, replace(CONFIG, code_depth=depth)), extreme_windows(model, 0, 6)
    forecast, cycles = simulate(program, counts, CONFIG, rtl=rtl)
    np.testing.assert_array_equal(forecast, model.forward(counts))
    assert cycles.interval == program.cycles


@pytest.mark.parametrize("input_shift", [15, 16, 17, 20])
@pytest.mark.parametrize("anchor", [None, -7])
def test_ties_go_up_for_negatives_too(rtl, input_shift, anchor):
    """Differences around zero, whose halves, quarters and so on are ties, at three roundings; against Python's
    integers."""
    weight = np.eye(6, dtype=int)[:5] * [1, -1, 2, 3, -3, 0]
    model = by_hand(weight, [0, 1, -1, 0, 0], input_shift=input_shift, out_shift=16, counts_shift=16, anchor=anchor)
    counts = (np.arange(-60, 60)[:, None] + np.arange(6) * (np.arange(6) < 5)).astype(np.int16)
    forecast, _ = simulate(model, counts, CONFIG, rtl=rtl)
    assert forecast.tolist() == expected_by_hand(model, counts)


@pytest.mark.parametrize("codes", [(-128, 127, 0), (-128, 127, -128), (-8, 7, 3), (0, 255, 17)])
@pytest.mark.parametrize("counts_shift", [1, 8, 15, 40])
def test_saturation_at_every_step(rtl, extreme_counts, codes, counts_shift):
    weight = np.random.default_rng(counts_shift).integers(-127, 128, (5, 6))
    model = by_hand(
        weight, [1 << 22, -(1 << 22), 0, 5, -5], codes=codes, out=(-128, 127, -20), counts_shift=counts_shift
    )
    counts = extreme_counts(6)
    forecast, _ = simulate(model, counts, CONFIG, rtl=rtl)
    assert forecast.tolist() == expected_by_hand(model, counts)


def test_the_largest_accumulators(rtl):
    for sign in (1, -1):
        bias = sign * ((1 << 24) - 1 - 4 * 127 * 128)
        model = by_hand([[127 * sign] * 4], [bias], out_shift=33)
        counts = np.array([[-32768] * 3 + [32767], [32767] * 3 + [-32768], [0, 0, 0, 0]], np.int16)
        forecast, _ = simulate(model, counts, CONFIG, rtl=rtl)
        assert forecast.tolist() == expected_by_hand(model, counts)


@pytest.mark.parametrize("windows", [1, 2, 3, 8])
@pytest.mark.parametrize("context", [5, 6, 7, 8])
def test_windows_take_turns_in_two_buffers(rtl, windows, context):
    model = random_model(context, Shape("point", context, 1, horizon=context - 4, d_model=5, factor=1))
    agree(rtl, model, extreme_windows(model, windows, windows))


def test_a_window_that_fills_the_input_buffer(rtl):
    """The bus takes longer than the program."""
    model = random_model(3, Shape("patch", tokens=4, patch=256, horizon=128, d_model=5, factor=1))
    assert model.context == 4 * CONFIG.input_words and model.horizon == 4 * CONFIG.output_words
    agree(rtl, model, extreme_windows(model, 3, 5), paced=False)


def test_cycles_of_a_window_alone(rtl, small):
    program, cycles = agree(rtl, small, extreme_windows(small, 0, 4))
    assert program.cycles < cycles.first < program.cycles + 40
    again, alone = simulate(program, extreme_windows(small, 0, 1), CONFIG, rtl=rtl)
    assert alone.first == cycles.first and alone.interval is None and len(again) == 1
    assert cycles.total == alone.total + 3 * program.cycles
