"""Detectors: scores and flags, and what is none."""

from dataclasses import replace

import numpy as np
import pytest

from qatlib.integer_model import detection
from qatlib.integer_model.model import IntegerModel
from qatlib.integer_model.program import ProgramError
from qatlib.mcu import compiled
from tests import several_channels
from tests.several_channels import DETECTORS


@pytest.fixture(params=DETECTORS.values(), ids=DETECTORS.keys())
def model(request):
    return request.param


def rows(model, seed, n=60):
    """Extreme ones after quiet ones."""
    shape = model.window_shape[1:]
    wild = several_channels.windows(model, seed, 1 + n // model.context).reshape(-1, *shape)[:n]
    return np.concatenate([wild >> 7, wild])


def by_hand(model, counts):
    """Row by row, in Python's integers."""
    last, n = model.operations[-1].attributes, detection.length(model)
    state, found = None, []
    for end in range(n, len(counts) + 1):
        window, score = counts[end - n : end], 0
        forecast = model.forward(window[None, : model.context])[0].reshape(model.horizon, -1).tolist()
        for told, came in zip(forecast, window[-model.horizon :].reshape(model.horizon, -1).tolist(), strict=True):
            for a, b, weight in zip(told, came, model.arrays["output.weight"].tolist(), strict=True):
                score += min(abs(a - b) * weight // 4096, 128) ** 2
        shift = last["smoothing"]
        state = score << shift if state is None else state + score - (state >> shift)
        found.append((state >> shift, state >> shift > model.threshold))
    return found


def test_scores_and_flags(model):
    counts = rows(model, 0)
    scores, flags = model.detect(counts)
    assert list(zip(scores.tolist(), flags.tolist(), strict=True)) == by_hand(model, counts)
    assert flags.any() and not flags.all()


def test_c_gives_the_same(model):
    for seed in range(3):
        counts = rows(model, seed)
        for mine, its in zip(model.detect(counts), compiled(model).detect(counts), strict=True):
            assert np.array_equal(mine, its)


def test_the_largest_errors(model):
    """Full scale apart, and the largest weight: 32 bits hold it."""
    heavy = replace(model, arrays=model.arrays | {"output.weight": np.full(len(model.channels), 65535, np.uint16)})
    counts = np.where(np.arange(80)[:, None] // 7 % 2, 32767, -32768).repeat(len(model.channels), 1).astype(np.int16)
    counts = counts.reshape(-1, *model.window_shape[1:])
    for mine, its in zip(heavy.detect(counts), compiled(heavy).detect(counts), strict=True):
        assert np.array_equal(mine, its)


def test_errors_count_in_sixteenths_of_their_mean_on_sound_rows(model):
    sound, ahead = rows(model, 4)[:60], model.operations[-1].attributes["ahead"]
    made = detection.detector(model, sound, ahead=ahead, smoothing=0, threshold=0)
    n = detection.length(made)
    windows = np.stack([sound[i : i + n] for i in range(len(sound) - n + 1)])
    errors = np.abs(made.forward(windows[:, : model.context]).astype(int) - windows[:, -model.horizon :])
    units = errors.reshape(-1, len(model.channels)).mean(0) * made.arrays["output.weight"] / 4096
    np.testing.assert_allclose(units, 16, rtol=0.05)


def test_a_file_keeps_it(model, tmp_path):
    model.save(tmp_path / "m.safetensors")
    again = IntegerModel.load(tmp_path / "m.safetensors")
    counts = rows(model, 5)
    assert all(np.array_equal(a, b) for a, b in zip(again.detect(counts), model.detect(counts), strict=True))


def test_other_rows_are_refused(model):
    for engine in (model, compiled(model)):
        with pytest.raises(ValueError, match=r"this model takes \(rows"):
            engine.detect(rows(model, 0)[: detection.length(model) - 1])
        with pytest.raises(TypeError, match="not int16 counts"):
            engine.detect(rows(model, 0).astype(float))
        with pytest.raises(ValueError, match="does not classify"):
            engine.classify(rows(model, 0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "forecast"}, "the others have None"),
        ({"threshold": None}, "a detector has a whole number"),
        ({"threshold": 1 << 53}, "a detector has a whole number"),
        ({"labels": ("a", "b")}, "a model to detect has no labels"),
        ({"targets": (0, 1)}, "its targets are all of them"),
    ],
)
def test_what_is_no_detector_is_not_made(change, message):
    with pytest.raises(ProgramError, match=message):
        replace(DETECTORS["three channels, ahead"], **change)


@pytest.mark.parametrize(
    ("attributes", "weight", "message"),
    [
        ({"ahead": 2, "smoothing": 0}, None, "ahead"),
        ({"ahead": 1, "smoothing": 9}, None, "smoothing"),
        ({"ahead": 1}, None, "its attributes must be ahead, smoothing"),
        (None, np.zeros(3, np.uint16), "at least 1"),
        (None, np.ones(2, np.uint16), r"weight is uint16 \(2,\)"),
    ],
)
def test_its_facts_are_looked_at(attributes, weight, message):
    model = DETECTORS["three channels, ahead"]
    last = replace(model.operations[-1], attributes=attributes or model.operations[-1].attributes)
    arrays = model.arrays | ({} if weight is None else {"output.weight": weight})
    with pytest.raises(ProgramError, match=message):
        replace(model, operations=(*model.operations[:-1], last), arrays=arrays)
